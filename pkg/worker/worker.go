// Package worker is the data path: it takes events from the stream to the
// tables, each exactly once.
//
// A [Worker] leases one shard and then repeats: fetch a batch of messages,
// process it (process.go shows that whole way on one page), acknowledge. What
// it guarantees rests on three facts. Nothing is acknowledged before the
// transaction that carries its effects is committed; that transaction claims
// every message in the ledger, so that a message delivered again, to whichever
// worker, changes nothing; and whatever the world must learn (alerts, dead
// letters) is written in the same transaction and published after it.
//
// One goroutine owns all state of the shard; there are no locks here. What goes on
// beside it, reading ahead and folding beside the transaction, has state of its own, or is
// waited for before that is touched again.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/failpoint"
	"weir/pkg/relay"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// Config says who a worker is and how large its batches are.
type Config struct {
	// ShardID names the rows this worker writes: 1 to 20 characters, its own.
	// "" takes the first shard of Pool that nobody holds.
	ShardID string
	Pool    []string
	// Owner is who holds the shard, for people: host name and process.
	Owner string
	// A batch ends at Messages messages or Bytes bytes of bodies, or Linger
	// after its first message, whichever comes first.
	Messages int
	Bytes    int
	Linger   time.Duration
	// Cadence is how often the levels of a granularity are given what they
	// lack; nil is DefaultCadence.
	Cadence func(aggregation.Granularity) time.Duration
	// Memory is about how many bytes are held in memory of what coarser levels
	// lack; what is more is read again when a level is due. Half as many are for which
	// groups the buckets have, see [aggregation.Guard]. 0 is DefaultMemory.
	Memory int
	// AlertRetention is how long alerts are kept once they are recorded; 0 is for ever.
	AlertRetention time.Duration
	// Metrics counts what this worker does, beside others of the process; nil: nobody asks for it.
	Metrics *Metrics
	// Failpoints are where this worker is to fail, for tests.
	Failpoints *failpoint.Set
}

// DefaultMemory holds some 450,000 groups of the default pack.
const DefaultMemory = 96 << 20

// DefaultCadence flushes minutes about twice a minute, hours every five, and
// coarser levels twice an hour. Answers do not depend on it: a question reads
// what a level lacks from the finer ones. What does is the cost of both sides.
func DefaultCadence(g aggregation.Granularity) time.Duration {
	switch {
	case g < aggregation.Hours:
		return 30 * time.Second
	case g < aggregation.Days:
		return 5 * time.Minute
	}
	return 30 * time.Minute
}

// Worker folds events into one shard. Its fields belong to the goroutine of
// Run, save where they say otherwise.
type Worker struct {
	cfg     Config
	catalog *definition.Catalog
	db      *store.DB    // shared
	conn    *stream.Conn // shared
	log     *zap.Logger

	consumer   *stream.Consumer
	lease      *store.Lease
	local      *alert.Local
	collector  *alert.Collector
	cascade    *aggregation.Cascade // nil: to be loaded from the tables
	last       int64                // number of the last batch that is in the cascade, or was when there was one
	incomplete bool                 // the last flush left levels that were due for another one
	failed     bool                 // the last flush
	guard      *aggregation.Guard
	folder     *aggregation.Folder
	others     otherLog
	flushed    map[aggregation.FlushedLevel]time.Time
	reader     *reader
	ahead      parcel // of the batch in hand

	backfills  []string          // aggregations that are being backfilled: batches are claimed for them too
	unstorable map[uint64]string // by sequence: why the message in hand is to be a dead letter
	committed  bool              // something, since the worker began or found its definitions again
	// expectFolded is how many of the next batches may hold messages that were folded
	// before, as one of the last did: to find that out by the claim costs far more.
	expectFolded int
	relay        *relay.Relay
	thresholds   thresholds
	tally        *tally // of the shard; nil before there is one
}

