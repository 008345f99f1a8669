package aggregation

import (
	"hash/maphash"

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
	// known are the hashes of dictionaries' texts, by cell. They hold as long as the
	// dictionary does, which can only grow.
	known recent[[]uint64]
}

func newHasher() *hasher {
	seed := maphash.MakeSeed()
	return &hasher{seed: seed, start: maphash.String(seed, "")}
}

func (h *hasher) text(text string) uint64 { return maphash.String(h.seed, text) }

// texts returns the hashes of all texts of the dictionary.
func (h *hasher) texts(dict *event.Dictionary) []uint64 {
	hashes := h.known.of(dict)
	for id := len(*hashes); id < dict.Len(); id++ {
		*hashes = append(*hashes, h.text(dict.Text(event.Cell(id))))
	}
	return *hashes
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
