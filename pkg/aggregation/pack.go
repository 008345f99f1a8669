package aggregation

import "weir/pkg/event"

// columnSlabs is the memory that parts are made of.
type columnSlabs struct {
	cells   slab[event.Cell]
	hashes  slab[uint64]
	columns slab[[]event.Cell]
	blocks  slab[[]byte]
	bytes   []byte
}

func (s *columnSlabs) reset() {
	s.cells.reset()
	s.hashes.reset()
	s.columns.reset()
	s.blocks.reset()
	s.bytes = s.bytes[:0]
}

// measures returns as many columns as the aggregation has measures, all nil.
func (s *columnSlabs) measures(def *Definition) [][]event.Cell {
	columns := s.columns.take(len(def.Measures))
	clear(columns)
	return columns
}

// encode writes a sketch as a block of its own.
func (s *columnSlabs) encode(of sketch) []byte {
	start := len(s.bytes)
	s.bytes = appendBlock(s.bytes, of)
	return s.bytes[start:len(s.bytes):len(s.bytes)]
}

// pack appends the table's groups as one part per bucket, buckets ascending.
// They are made of the slabs, and hold until those are reset.
func (t *table) pack(parts []Part, slabs *columnSlabs) []Part {
	o := &t.order
	o.reset()
	bucket, to := event.Cell(0), int32(-1)
	for i := range t.len() {
		if at := t.rows[i*t.stride+atBucket]; to < 0 || at != bucket {
			bucket, to = at, o.run(int64(at))
		}
		o.add(int32(i), to) // a table has far fewer than 2^31 groups
	}
	o.order()
	for _, r := range o.runs {
		parts = append(parts, t.part(r.bucket, o.rows[r.from:r.to], slabs))
	}
	return parts
}

// part makes a part of rows of one bucket.
func (t *table) part(bucket int64, rows []int32, slabs *columnSlabs) Part {
	column := func() []event.Cell { return slabs.cells.take(len(rows)) }
	p := Part{
		Definition: t.def, Level: t.level, Bucket: bucket, Keys: slabs.columns.take(len(t.def.Keys)),
		Events: column(), Checksums: column(), Missing: column(), Measures: slabs.measures(t.def), hashes: slabs.hashes.take(len(rows)),
	}
	copies := make([]copied, 0, t.stride)
	keep := func(at int) []event.Cell {
		to := column()
		copies = append(copies, copied{at, to})
		return to
	}
	for i := range p.Keys {
		p.Keys[i] = keep(atKeys + i)
	}
	copies = append(copies, copied{t.missing, p.Missing}, copied{t.events, p.Events})
	for i := range t.def.Measures {
		if m := &t.def.Measures[i]; m.Stored() && !m.Sketched() {
			p.Measures[i] = keep(t.place[i])
		}
	}
	if !t.first.empty() {
		p.FirstTime, p.FirstSequence = keep(t.first.from), keep(t.first.from+1)
	}
	if !t.last.empty() {
		p.LastTime, p.LastSequence = keep(t.last.from), keep(t.last.from+1)
	}
	t.copyOut(rows, copies)
	for i, r := range rows {
		row := t.row(int(r))
		p.hashes[i] = uint64(row[atHash])                   //nolint:gosec // bits
		p.Checksums[i] = event.Cell(int32(row[t.checksum])) //nolint:gosec // modulo 2^32
	}
	if len(t.layout.sketches) > 0 {
		p.Sketches = t.packSketches(rows, slabs)
	}
	return p
}

// copied is a cell of rows that becomes a column.
type copied struct {
	at int
	to []event.Cell
}

// copyOut turns rows into columns, a few rows at a time, so that they are in
// the cache for every column.
func (t *table) copyOut(rows []int32, columns []copied) {
	const few = 64
	for from := 0; from < len(rows); from += few {
		some := rows[from:min(from+few, len(rows))]
		for _, c := range columns {
			to := c.to[from : from+len(some)]
			for i, r := range some {
				to[i] = t.rows[int(r)*t.stride+c.at]
			}
		}
	}
}

func (t *table) packSketches(rows []int32, slabs *columnSlabs) [][][]byte {
	all := make([][][]byte, len(t.def.Measures))
	for _, k := range t.layout.sketches {
		all[k] = slabs.blocks.take(len(rows))
		for i, r := range rows {
			all[k][i] = slabs.encode(t.sketches[t.row(int(r))[t.place[k]]])
		}
	}
	return all
}
