package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pkg/aggregation"
)

// HoldShard leases a shard that exists for upkeep: a retired one too, and a
// moved one stays moved. An unknown id is an ErrNoShard; a live holder is an
// ErrShardTaken, after a grace of wait.
func (db *DB) HoldShard(ctx context.Context, shardID, owner string, wait time.Duration, defs []*aggregation.Definition) (*Lease, error) {
	shard, err := db.shard(ctx, shardID)
	if err != nil {
		return nil, err
	}
	if shard.MovedTo != "" {
		defs = nil // its tables are being dropped
	}
	lease, err := db.lease(ctx, shardID, owner, wait, defs,
		`UPDATE weir.shard SET owner = $2, aggregations = $3, epoch = epoch + `+epochStep+` WHERE shard_id = $1 RETURNING number, epoch`)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoShard{ShardID: shardID}
	}
	return lease, err
}

// RollUp gives the coarser levels of a shard all that they lack, and returns
// how many groups that was. After an error some may have it.
func (db *DB) RollUp(ctx context.Context, lease *Lease, defs []*aggregation.Definition) (groups int, err error) {
	cascade, last, err := db.LoadCascade(ctx, lease.ShardID, defs, nil, rollUpMemory)
	if err != nil {
		return 0, err
	}
	for complete := false; !complete; last++ {
		levels, err := db.PrepareLevels(ctx, lease.ShardID, cascade, func(aggregation.FlushedLevel) bool { return true })
		if err != nil {
			return groups, err
		}
		if err := db.writeLevels(ctx, lease, last+1, levels); err != nil {
			return groups, fmt.Errorf("roll up shard %s: %w", lease.ShardID, err)
		}
		groups += levels.Delta.Groups()
		cascade.Commit(levels)
		cascade.Shrink(rollUpMemory)
		complete = levels.Complete
	}
	return groups, nil
}

// rollUpMemory is how many bytes RollUp takes for what levels lack.
const rollUpMemory = 64 << 20

// writeLevels gives coarser levels what they lack, as the batch of that number.
func (db *DB) writeLevels(ctx context.Context, lease *Lease, batch int64, levels *aggregation.Flush) error {
	return db.InTx(ctx, func(tx *Tx) error {
		number, err := tx.NextBatch(ctx, lease, Totals{OtherEvents: OtherEvents(levels.Delta)})
		if err != nil {
			return err
		}
		if number != batch {
			return fmt.Errorf("batch %d of it comes where %d should: Postgres has lost commits meanwhile, try again", number, batch)
		}
		return tx.WriteLevels(ctx, lease.ShardID, number, levels)
	})
}

// Upkeep is who works on shards, and on which aggregations.
type Upkeep struct {
	Owner string        // as a lease shows it, for people
	Wait  time.Duration // for the connection of a killed worker to end
	// Aggregations are all that the database has rows of.
	Aggregations []*aggregation.Definition
	// Patience is how long a move waits for older transactions to end before it
	// leaves its empty tables for another time; 0 is 2 minutes.
	Patience time.Duration
}

// hold leases a shard for upkeep.
func (db *DB) hold(ctx context.Context, u Upkeep, shardID string) (*Lease, error) {
	lease, err := db.HoldShard(ctx, shardID, u.Owner, u.Wait, u.Aggregations)
	var taken ErrShardTaken
	if errors.As(err, &taken) {
		return nil, fmt.Errorf("shard %q is live, %s writes it: stop that worker first", shardID, taken.Owner)
	}
	return lease, err
}

// RetireShard completes the coarser levels of a shard that is not live and then
// refuses everybody who wants to write it. Its rows stay and count in every
// answer. It returns how many groups were rolled up. Doing it again is harmless.
func (db *DB) RetireShard(ctx context.Context, u Upkeep, shardID string) (groups int, err error) {
	lease, err := db.hold(ctx, u, shardID)
	if err != nil {
		return 0, err
	}
	defer func() { _ = lease.Close() }() // it ends with the connection anyway
	shard, err := db.shard(ctx, shardID) // under the lease: it cannot be moved any more
	if err != nil {
		return 0, err
	}
	if shard.MovedTo != "" {
		return 0, fmt.Errorf("the rows of shard %q are in %q already, only empty tables are left: clear them away with `weir shard merge %s --into %s`",
			shardID, shard.MovedTo, shardID, shard.MovedTo)
	}
	if groups, err = db.RollUp(ctx, lease, u.Aggregations); err != nil {
		return 0, err
	}
	_, err = lease.conn.ExecContext(ctx, `UPDATE weir.shard SET retired_at = coalesce(retired_at, now()) WHERE shard_id = $1`, shardID)
	if err != nil {
		return 0, fmt.Errorf("retire shard %s: %w", shardID, err)
	}
	return groups, nil
}

// UnretireShard lets a retired shard be written again.
func (db *DB) UnretireShard(ctx context.Context, shardID string) error {
	shard, err := db.shard(ctx, shardID)
	if err != nil {
		return err
	}
	if shard.RetiredAt.IsZero() {
		return fmt.Errorf("shard %q is not retired", shardID)
	}
	if _, err := db.sql.ExecContext(ctx, `UPDATE weir.shard SET retired_at = NULL WHERE shard_id = $1`, shardID); err != nil {
		return fmt.Errorf("unretire shard %s: %w", shardID, err)
	}
	return nil
}
