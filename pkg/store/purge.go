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

// Purged is what went, or with Purgeable would go, of one level of one shard.
type Purged struct {
	Aggregation string
	Level       aggregation.Granularity
	ShardID     string
	Before      time.Time // buckets that start earlier are too old
	Rows        int64     // of them: packed ones below days, groups at others
	Kept        int64     // too old as well, but a coarser level still lacks them, or others of their partition
	Partitions  int       // spans of time that were dropped; Rows counts what was in them
	Busy        int       // spans that could not be dropped now, because they were read or written all the time
}

// errBusy means that another process purges or compacts.
var errBusy = errors.New("another process purges or compacts now: try again later")

// MaintenanceBusy reports that Purge or Compact did nothing because another
// process was at one of them.
func MaintenanceBusy(err error) bool { return errors.Is(err, errBusy) }

// alone runs f as the only one in the database who purges or compacts; who moves
// rows takes the same lock.
func (db *DB) alone(ctx context.Context, f func() error) error {
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }() // back to the pool
	var alone bool
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('weir.purge', 0))`).Scan(&alone); err != nil {
		return err
	}
	if !alone {
		return errBusy
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtextextended('weir.purge', 0))`)
	}()
	return f()
}

// Purge removes the rows that are older than their level's retention, by the
// start of their bucket against now. A row that a coarser level still lacks is
// never removed. What is in a partition of time goes with the whole partition,
// once all of it is too old; all else is deleted row by row. It goes shard by
// shard and table by table, each in transactions of its own that wait for
// nobody for long, and by one process at a time: if another is at it, it does
// nothing.
func (db *DB) Purge(ctx context.Context, now time.Time, defs []*aggregation.Definition) ([]Purged, error) {
	var purged []Purged
	err := db.alone(ctx, func() (err error) {
		purged, err = db.eachOld(ctx, now, defs, db.remove)
		return err
	})
	if err != nil {
		return purged, fmt.Errorf("purge: %w", err)
	}
	return purged, nil
}

// Purgeable counts what Purge would remove.
func (db *DB) Purgeable(ctx context.Context, now time.Time, defs []*aggregation.Definition) ([]Purged, error) {
	purged, err := db.eachOld(ctx, now, defs, db.count)
	if err != nil {
		return purged, fmt.Errorf("look for what is too old: %w", err)
	}
	return purged, nil
}

// old is a part of the rows of one level of one shard that are older than its
// retention.
type old struct {
	def     *aggregation.Definition
	level   aggregation.Granularity
	shardID string
	stretch
}

// count adds to p what of the part can go.
func (db *DB) count(ctx context.Context, o old, p *Purged) error {
	return db.steady(ctx, o.def, o.level, func(tx *Tx, def *aggregation.Definition) error {
		through, err := through(ctx, tx.tx, def, o.level, o.shardID)
		if err != nil {
			return err
		}
		var rows, kept int64
		err = tx.tx.QueryRowContext(ctx, `
			SELECT count(*) FILTER (WHERE batch_no <= $4), count(*) FILTER (WHERE batch_no > $4)
			FROM `+tableOf(def, o.level)+` WHERE shard_id = $1 AND bucket >= $2 AND bucket < $3`,
			o.shardID, o.from, o.until, through).Scan(&rows, &kept)
		switch {
		case err != nil:
			return err
		case o.span && kept > 0: // not even the others can go
			rows, kept = 0, rows+kept
		case o.span:
			p.Partitions++
		}
		p.Rows += rows
		p.Kept += kept
		return nil
	})
}

// remove removes what of the part can go, and adds to p what it was.
func (db *DB) remove(ctx context.Context, o old, p *Purged) error {
	if o.span {
		return db.dropSpan(ctx, o, p)
	}
	var gone, kept int64
	err := db.steady(ctx, o.def, o.level, func(tx *Tx, def *aggregation.Definition) error {
		through, err := through(ctx, tx.tx, def, o.level, o.shardID)
		if err != nil {
			return err
		}
		const where = ` WHERE shard_id = $1 AND bucket >= $2 AND bucket < $3 AND batch_no `
		result, err := tx.tx.ExecContext(ctx, `DELETE FROM `+tableOf(def, o.level)+where+`<= $4`, o.shardID, o.from, o.until, through)
		if err != nil {
			return err
		}
		if gone, err = result.RowsAffected(); err != nil {
			return err
		}
		if gone > 0 {
			if err := tx.notePurged(ctx, def, o.level, o.until); err != nil {
				return err
			}
		}
		return tx.tx.QueryRowContext(ctx, `SELECT count(*) FROM `+tableOf(def, o.level)+where+`> $4`, o.shardID, o.from, o.until, through).Scan(&kept)
	})
	if err == nil {
		p.Rows += gone
		p.Kept += kept
	}
	return err
}

