package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"weir/pkg/aggregation"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// process takes one batch of messages the whole way. The order of the lines
// is the guarantee: nothing is acknowledged before the transaction returned,
// and the transaction holds everything that the batch causes. On an error
// nothing has happened, or, if the commit's outcome is unknown, the ledger
// will refuse the batch on the next try.
func (w *Worker) process(ctx context.Context, messages []stream.Message) error {
	b := w.decode(messages) // events into columns, bad ones into dead letters
	for look := w.expectFolded || redelivered(messages); ; look = true {
		if look { // some of it was folded before: delivered again, or published twice
			if err := w.db.Refuse(ctx, b.claims); err != nil {
				return err
			}
			w.expectFolded = b.dropRefused()
		}
		if b.empty() {
			break
		}
		err := w.flush(ctx, b)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrClaimed) {
			return err
		}
	}
	for _, m := range messages {
		_ = m.Ack() // if it is lost the message comes again, and is refused
	}
	w.wakeRelay() // alerts are in the outbox
	return nil
}

// redelivered reports whether some of the messages may have been folded: it is
// a hint, to look into the ledger before writing instead of being refused after
// it, which costs a whole flush.
func redelivered(messages []stream.Message) bool {
	return slices.ContainsFunc(messages, func(m stream.Message) bool { return m.Deliveries > 1 })
}

// flush makes what is left of the batch durable, all of it or nothing.
func (w *Worker) flush(ctx context.Context, b *batch) error {
	delta := aggregation.Fold(w.catalog.Aggregations, b.columns) // pure
	alerts := w.local.Evaluate(b.columns)                        // pure; takes effect with Commit
	err := w.db.InTx(ctx, func(tx *store.Tx) error {
		number, err := tx.NextBatch(ctx, w.lease, b.totals()) // fenced
		if err != nil {
			return err
		}
		if err := tx.WriteDelta(ctx, w.cfg.ShardID, number, delta); err != nil {
			return err
		}
		if err := tx.WriteAlerts(ctx, alerts); err != nil {
			return err
		}
		if err := tx.WriteDeadLetters(ctx, w.cfg.ShardID, b.dead); err != nil {
			return err
		}
		return tx.Claim(ctx, b.claims) // last: it locks what other workers want too
	})
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	w.local.Commit()
	return nil
}
