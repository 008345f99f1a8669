package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// copyChunk is how many bytes are handed to a COPY at a time.
const copyChunk = 48 << 10

// WriteDelta appends the delta's packed rows to the shard, under the flush's
// batch number: one COPY per aggregation, in the delta's order, which is the
// same for every worker.
func (tx *Tx) WriteDelta(ctx context.Context, shardID string, batch int64, delta aggregation.Delta) error {
	for parts := delta.Parts; len(parts) > 0; {
		def := parts[0].Definition
		n := 1
		for n < len(parts) && parts[n].Definition == def {
			n++
		}
		if err := tx.copyParts(ctx, shardID, batch, parts[:n], delta.Dict); err != nil {
			return fmt.Errorf("write %s: %w", def.Name, err)
		}
		parts = parts[n:]
	}
	return nil
}

func (tx *Tx) copyParts(ctx context.Context, shardID string, batch int64, parts []aggregation.Part, dict *event.Dictionary) error {
	def := parts[0].Definition
	columns := []string{colBucket, colShard, colBatch}
	for _, c := range packedColumns(def) {
		columns = append(columns, c.name)
	}
	for i := range columns {
		columns[i] = pq.QuoteIdentifier(columns[i])
	}
	statement := fmt.Sprintf("COPY weir_data.%s (%s) FROM STDIN",
		pq.QuoteIdentifier(TableName(def, def.Finest())), strings.Join(columns, ", "))
	return tx.copyRaw(ctx, statement, func(send func([]byte) error) error {
		row := packedRow{dict: dict}
		var chunk []byte
		for i := range parts {
			chunk = row.append(chunk, shardID, batch, &parts[i])
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
	return tx.conn.Raw(func(dc any) error {
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
	})
}

// packedRow encodes packed rows in COPY's text format.
type packedRow struct {
	dict *event.Dictionary
}

func (r *packedRow) append(out []byte, shardID string, batch int64, p *aggregation.Part) []byte {
	out = appendTime(out, p.Bucket)
	out = append(out, '\t')
	out = appendEscaped(out, shardID)
	out = append(out, '\t')
	out = strconv.AppendInt(out, batch, 10)
	for i, cells := range p.Keys {
		out = r.array(append(out, '\t'), p.Definition.Keys[i].Kind, cells)
	}
	out = r.array(append(out, '\t'), event.Int, p.Events)
	for i, cells := range p.Measures {
		if cells != nil {
			out = r.array(append(out, '\t'), p.Definition.Measures[i].ArgKind, cells)
		}
	}
	if p.LastTime != nil {
		out = r.array(append(out, '\t'), event.Int, p.LastTime)
		out = r.array(append(out, '\t'), event.Int, p.LastSequence)
	}
	return append(out, '\n')
}

func (r *packedRow) array(out []byte, kind event.Kind, cells []event.Cell) []byte {
	out = append(out, '{')
	for i, cell := range cells {
		if i > 0 {
			out = append(out, ',')
		}
		switch kind {
		case event.String:
			out = appendQuoted(out, r.dict.Text(cell))
		case event.Int:
			out = strconv.AppendInt(out, int64(cell), 10)
		case event.Float:
			out = strconv.AppendFloat(out, cell.Float(), 'g', -1, 64)
		case event.Bool:
			out = strconv.AppendBool(out, cell != 0)
		case event.Time:
			out = append(out, '"')
			out = appendTime(out, int64(cell))
			out = append(out, '"')
		}
	}
	return append(out, '}')
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
