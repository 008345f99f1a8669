package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pkg/aggregation"
)

// Purged is what went, or with Purgeable would go, of one level of one shard.
type Purged struct {
	Aggregation string
	Level       aggregation.Granularity
	ShardID     string
	Before      time.Time // buckets that start earlier are too old
	Rows        int64     // of them: packed rows at the finest level, groups at others
	Kept        int64     // too old as well, but a coarser level still lacks them
}

// errBusy means that another process purges.
var errBusy = errors.New("another process purges now")

// Purge deletes the rows that are older than their level's retention, by the
// start of their bucket against now. A row that a coarser level still lacks is
// never deleted. It goes shard by shard and table by table, each in a
// transaction of its own, and by one process at a time: if another is at it,
// it does nothing.
func (db *DB) Purge(ctx context.Context, now time.Time, defs []*aggregation.Definition) ([]Purged, error) {
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("purge: connect: %w", err)
	}
	defer func() { _ = conn.Close() }() // back to the pool
	var alone bool
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('weir.purge', 0))`).Scan(&alone); err != nil {
		return nil, fmt.Errorf("purge: %w", err)
	}
	if !alone {
		return nil, errBusy
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtextextended('weir.purge', 0))`)
	}()
	return db.eachOld(ctx, now, defs, func(ctx context.Context, p *Purged, table string, through int64) error {
		result, err := conn.ExecContext(ctx, `DELETE FROM `+table+` WHERE shard_id = $1 AND bucket < $2 AND batch_no <= $3`, p.ShardID, p.Before, through)
		if err != nil {
			return err
		}
		p.Rows, err = result.RowsAffected()
		return err
	})
}

// PurgeBusy reports that Purge did nothing because another process was at it.
func PurgeBusy(err error) bool { return errors.Is(err, errBusy) }

// Purgeable counts what Purge would delete.
func (db *DB) Purgeable(ctx context.Context, now time.Time, defs []*aggregation.Definition) ([]Purged, error) {
	return db.eachOld(ctx, now, defs, func(ctx context.Context, p *Purged, table string, through int64) error {
		return db.sql.QueryRowContext(ctx, `
			SELECT count(*) FILTER (WHERE batch_no <= $3), count(*) FILTER (WHERE batch_no > $3)
			FROM `+table+` WHERE shard_id = $1 AND bucket < $2`, p.ShardID, p.Before, through).Scan(&p.Rows, &p.Kept)
	})
}

// eachOld calls f for every shard of every level that has a retention, with
// the level's table and the batch through which all its rows are in every
// level that is folded from it. Levels that have nothing to tell are left out.
func (db *DB) eachOld(ctx context.Context, now time.Time, defs []*aggregation.Definition, f func(context.Context, *Purged, string, int64) error) ([]Purged, error) {
	shards, err := db.Shards(ctx)
	if err != nil {
		return nil, err
	}
	var all []Purged
	for _, def := range defs {
		for _, level := range def.Granularities {
			keep := def.Retention[level]
			if keep == aggregation.Forever {
				continue
			}
			for _, shard := range shards {
				p := Purged{Aggregation: def.ID(), Level: level, ShardID: shard.ShardID, Before: now.Add(-keep).UTC()}
				through, err := db.through(ctx, def, level, shard.ShardID)
				if err == nil {
					err = f(ctx, &p, tableOf(def, level), through)
				}
				if err != nil {
					return all, fmt.Errorf("purge %s per %s of shard %s: %w", def.ID(), level, shard.ShardID, err)
				}
				if p.Rows > 0 || p.Kept > 0 {
					all = append(all, p)
				}
			}
		}
	}
	return all, nil
}

// through is the batch up to which all levels that are folded from this one
// have its rows.
func (db *DB) through(ctx context.Context, def *aggregation.Definition, level aggregation.Granularity, shardID string) (int64, error) {
	lowest := int64(1<<63 - 1)
	for _, coarse := range def.Granularities {
		if parent, ok := def.Parent(coarse); !ok || parent != level {
			continue
		}
		var batch int64
		err := db.sql.QueryRowContext(ctx, `SELECT batch_no FROM weir.watermark WHERE aggregation = $1 AND level = $2 AND shard_id = $3`,
			def.ID(), coarse.String(), shardID).Scan(&batch)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, err
		}
		lowest = min(lowest, batch) // no watermark: it has nothing yet
	}
	return lowest, nil
}
