package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"unsafe"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/failpoint"
)

// copyChunk is how many bytes are handed to a COPY at a time.
const copyChunk = 48 << 10

// WriteDelta appends the delta's rows to the shard, under a batch number: one
// COPY per aggregation and level, in the delta's order, which is the same for
// every worker. Parts of levels that are packed become packed rows,
// others a row per group.
func (tx *Tx) WriteDelta(ctx context.Context, shardID string, batch int64, delta aggregation.Delta) error {
	if err := tx.writeDelta(ctx, shardID, batch, 0, delta); err != nil {
		return err
	}
	return tx.db.failpoints.Hit(failpoint.DeltaWritten)
}

// WriteParts is WriteDelta of parts that come one after the other, those of each
// aggregation and level together. It returns when there are no more.
func (tx *Tx) WriteParts(ctx context.Context, shardID string, batch int64, dict *event.Dictionary, runs <-chan []aggregation.Part) error {
	e := tx.db.encoder(shardID, batch, dict)
	defer tx.db.encoders.Put(e)
	for parts := range runs {
		if err := tx.copyParts(ctx, e, parts); err != nil {
			return err
		}
	}
	return tx.db.failpoints.Hit(failpoint.DeltaWritten)
}

// writeDelta numbers the rows of a bucket that is packed from firstPart on.
func (tx *Tx) writeDelta(ctx context.Context, shardID string, batch int64, firstPart int, delta aggregation.Delta) error {
	e := tx.db.encoder(shardID, batch, delta.Dict)
	e.firstPart = firstPart
	defer tx.db.encoders.Put(e)
	for parts := delta.Parts; len(parts) > 0; {
		def, level := parts[0].Definition, parts[0].Level
		n := 1
		for n < len(parts) && parts[n].Definition == def && parts[n].Level == level {
			n++
		}
		if err := tx.copyParts(ctx, e, parts[:n]); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

func (tx *Tx) copyParts(ctx context.Context, e *encoder, parts []aggregation.Part) error {
	def, level := parts[0].Definition, parts[0].Level
	e.columns = columnsOf(def)
	columns, encode := []string{colBucket, colShard, colBatch, colPart}, e.packed
	if !def.Packed(level) {
		columns, encode = append(columns, colKey), e.plain
	}
	for _, c := range e.columns {
		columns = append(columns, c.name)
	}
	for i := range columns {
		columns[i] = pq.QuoteIdentifier(columns[i])
	}
	into := fmt.Sprintf("COPY %s (%s) FROM STDIN", tableOf(def, level), strings.Join(columns, ", "))
	err := tx.copyRaw(ctx, into, func(send func([]byte) error) error {
		e.chunk = e.chunk[:0]
		for i := range parts {
			e.values = valuesOf(e.values[:0], &parts[i], e.columns)
			if err := parallel(e.values, &parts[i]); err != nil {
				return err
			}
			e.chunk = encode(e.chunk, &parts[i])
			if len(e.chunk) >= copyChunk {
				if err := send(e.chunk); err != nil {
					return err
				}
				e.chunk = e.chunk[:0]
			}
		}
		return send(e.chunk)
	})
	if err != nil {
		return fmt.Errorf("write %s per %s: %w", def.ID(), level, err)
	}
	return nil
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
		// It copies the chunk before it returns.
		_, err := copier.CopyData(ctx, unsafe.String(unsafe.SliceData(chunk), len(chunk)))
		return err
	})
	if err == nil {
		_, err = stmt.Exec(nil) //nolint:staticcheck // the only way to end a COPY in lib/pq
	}
	return errors.Join(err, stmt.Close())
}
