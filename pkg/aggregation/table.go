package aggregation

import (
	"maps"
	"slices"

	"weir/pkg/event"
)

// table adds up groups of one aggregation at one level: an open-addressing hash
// table over rows of cells, so that a group that is known allocates nothing.
type table struct {
	layout
	dict *event.Dictionary // of the texts in its rows
	gate *gate             // holds the table to MaxGroups; nil does not
	// other is what the keys are of the group for all others; nil as long as it is
	// not needed in this dictionary.
	other []event.Cell

	rows []event.Cell
	// sketches are those of all rows; a row has the place of its own.
	sketches []sketch
	// slots finds the row of a group: the upper 32 bits of its hash, and its number
	// + 1 in the lower; 0 is free. The length is a power of two. Rows that were set
	// aside (split) are in none.
	slots []uint64
	used  int // slots that are not free

	block block
	order ordering
}

// block is some groups on their way into a table, as rows of its layout; a
// sketched measure's cell has the one value that its sketch is to have, unless
// there are blocks.
type block struct {
	rows   []event.Cell
	n      int
	blocks [][][]byte // by measure, then row; nil: events
	hashes [blockRows]uint64
	seen   [blockRows]uint64
	known  [blockRows]event.Cell
}

// blockRows is how many groups go into a table at a time: what is done for each
// of them without waiting for memory is done for all of them first.
const blockRows = 128

const leastSlots = 256

func newTable(def *Definition, level Granularity, dict *event.Dictionary, guard *Guard) *table {
	t := &table{layout: newLayout(def, level), dict: dict, slots: make([]uint64, leastSlots)}
	t.block.rows = make([]event.Cell, blockRows*t.stride)
	if guard != nil {
		t.gate = guard.gate(def, level)
	}
	return t
}

func (t *table) len() int { return len(t.rows) / t.stride }

func (t *table) row(i int) []event.Cell { return t.rows[i*t.stride : (i+1)*t.stride : (i+1)*t.stride] }

// speak makes the dictionary that of the table's texts.
func (t *table) speak(dict *event.Dictionary) { t.dict, t.other = dict, nil }

// reset empties the table, and keeps its memory unless little of it was used.
func (t *table) reset() {
	if 8*len(t.rows) < cap(t.rows) {
		t.rows, t.slots = nil, make([]uint64, leastSlots)
	}
	t.rows, t.used = t.rows[:0], 0
	clear(t.slots)
	clear(t.sketches)
	t.sketches = t.sketches[:0]
	if t.gate != nil {
		clear(t.gate.events)
	}
}

// hashOfRow hashes what identifies a group.
func (t *table) hashOfRow(row []event.Cell) uint64 {
	h := mix(uint64(row[atHash]), uint64(row[atBucket])*0x9e3779b97f4a7c15)
	if missing := row[atMissing]; missing != 0 {
		h = mix(h, uint64(missing))
	}
	return h
}

// absorb adds the block's groups. Only sketches can be wrong.
func (t *table) absorb() error {
	b := &t.block
	mask := uint64(len(t.slots) - 1)
	for i := range b.n { // loads that do not wait for one another
		b.hashes[i] = t.hashOfRow(b.rows[i*t.stride:])
		b.seen[i] = t.slots[b.hashes[i]>>32&mask]
	}
	for i := range b.n {
		if at := int(uint32(b.seen[i])) - 1; at >= 0 { //nolint:gosec // its lower half
			row := t.row(at)
			b.seen[i] = uint64(row[atHash] + row[t.events] + row[t.stride-1]) // one of each part of it
		}
	}
	for i := range b.n {
		if err := t.add(b.rows[i*t.stride:(i+1)*t.stride], i); err != nil {
			return err
		}
	}
	return nil
}

// add adds row i of the block.
func (t *table) add(x []event.Cell, i int) error {
	at, fresh := t.group(x, t.block.hashes[i])
	if at < 0 {
		t.divert(x)
		at, fresh = t.group(x, t.hashOfRow(x))
	}
	row := t.row(at)
	if !fresh && t.overflows(row, x) {
		t.split(at)
		row, fresh = t.row(at), true
		copy(row, x)
	}
	if fresh {
		for k := t.floats.from; k < t.floats.to; k++ {
			row[k] = event.FloatCell(0 + row[k].Float()) // -0 is 0
		}
	} else {
		t.addTo(row, x)
	}
	if len(t.sketches)+len(t.layout.sketches) > 0 {
		return t.addSketches(row, x, i, fresh)
	}
	return nil
}

