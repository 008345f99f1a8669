package store

import (
	"bytes"
	"context"
	"crypto/md5"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/failpoint"
)

// copyChunk is how many bytes are handed to a COPY at a time.
const copyChunk = 48 << 10

// WriteDelta appends the delta's rows to the shard, under a batch number: one
// COPY per aggregation and level, in the delta's order, which is the same for
// every worker. Parts of an aggregation's finest level become packed rows,
// others a row per group.
func (tx *Tx) WriteDelta(ctx context.Context, shardID string, batch int64, delta aggregation.Delta) error {
	if err := tx.writeDelta(ctx, shardID, batch, delta); err != nil {
		return err
	}
	return tx.db.failpoints.Hit(failpoint.DeltaWritten)
}

func (tx *Tx) writeDelta(ctx context.Context, shardID string, batch int64, delta aggregation.Delta) error {
	for parts := delta.Parts; len(parts) > 0; {
		def, level := parts[0].Definition, parts[0].Level
		n := 1
		for n < len(parts) && parts[n].Definition == def && parts[n].Level == level {
			n++
		}
		if err := tx.copyParts(ctx, shardID, batch, parts[:n], delta.Dict); err != nil {
			return fmt.Errorf("write %s per %s: %w", def.ID(), level, err)
		}
		parts = parts[n:]
	}
	return nil
}

func (tx *Tx) copyParts(ctx context.Context, shardID string, batch int64, parts []aggregation.Part, dict *event.Dictionary) error {
	def, level := parts[0].Definition, parts[0].Level
	e := encoder{dict: dict, shardID: shardID, batch: batch, columns: columnsOf(def)}
	columns, encode := []string{colBucket, colShard, colBatch}, e.packed
	if level != def.Finest() {
		columns, encode = append(columns, colKey, colPart), e.plain
	}
	for _, c := range e.columns {
		columns = append(columns, c.name)
	}
	for i := range columns {
		columns[i] = pq.QuoteIdentifier(columns[i])
	}
	statement := fmt.Sprintf("COPY %s (%s) FROM STDIN", tableOf(def, level), strings.Join(columns, ", "))
	return tx.copyRaw(ctx, statement, func(send func([]byte) error) error {
		var chunk []byte
		for i := range parts {
			chunk = encode(chunk, &parts[i])
			if len(chunk) >= copyChunk {
				if err := send(chunk); err != nil {
					return err
				}
				chunk = chunk[:0]
			}
		}
		return send(chunk)
	})
}

// rawCopier is the part of lib/pq's COPY statement that takes many encoded
// rows at once; Exec per row costs several times as much.
type rawCopier interface {
	CopyData(ctx context.Context, line string) (driver.Result, error)
}

// copyRaw runs a COPY and feeds it with chunks of whole lines.
func (tx *Tx) copyRaw(ctx context.Context, statement string, feed func(send func([]byte) error) error) error {
	var failed error
	err := tx.conn.Raw(func(dc any) error {
		defer func() { // or Raw would wait for the transaction, too
			if v := recover(); v != nil {
				failed = fmt.Errorf("panic with a %T in a COPY: %s", v, debug.Stack())
			}
		}()
		failed = copyInto(ctx, dc, statement, feed)
		// Not to be returned here: where it means that the connection is bad, Raw
		// would close it, and wait for ever for the transaction that is on it.
		return nil
	})
	return errors.Join(failed, err)
}

func copyInto(ctx context.Context, dc any, statement string, feed func(send func([]byte) error) error) error {
	preparer, ok := dc.(driver.ConnPrepareContext)
	if !ok {
		return errors.New("the Postgres driver cannot prepare a COPY")
	}
	stmt, err := preparer.PrepareContext(ctx, statement)
	if err != nil {
		return err
	}
	copier, ok := stmt.(rawCopier)
	if !ok {
		return errors.Join(errors.New("the Postgres driver cannot take raw COPY data"), stmt.Close())
	}
	err = feed(func(chunk []byte) error {
		// CopyData ends the chunk with a newline of its own.
		chunk = bytes.TrimSuffix(chunk, []byte{'\n'})
		if len(chunk) == 0 {
			return nil
		}
		_, err := copier.CopyData(ctx, string(chunk))
		return err
	})
	if err == nil {
		_, err = stmt.Exec(nil) //nolint:staticcheck // the only way to end a COPY in lib/pq
	}
	return errors.Join(err, stmt.Close())
}

// encoder writes parts in COPY's text format.
type encoder struct {
	dict    *event.Dictionary
	shardID string
	batch   int64
	columns []column // of the parts' aggregation
	keyText []byte
}

