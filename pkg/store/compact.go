package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

const (
	// worthCompacting is the shortest retention of a level that is compacted:
	// what goes sooner would be rewritten for nothing.
	worthCompacting = 24 * time.Hour
	// One transaction compacts at most so many buckets, and about so many rows.
	compactBuckets = 1000
	compactRows    = 10_000
)

// Compact merges the rows that a bucket has of one group key, one of each flush
// that wrote it, into one row; at the finest level the packed rows of a bucket
// into one packed row. It touches only what every coarser level has, so that
// nothing that is read again to fill those ever changes, and a question sees a
// bucket either before or after. What came since it was last there is found by
// batch number, however old the bucket. Levels that were compacted less than
// every ago are left alone.
//
// It goes bucket by bucket in short transactions that no flush waits for, and
// by one process at a time, as Purge does. What cannot be compacted, because its
// sketches are corrupted, stays as it is, and is part of the error. It returns
// how many groups it took in.
func (db *DB) Compact(ctx context.Context, every time.Duration, defs []*aggregation.Definition) (groups int64, err error) {
	err = db.alone(ctx, func() error {
		shards, err := db.Shards(ctx)
		if err != nil {
			return err
		}
		if defs, err = applied(ctx, db.sql, defs); err != nil {
			return err
		}
		var failed error
		for _, def := range defs {
			for _, level := range def.Granularities {
				if keep := def.Retention[level]; keep != aggregation.Forever && keep < worthCompacting {
					continue
				}
				for _, shard := range shards {
					c := compaction{db: db, def: def, level: level, shardID: shard.ShardID, lastBatch: shard.LastBatch}
					err := c.run(ctx, every)
					groups += c.groups
					if err != nil && !errors.Is(err, errDropped) {
						failed = errors.Join(failed, fmt.Errorf("%s per %s of shard %s: %w", def.ID(), level, shard.ShardID, err))
					}
					if ctx.Err() != nil || Unavailable(err) {
						return failed
					}
				}
			}
		}
		return failed
	})
	if err != nil {
		return groups, fmt.Errorf("compact: %w", err)
	}
	return groups, nil
}

// compaction is that of one level of one shard.
type compaction struct {
	db        *DB
	def       *aggregation.Definition
	level     aggregation.Granularity
	shardID   string
	lastBatch int64 // of the shard
	// Everything up to batch done is compacted, and everything up to batch
	// through may be now. Rows that were moved here from another shard have
	// numbers below zero; they may come at any time, and get one from zero on.
	done, through int64
	groups        int64 // taken in
}

func (c *compaction) run(ctx context.Context, every time.Duration) error {
	var fresh bool
	c.done, c.through = math.MinInt64, math.MaxInt64
	err := c.db.sql.QueryRowContext(ctx, `
		SELECT batch_no, compacted_at > now() - $4 * interval '1 second' FROM weir.compacted
		WHERE aggregation = $1 AND level = $2 AND shard_id = $3`,
		c.def.ID(), c.level.String(), c.shardID, every.Seconds()).Scan(&c.done, &fresh)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if fresh {
		return nil
	}
	var after time.Time // the year 1: no bucket is older
	for more := true; more; {
		err := c.db.steady(ctx, c.def, c.level, func(tx *Tx, def *aggregation.Definition) (err error) {
			c.def = def // a measure or a level may have come since the last step
			after, more, err = c.step(ctx, tx, after)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// step compacts the buckets after one, as many as one transaction takes. The
// last step notes how far the level is.
func (c *compaction) step(ctx context.Context, tx *Tx, after time.Time) (last time.Time, more bool, err error) {
	if err := c.settle(ctx, tx); err != nil || c.through < c.done {
		return after, false, err // a level was added that has to be filled first
	}
	buckets, last, more, err := c.touched(ctx, tx, after)
	if err == nil && len(buckets) > 0 {
		err = c.merge(ctx, tx, buckets)
	}
	if err != nil || more {
		return last, more, err
	}
	_, err = tx.tx.ExecContext(ctx, `
		INSERT INTO weir.compacted (aggregation, level, shard_id, batch_no) VALUES ($1, $2, $3, $4)
		ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no, compacted_at = now()`,
		c.def.ID(), c.level.String(), c.shardID, c.through)
	return last, false, err
}

// settle finds through: a batch such that every row up to it is in all coarser
// levels, and no flush will ever add another. What no level is folded from only
// has to be as its own watermark says; where there is just one level, the
// shard's last batch does. It is found anew in every transaction, for a level
// that was added since has nothing yet, and it never rises, for the buckets
// before were compacted only up to it.
func (c *compaction) settle(ctx context.Context, tx *Tx) error {
	through, err := through(ctx, tx.tx, c.def, c.level, c.shardID)
	switch {
	case err != nil || through < math.MaxInt64:
	case c.level == c.def.Finest():
		through = c.lastBatch
	default:
		through, err = watermark(ctx, tx.tx, c.def, c.level, c.shardID)
	}
	c.through = min(c.through, through)
	return err
}

// touched lists buckets past one that got rows since the last time, as many as
// one transaction takes.
func (c *compaction) touched(ctx context.Context, tx *Tx, after time.Time) (buckets []string, last time.Time, more bool, err error) {
	rows, err := tx.tx.QueryContext(ctx, `
		SELECT bucket, count(*) FROM `+tableOf(c.def, c.level)+`
		WHERE shard_id = $1 AND bucket > $2 AND (batch_no > $3 AND batch_no <= $4 OR batch_no < 0)
		GROUP BY bucket ORDER BY bucket LIMIT $5`, c.shardID, after, c.done, c.through, compactBuckets)
	if err != nil {
		return nil, after, false, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	last = after
	for total := int64(0); rows.Next(); {
		var n int64
		if err := rows.Scan(&last, &n); err != nil {
			return nil, after, false, err
		}
		buckets = append(buckets, last.Format(time.RFC3339Nano))
		if total += n; total >= compactRows {
			return buckets, last, true, nil
		}
	}
	return buckets, last, len(buckets) == compactBuckets, rows.Err()
}

// merge compacts some buckets, in their order. The new rows get the number
// through: no row of their keys has it any more, no coarser level will read
// them, and the next compaction passes them over.
func (c *compaction) merge(ctx context.Context, tx *Tx, buckets []string) error {
	key := colBucket
	if !c.def.Packed(c.level) {
		key += ", " + colKey
	}
	table := tableOf(c.def, c.level)
	const which = `shard_id = $1 AND bucket = ANY ($2::timestamptz[]) AND bucket BETWEEN $3 AND $4 AND batch_no <= $5`
	merger, groups := aggregation.NewMerger(c.def, c.level), int64(0)
	add := func(delta aggregation.Delta) error {
		groups += int64(delta.Groups())
		return merger.Add(delta)
	}
	var reader groupReader
	err := reader.read(ctx, tx.tx, c.def, c.level, add, fmt.Sprintf(`
		WITH crowded AS (
			SELECT %[1]s FROM %[2]s WHERE %[3]s GROUP BY %[1]s HAVING count(*) > 1 OR min(batch_no) < 0
		), gone AS (
			DELETE FROM %[2]s WHERE %[3]s AND (%[1]s) IN (SELECT %[1]s FROM crowded) RETURNING *
		)
		SELECT %[4]s FROM gone ORDER BY bucket, batch_no, weir_part`, key, table, which, storedList(c.def)),
		c.shardID, pq.Array(buckets), buckets[0], buckets[len(buckets)-1], c.through)
	if err != nil {
		return err
	}
	c.groups += groups
	return tx.WriteDelta(ctx, c.shardID, c.through, merger.Delta())
}
