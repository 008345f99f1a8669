package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

const (
	// someGroups is how many groups of plain rows are handed on at a time.
	someGroups = 4096
	// A dictionary with so many texts, or bytes of them, is replaced.
	manyTexts, manyTextBytes = 1 << 16, 8 << 20
)

// groupReader reads rows of levels back into parts, which it hands on as they
// come: those of one packed row, or of a few thousand plain ones. So it needs
// no more memory than for the largest of these, and uses it for the next ones.
// Packed rows are read as they are stored: to undo the numbers of their texts is
// far cheaper here than in Postgres.
type groupReader struct {
	def     *aggregation.Definition
	level   aggregation.Granularity
	columns []column
	use     func(aggregation.Delta) error // it keeps nothing of the delta
	dict    *event.Dictionary

	part    aggregation.Part // of a packed row
	missing []event.Cell     // the part's, should it need any
	values  []values
	array   arrayReader
	keys    [][]int32    // of the row's text keys, in their order, the numbers of their texts; empty: each its own
	own     []int32      // the same of another column
	texts   []event.Cell // the different ones of a column
	bytes   []byte       // of the row's sketches
}

// read asks for rows of a level, storedList, and hands on their groups.
func (r *groupReader) read(ctx context.Context, q querier, def *aggregation.Definition, level aggregation.Granularity, use func(aggregation.Delta) error, query string, args ...any) error {
	r.def, r.level, r.columns, r.use = def, level, columnsOf(def), use
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	if def.Packed(level) {
		err = r.packed(rows)
	} else {
		err = r.plain(rows)
	}
	if err != nil {
		return err
	}
	return rows.Err()
}

// storedList lists the columns of a level's table that a groupReader reads.
func storedList(def *aggregation.Definition) string {
	list := colBucket
	for _, c := range columnsOf(def) {
		list += ", " + pq.QuoteIdentifier(c.name)
	}
	return list
}

// begin returns a delta with no parts, in the reader's dictionary.
func (r *groupReader) begin() aggregation.Delta {
	if r.dict == nil || r.dict.Len() > manyTexts || r.dict.Bytes() > manyTextBytes {
		r.dict = event.NewDictionary()
	}
	return aggregation.Delta{Dict: r.dict}
}

func (r *groupReader) packed(rows *sql.Rows) error {
	var bucket time.Time
	raw := make([]sql.RawBytes, len(r.columns))
	targets := []any{&bucket}
	for i := range raw {
		targets = append(targets, &raw[i])
	}
	r.part = emptyPart(r.def, r.level)
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		delta := r.begin()
		r.part.Bucket = bucket.UnixMicro()
		if err := r.unpack(raw); err != nil {
			return fmt.Errorf("bucket %s: %w", bucket.UTC().Format(time.RFC3339), err)
		}
		delta.Parts = []aggregation.Part{r.part}
		if err := r.use(delta); err != nil {
			return err
		}
	}
	return nil
}

func emptyPart(def *aggregation.Definition, level aggregation.Granularity) aggregation.Part {
	return aggregation.Part{
		Definition: def, Level: level, Keys: make([][]event.Cell, len(def.Keys)),
		Measures: make([][]event.Cell, len(def.Measures)), Sketches: make([][][]byte, len(def.Measures)),
	}
}

// unpack makes the part hold the groups of a packed row.
func (r *groupReader) unpack(raw []sql.RawBytes) error {
	p := &r.part
	p.Missing, r.keys, r.bytes = nil, r.keys[:0], r.bytes[:0]
	r.values = valuesOf(r.values[:0], p, r.columns)
	for i := range r.values {
		v := &r.values[i]
		v.clear()
		if err := r.column(p, v, raw[i]); err != nil {
			return fmt.Errorf("column %s: %w", v.name, err)
		}
	}
	return parallel(r.values, p)
}

// column reads one column of a packed row.
func (r *groupReader) column(p *aggregation.Part, v *values, raw []byte) (err error) {
	if raw == nil { // the row is older than the column
		for range p.Len() {
			if err := r.unknown(p, v); err != nil {
				return err
			}
		}
		return nil
	}
	if v.whole() {
		return r.wholeColumn(p, v, raw)
	}
	if err := r.array.open(raw); err != nil {
		return err
	}
	switch {
	case v.kind == event.String:
		return r.textColumn(p, v)
	case v.moment():
		return r.momentColumn(p, v)
	}
	for r.array.more {
		if err := r.element(p, v); err != nil {
			return err
		}
	}
	return nil
}

// wholeColumn gives the first group what the row has for all of them: no matter
// which, for it is only added up.
func (r *groupReader) wholeColumn(p *aggregation.Part, v *values, raw []byte) error {
	cell, err := parseCell(v.kind, raw)
	for range p.Len() {
		v.append(cell, nil)
		cell = 0
	}
	return err
}

// element reads an element that is no text.
func (r *groupReader) element(p *aggregation.Part, v *values) error {
	element, err := r.array.next()
	switch {
	case err != nil:
		return err
	case element == nil:
		return r.unknown(p, v)
	case v.sketched():
		from := len(r.bytes)
		if r.bytes, err = appendBytea(r.bytes, element); err != nil {
			return err
		}
		v.append(0, r.bytes[from:len(r.bytes):len(r.bytes)])
		return nil
	}
	cell, err := parseCell(v.kind, element)
	v.append(cell, nil)
	return err
}

