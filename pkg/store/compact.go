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
	// One transaction compacts at most so many buckets, and as many groups of packed
	// rows, or as many plain rows, but for those of one bucket that has more.
	compactBuckets = 1000
	compactGroups  = 1 << 17
	compactRows    = 10_000
	// mostGroups is how many different groups are merged at a time, because all of
	// them are held in memory.
	mostGroups = 1 << 18
)

// errManyGroups: more groups would have to be merged at a time than there may be.
var errManyGroups = errors.New("too many groups to merge")

// Compact merges the rows that a bucket has of one group key, one of each flush
// that wrote it, into one row; at the finest level the packed rows of a bucket
// into one packed row. It touches only what every coarser level has, so that
// nothing that is read again to fill those ever changes, and a question sees a
// bucket either before or after. What came since it was last there is found by
// batch number, however old the bucket. Levels that were compacted less than
// every ago are left alone, and a bucket of packed rows with more than 262,144
// different groups keeps a row of each flush; so the memory is bounded.
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
					c := compaction{db: db, def: def, level: level, shardID: shard.ShardID, lastBatch: shard.LastBatch, most: db.mostGroups}
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
	buckets       int   // to be looked for
	most          int   // mostGroups, but in tests
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
	c.buckets = compactBuckets
	for more := true; more; {
		last := after
		err := c.db.steady(ctx, c.def, c.level, func(tx *Tx, def *aggregation.Definition) (err error) {
			c.def = def // a measure or a level may have come since the last step
			last, more, err = c.step(ctx, tx, after)
			return err
		})
		if err != nil && !errors.Is(err, errManyGroups) {
			return err
		}
		after = last
	}
	return nil
}

// step compacts the buckets after one, as many as one transaction takes. The
// last step notes how far the level is. With errManyGroups nothing is done, and
// there is just one bucket up to last, which is to stay as it is.
func (c *compaction) step(ctx context.Context, tx *Tx, after time.Time) (last time.Time, more bool, err error) {
	if err := c.settle(ctx, tx); err != nil || c.through < c.done {
		return after, false, err // a level was added that has to be filled first
	}
	some, err := c.touched(ctx, tx, after)
	if err != nil {
		return after, false, err
	}
	if len(some.buckets) > 0 {
		if err := c.merge(ctx, tx, some); err != nil {
			return some.last, true, err
		}
	}
	if some.more {
		return some.last, true, nil
	}
	_, err = tx.tx.ExecContext(ctx, `
		INSERT INTO weir.compacted (aggregation, level, shard_id, batch_no) VALUES ($1, $2, $3, $4)
		ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no, compacted_at = now()`,
		c.def.ID(), c.level.String(), c.shardID, c.through)
	return after, false, err
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

// touched is some buckets that got rows since the last time.
type touched struct {
	buckets []string // in their order, as texts
	last    time.Time
	groups  int  // of all their rows: one that is in two of them counts twice
	more    bool // there may be others after these
}

// touched lists buckets past one that got rows since the last time, as many as
// one transaction takes.
func (c *compaction) touched(ctx context.Context, tx *Tx, after time.Time) (t touched, err error) {
	groups, most := "count(*)", compactRows
	if c.def.Packed(c.level) {
		groups, most = "sum(cardinality("+colEvents+"))", min(compactGroups, c.most)
	}
	rows, err := tx.tx.QueryContext(ctx, fmt.Sprintf(`
		SELECT bucket, %s FROM %[2]s WHERE shard_id = $1 AND bucket = ANY (ARRAY(
			SELECT bucket FROM %[2]s
			WHERE shard_id = $1 AND bucket > $2 AND (batch_no > $3 AND batch_no <= $4 OR batch_no < 0)
			GROUP BY bucket ORDER BY bucket LIMIT $5))
		GROUP BY bucket ORDER BY bucket`, groups, tableOf(c.def, c.level)), c.shardID, after, c.done, c.through, c.buckets)
	if err != nil {
		return t, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var bucket time.Time
		var n int
		if err := rows.Scan(&bucket, &n); err != nil {
			return t, err
		}
		if t.more = len(t.buckets) > 0 && t.groups+n > most; t.more {
			break
		}
		t.buckets, t.last, t.groups = append(t.buckets, bucket.Format(time.RFC3339Nano)), bucket, t.groups+n
	}
	t.more = t.more || len(t.buckets) == c.buckets
	c.buckets = min(2*len(t.buckets)+1, compactBuckets) // those of next time are about as large
	return t, rows.Err()
}

// merge compacts some buckets, in their order. The new rows get the number
// through: no row of their keys has it any more, no coarser level will read
// them, and the next compaction passes them over.
func (c *compaction) merge(ctx context.Context, tx *Tx, t touched) error {
	if c.def.Packed(c.level) {
		return c.mergeRows(ctx, tx, t, colBucket, "true", c.most)
	}
	// One bucket with many rows is merged in parts, about equal: keys are hashes.
	const hashes = 1 << 32
	parts := 1 + t.groups/c.most
	for i := range parts {
		from, to := hashes*i/parts, hashes*(i+1)/parts-1
		part := fmt.Sprintf("%s BETWEEN '%08x-0000-0000-0000-000000000000' AND '%08x-ffff-ffff-ffff-ffffffffffff'", colKey, from, to)
		if err := c.mergeRows(ctx, tx, t, colBucket+", "+colKey, part, math.MaxInt); err != nil {
			return err
		}
	}
	return nil
}

// mergeRows merges those rows of some buckets that have the same key, if they are
// of the part: a condition. More than so many different groups are errManyGroups.
func (c *compaction) mergeRows(ctx context.Context, tx *Tx, t touched, key, part string, most int) error {
	merger, groups := aggregation.NewMerger(c.def, c.level), int64(0)
	add := func(delta aggregation.Delta) error {
		if merger.Groups() > most {
			return errManyGroups
		}
		groups += int64(delta.Groups())
		return merger.Add(delta)
	}
	const which = `shard_id = $1 AND bucket = ANY ($2::timestamptz[]) AND bucket BETWEEN $3 AND $4 AND batch_no <= $5`
	var reader groupReader
	err := reader.read(ctx, tx.tx, c.def, c.level, add, fmt.Sprintf(`
		WITH crowded AS (
			SELECT %[1]s FROM %[2]s WHERE %[3]s AND %[5]s GROUP BY %[1]s HAVING count(*) > 1 OR min(batch_no) < 0
		), gone AS (
			DELETE FROM %[2]s WHERE %[3]s AND %[5]s AND (%[1]s) IN (SELECT %[1]s FROM crowded) RETURNING *
		)
		SELECT %[4]s FROM gone ORDER BY bucket, batch_no, weir_part`, key, tableOf(c.def, c.level), which, storedList(c.def), part),
		c.shardID, pq.Array(t.buckets), t.buckets[0], t.buckets[len(t.buckets)-1], c.through)
	if err != nil {
		return err
	}
	c.groups += groups
	return tx.WriteDelta(ctx, c.shardID, c.through, merger.Delta())
}
