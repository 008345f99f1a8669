package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/failpoint"
	"weir/pkg/store"
)

const (
	idleEvery     = time.Second      // how often levels are looked at when no batch comes
	adoptEvery    = time.Minute      // how often shards without a worker are looked for
	adoptAfter    = 2 * time.Minute  // without a flush
	maintainEvery = 15 * time.Minute // how often what is too old is purged: as Siddhi does by default
	compactEvery  = time.Hour        // how often a level is compacted, by whichever worker
)

// loadCascade reads what the coarser levels lack, at the start and whenever it
// is not known what the last flush did.
func (w *Worker) loadCascade(ctx context.Context) error {
	if w.cascade != nil {
		return nil
	}
	cascade, last, err := w.db.LoadCascade(ctx, w.cfg.ShardID, w.catalog.Kept(), w.guard, w.cfg.Memory)
	if err == nil {
		err = w.cfg.Failpoints.Hit(failpoint.CascadeLoaded)
	}
	if err == nil && last < w.last {
		err = w.lost()
	}
	if err == nil {
		w.cascade, w.last = cascade, last
	}
	return err
}

// due reports whether it is time to give a level what it lacks.
func (w *Worker) due(l aggregation.FlushedLevel) bool {
	last, ok := w.flushed[l]
	if !ok {
		w.flushed[l] = time.Now()
		return false
	}
	return time.Since(last) >= w.cfg.Cadence(l.Level)
}

// before is the batch up to which the coarser levels are complete after the
// flush: it holds their parents' rows of all batches before it, and of its own
// if it has none.
func before(number int64, delta aggregation.Delta) int64 {
	if len(delta.Parts) == 0 {
		return number
	}
	return number - 1
}

// errLost means that the shard's batches are not those that the worker knows of:
// Postgres came back without its last commits, as after a failover, or one whose
// outcome was not known has come through after all.
var errLost = errors.New("the batches in Postgres are not those that this worker knows of: it has lost commits, or has one more; what the worker remembers is read again")

// nextBatch is the number of the flush. What the worker remembers is that of
// the batches before and of no others, or it is forgotten: else it would count
// twice what was lost and is folded again.
func (w *Worker) nextBatch(ctx context.Context, tx *store.Tx, totals store.Totals) (int64, error) {
	number, err := tx.NextBatch(ctx, w.lease, totals)
	if err == nil && number != w.last+1 {
		err = errLost
	}
	return number, err
}

// lost forgets what the worker remembers of batches: what the levels lack, and
// which alerts were raised. The next try begins with what Postgres has.
func (w *Worker) lost() error {
	w.cascade, w.last = nil, 0
	w.local = alert.NewLocal(w.catalog.Rules, w.cfg.ShardID)
	w.collector = alert.NewCollector(w.catalog.Rules)
	return errLost
}

// levels is what some coarser levels that are due are to be given. Events are folded
// also where that cannot be read: then it is tried again when the levels are due again.
func (w *Worker) levels(ctx context.Context, shard string) (*aggregation.Flush, error) {
	levels, err := w.db.PrepareLevels(ctx, shard, w.cascade, w.due)
	if err == nil || ctx.Err() != nil || store.Unavailable(err) || store.TablesChanged(err) {
		return levels, err
	}
	w.log.Warn("what coarser levels lack was not read, trying again later", zap.Error(err))
	for _, l := range w.coarser() {
		if w.due(l) {
			w.flushed[l] = time.Now()
		}
	}
	return &aggregation.Flush{Complete: true}, nil
}

// settle takes what a flush did into the worker's own state.
func (w *Worker) settle(err error, number int64, levels *aggregation.Flush, out *outcome) error {
	out.finish()
	if out.err != nil {
		return out.err // rolled back, and nothing was touched
	}
	if errors.Is(err, store.ErrClaimed) {
		if out.added {
			w.cascade = nil
		}
		return err // rolled back, and nothing is lost
	}
	if w.failed = err != nil; w.failed {
		w.guard.Commit() // what may be committed: its groups count
		if errors.Is(err, errLost) {
			err = w.lost()
		}
		w.cascade = nil // it may be committed all the same
		return fmt.Errorf("flush: %w", err)
	}
	w.committed, w.last, w.incomplete = true, number, !levels.Complete
	w.local.Commit()
	w.collector.Commit()
	if out.panicked != nil { // it is read again
		w.guard.Commit()
		panic(out.panicked)
	}
	if !out.added {
		w.cascade.Commit(levels)
		w.cascade.Add(out.delta)
	}
	w.guard.Commit()
	w.cascade.Shrink(w.cfg.Memory)
	w.guard.Shrink(w.cfg.Memory / 2)
	w.others.note(time.Now(), w.log, slices.Concat(out.delta.Other, levels.Delta.Other)...)
	for _, l := range levels.Levels {
		if !levels.Tail || levels.CaughtUp {
			w.flushed[l] = time.Now()
		}
	}
	w.tally.behind.Set(float64(w.overdue()))
	return nil
}

