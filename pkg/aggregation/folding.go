package aggregation

import (
	"math"
	"slices"

	"weir/pkg/event"
)

// folding is one aggregation's part of a fold: the groups of a batch as columns
// with one element per group, bucket after bucket, which are what parts are made
// of. It goes through the events in blocks, measure by measure, and leaves what
// is rare to [Folder.foldExactly].
type folding struct {
	def    *Definition
	inputs []input

	hashes            []uint64 // of the groups' keys
	keys              [][]event.Cell
	events, checksums []event.Cell
	measures          [][]event.Cell // by measure; of an extreme, a sum, or of an event in first or last
	first, last       marked
	collected         []collected // by measure, those that are sketched
	packer            sketchPacker
	table             *table // for Folder.foldExactly; nil until it is needed

	unequal event.Cell // not 0 where an event is not of the group that its hash stands for
	left    event.Cell // negative where an integer sum left 64 bits
}

// input is what feeds the aggregation of one batch's columns.
type input struct {
	*Input
	rows *inBuckets
	next int   // the first run that is not folded yet
	base int32 // rows of the inputs before
}

// marked is the oldest or the newest events of groups.
type marked struct {
	times, sequences []event.Cell
	rows             []int32 // row in its input + input.base
}

func newFolding(def *Definition) *folding {
	return &folding{
		def: def, keys: make([][]event.Cell, len(def.Keys)), measures: make([][]event.Cell, len(def.Measures)),
		collected: make([]collected, len(def.Measures)),
	}
}

// begin takes a batch.
func (s *folding) begin(f *Folder, batch []*event.Columns) {
	s.inputs = s.inputs[:0]
	base := int32(0)
	for i := range s.def.Inputs {
		for _, c := range batch {
			if c.Schema.Name == s.def.Inputs[i].Stream {
				s.inputs = append(s.inputs, input{Input: &s.def.Inputs[i], rows: f.inBuckets(c, s.def), base: base})
				base += int32(c.Len()) // a batch has far fewer than 2^31 rows
			}
		}
	}
	s.hashes, s.events, s.checksums = s.hashes[:0], s.events[:0], s.checksums[:0]
	for i := range s.keys {
		s.keys[i] = s.keys[i][:0]
	}
	for i := range s.measures {
		s.measures[i] = s.measures[i][:0]
		s.collected[i].reset()
	}
	s.first.reset()
	s.last.reset()
	s.packer.reset()
	s.unequal, s.left = 0, 0
}

func (m *marked) reset() {
	m.times, m.sequences, m.rows = m.times[:0], m.sequences[:0], m.rows[:0]
}

// nextBucket returns the earliest bucket that is not folded yet, and how many
// events it has at most.
func (s *folding) nextBucket() (bucket int64, events int) {
	bucket = math.MaxInt64
	for i := range s.inputs {
		if in := &s.inputs[i]; in.next < len(in.rows.runs) {
			r := in.rows.runs[in.next]
			if r.bucket < bucket {
				bucket, events = r.bucket, 0
			}
			if r.bucket == bucket {
				events += int(r.to - r.from)
			}
		}
	}
	return bucket, events
}

// fold appends the batch's parts to the delta. False means that there is
// something that it cannot do; what it appended is then not to be used.
func (s *folding) fold(f *Folder, texts []uint64) bool {
	level := f.guard.level(s.def, s.def.Finest())
	for {
		bucket, events := s.nextBucket()
		if events == 0 {
			return true
		}
		start := len(s.events)
		f.work.index.begin(events)
		for i := range s.inputs {
			in := &s.inputs[i]
			if in.next == len(in.rows.runs) || in.rows.runs[in.next].bucket != bucket {
				continue
			}
			r := in.rows.runs[in.next]
			in.next++
			s.foldRows(f, in, in.rows.rows[r.from:r.to], start, texts)
		}
		if s.unequal != 0 || s.left < 0 {
			return false
		}
		if start == len(s.events) {
			continue
		}
		if level != nil && !level.admitAll(bucket, s.hashes[start:]) {
			return false
		}
		f.delta.Parts = append(f.delta.Parts, s.part(f, bucket, start))
	}
}

