package worker

import (
	"context"
	"errors"

	"weir/pkg/aggregation"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// process takes messages the whole way, as many as make one batch, and returns
// how many. The order of the lines is the guarantee: nothing is acknowledged
// before the transaction returned, and the transaction holds everything that
// the batch causes. On an error nothing has happened, or, if the commit's
// outcome is unknown, the ledger will refuse the batch on the next try.
func (w *Worker) process(ctx context.Context, messages []stream.Message) (int, error) {
	b := w.decode(messages) // events into columns, bad ones into dead letters
	for look := w.expectFolded || redelivered(messages); ; look = true {
		if look { // some of it was folded before: delivered again, or published twice
			if err := w.refuse(ctx, b); err != nil {
				return 0, err
			}
		}
		if b.empty() {
			break
		}
		err := w.flush(ctx, b)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrClaimed) {
			return 0, err
		}
	}
	for _, m := range messages[:b.taken] {
		_ = m.Ack() // if it is lost the message comes again, and is refused
	}
	w.wakeRelay() // alerts are in the outbox
	return b.taken, nil
}

// flush makes what is left of the batch durable, all of it or nothing, and
// with it what coarser levels are due.
func (w *Worker) flush(ctx context.Context, b *batch) error {
	if err := w.loadCascade(ctx); err != nil {
		return err
	}
	delta := aggregation.Fold(w.into(b), b.columns, w.guard) // no I/O, as the next two
	alerts := w.alerts(b)
	levels := w.cascade.Prepare(w.due) // what was committed before this batch
	totals := b.totals()
	totals.OtherEvents = store.OtherEvents(delta, levels.Delta)
	err := w.db.InTx(ctx, func(tx *store.Tx) error {
		number, err := tx.NextBatch(ctx, w.lease, totals) // fenced
		if err != nil {
			return err
		}
		if err := tx.WriteDelta(ctx, w.cfg.ShardID, number, delta); err != nil {
			return err
		}
		if err := tx.WriteLevels(ctx, w.cfg.ShardID, before(number, delta), levels); err != nil {
			return err
		}
		if err := tx.WriteAlerts(ctx, alerts); err != nil {
			return err
		}
		if err := tx.WriteDeadLetters(ctx, w.cfg.ShardID, b.dead); err != nil {
			return err
		}
		if err := tx.SettleDeadLetters(ctx, b.raised.Settled); err != nil {
			return err
		}
		if err := tx.WriteSources(ctx, b.sources()); err != nil {
			return err
		}
		return tx.Claim(ctx, b.claims) // last: it locks what other workers want too
	})
	return w.settle(err, levels, delta)
}