// unknown appends that the column's value of the next group is not known.
func (r *groupReader) unknown(p *aggregation.Part, v *values) error {
	n := v.len()
	switch {
	case v.times != nil:
	case v.missing == 0:
		return fmt.Errorf("NULL of group %d", n)
	case n >= p.Len():
		return fmt.Errorf("more values than %d groups", p.Len())
	default:
		if p.Missing == nil {
			r.missing = append(r.missing[:0], make([]event.Cell, p.Len())...)
			p.Missing = r.missing
		}
		p.Missing[n] |= v.missing
	}
	v.append(v.absent, nil)
	return nil
}

// textColumn reads a column as textWriter.appendTexts writes it.
func (r *groupReader) textColumn(p *aggregation.Part, v *values) error {
	of, own, err := r.numbers(v)
	if err != nil {
		return err
	}
	r.texts = r.texts[:0]
	for r.array.more {
		element, err := r.array.next()
		if err != nil {
			return err
		}
		cell := notKnown
		if element != nil {
			cell = r.dict.InternBytes(element)
		}
		r.texts = append(r.texts, cell)
	}
	add := func(cell event.Cell) error {
		if cell == notKnown {
			return r.unknown(p, v)
		}
		v.append(cell, nil)
		return nil
	}
	if own {
		for _, cell := range r.texts {
			if err := add(cell); err != nil {
				return err
			}
		}
		return nil
	}
	for _, number := range of {
		if int(number) >= len(r.texts) {
			return fmt.Errorf("text %d of %d", number, len(r.texts))
		}
		if err := add(r.texts[number]); err != nil {
			return err
		}
	}
	return nil
}

// numbers reads which group has which text: own, if each has its own.
func (r *groupReader) numbers(v *values) (of []int32, own bool, err error) {
	head, err := r.head()
	if err != nil {
		return nil, false, err
	}
	if !v.key && len(head) == 1 {
		k := int(head[0]) - 'A'
		if k < 0 || k >= len(r.keys) || len(r.keys[k]) == 0 {
			return nil, false, fmt.Errorf("%q is no text key with numbers", head)
		}
		return r.keys[k], false, nil
	}
	into := &r.own
	if v.key {
		if len(r.keys) < cap(r.keys) {
			r.keys = r.keys[:len(r.keys)+1] // keeps what memory the last row's had
		} else {
			r.keys = append(r.keys, nil)
		}
		into = &r.keys[len(r.keys)-1]
	}
	*into = (*into)[:0]
	if len(head) == 0 {
		return nil, true, nil
	}
	*into, err = appendUnnumbered(*into, head)
	return *into, false, err
}

// head returns the first element of an array of text, which says how the others
// are to be read.
func (r *groupReader) head() ([]byte, error) {
	if !r.array.more {
		return nil, errArray
	}
	head, err := r.array.next()
	if err == nil && head == nil {
		err = errArray
	}
	return head, err
}

// momentColumn reads a column as textWriter.appendMoments writes it.
func (r *groupReader) momentColumn(p *aggregation.Part, v *values) error {
	head, err := r.head()
	if err != nil {
		return err
	}
	if len(head) == 0 {
		for r.array.more {
			if err := r.element(p, v); err != nil {
				return err
			}
		}
		return nil
	}
	if r.own, err = appendUnnumbered(r.own[:0], head); err != nil {
		return err
	}
	var least, step int64
	for _, n := range []*int64{&least, &step} {
		if !r.array.more {
			return errArray
		}
		element, err := r.array.next()
		if err != nil {
			return err
		}
		if *n, err = parseInt(element); err != nil {
			return err
		}
	}
	for _, number := range r.own {
		v.append(event.Cell(least+step*int64(number)), nil)
	}
	return nil
}

// parseCell reads a value that is no text.
func parseCell(kind event.Kind, text []byte) (event.Cell, error) {
	switch kind {
	case event.Int:
		n, err := parseInt(text)
		return event.Cell(n), err
	case event.Float:
		f, err := strconv.ParseFloat(string(text), 64)
		return event.FloatCell(f), err
	case event.Bool:
		if len(text) != 1 || text[0] != 't' && text[0] != 'f' {
			return 0, fmt.Errorf("%.10q is neither t nor f", text)
		}
		return event.BoolCell(text[0] == 't'), nil
	case event.Time:
		t, err := pq.ParseTimestamp(time.UTC, string(text))
		return event.Cell(t.UnixMicro()), err
	case event.String:
	}
	return 0, fmt.Errorf("no plain value is a %s", kind)
}

// appendBytea appends what a bytea holds. It is in hex unless somebody has set
// bytea_output.
func appendBytea(out, text []byte) ([]byte, error) {
	if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
		return hex.AppendDecode(out, digits)
	}
	for len(text) > 0 {
		switch {
		case text[0] != '\\':
			out = append(out, text[0])
			text = text[1:]
		case len(text) > 1 && text[1] == '\\':
			out = append(out, '\\')
			text = text[2:]
		default:
			octal, err := strconv.ParseUint(string(text[1:min(4, len(text))]), 8, 8)
			if err != nil || len(text) < 4 {
				return out, fmt.Errorf("%.10q is no bytea", text)
			}
			out = append(out, byte(octal))
			text = text[4:]
		}
	}
	return out, nil
}
