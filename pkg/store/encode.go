package store

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// encoder writes parts in COPY's text format. It keeps its memory from one
// delta to the next.
type encoder struct {
	textWriter

	shardID   string
	batch     int64
	firstPart int      // of packed rows
	columns   []column // of the parts' aggregation
	chunk     []byte
	values    []values
	keyText   []byte
	rows      map[[16]byte]int // of a part's keys so far
}

// encoder takes one that is free.
func (db *DB) encoder(shardID string, batch int64, dict *event.Dictionary) *encoder {
	e, ok := db.encoders.Get().(*encoder)
	if !ok {
		e = &encoder{rows: map[[16]byte]int{}}
	}
	e.shardID, e.batch, e.firstPart, e.dict = shardID, batch, 0, dict
	return e
}

// values is where a part keeps one column: cells, or sketches.
type values struct {
	column

	key      bool
	cells    *[]event.Cell
	sketches *[][]byte
	missing  event.Cell // the bit of aggregation.Part.Missing that the column has; 0: it has none
	// Of a moment, its times, and what stands there for one that is not known.
	times  *[]event.Cell
	absent event.Cell
}

// What stands for the time of a moment that a row lacks, because it is older than
// the measures that go by it: any other time is after the one, and before the
// other, so that merging keeps what is known.
const (
	neverLast  = event.Cell(math.MinInt64)
	neverFirst = event.Cell(math.MaxInt64)
)

func (v *values) len() int {
	if v.sketched() {
		return len(*v.sketches)
	}
	return len(*v.cells)
}

// clear forgets all values, and keeps their memory.
func (v *values) clear() {
	if v.sketched() {
		*v.sketches = (*v.sketches)[:0]
	} else {
		*v.cells = (*v.cells)[:0]
	}
}

// append adds one group's value to the column.
func (v *values) append(cell event.Cell, sketch []byte) {
	if v.sketched() {
		*v.sketches = append(*v.sketches, sketch)
	} else {
		*v.cells = append(*v.cells, cell)
	}
}

// unknown reports whether the value of group n is not known.
func (v *values) unknown(p *aggregation.Part, n int) bool {
	return p.Missing != nil && p.Missing[n]&v.missing != 0 || v.times != nil && (*v.times)[n] == v.absent
}

// valuesOf appends where a part keeps the columns of its aggregation, columnsOf,
// in their order.
func valuesOf(all []values, p *aggregation.Part, columns []column) []values {
	def := p.Definition
	moment := func(times, sequences *[]event.Cell, absent event.Cell) {
		all = append(all, values{cells: times, times: times, absent: absent}, values{cells: sequences, times: times, absent: absent})
	}
	for i := range p.Keys {
		all = append(all, values{cells: &p.Keys[i], key: true})
	}
	all = append(all, values{cells: &p.Events}, values{cells: &p.Checksums})
	for i := range def.Measures {
		switch m := &def.Measures[i]; {
		case !m.Stored():
		case m.Sketched():
			all = append(all, values{sketches: &p.Sketches[i], missing: aggregation.MissingBit(i)})
		default:
			all = append(all, values{cells: &p.Measures[i], missing: aggregation.MissingBit(i)})
		}
	}
	if def.HasFirst() {
		moment(&p.FirstTime, &p.FirstSequence, neverFirst)
	}
	if def.HasLast() {
		moment(&p.LastTime, &p.LastSequence, neverLast)
	}
	for i, c := range columns {
		all[i].column = c
	}
	return all
}

// parallel checks that all columns have a value per group: Postgres would read a
// short one as if it went on with NULL. It is not for a constraint to do, because
// Postgres reads the text of every constraint anew for every COPY.
func parallel(all []values, p *aggregation.Part) error {
	for i := range all {
		if v := &all[i]; v.len() != p.Len() {
			return fmt.Errorf("column %s has %d values for %d groups", v.name, v.len(), p.Len())
		}
	}
	return nil
}

func (e *encoder) begin(out []byte, p *aggregation.Part) []byte {
	out = e.appendTime(out, p.Bucket)
	out = append(out, '\t')
	out = appendEscaped(out, e.shardID)
	out = append(out, '\t')
	out = strconv.AppendInt(out, e.batch, 10)
	return append(out, '\t')
}

// packedGroups is how many groups a packed row has at most, which bounds the
// memory that it takes here and in Postgres. A row is a few megabytes then.
const packedGroups = 1 << 15

