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
	"weir/pkg/stream"
)

// persist processes messages batch by batch, over and over while the trouble is
// one that passes. They stay unacknowledged meanwhile: should the stream deliver
// them to another worker too, the ledger lets one of them win.
func (w *Worker) persist(ctx, work context.Context, messages []stream.Message) error {
	for pause := backoffBase; len(messages) > 0; pause = min(2*pause, backoffMost) {
		n, err := w.attempt(work, messages)
		messages = messages[n:]
		switch {
		case err == nil:
			pause = backoffBase / 2
			if ctx.Err() != nil {
				messages = nil // asked to stop: this was the batch in hand, the rest is given back
			}
			continue
		case w.final(ctx, err):
			return err
		case ctx.Err() != nil: // asked to stop: no second try
			return err
		case ofInput(err):
			return w.isolate(ctx, work, messages, err)
		}
		w.tally.retries.Inc()
		w.log.Warn("batch failed, trying again", zap.Int("messages", len(messages)), zap.Duration("after", pause), zap.Error(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
		if err := w.keepLease(ctx); err != nil {
			return err
		}
	}
	return nil
}

// attempt is process, and returns an error where that panics. Whether the batch
// was committed is then as unknown as after a lost connection.
func (w *Worker) attempt(ctx context.Context, messages []stream.Message) (n int, err error) {
	err = w.caughtFolding(func() error {
		if err := w.cfg.Failpoints.Hit(failpoint.Fetched); err != nil {
			return err
		}
		n, err = w.process(ctx, messages)
		return err
	})
	return n, err
}

// ofInput reports whether it is the messages' own fault, so that trying them again
// cannot help.
func ofInput(err error) bool {
	var panicked *panicError
	return store.Unstorable(err) || errors.As(err, &panicked) && panicked.ofInput
}

// isolate finds the message that Postgres cannot store, whatever passed decoding, or
// that the code panics on, by halving; alone, it becomes a dead letter, and its
// neighbours go on.
func (w *Worker) isolate(ctx, work context.Context, messages []stream.Message, cause error) error {
	if n := len(messages); n > 1 {
		if err := w.persist(ctx, work, messages[:n/2]); err != nil {
			return err
		}
		return w.persist(ctx, work, messages[n/2:])
	}
	sequence := messages[0].Sequence
	if _, again := w.unstorable[sequence]; again {
		return fmt.Errorf("message %d cannot even be made a dead letter: %w", sequence, cause)
	}
	w.unstorable[sequence] = why(cause)
	defer delete(w.unstorable, sequence)
	return w.persist(ctx, work, messages)
}

// why is what the dead letter of a message says.
func why(cause error) string {
	var panicked *panicError
	if errors.As(cause, &panicked) {
		return "the worker panicked on it: " + panicked.text()
	}
	return "Postgres cannot store it: " + cause.Error()
}

// inOrder takes one step after another until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
