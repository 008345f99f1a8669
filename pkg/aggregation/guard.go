package aggregation

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"

	"weir/pkg/event"
)

// OtherGroup is what the text keys are of the group that takes in all groups
// beyond [Definition.MaxGroups]; its keys of other kinds are 0.
const OtherGroup = "__other__"

// DefaultMaxGroups is the cap of aggregations whose definition gives none.
const DefaultMaxGroups = 1_000_000

// Other says how many events lost the name of their group in one bucket,
// because it had MaxGroups groups already. They count in OtherGroup.
type Other struct {
	Definition *Definition
	Level      Granularity
	Bucket     int64 // its start, microseconds since 1970 UTC
	Events     int64
}

// Guard holds a shard to [Definition.MaxGroups] in every bucket of every level.
// It remembers, as hashes, which groups were admitted into the buckets lately
// touched; a group once admitted stays admitted. [Fold] asks it for the finest
// level, a [Cascade] for the coarser ones. It belongs to one goroutine.
//
// It remembers at least the 32 buckets of each level that were touched last,
// as long as they hold four caps of groups together, or a million if that is
// more. For older buckets, and after a restart, it counts anew: a bucket may
// then get up to as many groups again. What it never changes is the totals.
type Guard struct {
	seed   maphash.Seed
	levels map[FlushedLevel]*levelGuard
}

const (
	rememberedBuckets = 32
	rememberedGroups  = 1 << 20
)

// NewGuard returns a guard that has admitted nothing.
func NewGuard() *Guard {
	return &Guard{seed: maphash.MakeSeed(), levels: map[FlushedLevel]*levelGuard{}}
}

// Commit says that the delta folded last is in the tables, or may be. Without
// it the next Fold forgets what was admitted for that delta.
func (g *Guard) Commit() {
	for _, l := range g.levels {
		l.commit()
	}
}

func (g *Guard) rollBack() {
	for _, l := range g.levels {
		l.rollBack()
	}
}

// gate returns what holds a table of the level to the guard, nil where the
// aggregation has no cap. dict has the texts of the table.
func (g *Guard) gate(def *Definition, level Granularity, dict *event.Dictionary) *gate {
	if def.MaxGroups == 0 {
		return nil
	}
	id := FlushedLevel{def, level}
	l := g.levels[id]
	if l == nil {
		l = &levelGuard{limit: def.MaxGroups, buckets: map[int64]*admitted{}}
		g.levels[id] = l
	}
	at := &gate{levelGuard: l, seed: g.seed, keys: def.Keys, dict: dict, events: map[event.Cell]int64{}}
	for _, key := range def.Keys {
		other := event.Cell(0)
		if key.Kind == event.String {
			other = dict.Intern(OtherGroup)
		}
		at.other = append(at.other, other)
	}
	return at
}

// gate decides for one table which groups get a row of their own.
type gate struct {
	*levelGuard
	seed   maphash.Seed
	keys   []Key
	dict   *event.Dictionary
	other  []event.Cell         // keys of the group for all others
	events map[event.Cell]int64 // by bucket, those that were diverted
}

// admits reports whether the group may have a row: a bucket and keys, after
// which what is missing of the group plays no part.
func (g *gate) admits(group []event.Cell) bool {
	return g.at(int64(group[0])).admit(g, group[:1+len(g.keys)])
}

// divert makes the group the one for all others in its bucket.
func (g *gate) divert(group []event.Cell, events event.Cell) {
	g.events[group[0]] += int64(events)
	copy(group[1:], g.other)
}

