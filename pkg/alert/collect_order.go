package alert

import (
	"cmp"
	"math/bits"
	"slices"

	"weir/pkg/event"
)

// order is the order of a batch's events of one stream.
type order struct {
	columns *event.Columns
	sorted  bool
	rows    []int32 // those that are not dropped, as they happened
	first   int64   // the first one's time
	unit    int64   // microseconds: all times are as many of them from the first

	places, moved []uint64
}

// begin is before all that concerns a stream.
func (o *order) begin(columns *event.Columns) { o.columns, o.sorted = columns, false }

// sort puts the rows in order, the first time that it is asked to.
func (o *order) sort() {
	if o.sorted {
		return
	}
	c := o.columns
	o.sorted, o.rows = true, o.rows[:0]
	inTime, arrived := true, true
	last := int64(0)
	o.first, o.unit = 0, 1000
	for row, dropped := range c.Dropped {
		if dropped {
			continue
		}
		at := c.Times[row]
		if n := len(o.rows); n == 0 {
			o.first, last = at, at
		} else {
			inTime = inTime && at >= c.Times[o.rows[n-1]]
			arrived = arrived && before(c, o.rows[n-1], int32(row)) //nolint:gosec // rows of a batch
			o.first, last = min(o.first, at), max(last, at)
		}
		o.rows = append(o.rows, int32(row)) //nolint:gosec // rows of a batch
	}
	for _, row := range o.rows {
		if (c.Times[row]-o.first)%o.unit != 0 {
			o.unit = 1
			break
		}
	}
	if !arrived {
		slices.SortFunc(o.rows, func(a, b int32) int {
			return cmp.Or(cmp.Compare(c.Sequences[a], c.Sequences[b]), cmp.Compare(c.Offsets[a], c.Offsets[b]))
		})
		inTime = false
	}
	if !inTime {
		o.byTime(uint64(last-o.first) / uint64(o.unit)) //nolint:gosec // not negative
	}
}

// before reports whether a row is before another in the stream.
func before(c *event.Columns, a, b int32) bool {
	return c.Sequences[a] < c.Sequences[b] || c.Sequences[a] == c.Sequences[b] && c.Offsets[a] < c.Offsets[b]
}

// byTime sorts the rows, which are in the order of the stream, by time. Rows and times are sorted as one word, digit by
// digit: comparing rows took several times as long.
func (o *order) byTime(span uint64) {
	low, high := bits.Len(uint(len(o.rows))), bits.Len64(span)
	if low+high > 64 {
		slices.SortStableFunc(o.rows, func(a, b int32) int { return cmp.Compare(o.columns.Times[a], o.columns.Times[b]) })
		return
	}
	o.places = o.places[:0]
	for i, row := range o.rows {
		o.places = append(o.places, uint64((o.columns.Times[row]-o.first)/o.unit)<<low|uint64(i)) //nolint:gosec // not negative
	}
	if len(o.places) < 512 {
		slices.Sort(o.places)
	} else {
		o.radix(low, low+high)
	}
	rows := slices.Clone(o.rows)
	for i, place := range o.places {
		o.rows[i] = rows[place&(1<<low-1)]
	}
}

// radix sorts the places by their bits from one to another; what is equal there stays in order.
func (o *order) radix(from, to int) {
	const digit = 11
	o.moved = slices.Grow(o.moved[:0], len(o.places))[:len(o.places)]
	for ; from < to; from += digit {
		var ends [1 << digit]int32
		for _, place := range o.places {
			ends[place>>from&(1<<digit-1)]++
		}
		sum := int32(0)
		for i, n := range ends {
			ends[i] = sum
			sum += n
		}
		for _, place := range o.places {
			at := &ends[place>>from&(1<<digit-1)]
			o.moved[*at] = place
			*at++
		}
		o.places, o.moved = o.moved, o.places
	}
}

// numbered are the keys of a stream's events, for all cases that have the same. They are numbered
// once a batch: most of what evidence costs is to find an event's key.
type numbered struct {
	stream     string
	attributes []int
	wanted     bool // in this batch

	columns *event.Columns // of which they are; nil: of none yet
	tuples  tuples
	of      []int32 // by row
	newest  []int32 // by key: the row of its newest event
	known   []int32 // of one text: number + 1, by cell; all 0 between batches
	grouped bool
	starts  []int32 // by key: where in rows it begins; and the end of the last
	rows    []int32 // by key, and those of each as they happened
}

