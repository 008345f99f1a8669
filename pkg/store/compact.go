package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

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
	// mostGroups is how many groups, and mergeRoom about how many bytes, are held to
	// be merged at a time.
	mostGroups = 1 << 18
	mergeRoom  = 64 << 20
)

// errRoom: what is to be merged at a time takes too much memory.
var errRoom = errors.New("too much to merge at a time")

// Compact merges the rows that a bucket has of one group key, one of each flush
// that wrote it, into one row; where levels are packed, the rows of a bucket into
// one. It touches only what every coarser level has, so that
// nothing that is read again to fill those ever changes, and a question sees a
// bucket either before or after. What came since it was last there is found by
// batch number, however old the bucket. Levels that were compacted less than
// every ago are left alone. At most 262,144 groups, or some 64 MB of them, are
// merged at a time: packed rows that have more together become several.
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
	most          int   // groups to be merged at a time: mostGroups, or what there is room for
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
	c.buckets = 16
	for more := true; more; {
		last := after
		err := c.db.steady(ctx, c.def, c.level, func(tx *Tx, def *aggregation.Definition) (err error) {
			c.def = def // a measure or a level may have come since the last step
			last, more, err = c.step(ctx, tx, after)
			return err
		})
		if errors.Is(err, errRoom) {
			c.most, more = max(c.most/4, 1), true
			continue
		}
		if err != nil {
			return err
		}
		after = last
	}
	return nil
}

// step compacts the buckets after one, as many as one transaction takes. The
// last step notes how far the level is.
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
			return after, false, err
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
		groups, most = "sum(cardinality("+colEvents+"))", compactGroups
	}
	most = min(most, c.most)
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
