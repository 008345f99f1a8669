package notify

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/alert"
	"weir/pkg/store"
)

// pace is how often and how long; only tests have another than the default.
type pace struct {
	poll    time.Duration // between looks at the queue
	idle    time.Duration // between tries to hold a notifier that another process holds
	hold    time.Duration // how long a process that has died holds it
	sweep   time.Duration // between looks for alerts that fire and are not queued
	silence time.Duration // between looks at whether an alert is still silenced
	backoff time.Duration // before the second try; doubled with each further one,
	most    time.Duration // up to this
	giveUp  time.Duration // what no longer fires is tried for so long
	ending  time.Duration // for what is left to do when the process is asked to end
}

func defaultPace() pace {
	return pace{
		poll: time.Second, idle: 5 * time.Second, hold: 30 * time.Second, sweep: time.Minute, silence: time.Minute,
		backoff: 5 * time.Second, most: 5 * time.Minute, giveUp: 24 * time.Hour, ending: 5 * time.Second,
	}
}

// never is longer than anybody waits, and short enough for a timestamp.
const never = 100 * 365 * 24 * time.Hour

// fires reports whether the alert is one that will be resolved and is not yet.
func fires(a *alert.Alert) bool {
	return a.Scope == alert.ScopeGlobal && a.State == alert.Firing && a.ResolvedAt.IsZero()
}

// decide says whether to send a notification that is due, and if not, what to
// record. A resolution is sent where it was sent, or tried, that the alert
// fires: whatever is silenced by then, nobody is left with an alarm that is over.
func (q *queue) decide(n *store.Notification, silenced bool) (after store.After, send bool) {
	a := &n.Alert
	state := n.State // of what was sent before it stays sent
	switch {
	case !q.target.concerns(a), a.State == alert.Resolved && !n.FiringTold:
		if state != store.NotificationSent {
			state = store.NotificationNotConcerned
		}
		return store.After{State: state}, false
	case n.Superseded:
		return store.After{State: state}, false
	case a.State == alert.Firing && (silenced || state == store.NotificationSilenced && !fires(a)):
		// What is over before its silence is never told of: its resolution, which
		// may be in the same page, is not either.
		if state != store.NotificationSent {
			state = store.NotificationSilenced
		}
		if fires(a) {
			after.Again = q.pace.silence // it may fire for longer than it is silenced
		}
		after.State = state
		return after, false
	}
	return store.After{}, true
}

// accepted is what to record of a notification that was sent.
func (q *queue) accepted(n *store.Notification, warning string) store.After {
	after := store.After{State: store.NotificationSent, Sent: true, Error: warning}
	switch {
	case !fires(&n.Alert):
	case q.target.Repeat > 0:
		after.Again = q.target.Repeat
	default:
		after.Again = never // done with its resolution
	}
	return after
}

// failed is what to record of a notification that was not accepted.
func (q *queue) failed(n *store.Notification, err error, now time.Time) store.After {
	after := store.After{State: store.NotificationWaiting, Error: oneLine(err.Error(), 1000)}
	if n.Sends > 0 {
		after.State = store.NotificationSent
	}
	if !fires(&n.Alert) && !n.FailingSince.IsZero() && now.Sub(n.FailingSince) > q.pace.giveUp {
		after.State = store.NotificationGivenUp
		return after
	}
	after.Again = q.backoff(n.Attempts, err)
	return after
}

// backoff is how long to wait after so many failures before this one: longer
// each time, never longer than until the next repeat, and by chance, so that not
// all that failed together try again together.
func (q *queue) backoff(before int, err error) time.Duration {
	most := q.pace.most
	if q.target.Repeat > 0 {
		most = min(most, q.target.Repeat)
	}
	d := min(q.pace.backoff<<min(before, 20), most)
	var b busy
	if errors.As(err, &b) {
		d = max(d, b.after)
	}
	return d/2 + rand.N(d)
}

