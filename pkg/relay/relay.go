// Package relay publishes alerts: it takes them off the outbox, which is written in
// the transaction that decided them, and puts them on the stream ALERTS.
//
// Each alert is published at least once, and exactly once by its id: a crash
// between publishing and the commit that takes it off the outbox publishes it again.
package relay

import (
	"context"
	"time"

	"go.uber.org/zap"

	"weir/pkg/alert"
	"weir/pkg/store"
	"weir/pkg/stream"
)

const (
	batch = 100
	every = time.Second // also looks without being woken: another process may have died before its relay ran
)

// contentType is what alerts are published as; docs/asyncapi.yaml says more.
const contentType = "application/json"

// Relay publishes the outbox. Whoever's alerts they are, any relay publishes
// them; each is in one relay's hands at a time.
type Relay struct {
	db   *store.DB
	conn *stream.Conn
	log  *zap.Logger
	wake chan struct{}
}

// New returns a relay over open connections, which stay the caller's.
func New(db *store.DB, conn *stream.Conn, log *zap.Logger) *Relay {
	return &Relay{db: db, conn: conn, log: log, wake: make(chan struct{}, 1)}
}

// Wake tells the relay to look at the outbox now. It never waits.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it has been told already
	}
}

// Run publishes until ctx ends. Around, if not nil, is called for each look at the outbox, and
// returns its error: what else is to be done about a panic.
func (r *Relay) Run(ctx context.Context, around func(func() error) error) error {
	if around == nil {
		around = func(f func() error) error { return f() }
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-tick.C:
		}
		for {
			var n int
			err := around(func() (err error) { n, err = r.Once(ctx); return err })
			if err != nil && ctx.Err() == nil {
				r.log.Warn("alerts not published, trying again", zap.Error(err))
			}
			if err != nil || n < batch {
				break
			}
		}
	}
}

// Once publishes what is in the outbox, up to a hundred alerts, and returns how many they were.
func (r *Relay) Once(ctx context.Context) (int, error) { return r.db.Relay(ctx, batch, r.publish) }

// publish publishes one alert; ctx says until when, inside the transaction
// that holds it.
func (r *Relay) publish(ctx context.Context, a alert.Alert) error {
	body, err := alert.Encode(&a)
	if err != nil {
		return err
	}
	_, _, err = r.conn.Publish(ctx, stream.Outgoing{
		Subject: stream.AlertSubject(string(a.Scope), a.Rule), MsgID: a.ID, ContentType: contentType, Data: body,
	})
	return err
}
