package worker

import (
	"context"
	"time"

	"go.uber.org/zap"

	"weir/pkg/alert"
	"weir/pkg/stream"
)

const (
	relayBatch = 100
	relayEvery = time.Second // also looks without being woken: another worker may have died before its relay ran
)

// relay publishes the outbox. Whatever worker's alerts they are, any relay
// publishes them; each is in one relay's hands at a time.
func (w *Worker) relay(ctx context.Context) error {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-tick.C:
		}
		for {
			var n int
			err := w.caught(func() (err error) { n, err = w.db.Relay(ctx, relayBatch, w.publishAlert); return err })
			if err != nil && ctx.Err() == nil {
				w.log.Warn("alerts not published, trying again", zap.Error(err))
			}
			if err != nil || n < relayBatch {
				break
			}
		}
	}
}

// publishAlert publishes one alert; ctx says until when, inside the transaction
// that holds it.
func (w *Worker) publishAlert(ctx context.Context, a alert.Alert) error {
	body, err := alert.Encode(&a)
	if err != nil {
		return err
	}
	_, _, err = w.conn.Publish(ctx, stream.Outgoing{
		Subject: stream.AlertSubject(string(a.Scope), a.Rule), MsgID: a.ID, ContentType: "application/json", Data: body,
	})
	return err
}

// wakeRelay tells the relay to look at the outbox now.
func (w *Worker) wakeRelay() {
	select {
	case w.wake <- struct{}{}:
	default: // it has been told already
	}
}