// sendAll sends the notifications, a few sends at a time, and records what became
// of each. After a failure of the receiver it begins no further ones and reports
// false, and the receiver is left alone for a while.
func (q *queue) sendAll(ctx, holding context.Context, all []store.Notification) (working bool) {
	var sends errgroup.Group
	sends.SetLimit(atOnce)
	var failed atomic.Bool
	for batch := range slices.Chunk(all, q.target.Notifier.Most()) {
		sends.Go(func() error {
			if stopped := failed.Load() || ctx.Err() != nil || holding.Err() != nil; stopped {
				return nil
			}
			err := q.sendBatch(ctx, holding, batch)
			if Refused(err) {
				err = nil // the receiver works
			}
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	err := sends.Wait()
	switch {
	case err != nil:
		pause := q.backoff(q.failures, err)
		if q.failures == 0 {
			q.log.Warn("a notification was not accepted: the notifier waits and tries again", zap.Error(err), zap.Duration("wait", pause))
		}
		q.failures++
		q.rest = time.Now().Add(pause)
	case len(all) > 0:
		if q.failures > 0 {
			q.log.Info("notifications are accepted again")
		}
		q.failures = 0
	}
	q.cfg.Metrics.resting.WithLabelValues(q.target.Name).Set(float64(q.failures))
	return err == nil
}

// sendBatch sends some notifications together and records what became of them.
// The error is the receiver's. What is refused together is tried one by one, for
// one may have spoiled it for the others.
func (q *queue) sendBatch(ctx, holding context.Context, batch []store.Notification) error {
	now := time.Now()
	notices := make([]Notice, len(batch))
	for i, n := range batch {
		notices[i] = Notice{Alert: n.Alert, Repeat: n.Sends, Now: now.UTC()}
	}
	sending, cancel := context.WithTimeout(holding, q.target.timeout())
	warning, err := q.target.Notifier.Send(sending, notices)
	cancel()
	var kept later
	if errors.As(err, &kept) {
		for i := range batch {
			q.record(ctx, &batch[i], store.After{State: batch[i].State, Again: max(kept.at.Sub(now), q.pace.poll)})
		}
		return nil
	}
	q.cfg.Metrics.send(q.target.Name, err)
	if Refused(err) && len(batch) > 1 {
		for i := range batch {
			if err := q.sendBatch(ctx, holding, batch[i:i+1]); err != nil && !Refused(err) {
				return err
			}
		}
		return nil
	}
	for i := range batch {
		n := &batch[i]
		after := q.accepted(n, warning)
		if err != nil {
			after = q.failed(n, err, now)
		}
		q.tell(n, after, err)
		q.record(ctx, n, after)
	}
	return err
}

// tell logs what somebody may have to do something about.
func (q *queue) tell(n *store.Notification, after store.After, err error) {
	log := q.log.With(zap.String("alert", n.Alert.ID), zap.String("rule", n.Alert.Rule))
	switch {
	case after.State == store.NotificationGivenUp:
		log.Error("a notification is given up: it was not accepted for too long", zap.Error(err))
	case Refused(err) && n.Attempts == 0:
		log.Warn("a notification was refused; it is tried again", zap.Error(err))
	case err == nil && after.Error != "":
		log.Warn("a notification was sent, but not to all", zap.String("problem", after.Error))
	}
}

// record writes down what became of a notification, as often as it takes: as
// long as it is not recorded it would be sent again. When the process is asked
// to end it tries for a little while longer.
func (q *queue) record(ctx context.Context, n *store.Notification, after store.After) {
	recording, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		wait(recording, q.pace.ending)
		cancel()
	})
	defer stop()
	for {
		err := q.db.RecordNotification(recording, n, after)
		if err == nil {
			return
		}
		if recording.Err() != nil || !wait(recording, q.pace.poll) {
			q.log.Warn("it is not recorded what became of a notification: it will be sent again", zap.String("alert", n.Alert.ID), zap.Error(err))
			return
		}
	}
}
