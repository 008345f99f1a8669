package aggregation

import (
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

	hasher *hasher // what Part.hashes are by
}

// Groups is how many groups the delta has: the same one in two buckets or levels counts twice.
func (d Delta) Groups() (n int) {
	for i := range d.Parts {
		n += d.Parts[i].Len()
	}
	return n
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

	hashes []uint64 // of the keys, by Delta.hasher; nil: not known
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
	some.hashes = nil
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

// Folder folds batch after batch, and keeps its memory from one to the next. It
// belongs to one goroutine.
type Folder struct {
	guard    *Guard
	foldings map[*Definition]*folding
	delta    Delta
	columns  slab[[]event.Cell]
	slabs    columnSlabs // of what was folded exactly

	ordered []*inBuckets // of this batch, and memory of those before
	inUse   int
	rows    []int32 // those that a condition lets through
	work    work
}

// NewFolder returns a folder for the shard whose guard it is; [Guard.Commit]
// tells it what becomes of a delta. Nil is a guard of the folder's own, so that
// caps hold for each batch alone.
func NewFolder(guard *Guard) *Folder {
	if guard == nil {
		guard = NewGuard()
	}
	return &Folder{guard: guard, foldings: map[*Definition]*folding{}}
}

// Fold adds up the events of a batch, which have one dictionary. Rows marked
// Dropped are passed over. Every event counts in the bucket of its own time,
// however late it is. The delta holds until the folder's next Fold.
//
// "Oldest" and "newest", for First and Last, are by event time, then by stream
// sequence, then by place in the message: an order that is total and the same
// for every worker, so that any order of arrival over any number of shards
// gives one answer.
//
// An integer sum that would leave 64 bits continues in a second group of the
// same key: groups of equal keys add up when they are read, in wider numbers.
func (f *Folder) Fold(defs []*Definition, batch []*event.Columns) Delta {
	return f.FoldEach(defs, batch, func([]Part) {})
}

// FoldEach is Fold, and hands over the parts of each aggregation that has any as
// soon as they are complete, for another goroutine to begin with. No text is added to the
// dictionary after the first.
func (f *Folder) FoldEach(defs []*Definition, batch []*event.Columns, each func([]Part)) Delta {
	f.guard.rollBack()
	f.delta = Delta{Parts: f.delta.Parts[:0], Other: f.delta.Other[:0], hasher: f.guard.hasher}
	f.columns.reset()
	f.slabs.reset()
	f.inUse = 0
	if len(batch) == 0 {
		return f.delta
	}
	f.delta.Dict = batch[0].Dict
	f.forget(defs)
	f.delta.Dict.Intern(OtherGroup)
	texts := f.guard.hasher.texts(f.delta.Dict)
	for _, def := range defs {
		before := len(f.delta.Parts)
		s := f.folding(def)
		s.begin(f, batch)
		if !s.fold(f, texts) {
			f.delta.Parts = f.delta.Parts[:before]
			f.foldExactly(s)
		}
		if parts := f.delta.Parts[before:]; len(parts) > 0 {
			each(slices.Clip(parts))
		}
	}
	return f.delta
}

// folding returns the memory for an aggregation.
func (f *Folder) folding(def *Definition) *folding {
	s := f.foldings[def]
	if s == nil {
		s = newFolding(def)
		f.foldings[def] = s
	}
	return s
}

// forget gives back the memory for aggregations that are not folded any more.
func (f *Folder) forget(defs []*Definition) {
	const some = 16 // backfills fold a few by themselves
	if len(f.foldings) <= len(defs)+some {
		return
	}
	for def := range f.foldings {
		if !slices.Contains(defs, def) {
			delete(f.foldings, def)
		}
	}
}

// inBuckets is the rows of columns, without those that are dropped, in the
// order of their buckets and then their own. Aggregations share it.
type inBuckets struct {
	ordering
	columns *event.Columns
	def     *Definition // one of those whose finest buckets they are
}

// inBuckets returns the columns' rows for the aggregation.
func (f *Folder) inBuckets(c *event.Columns, def *Definition) *inBuckets {
	for _, o := range f.ordered[:f.inUse] {
		if o.columns == c && o.def.Finest() == def.Finest() && o.def.Zone == def.Zone {
			return o
		}
	}
	if f.inUse == len(f.ordered) {
		f.ordered = append(f.ordered, &inBuckets{})
	}
	o := f.ordered[f.inUse]
	f.inUse++
	o.columns, o.def = c, def
	o.sort()
	return o
}

// sort finds the rows' buckets. Events mostly follow others of their bucket, so
// that finding it costs a comparison.
func (o *inBuckets) sort() {
	level, zone := o.def.Finest(), o.def.Zone
	o.reset()
	start, next, to := int64(0), int64(0), int32(-1)
	for row, t := range o.columns.Times {
		if o.columns.Dropped[row] {
			continue
		}
		if to < 0 || t < start || t >= next {
			start = level.Truncate(t, zone)
			next = level.Next(start, zone)
			to = o.run(start)
		}
		o.add(int32(row), to) // a batch has far fewer than 2^31 rows
	}
	o.order()
}

// foldExactly folds an aggregation event by event, as a table does that compares
// keys, splits sums that leave 64 bits and diverts groups beyond the cap: what
// folding leaves to it, which is rare.
func (f *Folder) foldExactly(s *folding) {
	gate := f.guard.gate(s.def, s.def.Finest())
	if gate != nil {
		gate.rollBack()
	}
	if s.table == nil {
		s.table = newTable(s.def, s.def.Finest(), nil, nil)
	}
	t := s.table
	t.reset()
	t.speak(f.delta.Dict)
	t.gate = gate
	for i := range s.inputs {
		in := &s.inputs[i]
		f.rows = in.filter(f.rows[:0], in.rows.rows)
		rows := f.rows
		slices.Sort(rows) // as they came
		for from := 0; from < len(rows); from += blockRows {
			t.fillEvents(in, rows[from:min(from+blockRows, len(rows))], f.guard.hasher)
			must(t.absorb()) // only blocks can be wrong, and an event has none
		}
	}
	before := len(f.delta.Parts)
	f.delta.Parts = t.pack(f.delta.Parts, &f.slabs)
	for i := range f.delta.Parts[before:] {
		f.delta.Parts[before+i].Missing = nil
	}
	f.delta.Other = t.others(f.delta.Other)
}

// fillEvents makes the block hold events as groups.
func (t *table) fillEvents(in *input, rows []int32, h *hasher) {
	c, b := in.rows.columns, &t.block
	b.n, b.blocks = len(rows), nil
	hashes := b.hashes[:b.n]
	in.hash(hashes, t.def, rows, h, h.texts(c.Dict))
	t.takeHashes(hashes)
	for i, row := range rows {
		x := t.block.rows[i*t.stride : (i+1)*t.stride]
		x[atBucket] = event.Cell(t.level.Truncate(c.Times[row], t.def.Zone))
		for k, at := range in.Keys {
			t.keys[k].put(x, c.Cells[at][row])
		}
		x[atMissing], x[t.events], x[t.checksum] = 0, 1, event.Cell(c.Checksums[row])
		for k, at := range in.Args {
			m := &t.def.Measures[k]
			switch {
			case !m.Stored():
			case m.Sketched():
				x[t.measures[k].at] = m.operand(c.Cells[at][row], c.Dict)
			default:
				t.measures[k].put(x, c.Cells[at][row])
			}
		}
		for _, s := range []span{t.first, t.last} {
			if !s.empty() {
				x[s.from], x[s.from+1] = event.Cell(c.Times[row]), event.Cell(c.Sequences[row]) //nolint:gosec // sequences stay far below 2^63
			}
		}
	}
}
