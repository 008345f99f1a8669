package store

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"

	"weir/pkg/alert"
)

// EvidenceOf says which batch some evidence is of.
type EvidenceOf struct {
	Incarnation  string // of the stream
	LastSequence uint64 // the highest of the batch's messages
	Stored       int64  // and when the stream took it, microseconds since 1970 UTC
	Newest       int64  // time of the batch's newest event, at most Stored
}

// WriteEvidence writes what the rules that are decided over all shards need of a batch.
func (tx *Tx) WriteEvidence(ctx context.Context, lease *Lease, batch int64, of EvidenceOf, bodies [alert.Partitions][]byte) error {
	if of.Incarnation == "" {
		return nil // a batch without events
	}
	arguments := []any{lease.number, batch, of.Incarnation, int64(of.LastSequence), of.Stored, of.Newest} //nolint:gosec // JetStream counts far below 2^63
	for _, body := range bodies {
		if len(body) > 0 {
			arguments = append(arguments, body)
		} else {
			arguments = append(arguments, nil)
		}
	}
	// Each body is a parameter of its own: of an array, Postgres looks at every letter.
	_, err := tx.tx.ExecContext(ctx, `
		WITH batch AS (
			INSERT INTO weir.alert_batch (shard, batch, incarnation, last_sequence, stored, newest) VALUES ($1, $2, $3, $4, $5, $6)
		)
		INSERT INTO weir.alert_evidence (shard, batch, part, body)
		SELECT $1, $2, part, body FROM (VALUES
			(0, $7::bytea), (1, $8), (2, $9), (3, $10), (4, $11), (5, $12), (6, $13), (7, $14)
		) AS x (part, body) WHERE body IS NOT NULL`, arguments...)
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

// BatchOf is one batch that workers have committed.
type BatchOf struct {
	EvidenceOf

	Shard, Batch int64
}

// Cursors are up to which batch something was read, by shard number.
type Cursors map[int64]int64

func (c Cursors) arrays() (shards, batches []int64) {
	for shard, batch := range c {
		shards, batches = append(shards, shard), append(batches, batch)
	}
	return shards, batches
}

// past is the condition that a row is behind the cursors $1 and $2.
const past = ` NOT EXISTS (SELECT FROM unnest($1::bigint[], $2::bigint[]) AS c (shard, batch) WHERE c.shard = e.shard AND e.batch <= c.batch)`

// Batches returns those that were committed after the cursors, and moves them.
func (db *DB) Batches(ctx context.Context, cursors Cursors) (batches []BatchOf, err error) {
	shards, read := cursors.arrays()
	rows, err := db.sql.QueryContext(ctx, `
		SELECT shard, batch, incarnation, last_sequence, stored, newest FROM weir.alert_batch e
		WHERE `+past+` ORDER BY shard, batch`, pq.Array(shards), pq.Array(read))
	if err != nil {
		return nil, fmt.Errorf("read batches: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var b BatchOf
		if err := rows.Scan(&b.Shard, &b.Batch, &b.Incarnation, &b.LastSequence, &b.Stored, &b.Newest); err != nil {
			return nil, fmt.Errorf("read batches: %w", err)
		}
		cursors[b.Shard] = b.Batch
		batches = append(batches, b)
	}
	return batches, rows.Err()
}

// evidenceRows is how many rows of evidence are read at a time.
const evidenceRows = 500

// Evidence hands out what was committed of a partition after the cursors, each shard's in the
// order of its batches, and moves them. What it cannot read is an error.
func (db *DB) Evidence(ctx context.Context, part int, cursors Cursors, each func([]alert.Evidence)) error {
	for {
		n, err := db.evidence(ctx, part, cursors, each)
		if err != nil {
			return fmt.Errorf("read evidence of partition %d: %w", part, err)
		}
		if n < evidenceRows {
			return nil
		}
	}
}

func (db *DB) evidence(ctx context.Context, part int, cursors Cursors, each func([]alert.Evidence)) (n int, err error) {
	shards, read := cursors.arrays()
	rows, err := db.sql.QueryContext(ctx, `
		SELECT shard, batch, body FROM weir.alert_evidence e
		WHERE part = $3 AND `+past+` ORDER BY shard, batch LIMIT $4`, pq.Array(shards), pq.Array(read), part, evidenceRows)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	for ; rows.Next(); n++ {
		var shard, batch int64
		var body []byte
		if err := rows.Scan(&shard, &batch, &body); err != nil {
			return n, err
		}
		all, err := alert.DecodeEvidence(body)
		if err != nil {
			return n, fmt.Errorf("batch %d of shard number %d: %w", batch, shard, err)
		}
		each(all)
		cursors[shard] = batch
	}
	return n, rows.Err()
}

// PurgeEvidence removes evidence that nobody has taken in for longer than that, and returns of
// how many batches: no evaluator runs, or not for all partitions.
func (db *DB) PurgeEvidence(ctx context.Context, older time.Duration) (n int64, err error) {
	err = db.sql.QueryRowContext(ctx, `
		WITH old AS (DELETE FROM weir.alert_batch WHERE written_at < now() - $1::interval RETURNING shard, batch),
		gone AS (DELETE FROM weir.alert_evidence e USING old WHERE e.shard = old.shard AND e.batch = old.batch)
		SELECT count(*) FROM old`, fmt.Sprintf("%d microseconds", older.Microseconds())).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("purge evidence: %w", err)
	}
	return n, nil
}
