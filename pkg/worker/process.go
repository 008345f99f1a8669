package worker

import (
	"context"
	"errors"
	"time"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// process takes messages the whole way, as many as make one batch, and returns
// how many. The order of the lines is the guarantee: nothing is acknowledged
// before the transaction returned, and the transaction holds everything that
// the batch causes. On an error nothing has happened, or, if the commit's
// outcome is unknown, the ledger will refuse the batch on the next try.
func (w *Worker) process(ctx context.Context, messages []stream.Message) (int, error) {
	b, err := w.decode(messages) // events into columns, bad ones into dead letters
	if err != nil {
		return 0, err
	}
	for look := w.expectFolded > 0 || redelivered(messages); ; look = true {
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
	w.relay.Wake() // alerts are in the outbox
	if err := w.acknowledge(messages[:b.taken]); err != nil {
		return 0, err
	}
	return b.taken, nil
}

// flush makes what is left of the batch durable, all of it or nothing, and
// with it what coarser levels are due.
func (w *Worker) flush(ctx context.Context, b *batch) error {
	began := time.Now()
	if err := w.loadCascade(ctx); err != nil {
		return err
	}
	levels, err := w.levels(ctx, w.cfg.ShardID) // of the batches before
	if err != nil {
		return err
	}
	out := w.evaluate(b, levels) // goes on beside the transaction, which begins with what is done
	defer out.finish()
	shard, totals, number := w.cfg.ShardID, b.totalsWith(levels.Delta), int64(0)
	err = w.db.InTx(ctx, func(tx *store.Tx) error {
		if number, err = w.nextBatch(ctx, tx, totals); err != nil { // fenced
			return err
		}
		return inOrder(
			func() error { return tx.WriteParts(ctx, shard, number, out.dict, out.parts) },
			out.wait,
			func() error { return tx.CountOthers(ctx, w.lease, store.OtherEvents(out.delta)) },
			func() error { return tx.WriteControl(ctx, shard, out.control) },
			func() error { return tx.WriteLevels(ctx, shard, before(number, out.delta), levels) },
			func() error { return tx.WriteAlerts(ctx, out.alerts) },
			func() error { return tx.WriteEvidence(ctx, w.lease, number, b.evidenceOf(), out.evidence) },
			func() error { return tx.WriteDeadLetters(ctx, shard, b.dead) },
			func() error { return tx.SettleDeadLetters(ctx, b.raised.Settled) },
			func() error { return tx.WriteSources(ctx, b.sources()) },
			func() error { return tx.Claim(ctx, b.claims) }, // last: it locks what other workers want too
		)
	})
	w.tally.flush(err, time.Since(began), b.taken, totals, out.raised)
	return w.settle(err, number, levels, out)
}
