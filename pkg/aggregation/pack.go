package aggregation

import (
	"math"

	"weir/pkg/event"
)

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
	copies := make([]copied, 0, t.stride+len(t.def.Keys)+len(t.def.Measures))
	copies = append(copies, copied{place{at: atMissing}, p.Missing}, copied{place{at: t.events}, p.Events})
	keep := func(at place) []event.Cell {
		to := column()
		copies = append(copies, copied{at, to})
		return to
	}
	for i, at := range t.keys {
		p.Keys[i] = keep(at)
	}
	for i := range t.def.Measures {
		if m := &t.def.Measures[i]; m.Stored() && !m.Sketched() {
			p.Measures[i] = keep(t.measures[i])
		}
	}
	if at := t.first.from; !t.first.empty() {
		p.FirstTime, p.FirstSequence = keep(place{at: at}), keep(place{at: at + 1})
	}
	if at := t.last.from; !t.last.empty() {
		p.LastTime, p.LastSequence = keep(place{at: at}), keep(place{at: at + 1})
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

// copied is a value of rows that becomes a column.
type copied struct {
	place
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
			shift, mask := uint(0), event.Cell(-1)
			switch c.text {
			case lower:
				mask = math.MaxUint32
			case upper:
				shift = 32
			case whole:
			}
			for i, r := range some {
				to[i] = t.rows[int(r)*t.stride+c.at] >> shift & mask
			}
		}
	}
}

func (t *table) packSketches(rows []int32, slabs *columnSlabs) [][][]byte {
	all := make([][][]byte, len(t.def.Measures))
	for _, k := range t.layout.sketches {
		all[k] = slabs.blocks.take(len(rows))
		for i, r := range rows {
			all[k][i] = slabs.encode(t.sketches[t.row(int(r))[t.measures[k].at]])
		}
	}
	return all
}
