package aggregation

import (
	"cmp"
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
// touched; a group once admitted stays admitted. [Folder.Fold] asks it for the finest
// level, a [Cascade] for the coarser ones. It belongs to one goroutine.
//
// It remembers at least the 32 buckets of each level that were touched last,
// as long as they hold four caps of groups together, or a million if that is
// more, and there is room for them ([Guard.Shrink]). For other buckets, and after
// a restart, it counts anew: a bucket may then get up to as many groups again.
// What it never changes is the totals.
type Guard struct {
	hasher *hasher
	levels map[FlushedLevel]*levelGuard
}

const (
	rememberedBuckets = 32
	rememberedGroups  = 1 << 20
)

// NewGuard returns a guard that has admitted nothing.
func NewGuard() *Guard {
	return &Guard{hasher: newHasher(), levels: map[FlushedLevel]*levelGuard{}}
}

// Commit says that the delta folded last is in the tables, or may be. Without
// it the next Fold forgets what was admitted for that delta.
func (g *Guard) Commit() {
	for _, l := range g.levels {
		l.commit()
	}
}

// Shrink forgets buckets until what is remembered takes no more than half of so
// many bytes, if it takes more than all of them; first those that were not touched for
// longest. It is for the time between a Commit and the next Fold.
func (g *Guard) Shrink(bytes int) {
	type remembered struct {
		*levelGuard
		*admitted
	}
	held := 0
	for _, l := range g.levels {
		held += l.held
	}
	if hashSize*held <= bytes {
		return
	}
	var all []remembered
	for _, l := range g.levels {
		l.spare, l.current = nil, nil
		for _, a := range l.buckets {
			all = append(all, remembered{l, a})
		}
	}
	slices.SortFunc(all, func(a, b remembered) int {
		return cmp.Or(cmp.Compare(b.levelGuard.turn-b.admitted.turn, a.levelGuard.turn-a.admitted.turn), cmp.Compare(b.admitted.held(), a.admitted.held()))
	})
	for _, r := range all {
		if hashSize*held <= bytes/2 {
			return
		}
		held -= r.admitted.held()
		r.forget(r.admitted)
	}
}

// hashSize is about how many bytes a remembered group takes.
const hashSize = 16

// forget forgets which groups a bucket has.
func (l *levelGuard) forget(a *admitted) {
	delete(l.buckets, a.bucket)
	l.held -= a.held()
}

func (g *Guard) rollBack() {
	for _, l := range g.levels {
		l.rollBack()
	}
}

// level returns the guard of one level, nil where the aggregation has no cap.
func (g *Guard) level(def *Definition, level Granularity) *levelGuard {
	if def.MaxGroups == 0 {
		return nil
	}
	id := FlushedLevel{def, level}
	l := g.levels[id]
	if l == nil {
		l = &levelGuard{limit: def.MaxGroups, other: g.hasher.other(def.Keys), buckets: map[int64]*admitted{}}
		g.levels[id] = l
	}
	return l
}

// gate returns what holds a table of the level to the guard, nil where the
// aggregation has no cap.
func (g *Guard) gate(def *Definition, level Granularity) *gate {
	l := g.level(def, level)
	if l == nil {
		return nil
	}
	return &gate{levelGuard: l, events: map[int64]int64{}}
}

// gate decides for one table which groups get a row of their own.
type gate struct {
	*levelGuard
	events map[int64]int64 // by bucket, those that were diverted
}

// admits reports whether the group of a row may have it; what is missing of the
// group plays no part.
func (g *gate) admits(row []event.Cell) bool {
	return g.admit(g.at(int64(row[atBucket])), uint64(row[atHash])) //nolint:gosec // bits
}

// others appends what the table's gate diverted, buckets ascending.
func (t *table) others(to []Other) []Other {
	if t.gate == nil || len(t.gate.events) == 0 {
		return to
	}
	for _, bucket := range slices.Sorted(maps.Keys(t.gate.events)) {
		to = append(to, Other{t.def, t.level, bucket, t.gate.events[bucket]})
	}
	return to
}

// levelGuard is the guard of one level of one aggregation.
type levelGuard struct {
	limit   int
	other   uint64 // hash of the group for all others, which is always admitted
	buckets map[int64]*admitted
	current *admitted   // the bucket asked for last
	open    []*admitted // those with groups that are not committed
	turn    int         // commits so far
	held    int         // hashes of committed groups, over all buckets
	spare   [][]uint64  // lists of buckets that were forgotten
}

// admitted is which groups one bucket has. While it cannot have as many as it
// may, a group that comes is only written down, as often as it comes; near the
// cap, and where the list becomes long, it is counted exactly.
type admitted struct {
	bucket int64
	turn   int // when it was touched
	groups hashSet
	listed []uint64 // committed, in groups or not
	fresh  []uint64 // admitted since the last commit
	exact  bool     // nothing is listed, and fresh has only what is not in groups
}

// mostListed is how many groups of a bucket are written down, beyond those that
// are counted.
const mostListed = 1 << 16

// held is how many hashes are remembered.
func (a *admitted) held() int { return a.groups.n + len(a.listed) }

// most is how many groups there can be.
func (a *admitted) most() int { return a.held() + len(a.fresh) }

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
func (l *levelGuard) admit(a *admitted, hash uint64) bool {
	if hash == l.other {
		return true
	}
	if !a.exact && a.most() >= l.limit {
		l.count(a)
	}
	if a.exact {
		if a.groups.has(hash) {
			return true
		}
		if a.most() >= l.limit {
			return false
		}
	}
	l.note(a, hash)
	return true
}

// admitAll is admit for groups of a bucket that are all different, and reports
// whether it admitted all of them; if not, roll back.
func (l *levelGuard) admitAll(bucket int64, hashes []uint64) bool {
	a := l.at(bucket)
	if !a.exact && a.most()+len(hashes) <= l.limit {
		l.note(a, hashes...)
		return true
	}
	for _, hash := range hashes {
		if !l.admit(a, hash) {
			return false
		}
	}
	return true
}

func (l *levelGuard) note(a *admitted, hashes ...uint64) {
	if len(a.fresh) == 0 {
		l.open = append(l.open, a)
	}
	if n := len(l.spare); a.fresh == nil && n > 0 {
		a.fresh, l.spare = l.spare[n-1][:0], l.spare[:n-1]
	}
	a.fresh = append(a.fresh, hashes...)
}

// count goes over to counting the bucket's groups exactly.
func (l *levelGuard) count(a *admitted) {
	l.settle(a)
	fresh := a.fresh[:0]
	var seen hashSet
	for _, hash := range a.fresh {
		if hash != l.other && !a.groups.has(hash) && seen.add(hash) {
			fresh = append(fresh, hash)
		}
	}
	a.fresh, a.exact = fresh, true
}

// settle puts the groups that are listed where each is counted once.
func (l *levelGuard) settle(a *admitted) {
	before := a.held()
	for _, hash := range a.listed {
		if hash != l.other {
			a.groups.add(hash)
		}
	}
	a.listed = a.listed[:0]
	l.held += a.held() - before
}

func (l *levelGuard) commit() {
	for _, a := range l.open {
		l.held += len(a.fresh)
		if len(a.listed) == 0 {
			a.listed, a.fresh = a.fresh, a.listed
		} else {
			a.listed = append(a.listed, a.fresh...)
		}
		a.fresh, a.exact = a.fresh[:0], false
		if len(a.listed) > mostListed+a.groups.n {
			l.settle(a)
		}
	}
	l.open, l.current = l.open[:0], nil
	l.turn++
	l.trim()
}

func (l *levelGuard) rollBack() {
	for _, a := range l.open {
		a.fresh, a.exact = a.fresh[:0], false
	}
	l.open = l.open[:0]
}

// trim forgets the buckets that were not touched for longest, many at once.
func (l *levelGuard) trim() {
	most := max(rememberedGroups, 4*l.limit)
	if len(l.buckets) <= 2*rememberedBuckets && l.held <= 2*most {
		return
	}
	newest := slices.SortedFunc(maps.Values(l.buckets), func(a, b *admitted) int {
		return cmp.Or(cmp.Compare(b.turn, a.turn), cmp.Compare(b.bucket, a.bucket))
	})
	held := 0
	for i, a := range newest {
		if held += a.held(); i > 0 && (i >= rememberedBuckets || held > most) {
			l.forget(a)
			l.spare = append(l.spare, a.listed)
		}
	}
	l.spare = l.spare[max(0, len(l.spare)-rememberedBuckets):]
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

// add reports whether the hash is new.
func (s *hashSet) add(hash uint64) bool {
	if 4*(s.n+1) > 3*len(s.slots) {
		old := s.slots
		s.slots, s.n = make([]uint64, max(8, 2*len(old))), 0
		for _, h := range old {
			if h != 0 {
				s.add(h)
			}
		}
	}
	at := s.find(hash)
	if s.slots[at] == hash {
		return false
	}
	s.slots[at] = hash
	s.n++
	return true
}