// New returns a worker over open connections, which stay the caller's.
func New(cfg Config, catalog *definition.Catalog, db *store.DB, conn *stream.Conn, log *zap.Logger) *Worker {
	if cfg.Cadence == nil {
		cfg.Cadence = DefaultCadence
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	w := &Worker{
		cfg: cfg, catalog: catalog, db: db, conn: conn, log: log,
		flushed: map[aggregation.FlushedLevel]time.Time{},
		guard:   aggregation.NewGuard(),

		collector: alert.NewCollector(catalog.Rules),

		unstorable: map[uint64]string{},
		relay:      relay.New(db, conn, log),
	}
	w.reader = newReader(catalog, w.unstorable, maxDecoded)
	w.folder = aggregation.NewFolder(w.guard)
	if cfg.ShardID != "" {
		w.setShard(cfg.ShardID)
	}
	return w
}

// setShard says which shard it is that the worker writes.
func (w *Worker) setShard(shardID string) {
	w.cfg.ShardID = shardID
	w.log = w.log.With(zap.String("shard_id", shardID))
	w.local = alert.NewLocal(w.catalog.Rules, shardID)
	w.tally = w.cfg.Metrics.of(shardID, w.catalog.Rules)
}

const (
	leaseWait   = 5 * time.Second // for the connection of a killed holder to end
	stopWait    = 5 * time.Second // for the batch in hand when asked to stop
	backoffBase = 100 * time.Millisecond
	backoffMost = 5 * time.Second
	compactWait = 10 * time.Minute // between compactions of the ledger
)

// Run folds until ctx ends, then finishes the batch in hand and returns nil.
// Trouble with NATS or Postgres is waited out. An error is final: the shard
// was taken over, the consumer is gone, nothing is provisioned, or the tables
// are not those of this worker's definitions any more.
func (w *Worker) Run(ctx context.Context) error {
	for again := false; ; again = true {
		w.committed = false
		err := w.run(ctx)
		switch {
		case !store.TablesChanged(err) || ctx.Err() != nil:
			return err
		case again && !w.committed: // the database has its definitions, and still refuses
			return fmt.Errorf("%w: %w", errOvertaken, err)
		}
		w.log.Warn("the tables changed under this worker, looking for its definitions in the database again", zap.Error(err))
		if err := w.current(ctx); err != nil {
			return err
		}
		w.cascade = nil
	}
}

// run is Run until something ends it.
func (w *Worker) run(ctx context.Context) error {
	if err := w.caught(func() error { return w.start(ctx) }); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it had begun
		}
		return fmt.Errorf("start worker %s: %w", cmp.Or(w.cfg.ShardID, "without a shard"), err)
	}
	defer w.consumer.Close()
	defer func() { _ = w.lease.Close() }() // it ends with the connection anyway
	w.log.Info("worker folds")

	parcels, readers := make(chan parcel), make(chan *reader, 2) // read ahead, and in hand
	group, ctx := errgroup.WithContext(ctx)
	fetching, stopFetching := context.WithCancel(ctx)
	defer stopFetching()
	group.Go(func() error {
		defer w.consumer.Close() // gives back at once what was asked for ahead: the batch in hand may take a while
		defer close(parcels)
		return w.caught(func() error { return w.fetch(fetching, parcels, readers) })
	})
	group.Go(func() error { return w.fold(ctx, parcels, readers, stopFetching) })
	group.Go(func() error { return w.relay.Run(ctx, w.caught) })
	group.Go(func() error { return w.consumer.Keep(ctx) })
	group.Go(func() error { return w.tend(ctx) })
	group.Go(func() error { return w.followThresholds(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("worker %s: %w", w.cfg.ShardID, err)
	}
	w.log.Info("worker stopped")
	return nil
}

// start takes what the worker needs to fold: its consumer, the thresholds and
// its shard.
func (w *Worker) start(ctx context.Context) error {
	if w.cfg.ShardID != "" {
		if err := store.CheckWorkerShard(w.cfg.ShardID); err != nil {
			return err
		}
	}
	bound, earlier, missing, err := w.db.Bind(ctx, w.catalog.Aggregations)
	if err != nil {
		return err
	}
	if missing != "" {
		return errors.New(missing)
	}
	if overtaken, err := w.db.Overtaken(ctx, w.catalog.Aggregations); err != nil || overtaken != "" {
		return cmp.Or(err, errors.New(overtaken))
	}
	w.catalog = w.catalog.Bound(bound, earlier)
	w.reader.catalog = w.catalog
	if err := w.learnBackfills(ctx); err != nil {
		return err
	}
	if w.consumer, err = w.conn.Consumer(ctx); err != nil {
		return err
	}
	for {
		err := inOrder(func() error { return w.readThresholds(ctx) }, func() error { return w.leaseShard(ctx) })
		if err == nil || !store.Unavailable(err) {
			return err
		}
		w.log.Warn("shard not leased, trying again", zap.Error(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoffBase):
		}
	}
}

// fold processes batch after batch. Once ctx has ended the batch in hand gets
// stopWait; what is not done by then is given back to the other workers. A
// failure ends fetching, and the batches that were fetched go back too.
func (w *Worker) fold(ctx context.Context, parcels <-chan parcel, readers chan<- *reader, stopFetching func()) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopWait, cancel) })()
	var failed error
	idle := time.NewTicker(idleEvery)
	defer idle.Stop()
	for {
		select {
		case <-idle.C:
			if failed == nil && ctx.Err() == nil {
				failed = w.keepLease(ctx) // before somebody else takes the shard
			}
			if failed == nil {
				failed = w.rollUp(work, false)
			}
			if failed == nil {
				failed = w.errands(ctx, work)
			}
		case p, ok := <-parcels:
			if !ok {
				return w.end(ctx, work, failed)
			}
			if failed == nil && ctx.Err() == nil {
				failed = w.persistParcel(ctx, work, p, readers)
			}
			if failed != nil || ctx.Err() != nil {
				giveBack(p.messages) // what was acknowledged stays so
			}
		}
		if failed != nil {
			stopFetching()
		}
	}
}

// end leaves the shard with its levels complete, where that is still possible.
func (w *Worker) end(ctx, work context.Context, failed error) error {
	if failed == nil {
		failed = w.rollUp(work, true)
	}
	if ctx.Err() != nil && !errors.Is(failed, store.ErrFenced) {
		return nil
	}
	return failed
}

// tend keeps the ledger and the tables small, and shards without a worker
// complete.
func (w *Worker) tend(ctx context.Context) error {
	compact, adopt, maintain := time.NewTicker(compactWait), time.NewTicker(adoptEvery), time.NewTicker(maintainEvery)
	defer compact.Stop()
	defer adopt.Stop()
	defer maintain.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-compact.C:
			err = w.caught(func() error { _, err := w.db.CompactLedger(ctx); return err })
		case <-adopt.C:
			err = w.caught(func() error { return w.adopt(ctx) })
		case <-maintain.C:
			err = w.caught(func() error { return w.maintain(ctx) })
		}
		if err != nil && ctx.Err() == nil {
			w.log.Warn("maintenance failed, trying again later", zap.Error(err))
		}
	}
}
