package aggregation

import (
	"math"

	"weir/pkg/event"
)

// layout says where the cells of a group are in its row of a table. Cells that
// are treated alike stand side by side:
//
//   - the hash of the group keys
//   - the bucket start, what is missing ([Part].Missing), and the group keys:
//     together what identifies a group
//   - the number of events, and the sum of their checksums, of which only the
//     lower 32 bits count
//   - sums of integers, sums of floats, smallest and largest values
//   - time and stream sequence of the oldest event, and what it says; the same of
//     the newest
//   - the places of sketches
//
// Two texts share a cell: tables are large, and what they cost is memory that is
// not in the cache.
type layout struct {
	def    *Definition
	level  Granularity
	stride int

	events, checksum int
	ints, floats     span
	extremes         []extreme
	first, last      span
	keys             []place
	measures         []place // those that are not stored have none
	sketches         []int   // measures
}

// What every row begins with.
const (
	atHash = iota
	atBucket
	atMissing
	atKeys
)

// span is some cells of a row: from..to.
type span struct{ from, to int }

func (s span) empty() bool { return s.from == s.to }

// place is where a value is in a row.
type place struct {
	at   int
	text half
}

// half is which half of its cell a text has.
type half uint8

const (
	whole half = iota // no text
	lower
	upper
)

// get reads the value from a row.
func (p place) get(row []event.Cell) event.Cell {
	switch p.text {
	case lower:
		return row[p.at] & math.MaxUint32
	case upper:
		return row[p.at] >> 32
	case whole:
	}
	return row[p.at]
}

// put writes the value into a row. The lower of two texts is put first.
func (p place) put(row []event.Cell, v event.Cell) {
	if p.text == upper {
		row[p.at] |= v << 32
		return
	}
	row[p.at] = v
}

// extreme is a cell that holds the smallest or the largest of values.
type extreme struct {
	at   int
	op   Op
	kind event.Kind
}

func newLayout(def *Definition, level Granularity) layout {
	l := layout{def: def, level: level, stride: atKeys, measures: make([]place, len(def.Measures))}
	texts := make([]bool, len(def.Keys))
	for i, key := range def.Keys {
		texts[i] = key.Kind == event.String
	}
	l.keys = l.lay(texts)
	l.events, l.checksum, l.stride = l.stride, l.stride+1, l.stride+2
	sums := func(m *Measure) bool { return m.Op == Sum || m.Op == Avg }
	l.ints = l.put(0, func(m *Measure) bool { return sums(m) && m.ArgKind != event.Float })
	l.floats = l.put(0, func(m *Measure) bool { return sums(m) && m.ArgKind == event.Float })
	l.put(0, func(m *Measure) bool { return m.Op == Min || m.Op == Max })
	if def.HasFirst() {
		l.first = l.put(2, func(m *Measure) bool { return m.Op == First })
	}
	if def.HasLast() {
		l.last = l.put(2, func(m *Measure) bool { return m.Op == Last })
	}
	l.put(0, func(m *Measure) bool { return m.Sketched() && m.Stored() })
	for i := range def.Measures {
		switch m := &def.Measures[i]; {
		case !m.Stored():
		case m.Sketched():
			l.sketches = append(l.sketches, i)
		case m.Op == Min || m.Op == Max:
			l.extremes = append(l.extremes, extreme{l.measures[i].at, m.Op, m.ArgKind})
		}
	}
	return l
}

// put gives measures their places, after some other cells.
func (l *layout) put(others int, which func(m *Measure) bool) span {
	s := span{from: l.stride}
	l.stride += others
	var some []int
	var texts []bool
	for i := range l.def.Measures {
		if m := &l.def.Measures[i]; which(m) {
			some, texts = append(some, i), append(texts, m.ofText())
		}
	}
	for i, p := range l.lay(texts) {
		l.measures[some[i]] = p
	}
	s.to = l.stride
	return s
}

// lay lays out values, two texts in a cell.
func (l *layout) lay(texts []bool) []place {
	all := make([]place, len(texts))
	open := -1 // cell with room for a text
	for i, text := range texts {
		switch {
		case text && open >= 0:
			all[i] = place{open, upper}
			open = -1
			continue
		case text:
			all[i], open = place{l.stride, lower}, l.stride
		default:
			all[i] = place{at: l.stride}
		}
		l.stride++
	}
	return all
}

// ofText reports whether what is stored of the measure is a text's cell.
func (m *Measure) ofText() bool { return m.Stored() && !m.Sketched() && m.ArgKind == event.String }

// moment is where an event stands in the order that First and Last go by.
type moment struct{ time, sequence event.Cell }

func (m moment) before(o moment) bool {
	return m.time < o.time || m.time == o.time && m.sequence < o.sequence
}

// moment reads that of an oldest or newest event.
func (s span) moment(row []event.Cell) moment { return moment{row[s.from], row[s.from+1]} }

func less(kind event.Kind, a, b event.Cell) bool {
	if kind == event.Float {
		return a.Float() < b.Float()
	}
	return a < b
}

// betterThan reports whether value v takes the place of the one there is.
func (e *extreme) betterThan(v, than event.Cell) bool {
	if e.op == Min {
		return less(e.kind, v, than)
	}
	return less(e.kind, than, v)
}
