package aggregation

import (
	"math"
	"slices"

	"weir/pkg/event"
)

// table accumulates the groups of one aggregation: an open-addressing hash
// table over rows of cells, so that folding an event allocates nothing once
// its group is known.
//
// A row is, in this order: the bucket start, the group keys, the number of
// events, one cell per measure, and, where a measure is a First or a Last, the
// time and stream sequence of the oldest or the newest event, and the sum of the
// events' checksums, of which only the lower 32 bits count. The cell of a
// sketched measure is the place of its sketch.
type table struct {
	def    *Definition
	level  Granularity
	stride int
	width  int // cells that identify a group: bucket and keys, and what is missing
	rows   []event.Cell
	// sketches are those of all rows.
	sketches []sketch
	// slots finds the row of a group: its number + 1; 0 is free. The length is a
	// power of two. Rows that were set aside (split) are in none.
	slots []int32
	used  int // slots that are not free
	probe []event.Cell

	missing     int   // where Part.Missing is, of tables that are merged into; 0 if all measures are known
	checksum    int   // where the sum of the checksums is
	first, last int   // where the times of the oldest and the newest event are; 0 if they are not kept
	intSums     []int // measures that are integer sums

	gate *gate // holds the table to MaxGroups; nil does not
}

// newTable returns a table for events, of which all measures are known.
func newTable(def *Definition, level Granularity) *table { return makeTable(def, level, false) }

// newMergeTable returns a table for groups of finer rows. Those that lack a
// measure are kept apart from those that have it, so that what is known of the
// one is not mixed with what is not known of the other.
func newMergeTable(def *Definition, level Granularity) *table { return makeTable(def, level, true) }

func makeTable(def *Definition, level Granularity, merges bool) *table {
	t := &table{def: def, level: level, width: 1 + len(def.Keys)}
	if merges {
		t.missing = t.width
		t.width++
	}
	t.stride = t.width + 1 + len(def.Measures)
	if def.HasFirst() {
		t.first = t.stride
		t.stride += 2
	}
	if def.HasLast() {
		t.last = t.stride
		t.stride += 2
	}
	t.checksum = t.stride
	t.stride++
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

// group returns the row number of the group in t.probe, made new where needed;
// -1 where the gate does not admit it.
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
	if t.gate != nil && !t.gate.admits(t.probe) {
		return -1, false
	}
	n := t.len()
	t.rows = append(t.rows, t.probe...)
	t.rows = append(t.rows, make([]event.Cell, t.stride-t.width)...)
	t.slots[at] = int32(n + 1) // a batch has far fewer than 2^31 groups
	t.used++
	if 4*t.used > 3*len(t.slots) {
		t.grow()
	}
	return n, true
}

// contribution is what is added to one group: one event, or a group of a finer
// level.
type contribution struct {
	events      event.Cell
	checksum    event.Cell   // of its event, or the sum of them modulo 2^32
	measures    []event.Cell // by measure
	blocks      [][]byte     // by measure, of those that are sketched; nil for an event
	first, last moment       // its oldest and its newest event
}

// moment is where an event stands in the order that First and Last go by.
type moment struct{ time, sequence event.Cell }

func (m moment) before(o moment) bool {
	return m.time < o.time || m.time == o.time && m.sequence < o.sequence
}

// put adds to the group in t.probe. Only blocks can be wrong.
func (t *table) put(x *contribution) error {
	i, fresh := t.group()
	if i < 0 {
		t.gate.divert(t.probe, x.events)
		i, fresh = t.group()
	}
	if t.overflows(t.row(i), x) {
		t.split(i)
		fresh = true
	}
	return t.add(t.row(i), x, fresh)
}

// overflows reports whether an integer sum would leave 64 bits.
func (t *table) overflows(row []event.Cell, x *contribution) bool {
	for _, i := range t.intSums {
		sum, v := row[t.width+1+i], x.measures[i]
		if v > 0 && sum > math.MaxInt64-v || v < 0 && sum < math.MinInt64-v {
			return true
		}
	}
	return false
}

func (t *table) add(row []event.Cell, x *contribution, fresh bool) error {
	row[t.width] += x.events
	row[t.checksum] += x.checksum
	oldest := t.first > 0 && (fresh || x.first.before(moment{row[t.first], row[t.first+1]}))
	if oldest {
		row[t.first], row[t.first+1] = x.first.time, x.first.sequence
	}
	newest := t.last > 0 && (fresh || !x.last.before(moment{row[t.last], row[t.last+1]}))
	if newest {
		row[t.last], row[t.last+1] = x.last.time, x.last.sequence
	}
	measures := row[t.width+1:]
	for i := range t.def.Measures {
		m := &t.def.Measures[i]
		into, v := &measures[i], x.measures[i]
		switch m.Op {
		case Sum, Avg:
			if m.ArgKind == event.Float {
				*into = event.FloatCell(into.Float() + v.Float())
			} else {
				*into += v
			}
		case Min:
			if fresh || less(m.ArgKind, v, *into) {
				*into = v
			}
		case Max:
			if fresh || less(m.ArgKind, *into, v) {
				*into = v
			}
		case First:
			if oldest {
				*into = v
			}
		case Last:
			if newest {
				*into = v
			}
		case Distinct, Quantile, Deviation:
			if err := t.addToSketch(i, into, x, fresh); err != nil {
				return err
			}
		case Count: // every row has it
		}
	}
	return nil
}

// addToSketch adds to the sketch of measure i; at is the row's cell for it.
func (t *table) addToSketch(i int, at *event.Cell, x *contribution, fresh bool) error {
	m := &t.def.Measures[i]
	if !m.Stored() {
		return nil
	}
	if fresh {
		*at = event.Cell(len(t.sketches))
		t.sketches = append(t.sketches, newSketch(m.Op))
	}
	if x.blocks != nil {
		return mergeBlocks(t.sketches[*at], x.blocks[i])
	}
	t.sketches[*at].add(x.measures[i])
	return nil
}

func less(kind event.Kind, a, b event.Cell) bool {
	if kind == event.Float {
		return a.Float() < b.Float()
	}
	return a < b
}

// split sets group i aside as a group of its own that is complete, and empties
// row i for more of the same key. What is set aside is never looked for again,
// so that any number of such rows leaves finding a group as cheap as it was.
func (t *table) split(i int) {
	t.rows = append(t.rows, t.row(i)...)
	clear(t.row(i)[t.width:])
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]int32, 2*len(old))
	mask := uint64(len(t.slots) - 1)
	for _, n := range old {
		if n == 0 {
			continue
		}
		at := hash(t.row(int(n - 1))[:t.width]) & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = n
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
