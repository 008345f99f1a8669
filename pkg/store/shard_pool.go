package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/pkg/aggregation"
)

// ErrPoolTaken means that live workers hold all shards of a pool that may be
// written.
type ErrPoolTaken struct {
	Pool   []string
	Closed int // how many of them are retired or moved
}

func (e ErrPoolTaken) Error() string {
	which, are := e.Pool[0], "is"
	if n := len(e.Pool); n > 1 {
		which, are = fmt.Sprintf("all %d shards %s to %s", n, e.Pool[0], e.Pool[n-1]), "are"
	}
	state := "in use by live workers"
	switch {
	case e.Closed == len(e.Pool):
		state = "retired or moved"
	case e.Closed > 0:
		state += fmt.Sprintf(", or retired or moved (%d)", e.Closed)
	}
	return fmt.Sprintf("%s %s %s: raise --shard-pool, or start fewer workers", which, are, state)
}

// LeaseFromPool takes the first shard of the pool that nobody holds and that is
// not closed; see LeaseShard. If there is none it tries again until wait is over, for
// the connection of a killed holder may be about to end, and then returns an
// ErrPoolTaken.
func (db *DB) LeaseFromPool(ctx context.Context, pool []string, owner string, wait time.Duration, defs []*aggregation.Definition) (*Lease, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		all := ErrPoolTaken{Pool: pool}
		for _, shardID := range pool {
			lease, err := db.LeaseShard(ctx, shardID, owner, 0, defs)
			var taken ErrShardTaken
			var closed ErrShardClosed
			switch {
			case errors.As(err, &closed):
				all.Closed++
			case !errors.As(err, &taken):
				return lease, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return nil, all
		case <-retry.C:
		}
	}
}
