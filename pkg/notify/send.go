package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/alert"
	"weir/pkg/store"
)

const (
	// atOnce is how many sends of one notifier are under way at a time.
	atOnce = 4
	// keep is how long what was sent stays recorded, and how long a notifier that
	// is in nobody's file keeps its queue.
	keep, keepQueue = 30 * 24 * time.Hour, 7 * 24 * time.Hour
	purgeEvery      = time.Hour
)

// Config says what a Sender sends.
type Config struct {
	Targets []*Target
	// Silenced returns what tells whether an alert is silenced now; it is called
	// each time before something is sent. nil: nothing is.
	Silenced func(ctx context.Context) (func(alert.Alert) bool, error)
	// Metrics counts what is sent; nil: nobody asks for it.
	Metrics *Metrics
}

// Sender sends what the notifiers have to say.
type Sender struct {
	db     *store.DB
	cfg    Config
	holder string
	pace   pace
	log    *zap.Logger
}

// New returns a Sender for the targets; nothing happens before Run.
func New(db *store.DB, cfg Config, log *zap.Logger) *Sender {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	cfg.Metrics.begin(cfg.Targets)
	return &Sender{db: db, cfg: cfg, holder: rand.Text(), pace: defaultPace(), log: log}
}

// Run sends until ctx ends; what is under way then is finished first. Neither a
// receiver nor a Postgres that is away ends it, nor holds up another notifier.
func (s *Sender) Run(ctx context.Context) error {
	var all errgroup.Group
	for _, target := range s.cfg.Targets {
		q := &queue{Sender: s, target: target, log: s.log.With(zap.String("notifier", target.Name))}
		all.Go(func() error { q.run(ctx); return nil })
	}
	all.Go(func() error { s.purge(ctx); return nil })
	return all.Wait()
}

func (s *Sender) purge(ctx context.Context) {
	for {
		now := time.Now()
		_, err := s.db.PurgeNotifications(ctx, now.Add(-keep), now.Add(-keepQueue))
		if err != nil && ctx.Err() == nil {
			s.log.Warn("old notifications are not purged, trying again in an hour", zap.Error(err))
		}
		if !wait(ctx, purgeEvery) {
			return
		}
	}
}

// wait returns after the time, and whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// queue is one notifier's. Its goroutine owns it.
type queue struct {
	*Sender
	target *Target
	log    *zap.Logger

	failures int       // of the receiver, in a row
	rest     time.Time // until when it is left alone
	swept    time.Time // when it was last looked for alerts that fire and are not queued
	troubled bool      // Postgres failed the last time
}

// run holds the notifier whenever no other process does, and sends meanwhile.
func (q *queue) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		held, err := q.hold(ctx)
		q.postgres(ctx, err)
		if held {
			q.log.Info("sending for the notifier", zap.String("type", q.target.Type))
			q.work(ctx, began)
		}
		wait(ctx, q.pace.idle)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.pace.ending)
	defer cancel()
	if err := q.db.ReleaseNotifier(ending, q.target.Name, q.holder); err != nil {
		q.log.Warn("another process sends for the notifier after a while", zap.Error(err))
	}
}

func (q *queue) hold(ctx context.Context) (bool, error) {
	return q.db.HoldNotifier(ctx, q.target.Name, q.target.Match.scopes(), q.holder, q.pace.hold)
}

// work sends, until ctx ends or another process may hold the notifier: which it
// may, from began on, after the time of a hold.
func (q *queue) work(ctx context.Context, began time.Time) {
	// What is under way when ctx ends is finished; when the hold ends it is not.
	holding, lose := context.WithCancelCause(context.WithoutCancel(ctx))
	expiry := time.AfterFunc(time.Until(began.Add(q.pace.hold)), func() { lose(errLost) })
	var keeper errgroup.Group
	keeper.Go(func() error { q.keep(holding, expiry); return nil })
	for ctx.Err() == nil && holding.Err() == nil {
		more, err := q.round(ctx, holding)
		q.postgres(ctx, err)
		if err != nil || !more {
			wait(ctx, q.pace.poll)
		}
	}
	if holding.Err() != nil {
		q.log.Warn("another process may send for the notifier: Postgres could not be told in time that this one does")
	}
	expiry.Stop()
	lose(nil)
	_ = keeper.Wait()
}

var errLost = errors.New("another process may send for the notifier now")

// keep makes the hold last, until holding ends.
func (q *queue) keep(holding context.Context, expiry *time.Timer) {
	for wait(holding, q.pace.hold/3) {
		began := time.Now()
		if held, err := q.hold(holding); err == nil && held && expiry.Stop() {
			expiry.Reset(time.Until(began.Add(q.pace.hold)))
		}
	}
}

// postgres logs when Postgres fails, and when it no longer does.
func (q *queue) postgres(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && !q.troubled:
		q.log.Warn("nothing is sent while Postgres does not answer", zap.Error(err))
	case err == nil && q.troubled:
		q.log.Info("Postgres answers again")
	}
	q.troubled = err != nil
}

// round sends what is due, at most a page of it. It stops early, between two
// sends, when ctx ends, and in the middle when holding does.
func (q *queue) round(ctx, holding context.Context) (more bool, err error) {
	if time.Since(q.swept) > q.pace.sweep {
		if err := q.db.QueueFiring(holding, q.target.Name); err != nil {
			return false, err
		}
		q.swept = time.Now()
	}
	if time.Now().Before(q.rest) {
		return false, nil
	}
	page := max(q.target.Notifier.Most(), 16*atOnce)
	due, err := q.db.DueNotifications(holding, q.target.Name, page)
	if err != nil || len(due) == 0 {
		return false, err
	}
	silenced, err := q.silences(holding)
	if err != nil {
		return false, err
	}
	var send []store.Notification
	for i := range due {
		after, now := q.decide(&due[i], silenced(due[i].Alert))
		if now {
			send = append(send, due[i])
		} else if err := q.db.RecordNotification(holding, &due[i], after); err != nil {
			return false, err
		}
	}
	return q.sendAll(ctx, holding, send) && len(due) == page, nil
}

func (q *queue) silences(ctx context.Context) (func(alert.Alert) bool, error) {
	if q.cfg.Silenced == nil {
		return func(alert.Alert) bool { return false }, nil
	}
	silenced, err := q.cfg.Silenced(ctx)
	if err != nil {
		return nil, fmt.Errorf("read silences: %w", err)
	}
	return silenced, nil
}
