package aggregation

import (
	"hash/maphash"
	"slices"

	"weir/pkg/event"
)

// hasher hashes the keys of groups by their texts, so that a group has the same
// hash in every dictionary: what is folded, what the guard remembers and the
// tables of the coarser levels all go by it, and it is computed once. It is
// seeded, so that nobody can send groups that collide, and belongs to one
// goroutine.
type hasher struct {
	seed  maphash.Seed
	start uint64
	known []*textHashes // the dictionaries that were used last, the last one first
}

// textHashes are the hashes of a dictionary's texts, by cell. They hold as long
// as the dictionary does, which can only grow.
type textHashes struct {
	dict   *event.Dictionary
	hashes []uint64
}

// knownDictionaries is how many dictionaries are remembered: those of the few
// batches that take turns.
const knownDictionaries = 4

func newHasher() *hasher {
	seed := maphash.MakeSeed()
	return &hasher{seed: seed, start: maphash.String(seed, "")}
}

func (h *hasher) text(text string) uint64 { return maphash.String(h.seed, text) }

// texts returns the hashes of all texts of the dictionary.
func (h *hasher) texts(dict *event.Dictionary) []uint64 {
	at := slices.IndexFunc(h.known, func(t *textHashes) bool { return t.dict == dict })
	if at < 0 {
		at = 0
		h.known = slices.Insert(h.known[:min(len(h.known), knownDictionaries-1)], 0, &textHashes{dict: dict})
	}
	t := h.known[at]
	copy(h.known[1:at+1], h.known[:at])
	h.known[0] = t
	for id := len(t.hashes); id < dict.Len(); id++ {
		t.hashes = append(t.hashes, h.text(dict.Text(event.Cell(id))))
	}
	return t.hashes
}

// mix takes another key into a hash.
func mix(h, x uint64) uint64 {
	h = (h ^ x) * 0xff51afd7ed558ccd
	return h ^ h>>32
}

// column is where the cells of a key are: of all rows, or of those that are
// listed.
func (h *hasher) column(into []uint64, kind event.Kind, cells []event.Cell, rows []int32, texts []uint64) {
	switch {
	case kind == event.String && rows != nil:
		for i, row := range rows[:len(into)] {
			into[i] = mix(into[i], texts[cells[row]])
		}
	case kind == event.String:
		for i, cell := range cells[:len(into)] {
			into[i] = mix(into[i], texts[cell])
		}
	case rows != nil:
		for i, row := range rows[:len(into)] {
			into[i] = mix(into[i], uint64(cells[row]))
		}
	default:
		for i, cell := range cells[:len(into)] {
			into[i] = mix(into[i], uint64(cell))
		}
	}
}

// begin readies hashes for their keys; end makes them such that none is 0.
func (h *hasher) begin(into []uint64) {
	for i := range into {
		into[i] = h.start
	}
}

func (h *hasher) end(into []uint64) {
	for i := range into {
		into[i] = max(into[i], 1)
	}
}

// other is the hash of the group for all others.
func (h *hasher) other(keys []Key) uint64 {
	hash := h.start
	for _, key := range keys {
		x := uint64(0)
		if key.Kind == event.String {
			x = h.text(OtherGroup)
		}
		hash = mix(hash, x)
	}
	return max(hash, 1)
}
