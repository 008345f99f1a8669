package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// WriteControl adds to the shard's control totals what a batch must add to its
// aggregations. It belongs into the transaction that writes the rows, after
// NextBatch.
func (tx *Tx) WriteControl(ctx context.Context, shardID string, controls []aggregation.Control) error {
	if len(controls) == 0 {
		return nil
	}
	sorted := slices.Clone(controls) // all who lock several rows do it in one order
	slices.SortFunc(sorted, func(a, b aggregation.Control) int {
		return cmp.Or(cmp.Compare(a.Definition.ID(), b.Definition.ID()), cmp.Compare(a.Period, b.Period))
	})
	n := len(sorted)
	names, seconds, events, checksums := make([]string, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, c := range sorted {
		names[i], seconds[i], events[i], checksums[i] = c.Definition.ID(), c.Period/1e6, c.Events, int64(c.Checksum)
	}
	_, err := tx.tx.ExecContext(ctx, addControl(`
		SELECT aggregation, $1, to_timestamp(seconds), events, checksum
		FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS x (aggregation, seconds, events, checksum)`),
		shardID, pq.Array(names), pq.Array(seconds), pq.Array(events), pq.Array(checksums))
	if err != nil {
		return fmt.Errorf("add to the control totals of shard %s: %w", shardID, err)
	}
	return nil
}

// addControl returns the statement that adds rows of aggregation, shard, period,
// events and checksum to the control totals.
func addControl(rows string) string {
	return `INSERT INTO weir.control AS c (aggregation, shard_id, period, events, checksum) ` + rows + `
		ON CONFLICT (aggregation, period, shard_id) DO UPDATE
		SET events = c.events + excluded.events, checksum = (c.checksum + excluded.checksum) % 4294967296, changed_at = now()`
}

// moveControl adds the control totals of one shard to those of another, whose
// row the transaction has locked: a flush of it locks that before them too.
func moveControl(ctx context.Context, tx *sql.Tx, from, to string) error {
	_, err := tx.ExecContext(ctx, `WITH moved AS (DELETE FROM weir.control WHERE shard_id = $1 RETURNING *) `+
		addControl(`SELECT aggregation, $2, period, events, checksum FROM moved ORDER BY aggregation, period`), from, to)
	if err != nil {
		return fmt.Errorf("move control totals by period: %w", err)
	}
	return nil
}

// notePurged notes that the level's rows of buckets before a time may be gone:
// they add up to no control totals any more. It belongs into the transaction
// that removes them.
func (tx *Tx) notePurged(ctx context.Context, def *aggregation.Definition, level aggregation.Granularity, before time.Time) error {
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.purged AS p (aggregation, level, before) VALUES ($1, $2, $3)
		ON CONFLICT (aggregation, level) DO UPDATE SET before = excluded.before WHERE p.before < excluded.before`,
		def.ID(), level.String(), before)
	if err != nil {
		return fmt.Errorf("note up to where it is purged: %w", err)
	}
	return nil
}
