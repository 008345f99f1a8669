package worker

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"weir/pkg/event"
	"weir/pkg/store"
	"weir/pkg/stream"
)

const (
	repairMessages = 200     // most repairs taken at once
	repairBytes    = 4 << 20 // most bytes of bodies in one batch of them
)

// errands does what the tables ask of whichever worker comes by: to replay dead
// letters, and to repair what was lost from the ledger. It goes on for a second
// at most, so that events do not wait. All of it is asked for until it is done,
// so an error is not final unless the shard is lost, or the tables are not as
// this worker knows them.
func (w *Worker) errands(ctx, work context.Context) error {
	for begin := time.Now(); ctx.Err() == nil && time.Since(begin) < idleEvery; {
		var replayed, repaired int
		err := w.caughtFolding(func() error {
			var replayErr, repairErr error
			replayed, replayErr = w.replay(work)
			repaired, repairErr = w.repair(ctx, work)
			return errors.Join(replayErr, repairErr)
		})
		switch {
		case w.final(ctx, err):
			return err
		case err != nil && ctx.Err() == nil:
			w.log.Warn("dead letters or repairs not done, trying again later", zap.Error(err))
			return nil
		case replayed+repaired == 0:
			return nil
		}
	}
	return nil
}

// repair folds messages that the ledger lacks though they were acknowledged, and
// returns how many it took. They go the way of all messages: what is in the
// ledger after all is refused. A crash before they are marked as done lets
// somebody do them again, which then changes nothing.
func (w *Worker) repair(ctx, work context.Context) (int, error) {
	repairs, err := w.db.TakeRepairs(work, repairMessages)
	if err != nil || len(repairs) == 0 {
		return 0, err
	}
	history, err := w.conn.History(work)
	if err != nil {
		return 0, err
	}
	if history.Incarnation() != w.consumer.Incarnation() {
		return 0, nil // the stream was made anew, and this worker is about to notice
	}
	for done := 0; done < len(repairs); {
		n, err := w.repairSome(ctx, work, history, repairs[done:])
		if err != nil {
			return done, err
		}
		done += n
	}
	return len(repairs), nil
}

// repairSome repairs as many as make one batch, and returns how many.
func (w *Worker) repairSome(ctx, work context.Context, history *stream.History, repairs []store.Repair) (int, error) {
	extent, err := history.Extent(work)
	if err != nil {
		return 0, err
	}
	var messages []stream.Message
	var finished []store.Repair
	n, size := 0, 0
	for ; n < len(repairs) && size < repairBytes; n++ {
		r := repairs[n]
		m, err := stream.Message{}, stream.ErrNoMessage
		if r.Incarnation == history.Incarnation() {
			m, err = history.Get(work, r.Sequence)
		}
		switch {
		case err == nil:
			messages, size = append(messages, m), size+len(m.Data)
		case !errors.Is(err, stream.ErrNoMessage):
			return 0, err
		case r.Incarnation == history.Incarnation() && r.Sequence >= extent.First && r.Sequence <= extent.Last && !r.Late:
			// A replica that lags may have answered: asked again later.
		default:
			r.Outcome = store.RepairGone
			finished = append(finished, r)
		}
	}
	known, err := w.known(work, messages)
	if err != nil {
		return 0, err
	}
	err = w.persist(ctx, work, messages)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return 0, err // asked to stop, it may have left some
	}
	for i, m := range messages {
		r := store.Repair{Incarnation: history.Incarnation(), Sequence: m.Sequence, Outcome: store.RepairFolded}
		if known[i] {
			r.Outcome = store.RepairWasFolded
		}
		finished = append(finished, r)
	}
	w.log.Warn("repaired messages that the ledger lacked", zap.Int("messages", len(messages)), zap.Int("taken", n))
	return n, w.db.FinishRepairs(work, finished)
}

// known reports of each message whether the ledger has all of it.
func (w *Worker) known(ctx context.Context, messages []stream.Message) ([]bool, error) {
	b := newBatch(len(messages), store.NewClaims())
	for i := range messages {
		m := &messages[i]
		b.origins[i] = origin{incarnation: w.consumer.Incarnation(), sequence: m.Sequence, stored: m.Stored.UnixMicro()}
		b.origins[i].identity, b.origins[i].own = m.Identity()
		if b.origins[i].ranged() {
			b.claimEvents(b.origins[i])
		} else {
			b.claim(b.origins[i], 0)
		}
	}
	if err := w.db.Refuse(ctx, b.claims); err != nil {
		return nil, err
	}
	known := make([]bool, len(messages))
	for i := range known {
		known[i] = b.refused(b.origins[i], -1)
	}
	return known, nil
}

// columnsOf returns the batch's columns for a schema.
func (b *batch) columnsOf(schema *event.Schema, dict *event.Dictionary) *event.Columns {
	for _, columns := range b.columns {
		if columns.Schema == schema {
			return columns
		}
	}
	columns := event.NewColumns(schema, dict)
	b.columns = append(b.columns, columns)
	return columns
}