// group returns the number of the row of the group of x, which a fresh one is a
// copy of; -1 where the gate does not admit it.
func (t *table) group(x []event.Cell, hash uint64) (i int, fresh bool) {
	mask := uint64(len(t.slots) - 1)
	at := hash >> 32 & mask
	for s := t.slots[at]; s != 0; s = t.slots[at] {
		if s>>32 == hash>>32 {
			i = int(uint32(s)) - 1 //nolint:gosec // its lower half
			if equal(t.row(i)[:t.events], x) {
				return i, false
			}
		}
		at = (at + 1) & mask
	}
	if t.gate != nil && !t.gate.admits(x) {
		return -1, false
	}
	n := t.len()
	t.append(x)
	t.slots[at] = hash>>32<<32 | uint64(n+1) //nolint:gosec // a table has far fewer than 2^31 groups
	t.used++
	if 4*t.used > 3*len(t.slots) {
		t.grow()
	}
	return n, true
}

// equal reports whether two rows identify the same group.
func equal(a, b []event.Cell) bool {
	for i, cell := range a {
		if cell != b[i] {
			return false
		}
	}
	return true
}

func (t *table) append(row []event.Cell) {
	if len(t.rows)+t.stride > cap(t.rows) {
		t.rows = slices.Grow(t.rows, max(len(t.rows), blockRows*t.stride))
	}
	t.rows = append(t.rows, row...)
}

// addTo adds the group x to the row of the same group.
func (t *table) addTo(row, x []event.Cell) {
	row[t.events] += x[t.events]
	row[t.checksum] += x[t.checksum]
	for k := t.ints.from; k < t.ints.to; k++ {
		row[k] += x[k]
	}
	for k := t.floats.from; k < t.floats.to; k++ {
		row[k] = event.FloatCell(row[k].Float() + x[k].Float())
	}
	for k := range t.extremes {
		if e := &t.extremes[k]; e.betterThan(x[e.at], row[e.at]) {
			row[e.at] = x[e.at]
		}
	}
	if !t.first.empty() && t.first.moment(x).before(t.first.moment(row)) {
		copy(row[t.first.from:t.first.to], x[t.first.from:t.first.to])
	}
	if !t.last.empty() && !t.last.moment(x).before(t.last.moment(row)) {
		copy(row[t.last.from:t.last.to], x[t.last.from:t.last.to])
	}
}

// overflows reports whether an integer sum would leave 64 bits.
func (t *table) overflows(row, x []event.Cell) bool {
	left := event.Cell(0)
	for k := t.ints.from; k < t.ints.to; k++ {
		sum := row[k] + x[k]
		left |= (sum ^ row[k]) & (sum ^ x[k])
	}
	return left < 0
}

// split sets group i aside as a group of its own that is complete, and leaves
// row i for more of the same key. What is set aside is never looked for again,
// so that any number of such rows leaves finding a group as cheap as it was.
func (t *table) split(i int) { t.append(t.row(i)) }

// addSketches adds to the row's sketches those of row i of the block.
func (t *table) addSketches(row, x []event.Cell, i int, fresh bool) error {
	for _, k := range t.layout.sketches {
		at, value := &row[t.measures[k].at], x[t.measures[k].at]
		if fresh {
			*at = event.Cell(len(t.sketches))
			t.sketches = append(t.sketches, newSketch(t.def.Measures[k].Op))
		}
		if t.block.blocks == nil {
			t.sketches[*at].add(value)
		} else if err := mergeBlocks(t.sketches[*at], t.block.blocks[k][i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]uint64, 2*len(old))
	mask := uint64(len(t.slots) - 1)
	for _, s := range old {
		if s == 0 {
			continue
		}
		at := s >> 32 & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = s
	}
}

// divert makes the group of x the one for all others in its bucket.
func (t *table) divert(x []event.Cell) {
	t.gate.events[int64(x[atBucket])] += int64(x[t.events])
	if t.other == nil {
		for _, key := range t.def.Keys {
			other := event.Cell(0)
			if key.Kind == event.String {
				other = t.dict.Intern(OtherGroup)
			}
			t.other = append(t.other, other)
		}
	}
	x[atHash] = event.Cell(t.gate.other) //nolint:gosec // bits
	for i, at := range t.keys {
		at.put(x, t.other[i])
	}
}

// clone returns a table of the same groups that can be added to by itself.
func (t *table) clone() *table {
	c := newTable(t.def, t.level, t.dict, nil)
	c.rows, c.slots, c.used = slices.Clone(t.rows), slices.Clone(t.slots), t.used
	if t.gate != nil {
		gate := *t.gate
		gate.events = maps.Clone(gate.events)
		c.gate = &gate
	}
	c.sketches = make([]sketch, len(t.sketches))
	for _, k := range t.layout.sketches {
		for i := range t.len() {
			at := t.row(i)[t.measures[k].at]
			c.sketches[at] = newSketch(t.def.Measures[k].Op)
			must(mergeBlocks(c.sketches[at], encode(t.sketches[at])))
		}
	}
	return c
}

// must stands for what cannot fail: sketches that this process encoded can be
// decoded.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
