package store

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"

	"weir/pkg/event"
)

// Source is what a publisher epoch has said of itself in its newest heartbeat.
type Source struct {
	event.Heartbeat

	Number uint64 // of the heartbeat, from 1
	// Which stream has the heartbeat, and where: all that it speaks of was stored
	// before, in this stream or in one that is not there any more.
	Incarnation string
	Sequence    uint64
	ToldAt      time.Time // when the stream stored it
}

// WriteSources keeps the newest heartbeat of each epoch, in the transaction
// that claims its message. An epoch may be there once only, and they must be
// sorted by source and epoch, as workers wait for each other here.
//
// Newest is by the publisher's own number: heartbeats may come late and in any
// order, and after a stream was made anew its sequences begin again.
func (tx *Tx) WriteSources(ctx context.Context, sources []Source) error {
	if len(sources) == 0 {
		return nil
	}
	n := len(sources)
	names, epochs, incarnations, told := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	next, acked, dropped, numbers, sequences := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	closed := make([]bool, n)
	for i, s := range sources {
		names[i], epochs[i], closed[i] = s.Source, s.Epoch, s.Closed
		next[i], acked[i], dropped[i] = int64(s.Next), int64(s.Acked), int64(s.Dropped)               //nolint:gosec // at most 2^62+1
		numbers[i], incarnations[i], sequences[i] = int64(s.Number), s.Incarnation, int64(s.Sequence) //nolint:gosec // the same
		told[i] = s.ToldAt.UTC().Format(time.RFC3339Nano)
	}
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.source AS s (source, epoch, next, acked, dropped, closed, number, incarnation, sequence, told_at)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::bigint[], $8::text[], $9::bigint[], $10::timestamptz[])
		ON CONFLICT (source, epoch) DO UPDATE SET next = excluded.next, acked = excluded.acked, dropped = excluded.dropped, closed = excluded.closed,
			number = excluded.number, incarnation = excluded.incarnation, sequence = excluded.sequence, told_at = excluded.told_at
		WHERE s.number < excluded.number`,
		pq.Array(names), pq.Array(epochs), pq.Array(next), pq.Array(acked), pq.Array(dropped), pq.Array(closed),
		pq.Array(numbers), pq.Array(incarnations), pq.Array(sequences), pq.Array(told))
	if err != nil {
		return fmt.Errorf("write what sources say: %w", err)
	}
	return nil
}

// Sources lists the epochs of all sources, or of one, by source; of each the
// epoch that was heard last comes first. limit bounds them.
func (db *DB) Sources(ctx context.Context, source string, limit int) ([]Source, error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT source, epoch, next, acked, dropped, closed, number, incarnation, sequence, told_at FROM (
			SELECT * FROM weir.source WHERE $1 IN ('', source) ORDER BY told_at DESC LIMIT $2) newest
		ORDER BY source, told_at DESC, epoch`, source, limit)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []Source
	for rows.Next() {
		var s Source
		if err := rows.Scan(&s.Source, &s.Epoch, &s.Next, &s.Acked, &s.Dropped, &s.Closed, &s.Number, &s.Incarnation, &s.Sequence, &s.ToldAt); err != nil {
			return nil, fmt.Errorf("list sources: %w", err)
		}
		s.ToldAt = s.ToldAt.UTC()
		all = append(all, s)
	}
	return all, rows.Err()
}
