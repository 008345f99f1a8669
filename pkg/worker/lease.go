package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"weir/pkg/failpoint"
	"weir/pkg/store"
)

// leaseShard leases the shard, or for the first time one of the pool, with
// partitions also for what is only rolled up; after an error the former lease
// stays, so that there is always one to check.
func (w *Worker) leaseShard(ctx context.Context) (err error) {
	var lease *store.Lease
	defer func() {
		if lease != nil && w.lease != lease {
			_ = lease.Close() // the error that matters, or the panic, came before
		}
	}()
	if w.cfg.ShardID == "" && len(w.cfg.Pool) > 0 {
		lease, err = w.db.LeaseFromPool(ctx, w.cfg.Pool, w.cfg.Owner, leaseWait, w.catalog.Aggregations)
	} else {
		lease, err = w.db.LeaseShard(ctx, w.cfg.ShardID, w.cfg.Owner, leaseWait, w.catalog.Aggregations)
	}
	if err != nil {
		return err
	}
	if err := lease.AddPartitions(ctx, w.catalog.Earlier); err != nil {
		return err
	}
	if err := w.cfg.Failpoints.Hit(failpoint.LeaseTaken); err != nil {
		return err
	}
	w.lease = lease
	if w.cfg.ShardID == "" {
		w.setShard(lease.ShardID)
	}
	return nil
}

// final reports whether the error of a flush ends the worker: what another try
// with the lease that it has cannot mend. Fenced without a lease is not: a Postgres
// that came back without its last commits has a former epoch, and whether
// somebody else has the shard is for [Worker.keepLease] to find out.
func (w *Worker) final(ctx context.Context, err error) bool {
	if errors.Is(err, store.ErrFenced) {
		return ctx.Err() != nil || w.lease.Check(ctx) == nil
	}
	return store.TablesChanged(err)
}

// keepLease leases the shard again if the connection that held it is gone.
// Meanwhile a worker with newer definitions may have written the shard: what the
// levels lack is read again, and where there are newer definitions this worker
// ends, for it would leave out what it does not know. While Postgres is away it
// waits, as long as ctx lives.
func (w *Worker) keepLease(ctx context.Context) error {
	if w.lease.Check(ctx) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_ = w.lease.Close() // its connection is broken
	for {
		err := w.caught(func() error { return w.leaseShard(ctx) })
		var taken store.ErrShardTaken
		var closed store.ErrShardClosed
		switch {
		case errors.As(err, &taken) || errors.As(err, &closed):
			return fmt.Errorf("%w: %w", store.ErrFenced, err)
		case errors.Is(err, store.ErrFenced) || store.TablesChanged(err):
			return err
		case err == nil:
			w.cascade = nil
			return w.current(ctx)
		}
		// Not to be flushed with the former lease: half of this may have been done,
		// and that is no longer valid then.
		w.log.Warn("shard not leased again, trying again", zap.Error(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoffBase + rand.N(backoffBase)):
		}
	}
}
