package aggregation

import (
	"cmp"
	"slices"

	"weir/pkg/event"
)

// Delta is what one batch adds: packed rows at each aggregation's finest
// granularity.
type Delta struct {
	Parts []Part
	Dict  *event.Dictionary
	// Other lists where groups were folded into [OtherGroup].
	Other []Other
}

// Part is all groups of one bucket of one aggregation at one level, as parallel
// columns with one element per group: at the finest level, one packed row.
type Part struct {
	Definition *Definition
	Level      Granularity
	Bucket     int64 // its start, microseconds since 1970 UTC
	Keys       [][]event.Cell
	Events     []event.Cell   // number of events per group
	Checksums  []event.Cell   // sum of their checksums modulo 2^32, as a signed 32-bit integer
	Measures   [][]event.Cell // nil for a count, which is Events, and where Sketches has it
	// Sketches holds, for the sketched measures that are stored, each group's
	// sketch as one or more blocks ([Measure.Finish]); nil for all others.
	Sketches [][][]byte
	// Missing says which measures are not known of a group, because its rows were
	// written before the measure was defined: bit i stands for measure i, whose
	// cell or sketch then means nothing. nil: all are known.
	Missing []event.Cell
	// FirstTime and FirstSequence place the oldest event of each group, LastTime
	// and LastSequence the newest; nil where no measure is a First, or a Last.
	FirstTime, FirstSequence []event.Cell
	LastTime, LastSequence   []event.Cell
}

// Len returns the number of groups.
func (p *Part) Len() int { return len(p.Events) }

// Slice returns the groups from one up to, and without, another. They share
// their memory with the part's.
func (p *Part) Slice(from, until int) Part {
	cut := func(cells []event.Cell) []event.Cell {
		if cells == nil {
			return nil
		}
		return cells[from:until]
	}
	some := *p
	some.Events, some.Checksums, some.Missing = cut(p.Events), cut(p.Checksums), cut(p.Missing)
	some.FirstTime, some.FirstSequence = cut(p.FirstTime), cut(p.FirstSequence)
	some.LastTime, some.LastSequence = cut(p.LastTime), cut(p.LastSequence)
	some.Keys, some.Measures, some.Sketches = make([][]event.Cell, len(p.Keys)), make([][]event.Cell, len(p.Measures)), slices.Clone(p.Sketches)
	for i, cells := range p.Keys {
		some.Keys[i] = cut(cells)
	}
	for i, cells := range p.Measures {
		some.Measures[i] = cut(cells)
	}
	for i, sketches := range p.Sketches {
		if sketches != nil {
			some.Sketches[i] = sketches[from:until]
		}
	}
	return some
}

// missing returns the bits of what is not known of group i.
func (p *Part) missing(i int) event.Cell {
	if p.Missing == nil {
		return 0
	}
	return p.Missing[i]
}

// Fold adds up the events of a batch. Rows marked Dropped are passed over.
// Every event counts in the bucket of its own time, however late it is.
//
// "Oldest" and "newest", for First and Last, are by event time, then by stream
// sequence, then by place in the message: an order that is total and the same
// for every worker, so that any order of arrival over any number of shards
// gives one answer.
//
// An integer sum that would leave 64 bits continues in a second group of the
// same key: groups of equal keys add up when they are read, in wider numbers.
//
// The guard is the shard's; [Guard.Commit] tells it what becomes of the delta.
// Nil is one that has seen nothing, so that caps hold for this batch alone.
func Fold(defs []*Definition, batch []*event.Columns, guard *Guard) Delta {
	if guard == nil {
		guard = NewGuard()
	}
	guard.rollBack()
	delta := Delta{}
	if len(batch) == 0 {
		return delta
	}
	for _, columns := range batch {
		delta.Dict = columns.Dict
	}
	for _, def := range defs {
		t := newTable(def, def.Finest())
		t.gate = guard.gate(def, t.level, delta.Dict)
		for _, input := range def.Inputs {
			for _, columns := range batch {
				if columns.Schema.Name != input.Stream {
					continue
				}
				t.fold(input, columns)
			}
		}
		delta.Parts = t.pack(delta.Parts)
		delta.Other = t.others(delta.Other)
	}
	return delta
}

func (t *table) fold(input Input, c *event.Columns) {
	x := contribution{events: 1, measures: make([]event.Cell, len(t.def.Measures))}
	for row := range c.Len() {
		if c.Dropped[row] || input.Where >= 0 && c.Cells[input.Where][row] == 0 {
			continue
		}
		t.probe[0] = event.Cell(t.level.Truncate(c.Times[row], t.def.Zone))
		for i, at := range input.Keys {
			t.probe[1+i] = c.Cells[at][row]
		}
		for i, at := range input.Args {
			if at < 0 {
				continue
			}
			x.measures[i] = c.Cells[at][row]
			if m := &t.def.Measures[i]; m.Sketched() {
				x.measures[i] = m.operand(c.Cells[at][row], c.Dict)
			}
		}
		x.checksum = event.Cell(c.Checksums[row])
		x.first = moment{event.Cell(c.Times[row]), event.Cell(c.Sequences[row])} // sequences stay far below 2^63
		x.last = x.first
		if err := t.put(&x); err != nil {
			panic(err) // only blocks can be wrong, and an event has none
		}
	}
}

// pack appends the table's groups as one part per bucket, buckets ascending.
func (t *table) pack(parts []Part) []Part {
	order := make([]int32, t.len())
	for i := range order {
		order[i] = int32(i) // a batch has far fewer than 2^31 groups
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Compare(t.rows[int(a)*t.stride], t.rows[int(b)*t.stride])
	})
	for start := 0; start < len(order); {
		end := start + 1
		bucket := t.rows[int(order[start])*t.stride]
		for end < len(order) && t.rows[int(order[end])*t.stride] == bucket {
			end++
		}
		parts = append(parts, t.part(int64(bucket), order[start:end]))
		start = end
	}
	return parts
}

func (t *table) part(bucket int64, rows []int32) Part {
	column := func(at int) []event.Cell {
		cells := make([]event.Cell, len(rows))
		for i, r := range rows {
			cells[i] = t.rows[int(r)*t.stride+at]
		}
		return cells
	}
	p := Part{
		Definition: t.def, Level: t.level, Bucket: bucket, Events: column(t.width), Checksums: column(t.checksum),
		Measures: make([][]event.Cell, len(t.def.Measures)), Sketches: make([][][]byte, len(t.def.Measures)),
	}
	for i, sum := range p.Checksums {
		p.Checksums[i] = event.Cell(int32(sum)) //nolint:gosec // modulo 2^32
	}
	for i := range t.def.Keys {
		p.Keys = append(p.Keys, column(1+i))
	}
	if t.missing > 0 {
		p.Missing = column(t.missing)
	}
	for i, m := range t.def.Measures {
		cells := column(t.width + 1 + i)
		switch {
		case !m.Stored():
		case m.Sketched():
			p.Sketches[i] = make([][]byte, len(rows))
			for k, at := range cells {
				p.Sketches[i][k] = encode(t.sketches[at])
			}
		default:
			p.Measures[i] = cells
		}
	}
	if t.first > 0 {
		p.FirstTime, p.FirstSequence = column(t.first), column(t.first+1)
	}
	if t.last > 0 {
		p.LastTime, p.LastSequence = column(t.last), column(t.last+1)
	}
	return p
}
