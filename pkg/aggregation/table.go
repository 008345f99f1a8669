package aggregation

import (
	"slices"

	"weir/pkg/event"
)

// table accumulates the groups of one aggregation: an open-addressing hash
// table over rows of cells, so that folding an event allocates nothing once
// its group is known.
//
// A row is, in this order: the bucket start, the group keys, the number of
// events, one cell per measure, and, where a measure is a Last, the time and
// stream sequence of the newest event.
type table struct {
	def    *Definition
	stride int
	width  int // cells that identify a group: bucket and keys
	rows   []event.Cell
	slots  []int32 // row number + 1; 0 is free; the length is a power of two
	probe  []event.Cell

	intSums []int // measures that are integer sums
}

func newTable(def *Definition) *table {
	t := &table{def: def, width: 1 + len(def.Keys)}
	t.stride = t.width + 1 + len(def.Measures)
	if def.HasLast() {
		t.stride += 2
	}
	t.slots = make([]int32, 256)
	t.probe = make([]event.Cell, t.width)
	for i, m := range def.Measures {
		if (m.Op == Sum || m.Op == Avg) && m.ArgKind == event.Int {
			t.intSums = append(t.intSums, i)
		}
	}
	return t
}

func (t *table) len() int { return len(t.rows) / t.stride }

func (t *table) row(i int) []event.Cell { return t.rows[i*t.stride : (i+1)*t.stride] }

// group returns the row number of the group in t.probe, made new where needed.
func (t *table) group() (i int, fresh bool) {
	mask := uint64(len(t.slots) - 1)
	at := hash(t.probe) & mask
	for t.slots[at] != 0 {
		i = int(t.slots[at] - 1)
		if slices.Equal(t.row(i)[:t.width], t.probe) {
			return i, false
		}
		at = (at + 1) & mask
	}
	n := t.len()
	t.rows = append(t.rows, t.probe...)
	t.rows = append(t.rows, make([]event.Cell, t.stride-t.width)...)
	t.slots[at] = int32(n + 1) // a batch has far fewer than 2^31 groups
	if 4*(n+1) > 3*len(t.slots) {
		t.grow()
	}
	return n, true
}

// split sets group i aside as a group of its own that is complete, and empties
// row i for more of the same key.
func (t *table) split(i int) {
	t.rows = append(t.rows, t.row(i)...)
	clear(t.row(i)[t.width:])
}

func (t *table) grow() {
	t.slots = make([]int32, 2*len(t.slots))
	mask := uint64(len(t.slots) - 1)
	for i := range t.len() {
		at := hash(t.row(i)[:t.width]) & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = int32(i + 1)
	}
}

// hash mixes cells multiplicatively; interned texts make a collision a matter
// of chance that only the sender's mix of groups decides.
func hash(cells []event.Cell) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, c := range cells {
		h = (h ^ uint64(c)) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	return h
}
