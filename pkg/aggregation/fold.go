package aggregation

import (
	"cmp"
	"math"
	"slices"

	"weir/pkg/event"
)

// Delta is what one batch adds: packed rows at each aggregation's finest
// granularity.
type Delta struct {
	Parts []Part
	Dict  *event.Dictionary
}

// Part is one packed row: all groups of one bucket of one aggregation, as
// parallel columns with one element per group.
type Part struct {
	Definition *Definition
	Bucket     int64 // its start, microseconds since 1970 UTC
	Keys       [][]event.Cell
	Events     []event.Cell   // number of events per group
	Measures   [][]event.Cell // nil for a count, which is Events
	// LastTime and LastSequence place the newest event of each group; nil
	// where no measure is a Last.
	LastTime, LastSequence []event.Cell
}

// Len returns the number of groups.
func (p *Part) Len() int { return len(p.Events) }

// Fold adds up the events of a batch. Rows marked Dropped are passed over.
// Every event counts in the bucket of its own time, however late it is.
//
// "Newest", for Last, is by event time, then by stream sequence, then by
// place in the message: an order that is total and the same for every worker,
// so that any order of arrival over any number of shards gives one answer.
//
// An integer sum that would leave 64 bits continues in a second group of the
// same key: groups of equal keys add up when they are read, in wider numbers.
func Fold(defs []*Definition, batch []*event.Columns) Delta {
	delta := Delta{}
	for _, columns := range batch {
		delta.Dict = columns.Dict
	}
	for _, def := range defs {
		t := newTable(def)
		for _, input := range def.Inputs {
			for _, columns := range batch {
				if columns.Schema.Name != input.Stream {
					continue
				}
				t.fold(input, columns)
			}
		}
		delta.Parts = t.pack(delta.Parts)
	}
	return delta
}

func (t *table) fold(input Input, c *event.Columns) {
	finest := t.def.Finest()
	for row := range c.Len() {
		if c.Dropped[row] || input.Where >= 0 && c.Cells[input.Where][row] == 0 {
			continue
		}
		t.probe[0] = event.Cell(finest.Truncate(c.Times[row], t.def.Zone))
		for i, at := range input.Keys {
			t.probe[1+i] = c.Cells[at][row]
		}
		group, fresh := t.group()
		if t.overflows(t.row(group), input.Args, c, row) {
			t.split(group)
			fresh = true
		}
		t.add(t.row(group), fresh, input.Args, c, row)
	}
}

// overflows reports whether an integer sum would leave 64 bits.
func (t *table) overflows(group []event.Cell, args []int, c *event.Columns, row int) bool {
	for _, i := range t.intSums {
		sum, v := group[t.width+1+i], c.Cells[args[i]][row]
		if v > 0 && sum > math.MaxInt64-v || v < 0 && sum < math.MinInt64-v {
			return true
		}
	}
	return false
}

// add merges one event into its group.
func (t *table) add(group []event.Cell, fresh bool, args []int, c *event.Columns, row int) {
	group[t.width]++
	measures := group[t.width+1:]
	newest := false
	if t.def.HasLast() {
		last := group[t.stride-2:]
		time, sequence := event.Cell(c.Times[row]), event.Cell(c.Sequences[row]) // sequences stay far below 2^63
		if fresh || time > last[0] || time == last[0] && sequence >= last[1] {
			newest = true
			last[0], last[1] = time, sequence
		}
	}
	for i := range t.def.Measures {
		if t.def.Measures[i].Op == Count {
			continue
		}
		t.merge(&t.def.Measures[i], &measures[i], c.Cells[args[i]][row], fresh, newest)
	}
}

func (t *table) merge(m *Measure, into *event.Cell, v event.Cell, fresh, newest bool) {
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
	case Last:
		if newest {
			*into = v
		}
	case Count:
	}
}

func less(kind event.Kind, a, b event.Cell) bool {
	if kind == event.Float {
		return a.Float() < b.Float()
	}
	return a < b
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
	p := Part{Definition: t.def, Bucket: bucket, Events: column(t.width)}
	for i := range t.def.Keys {
		p.Keys = append(p.Keys, column(1+i))
	}
	for i, m := range t.def.Measures {
		if !m.Stored() {
			p.Measures = append(p.Measures, nil)
			continue
		}
		p.Measures = append(p.Measures, column(t.width+1+i))
	}
	if t.def.HasLast() {
		p.LastTime, p.LastSequence = column(t.stride-2), column(t.stride-1)
	}
	return p
}