// filter appends the rows that the condition lets through.
func (in *input) filter(to, rows []int32) []int32 {
	if in.Where < 0 {
		return append(to, rows...)
	}
	cells := in.rows.columns.Cells[in.Where]
	for _, row := range rows {
		if cells[row] != 0 {
			to = append(to, row)
		}
	}
	return to
}

// hash hashes the keys of rows.
func (in *input) hash(into []uint64, def *Definition, rows []int32, h *hasher, texts []uint64) {
	h.begin(into)
	for i, key := range def.Keys {
		h.column(into, key.Kind, in.rows.columns.Cells[in.Keys[i]], rows, texts)
	}
	h.end(into)
}

// foldRows adds events of one bucket, whose groups are those from start on.
func (s *folding) foldRows(f *Folder, in *input, rows []int32, start int, texts []uint64) {
	if in.Where >= 0 {
		f.rows = in.filter(f.rows[:0], rows)
		rows = f.rows
	}
	w := &f.work
	w.hashes, w.groups = slices.Grow(w.hashes[:0], foldRows), slices.Grow(w.groups[:0], foldRows)
	for len(rows) > 0 {
		block := rows[:min(foldRows, len(rows))]
		rows = rows[len(block):]
		w.hashes, w.groups = w.hashes[:len(block)], w.groups[:len(block)]
		in.hash(w.hashes, s.def, block, f.guard.hasher, texts)
		w.fresh = w.fresh[:0]
		s.find(w, block, start)
		s.open(in, w.fresh)
		s.count(in, block, w.groups)
		s.measure(in, block, w.groups)
	}
	s.look(in, start)
}

// open begins groups with the keys of their first events.
func (s *folding) open(in *input, fresh []int32) {
	c, n := in.rows.columns, len(fresh)
	if n == 0 {
		return
	}
	for i, at := range in.Keys {
		s.keys[i] = appendRows(s.keys[i], c.Cells[at], fresh)
	}
	s.events, s.checksums = appendZeros(s.events, n), appendZeros(s.checksums, n)
	if s.def.HasFirst() {
		s.first.open(in, fresh)
	}
	if s.def.HasLast() {
		s.last.open(in, fresh)
	}
	for i := range s.def.Measures {
		switch m := &s.def.Measures[i]; {
		case !m.Stored() || m.Sketched():
		case m.Op == Min || m.Op == Max:
			s.measures[i] = appendRows(s.measures[i], c.Cells[in.Args[i]], fresh)
		default:
			s.measures[i] = appendZeros(s.measures[i], n)
		}
	}
}

func (m *marked) open(in *input, fresh []int32) {
	c := in.rows.columns
	for _, row := range fresh {
		m.times = append(m.times, event.Cell(c.Times[row]))
		m.sequences = append(m.sequences, event.Cell(c.Sequences[row])) //nolint:gosec // they stay far below 2^63
		m.rows = append(m.rows, row+in.base)
	}
}

func appendRows(to, cells []event.Cell, rows []int32) []event.Cell {
	n := len(to)
	to = slices.Grow(to, len(rows))[:n+len(rows)]
	for i, row := range rows {
		to[n+i] = cells[row]
	}
	return to
}

func appendZeros(to []event.Cell, n int) []event.Cell {
	to = slices.Grow(to, n)[:len(to)+n]
	clear(to[len(to)-n:])
	return to
}

// count checks that events are of their groups, counts them, and finds the
// oldest and newest.
func (s *folding) count(in *input, rows, groups []int32) {
	c := in.rows.columns
	for i, at := range in.Keys {
		cells, keys, unequal := c.Cells[at], s.keys[i], event.Cell(0)
		for j, row := range rows {
			unequal |= cells[row] ^ keys[groups[j]]
		}
		s.unequal |= unequal
	}
	events, checksums := s.events, s.checksums
	for j, row := range rows {
		g := groups[j]
		events[g]++
		checksums[g] += event.Cell(c.Checksums[row])
	}
	if s.def.HasFirst() {
		m := &s.first
		for j, row := range rows {
			g, t, q := groups[j], event.Cell(c.Times[row]), event.Cell(c.Sequences[row]) //nolint:gosec // as in open
			if t < m.times[g] || t == m.times[g] && q < m.sequences[g] {
				m.times[g], m.sequences[g], m.rows[g] = t, q, row+in.base
			}
		}
	}
	if s.def.HasLast() {
		m := &s.last
		for j, row := range rows {
			g, t, q := groups[j], event.Cell(c.Times[row]), event.Cell(c.Sequences[row]) //nolint:gosec // as in open
			if t > m.times[g] || t == m.times[g] && q >= m.sequences[g] {
				m.times[g], m.sequences[g], m.rows[g] = t, q, row+in.base
			}
		}
	}
}

