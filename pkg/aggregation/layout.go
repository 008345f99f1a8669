package aggregation

import "weir/pkg/event"

// layout says where the cells of a group are in its row of a table. Cells that
// are treated alike stand side by side:
//
//   - the hash of the group keys
//   - the bucket start, the group keys, and what is missing ([Part].Missing):
//     together what identifies a group
//   - the number of events, and the sum of their checksums, of which only the
//     lower 32 bits count
//   - sums of integers, sums of floats, smallest and largest values
//   - time and stream sequence of the oldest event, and what it says; the same of
//     the newest
//   - the places of sketches
type layout struct {
	def    *Definition
	level  Granularity
	stride int

	missing, events, checksum int
	ints, floats              span
	extremes                  []extreme
	first, last               span
	sketches                  []int        // measures
	place                     []int        // by measure: its cell; 0 where nothing is stored
	texts                     []int        // cells of texts
	bits                      []event.Cell // of those, the bits of their measures; 0 for keys
}

// What every row begins with.
const (
	atHash   = 0
	atBucket = 1
	atKeys   = 2
)

// span is some cells of a row: from..to.
type span struct{ from, to int }

func (s span) empty() bool { return s.from == s.to }

// extreme is a cell that holds the smallest or the largest of values.
type extreme struct {
	at   int
	op   Op
	kind event.Kind
}

func newLayout(def *Definition, level Granularity) layout {
	l := layout{def: def, level: level, place: make([]int, len(def.Measures)), missing: atKeys + len(def.Keys)}
	l.events, l.checksum, l.stride = l.missing+1, l.missing+2, l.missing+3
	for i, key := range def.Keys {
		if key.Kind == event.String {
			l.texts, l.bits = append(l.texts, atKeys+i), append(l.bits, 0)
		}
	}
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
			l.extremes = append(l.extremes, extreme{l.place[i], m.Op, m.ArgKind})
		}
		if m := &def.Measures[i]; m.ofText() {
			l.texts, l.bits = append(l.texts, l.place[i]), append(l.bits, MissingBit(i))
		}
	}
	return l
}

// put gives measures their cells, after some others.
func (l *layout) put(others int, which func(m *Measure) bool) span {
	s := span{from: l.stride}
	l.stride += others
	for i := range l.def.Measures {
		if which(&l.def.Measures[i]) {
			l.place[i] = l.stride
			l.stride++
		}
	}
	s.to = l.stride
	return s
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