// hash is the same for the same keys in any dictionary. It is seeded: nobody
// can send groups that collide.
func (g *gate) hash(keys []event.Cell) uint64 {
	h := uint64(0)
	for i, cell := range keys {
		x := uint64(cell)
		if g.keys[i].Kind == event.String {
			x = maphash.String(g.seed, g.dict.Text(cell))
		}
		h = (h ^ x) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	return max(h, 1) // 0 is a free slot
}

// others appends what the table's gate diverted, buckets ascending.
func (t *table) others(to []Other) []Other {
	if t.gate == nil {
		return to
	}
	for _, bucket := range slices.Sorted(maps.Keys(t.gate.events)) {
		to = append(to, Other{t.def, t.level, int64(bucket), t.gate.events[bucket]})
	}
	return to
}

// levelGuard is the guard of one level of one aggregation.
type levelGuard struct {
	limit   int
	buckets map[int64]*admitted
	current *admitted   // the bucket asked for last
	open    []*admitted // those with groups that are not committed
	turn    int         // commits so far
	groups  int         // committed ones, over all buckets
}

// admitted is which groups one bucket has.
type admitted struct {
	bucket int64
	turn   int // when it was touched
	groups hashSet
	fresh  []uint64 // admitted since the last commit
}

func (l *levelGuard) at(bucket int64) *admitted {
	a := l.current
	if a == nil || a.bucket != bucket {
		if a = l.buckets[bucket]; a == nil {
			a = &admitted{bucket: bucket}
			l.buckets[bucket] = a
		}
		a.turn, l.current = l.turn, a
	}
	return a
}

// admit is asked once for each group that a table does not have.
func (a *admitted) admit(g *gate, group []event.Cell) bool {
	if slices.Equal(group[1:], g.other) {
		return true
	}
	h := g.hash(group[1:])
	if a.groups.has(h) {
		return true
	}
	if a.groups.n+len(a.fresh) >= g.limit {
		return false
	}
	if len(a.fresh) == 0 {
		g.open = append(g.open, a)
	}
	a.fresh = append(a.fresh, h)
	return true
}

func (l *levelGuard) commit() {
	for _, a := range l.open {
		before := a.groups.n
		a.groups.add(a.fresh)
		l.groups += a.groups.n - before
		a.fresh = nil
	}
	l.open, l.current = nil, nil
	l.turn++
	l.trim()
}

func (l *levelGuard) rollBack() {
	for _, a := range l.open {
		a.fresh = nil
	}
	l.open = nil
}

// trim forgets the buckets that were not touched for longest, many at once.
func (l *levelGuard) trim() {
	most := max(rememberedGroups, 4*l.limit)
	if len(l.buckets) <= 2*rememberedBuckets && l.groups <= 2*most {
		return
	}
	newest := slices.SortedFunc(maps.Values(l.buckets), func(a, b *admitted) int {
		return cmp.Or(cmp.Compare(b.turn, a.turn), cmp.Compare(b.bucket, a.bucket))
	})
	held := 0
	for i, a := range newest {
		if held += a.groups.n; i > 0 && (i >= rememberedBuckets || held > most) {
			delete(l.buckets, a.bucket)
			l.groups -= a.groups.n
		}
	}
}

// hashSet is a set of hashes other than 0, by open addressing.
type hashSet struct {
	slots []uint64 // their number is a power of two
	n     int
}

func (s *hashSet) has(h uint64) bool { return s.n > 0 && s.slots[s.find(h)] == h }

// find returns the slot of the hash, or the free one where it belongs.
func (s *hashSet) find(h uint64) int {
	mask := uint64(len(s.slots) - 1)
	at := h & mask
	for s.slots[at] != 0 && s.slots[at] != h {
		at = (at + 1) & mask
	}
	return int(at)
}

func (s *hashSet) add(hashes []uint64) {
	size := max(8, len(s.slots))
	for 4*(s.n+len(hashes)) > 3*size {
		size *= 2
	}
	if old := s.slots; size > len(old) {
		s.slots, s.n = make([]uint64, size), 0
		s.insert(old)
	}
	s.insert(hashes)
}

func (s *hashSet) insert(hashes []uint64) {
	for _, h := range hashes {
		if h == 0 {
			continue
		}
		if at := s.find(h); s.slots[at] == 0 {
			s.slots[at] = h
			s.n++
		}
	}
}