// rowsOf are the rows of a key, in order.
func (k *numbered) rowsOf(key int) []int32 { return k.rows[k.starts[key]:k.starts[key+1]] }

// number numbers the keys of all events, the first time that it is asked to. Where they are numbered by more attributes
// too, those numbers are numbered.
func (k *numbered) number(columns *event.Columns, o *order, others []*numbered) {
	if k.columns == columns {
		return
	}
	k.columns, k.grouped = columns, false
	k.newest = k.newest[:0]
	k.of = slices.Grow(k.of[:0], columns.Len())[:columns.Len()]
	i := slices.IndexFunc(others, func(f *numbered) bool { return f.wanted && len(f.attributes) > len(k.attributes) && f.refines(k) })
	switch {
	case i >= 0:
		others[i].number(columns, o, others)
		k.join(others[i], o)
	case len(k.attributes) == 1 && columns.Schema.Attributes[k.attributes[0]].Kind == event.String:
		k.numberTexts(o)
	default:
		k.numberRows(o)
	}
}

// group gathers the rows of each key, the first time that it is asked to.
func (k *numbered) group(o *order) {
	if k.grouped {
		return
	}
	k.grouped = true
	k.starts = append(k.starts[:0], make([]int32, len(k.newest)+1)...)
	for _, row := range o.rows {
		k.starts[k.of[row]+1]++
	}
	for key := range k.newest {
		k.starts[key+1] += k.starts[key]
	}
	k.rows = slices.Grow(k.rows[:0], len(o.rows))[:len(o.rows)]
	for _, row := range o.rows {
		at := &k.starts[k.of[row]]
		k.rows[*at] = row
		*at++
	}
	copy(k.starts[1:], k.starts) // each is where its key ends now
	k.starts[0] = 0
}

// refines reports whether whatever differs by the other's attributes differs by these.
func (k *numbered) refines(other *numbered) bool {
	if k.stream != other.stream {
		return false
	}
	for _, attribute := range other.attributes {
		if !slices.Contains(k.attributes, attribute) {
			return false
		}
	}
	return true
}

// cells are the columns of the key.
func (k *numbered) cells() [][]event.Cell {
	cells := make([][]event.Cell, len(k.attributes))
	for i, attribute := range k.attributes {
		cells[i] = k.columns.Cells[attribute]
	}
	return cells
}

// numberRows finds the key of each row.
func (k *numbered) numberRows(o *order) {
	cells, tuple := k.cells(), make([]uint64, max(1, len(k.attributes)))
	k.tuples.reset(len(tuple))
	for _, row := range o.rows {
		for i := range cells {
			tuple[i] = uint64(cells[i][row]) //nolint:gosec // a word
		}
		n, fresh := k.tuples.number(tuple)
		if k.of[row] = n; fresh {
			k.newest = append(k.newest, row)
		} else {
			k.newest[n] = row // they come in order
		}
	}
}

// numberTexts is numberRows for one text, whose cells are numbers of a dictionary.
func (k *numbered) numberTexts(o *order) {
	cells := k.columns.Cells[k.attributes[0]]
	if n := k.columns.Dict.Len(); n > len(k.known) {
		k.known = make([]int32, n+n/4)
	}
	for _, row := range o.rows {
		known := &k.known[cells[row]]
		if *known == 0 {
			k.newest = append(k.newest, row)
			*known = int32(len(k.newest)) //nolint:gosec // rows of a batch
		}
		k.of[row], k.newest[*known-1] = *known-1, row
	}
	for _, row := range k.newest {
		k.known[cells[row]] = 0
	}
}

// join finds the keys of the other's keys.
func (k *numbered) join(finer *numbered, o *order) {
	cells, tuple, of := k.cells(), make([]uint64, max(1, len(k.attributes))), make([]int32, len(finer.newest))
	k.tuples.reset(len(tuple))
	for key, row := range finer.newest {
		for i := range cells {
			tuple[i] = uint64(cells[i][row]) //nolint:gosec // a word
		}
		n, fresh := k.tuples.number(tuple)
		if of[key] = n; fresh {
			k.newest = append(k.newest, row)
		} else if k.columns.Times[row] >= k.columns.Times[k.newest[n]] {
			k.newest[n] = row
		}
	}
	for _, row := range o.rows {
		k.of[row] = of[finer.of[row]]
	}
}