// values is where a part keeps one column: cells, or sketches.
type values struct {
	column
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

// unknown reports whether the value of group n is not known.
func (v *values) unknown(p *aggregation.Part, n int) bool {
	return p.Missing != nil && p.Missing[n]&v.missing != 0 || v.times != nil && (*v.times)[n] == v.absent
}

// valuesOf lists where a part keeps the columns of its aggregation, columnsOf,
// in their order.
func valuesOf(p *aggregation.Part, columns []column) []values {
	def := p.Definition
	all := make([]values, 0, len(columns))
	moment := func(times, sequences *[]event.Cell, absent event.Cell) {
		all = append(all, values{cells: times, times: times, absent: absent}, values{cells: sequences, times: times, absent: absent})
	}
	for i := range p.Keys {
		all = append(all, values{cells: &p.Keys[i]})
	}
	all = append(all, values{cells: &p.Events}, values{cells: &p.Checksums})
	for i, m := range def.Measures {
		switch {
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

func (e *encoder) begin(out []byte, p *aggregation.Part) []byte {
	out = appendTime(out, p.Bucket)
	out = append(out, '\t')
	out = appendEscaped(out, e.shardID)
	out = append(out, '\t')
	return strconv.AppendInt(out, e.batch, 10)
}

// packed appends one row that holds all groups as arrays.
func (e *encoder) packed(out []byte, p *aggregation.Part) []byte {
	out = e.begin(out, p)
	for _, v := range valuesOf(p, e.columns) {
		out = append(out, '\t', '{')
		for n := range v.len() { // its own: Postgres refuses columns that are not parallel
			if n > 0 {
				out = append(out, ',')
			}
			switch {
			case v.unknown(p, n):
				out = append(out, "NULL"...)
			case v.sketched():
				out = append(out, `"\\\\x`...) // escaped for the array, and for COPY
				out = append(hex.AppendEncode(out, (*v.sketches)[n]), '"')
			default:
				out = e.element(out, v.kind, (*v.cells)[n])
			}
		}
		out = append(out, '}')
	}
	return append(out, '\n')
}

// plain appends a row per group.
func (e *encoder) plain(out []byte, p *aggregation.Part) []byte {
	columns := valuesOf(p, e.columns)
	parts := map[[16]byte]int{}
	for n := range p.Len() {
		key := e.key(p, n)
		out = e.begin(out, p)
		out = append(out, '\t')
		out = hex.AppendEncode(out, key[:])
		out = append(out, '\t')
		out = strconv.AppendInt(out, int64(parts[key]), 10)
		parts[key]++
		for _, v := range columns {
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
	for i, k := range p.Definition.Keys {
		if cell := p.Keys[i][n]; k.Kind == event.String {
			e.keyText = append(e.keyText, e.dict.Text(cell)...)
		} else {
			e.keyText = strconv.AppendInt(e.keyText, int64(cell), 10)
		}
		e.keyText = append(e.keyText, 0) // in no text
	}
	return md5.Sum(e.keyText)
}

// element appends a value inside an array.
func (e *encoder) element(out []byte, kind event.Kind, cell event.Cell) []byte {
	switch kind {
	case event.String:
		return appendQuoted(out, e.dict.Text(cell))
	case event.Time:
		out = append(out, '"')
		out = appendTime(out, int64(cell))
		return append(out, '"')
	case event.Int, event.Float, event.Bool:
	}
	return e.plainValue(out, kind, cell)
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
		return appendTime(out, int64(cell))
	case event.String:
	}
	panic("store: no plain value of kind " + kind.String())
}

// appendQuoted appends an array element: quoted for the array, and escaped
// once more for COPY.
func appendQuoted(out []byte, text string) []byte {
	out = append(out, '"')
	for i := range len(text) {
		switch c := text[i]; c {
		case '"':
			out = append(out, `\\"`...)
		case '\\':
			out = append(out, `\\\\`...)
		default:
			out = appendEscapedByte(out, c)
		}
	}
	return append(out, '"')
}

// appendEscaped appends a text field of COPY.
func appendEscaped(out []byte, text string) []byte {
	for i := range len(text) {
		out = appendEscapedByte(out, text[i])
	}
	return out
}

func appendEscapedByte(out []byte, c byte) []byte {
	switch c {
	case '\\':
		return append(out, `\\`...)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	}
	return append(out, c)
}

func appendTime(out []byte, t int64) []byte {
	return time.UnixMicro(t).UTC().AppendFormat(out, "2006-01-02 15:04:05.999999Z07:00")
}