// dropSpan drops the partition of a span, unless something in it must stay. It
// looks in a transaction before, because dropping needs a lock that must not be
// a second one.
func (db *DB) dropSpan(ctx context.Context, o old, p *Purged) error {
	before := *p
	if err := db.count(ctx, o, p); err != nil || p.Partitions == before.Partitions {
		return err
	}
	return db.steady(ctx, o.def, o.level, func(tx *Tx, def *aggregation.Definition) error {
		through, err := through(ctx, tx.tx, def, o.level, o.shardID)
		if err != nil {
			return err
		}
		var gone bool
		err = tx.tx.QueryRowContext(ctx, `SELECT weir.drop_span($1, $2, $3, $4)`,
			def.Table(o.level), o.shardID, o.from, through).Scan(&gone)
		if err != nil || !gone {
			*p = before
			p.Busy++
			return err
		}
		return tx.notePurged(ctx, def, o.level, o.until)
	})
}

// eachOld calls f for what is too old of every shard, at every level that has a
// retention. Levels that have nothing to tell are left out. What fails is part
// of the error, and the others go on.
func (db *DB) eachOld(ctx context.Context, now time.Time, defs []*aggregation.Definition, f func(context.Context, old, *Purged) error) ([]Purged, error) {
	shards, err := db.Shards(ctx)
	if err != nil {
		return nil, err
	}
	if defs, err = applied(ctx, db.sql, defs); err != nil {
		return nil, err
	}
	var all []Purged
	var failed error
	for _, def := range defs {
		for _, level := range def.Granularities {
			keep := def.Retention[level]
			if keep == aggregation.Forever {
				continue
			}
			for _, shard := range shards {
				p := Purged{Aggregation: def.ID(), Level: level, ShardID: shard.ShardID, Before: now.Add(-keep).UTC()}
				err := db.eachStretch(ctx, def, &p, f)
				if p.Rows > 0 || p.Kept > 0 || p.Partitions > 0 || p.Busy > 0 {
					all = append(all, p)
				}
				if err != nil && !errors.Is(err, errDropped) {
					failed = errors.Join(failed, fmt.Errorf("%s per %s of shard %s: %w", def.ID(), level, shard.ShardID, err))
				}
				if ctx.Err() != nil || Unavailable(err) {
					return all, failed
				}
			}
		}
	}
	return all, failed
}

func (db *DB) eachStretch(ctx context.Context, def *aggregation.Definition, p *Purged, f func(context.Context, old, *Purged) error) error {
	spans, err := db.spans(ctx, def, p.Level, p.ShardID)
	if err != nil {
		return err
	}
	for _, s := range stretches(spans, p.Before) {
		if err := f(ctx, old{def: def, level: p.Level, shardID: p.ShardID, stretch: s}, p); err != nil {
			return err
		}
	}
	return nil
}

// through is the batch up to which all levels that are folded from this one
// have its rows; the greatest number where there are none.
func through(ctx context.Context, q querier, def *aggregation.Definition, level aggregation.Granularity, shardID string) (int64, error) {
	lowest := int64(math.MaxInt64)
	for _, coarse := range def.Granularities {
		if parent, ok := def.Parent(coarse); !ok || parent != level {
			continue
		}
		batch, err := watermark(ctx, q, def, coarse, shardID)
		if err != nil {
			return 0, err
		}
		lowest = min(lowest, batch)
	}
	return lowest, nil
}

// watermark is the batch up to which a level of a shard has everything; where it
// has nothing yet, not even what came from another shard, it is below all numbers.
func watermark(ctx context.Context, q querier, def *aggregation.Definition, level aggregation.Granularity, shardID string) (batch int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT batch_no FROM weir.watermark WHERE aggregation = $1 AND level = $2 AND shard_id = $3`,
		def.ID(), level.String(), shardID).Scan(&batch)
	if errors.Is(err, sql.ErrNoRows) {
		return math.MinInt64, nil
	}
	return batch, err
}