// overdue is how many coarser levels are due.
func (w *Worker) overdue() (n int) {
	for _, l := range w.coarser() {
		if w.due(l) {
			n++
		}
	}
	return n
}

// rollUp gives coarser levels what they lack while no batch comes: also what a
// worker that was killed left, when no event ever comes again. All of it can
// wait for the next time, so an error is not final unless the shard is lost,
// or the tables are not as this worker knows them. All levels, and not those that
// are due, are for the worker's end.
func (w *Worker) rollUp(ctx context.Context, all bool) error {
	err := w.caughtFolding(func() error { return w.rollUpNow(ctx, all) })
	if err != nil && !w.final(ctx, err) {
		then := "trying again later"
		if all { // the worker ends
			then = "left to whoever has the shard next"
		}
		w.log.Warn("coarser levels not flushed, "+then, zap.Error(err))
		return nil
	}
	return err
}

func (w *Worker) rollUpNow(ctx context.Context, all bool) error {
	if err := w.loadCascade(ctx); err != nil {
		return err
	}
	for {
		if all {
			for _, l := range w.coarser() {
				w.flushed[l] = time.Time{}
			}
		}
		lacking := !w.cascade.Empty() && slices.ContainsFunc(w.coarser(), w.due)
		if all && w.incomplete { // the other levels are to be complete up to the same batch
			lacking = true
		}
		if !lacking {
			return nil
		}
		if err := w.cfg.Failpoints.Hit(failpoint.RollUp); err != nil {
			return err
		}
		if err := w.flush(ctx, newBatch(0, store.NewClaims())); err != nil || !all {
			return err
		}
	}
}

// coarser lists the coarser levels of all aggregations.
func (w *Worker) coarser() (all []aggregation.FlushedLevel) {
	for _, def := range w.catalog.Kept() {
		for _, level := range def.Granularities[1:] {
			all = append(all, aggregation.FlushedLevel{Definition: def, Level: level})
		}
	}
	return all
}

// adopt rolls up shards that have no worker any more, so that their coarser
// levels are complete and their finer rows may go one day. A worker whose
// definitions were overtaken keeps away: it would leave out what it does not
// know.
func (w *Worker) adopt(ctx context.Context) error {
	overtaken, err := w.db.Overtaken(ctx, w.catalog.Aggregations)
	if err != nil || overtaken != "" {
		return err
	}
	shards, err := w.db.Abandoned(ctx, adoptAfter, w.catalog.Kept())
	if err != nil {
		return err
	}
	for _, shard := range shards {
		err := w.adoptShard(ctx, shard)
		var taken store.ErrShardTaken
		var gone store.ErrNoShard
		if err != nil && !errors.As(err, &taken) && !errors.As(err, &gone) {
			return err
		}
	}
	return nil
}

func (w *Worker) adoptShard(ctx context.Context, shard string) error {
	lease, err := w.db.HoldShard(ctx, shard, w.cfg.Owner+", rolling up", 0, w.catalog.Aggregations)
	if err != nil {
		return err
	}
	defer func() { _ = lease.Close() }() // it ends with the connection anyway
	if err := lease.AddPartitions(ctx, w.catalog.Earlier); err != nil {
		return err
	}
	groups, err := w.db.RollUp(ctx, lease, w.catalog.Kept())
	if err != nil {
		return err
	}
	w.log.Info("rolled up a shard without a worker", zap.String("shard", shard), zap.Int("groups", groups))
	return nil
}

// maintain makes room: partitions for the rows to come, what is too old away, alerts
// too, and then one row of what is left of each key and bucket. What fails does not
// keep the rest from being done.
func (w *Worker) maintain(ctx context.Context) error {
	err := w.db.AddSpans(ctx, w.cfg.ShardID, w.catalog.Aggregations)
	_, purged := w.db.Purge(ctx, time.Now(), w.catalog.Kept())
	_, compacted := w.db.Compact(ctx, compactEvery, w.catalog.Kept())
	_, alerts := w.db.PurgeAlerts(ctx, time.Now(), w.cfg.AlertRetention)
	for _, failed := range []error{purged, compacted, alerts} {
		if !store.MaintenanceBusy(failed) { // another process does it
			err = errors.Join(err, failed)
		}
	}
	return errors.Join(err, w.purgeEvidence(ctx))
}

// evidenceKept is for how long evidence waits for an evaluator: alerts of longer ago help nobody, and
// without any evaluator it would only grow.
const evidenceKept = time.Hour

func (w *Worker) purgeEvidence(ctx context.Context) error {
	batches, err := w.db.PurgeEvidence(ctx, evidenceKept)
	if batches > 0 {
		w.log.Warn("evidence for alerts over all shards was removed because no `weir alerter` has taken it in: such alerts are not decided",
			zap.Int64("batches", batches), zap.Duration("older_than", evidenceKept))
	}
	return err
}
