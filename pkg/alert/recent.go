package alert

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"time"

	"weir/pkg/event"
)

// recent is what a worker has told lately of the members of a case's keys, so that it is not told
// again with every batch. What a batch tells is told when it is committed.
//
// A key is known when it had enough calls. Once this worker alone has told of enough, further calls at later times make
// no difference; and whether a member was seen, and when last, is kept by the hour, so that calls of the same
// hour that are not before the one that was told make none either. So what is decided does not depend on what is
// left out. It is a cache: what is forgotten is told once more, which changes nothing either.
type recent struct {
	calls map[hash]learned
	told  [2]map[hash]int64 // by key and member: when, the earliest of its hour; the younger half first
	undo  []undo            // what the batch has changed, if it is not committed

	now     learned // of the key that is open
	name    hash
	changed bool
}

// undo is what was known before.
type undo struct {
	of      hash
	learned learned // of a key
	at      int64   // of a key and a member
	key     bool
	known   bool
}

// hash is of a key, or of a key and a member: with 128 bits of it, no two are the same.
type hash [2]uint64

// learned is how many calls of a key this worker has told of, at least, and the newest time of one while
// they were not enough for the key to be known.
type learned struct{ calls, newest int64 }

const (
	mostRecent = 100_000 // keys, and members in each half
	hour       = int64(time.Hour / time.Microsecond)
)

func newRecent() *recent {
	return &recent{calls: map[hash]learned{}, told: [2]map[hash]int64{{}, {}}}
}

// begin takes back what was not committed.
func (r *recent) begin() {
	for _, u := range slices.Backward(r.undo) {
		switch {
		case u.key && u.known:
			r.calls[u.of] = u.learned
		case u.key:
			delete(r.calls, u.of)
		case u.known:
			r.told[0][u.of] = u.at
		default:
			delete(r.told[0], u.of)
		}
	}
	r.undo = r.undo[:0]
}

// commit makes what the batch tells told.
func (r *recent) commit() {
	r.undo = r.undo[:0]
	if len(r.calls) > mostRecent {
		clear(r.calls)
	}
	if len(r.told[0]) > mostRecent {
		r.told = [2]map[hash]int64{{}, r.told[0]}
	}
}

// open is before what concerns a key.
func (r *recent) open(name hash) {
	r.name, r.now, r.changed = name, r.calls[name], false
}

// close is behind it.
func (r *recent) close() {
	if !r.changed {
		return
	}
	before, known := r.calls[r.name]
	r.undo = append(r.undo, undo{of: r.name, learned: before, key: true, known: known})
	r.calls[r.name] = r.now
}

// tells reports whether so many calls of a member of the open key at a time must be told.
func (r *recent) tells(rule *Rule, member hash, at, calls int64) bool {
	pair := r.name.with(member)
	told, ok := r.told[0][pair]
	younger := ok
	if !ok {
		told, ok = r.told[1][pair]
	}
	if r.now.calls <= rule.AtLeast {
		r.now, r.changed = learned{r.now.calls + calls, max(r.now.newest, at)}, true
	} else if ok && at >= told && floor(told, hour) == floor(at, hour) && at > r.now.newest {
		return false
	}
	if !younger || told != at {
		r.undo = append(r.undo, undo{of: pair, at: told, known: younger})
		r.told[0][pair] = at
	}
	return true
}

// key is the hash of a key.
func (r *recent) key(hashes *texted, k *numbered, key int) (of hash) {
	row := k.newest[key]
	for _, attribute := range k.attributes {
		cell := k.columns.Cells[attribute][row]
		if k.columns.Schema.Attributes[attribute].Kind == event.String {
			of = of.with(hashes.text(cell))
		} else {
			of = of.with(hash{uint64(cell), 1}) //nolint:gosec // a word
		}
	}
	return of
}

// with is the hash of something, and then something else.
func (h hash) with(other hash) hash {
	a, b := bits.Mul64(h[0]^other[0], 0x9e3779b97f4a7c15)
	c, d := bits.Mul64(h[1]^other[1], 0xd6e8feb86659fd93)
	return hash{bits.RotateLeft64(a^b, 17) + other[1], bits.RotateLeft64(c^d, 29) + other[0]}
}

// hashes are of the texts of the dictionaries that batches came with lately. Who sends texts
// cannot choose them so that two have the same.
type hashes struct {
	seeds [2]maphash.Seed
	all   []*texted // the one that was used last first
}

// texted are the hashes of a dictionary's texts, by cell; zero: not known yet.
type texted struct {
	seeds [2]maphash.Seed
	dict  *event.Dictionary
	known []hash
}

// mostDictionaries is how many a worker uses in turn: what is read ahead has its own.
const mostDictionaries = 3

func newHashes() hashes {
	return hashes{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (h *hashes) of(dict *event.Dictionary) *texted {
	i := slices.IndexFunc(h.all, func(t *texted) bool { return t.dict == dict })
	if i < 0 {
		h.all = slices.Insert(h.all, 0, &texted{seeds: h.seeds, dict: dict})
		h.all = h.all[:min(len(h.all), mostDictionaries)]
		return h.all[0]
	}
	if i > 0 {
		t := h.all[i]
		h.all = slices.Insert(slices.Delete(h.all, i, i+1), 0, t)
	}
	return h.all[0]
}

func (t *texted) text(cell event.Cell) hash {
	if int(cell) >= len(t.known) {
		t.known = append(t.known, make([]hash, t.dict.Len()-len(t.known))...)
	}
	if t.known[cell] == (hash{}) {
		text := t.dict.Text(cell)
		t.known[cell] = hash{maphash.String(t.seeds[0], text), maphash.String(t.seeds[1], text) | 1}
	}
	return t.known[cell]
}