// packed appends a row that holds all groups as arrays, or a few.
func (e *encoder) packed(out []byte, p *aggregation.Part) []byte {
	if p.Len() <= packedGroups {
		return e.packedRow(out, p, e.firstPart)
	}
	for from := 0; from < p.Len(); from += packedGroups {
		some := p.Slice(from, min(from+packedGroups, p.Len()))
		out = e.packedRow(out, &some, e.firstPart+from/packedGroups)
	}
	return out
}

func (e *encoder) packedRow(out []byte, p *aggregation.Part, number int) []byte {
	out = e.begin(out, p)
	out = strconv.AppendInt(out, int64(number), 10)
	e.values = valuesOf(e.values[:0], p, e.columns)
	e.beginPart()
	for i := range e.values {
		v := &e.values[i]
		out = append(out, '\t')
		switch {
		case v.kind == event.String:
			out = e.appendTexts(out, p, v)
			continue
		case v.moment():
			out = e.appendMoments(out, p, v)
			continue
		case v.whole():
			out = strconv.AppendInt(out, int64(sum32(*v.cells)), 10)
			continue
		}
		out = append(out, '{')
		for n := range p.Len() {
			if n > 0 {
				out = append(out, ',')
			}
			out = e.element(out, p, v, n)
		}
		out = append(out, '}')
	}
	return append(out, '\n')
}

// sum32 adds up, modulo 2^32.
func sum32(cells []event.Cell) (sum int32) {
	for _, cell := range cells {
		sum += int32(cell) //nolint:gosec // two's complement of 32 bits
	}
	return sum
}

// element appends a value inside an array that is no text.
func (e *encoder) element(out []byte, p *aggregation.Part, v *values, n int) []byte {
	switch {
	case v.unknown(p, n):
		return append(out, "NULL"...)
	case v.sketched():
		out = append(out, `"\\\\x`...) // escaped for the array, and for COPY
		return append(hex.AppendEncode(out, (*v.sketches)[n]), '"')
	case v.kind == event.Time:
		out = append(out, '"')
		out = e.appendTime(out, int64((*v.cells)[n]))
		return append(out, '"')
	}
	return e.plainValue(out, v.kind, (*v.cells)[n])
}

// plain appends a row per group.
func (e *encoder) plain(out []byte, p *aggregation.Part) []byte {
	clear(e.rows)
	start := len(out)
	out = e.begin(out, p)
	e.values = valuesOf(e.values[:0], p, e.columns)
	same := len(out) - start // what all rows begin with
	for n := range p.Len() {
		if n > 0 {
			out = append(out, out[start:start+same]...)
		}
		key := e.key(p, n)
		out = strconv.AppendInt(out, int64(e.rows[key]), 10)
		e.rows[key]++
		out = append(out, '\t')
		out = hex.AppendEncode(out, key[:])
		for i := range e.values {
			v := &e.values[i]
			out = append(out, '\t')
			switch {
			case v.unknown(p, n):
				out = append(out, `\N`...)
			case v.sketched():
				out = append(out, `\\x`...)
				out = hex.AppendEncode(out, (*v.sketches)[n])
			case v.kind == event.String:
				out = appendEscaped(out, e.dict.Text((*v.cells)[n]))
			default:
				out = e.plainValue(out, v.kind, (*v.cells)[n])
			}
		}
		out = append(out, '\n')
	}
	return out
}

// key hashes the group keys of group n. MD5 is no secret here, only short:
// the keys themselves are in the row.
func (e *encoder) key(p *aggregation.Part, n int) [16]byte {
	e.keyText = e.keyText[:0]
	for i := range p.Definition.Keys {
		if cell := p.Keys[i][n]; p.Definition.Keys[i].Kind == event.String {
			e.keyText = append(e.keyText, e.dict.Text(cell)...)
		} else {
			e.keyText = strconv.AppendInt(e.keyText, int64(cell), 10)
		}
		e.keyText = append(e.keyText, 0) // in no text
	}
	return md5.Sum(e.keyText)
}

// plainValue appends a value that is no text.
func (e *encoder) plainValue(out []byte, kind event.Kind, cell event.Cell) []byte {
	switch kind {
	case event.Int:
		return strconv.AppendInt(out, int64(cell), 10)
	case event.Float:
		return strconv.AppendFloat(out, cell.Float(), 'g', -1, 64)
	case event.Bool:
		return strconv.AppendBool(out, cell != 0)
	case event.Time:
		return e.appendTime(out, int64(cell))
	case event.String:
	}
	panic("store: no plain value of kind " + kind.String())
}