// measure adds the events' arguments to their groups, measure by measure.
func (s *folding) measure(in *input, rows, groups []int32) {
	for i := range s.def.Measures {
		m := &s.def.Measures[i]
		if !m.Stored() {
			continue
		}
		cells, into := in.rows.columns.Cells[in.Args[i]], s.measures[i]
		switch m.Op {
		case Sum, Avg:
			if m.ArgKind == event.Float {
				addFloats(into, cells, rows, groups)
			} else {
				s.left |= addInts(into, cells, rows, groups)
			}
		case Min, Max:
			e := extreme{op: m.Op, kind: m.ArgKind}
			for j, row := range rows {
				if v, g := cells[row], groups[j]; e.betterThan(v, into[g]) {
					into[g] = v
				}
			}
		case Distinct, Quantile, Deviation:
			s.collected[i].add(m, in.rows.columns.Dict, cells, rows, groups)
		case Count, First, Last: // counted; looked up when the bucket is done
		}
	}
}

// addInts returns a negative number where a sum left 64 bits.
func addInts(into, cells []event.Cell, rows, groups []int32) (left event.Cell) {
	for j, row := range rows {
		v, had := cells[row], into[groups[j]]
		sum := had + v
		left |= (sum ^ had) & (sum ^ v)
		into[groups[j]] = sum
	}
	return left
}

func addFloats(into, cells []event.Cell, rows, groups []int32) {
	for j, row := range rows {
		at := &into[groups[j]]
		*at = event.FloatCell(at.Float() + cells[row].Float())
	}
}

// look looks up what the oldest and newest events of the groups from start on
// say, where they are of this input.
func (s *folding) look(in *input, start int) {
	for i := range s.def.Measures {
		switch m := &s.def.Measures[i]; m.Op {
		case First:
			s.first.look(s.measures[i], in, in.Args[i], start)
		case Last:
			s.last.look(s.measures[i], in, in.Args[i], start)
		case Count, Sum, Avg, Min, Max, Distinct, Quantile, Deviation:
		}
	}
}

func (m *marked) look(into []event.Cell, in *input, arg, start int) {
	cells := in.rows.columns.Cells[arg]
	into = into[start:]
	for g, row := range m.rows[start:] {
		if at := int(row - in.base); uint(at) < uint(len(cells)) { //nolint:gosec // that is, not negative
			into[g] = cells[at]
		}
	}
}

// part is what the groups from start on are packed into.
func (s *folding) part(f *Folder, bucket int64, start int) Part {
	p := Part{
		Definition: s.def, Level: s.def.Finest(), Bucket: bucket, hashes: s.hashes[start:],
		Keys: f.columns.take(len(s.keys)), Measures: f.columns.take(len(s.measures)),
		Events: since(s.events, start), Checksums: since(s.checksums, start),
	}
	for i := range s.keys {
		p.Keys[i] = since(s.keys[i], start)
	}
	for i, sum := range p.Checksums {
		p.Checksums[i] = event.Cell(int32(sum)) //nolint:gosec // modulo 2^32
	}
	for i := range s.def.Measures {
		p.Measures[i] = nil
		switch m := &s.def.Measures[i]; {
		case !m.Stored():
		case m.Sketched():
			if p.Sketches == nil {
				p.Sketches = make([][][]byte, len(s.measures))
			}
			p.Sketches[i] = s.packer.pack(m.Op, &s.collected[i], start, p.Len())
		default:
			p.Measures[i] = since(s.measures[i], start)
		}
	}
	if s.def.HasFirst() {
		p.FirstTime, p.FirstSequence = since(s.first.times, start), since(s.first.sequences, start)
	}
	if s.def.HasLast() {
		p.LastTime, p.LastSequence = since(s.last.times, start), since(s.last.sequences, start)
	}
	return p
}

// since returns the groups from start on; what is appended later is not theirs.
func since(column []event.Cell, start int) []event.Cell { return column[start:len(column):len(column)] }
