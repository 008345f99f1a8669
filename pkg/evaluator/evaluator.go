// Package evaluator decides the alerts that are right whatever the number of workers.
//
// Each flush commits, with what it folds, the evidence that the rules need of its batch
// (package alert). An [Evaluator] takes in the evidence of all shards, by partitions of the
// keys; any number of evaluators may run, and each partition is one's at a time: the
// others take over what one leaves or dies with. It decides in event time, and when it does
// is what makes it right:
//
//   - a moment is decided when all that happened up to it is folded. The stream says up to which
//     message everything is acknowledged, which workers do after their commit; the newest event
//     of the batches up to there is the clock. What gateways publish later than [Config].Grace
//     after it happened is late, and corrects what was decided.
//   - where nothing comes, the clock goes on with the stream's own, by as much behind it as events
//     were last. So an absence is noticed, and old logs that are replayed have their own time.
//
// What cannot be decided or written of one partition is tried again from what was saved of it, less and less often, and
// the others go on.
//
// What was decided is written, with the outbox, in a transaction that proves that the
// partition is still held. What is remembered is saved every few seconds, and only then is
// evidence removed: who takes over reads what was saved, takes in the evidence since, and decides the same again,
// under the same ids.
package evaluator

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pkg/alert"
	"weir/pkg/relay"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// DefaultGrace is how late events may be where nothing else is said: gateways publish what they have
// within a second, and clocks differ.
const DefaultGrace = 5 * time.Second

// Config says how an evaluator works. The zero value is ready.
type Config struct {
	Owner string        // host name and process, for people
	Grace time.Duration // how late events may be without anything being corrected; 0 = DefaultGrace
	Every time.Duration // how often evidence is taken in; 0 = 500 ms
	Save  time.Duration // how often what is remembered is saved; 0 = 20 s
	// Metrics counts what the evaluator does; nil: nobody asks for it.
	Metrics *Metrics
}

// Evaluator evaluates some of the partitions. It belongs to the goroutine of Run.
type Evaluator struct {
	cfg   Config
	rules []*alert.Rule
	db    *store.DB
	conn  *stream.Conn
	relay *relay.Relay
	learn *learner
	log   *zap.Logger

	parts *store.Partitions // nil: to be opened
	held  map[int]*partition
	clock clock
	read  store.Cursors // batches that the clock knows

	thresholds *alert.Thresholds
	version    string    // of the thresholds
	asked      time.Time // when that was read
}

// partition is one that is held.
type partition struct {
	global  *alert.Global // what is remembered; nil: to be loaded, not before again
	cursors store.Cursors
	saved   time.Time

	failed int       // how often, one time after another
	again  time.Time // when it is tried again
}

// New returns an evaluator over open connections, which stay the caller's.
func New(cfg Config, rules []*alert.Rule, db *store.DB, conn *stream.Conn, log *zap.Logger) *Evaluator {
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Every == 0 {
		cfg.Every = 500 * time.Millisecond
	}
	if cfg.Save == 0 {
		cfg.Save = 20 * time.Second
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	cfg.Metrics.begin(rules)
	e := &Evaluator{cfg: cfg, rules: rules, db: db, conn: conn, relay: relay.New(db, conn, log), learn: newLearner(rules, db, log), log: log}
	e.forget()
	return e
}

// forget begins anew, with no partition.
func (e *Evaluator) forget() {
	if e.parts != nil {
		_ = e.parts.Close() // it ends with the connection anyway
	}
	e.parts, e.held, e.read, e.clock = nil, map[int]*partition{}, store.Cursors{}, clock{}
}

// Run evaluates until ctx ends, and then saves what it remembers. Trouble with NATS or
// Postgres is waited out.
func (e *Evaluator) Run(ctx context.Context) error {
	beside, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { _ = e.relay.Run(beside, nil) }) // it returns nil, when its context ends
	others.Go(func() { e.learn.run(beside) })
	defer others.Wait()
	defer stop()
	defer e.forget()
	e.log.Info("evaluator decides alerts")
	tick := time.NewTicker(e.cfg.Every)
	defer tick.Stop()
	failed, again := 0, time.Time{}
	for {
		select {
		case <-ctx.Done():
			e.end(ctx)
			return nil
		case <-tick.C:
		}
		if time.Now().Before(again) {
			continue
		}
		err := e.turn(ctx)
		if err == nil {
			failed = 0
			e.cfg.Metrics.turns.Inc()
			e.cfg.Metrics.turnedAt.SetToCurrentTime()
			continue
		}
		if ctx.Err() == nil {
			failed++
			e.cfg.Metrics.failures.Inc()
			again = time.Now().Add(e.backOff(failed))
			e.log.Warn("alerts not decided, beginning again with what was saved", zap.Error(err))
			e.forget()
		}
	}
}

// backOff is how long to wait after so many failures: 2 seconds, doubled with each up to 16, where evidence is taken in as often as
// by default. Alerts come by as much late, so it is never long.
func (e *Evaluator) backOff(failed int) time.Duration { return e.cfg.Every << min(failed+1, 5) }

// end saves what is remembered, so that who comes next need not take in evidence again.
func (e *Evaluator) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for part := range e.held {
		if err := e.save(ctx, part); err != nil {
			e.log.Warn("what a partition remembers is not saved: whoever takes over decides the same again", zap.Int("partition", part), zap.Error(err))
			return
		}
	}
	e.log.Info("evaluator stopped")
}

// turn takes in what was committed since the last one, and decides what can be.
func (e *Evaluator) turn(ctx context.Context) error {
	if err := e.balance(ctx); err != nil {
		return err
	}
	e.cfg.Metrics.partitions.Set(float64(len(e.held)))
	if len(e.held) == 0 {
		return nil // others have all
	}
	state, err := e.conn.State(ctx) // before what is committed is read: all that it speaks of is among that
	if err != nil {
		return err
	}
	batches, err := e.db.Batches(ctx, e.read)
	if err != nil {
		return err
	}
	if err := e.readThresholds(ctx); err != nil {
		return err
	}
	through := e.clock.advance(state, batches).Add(-e.cfg.Grace)
	e.cfg.Metrics.waiting.Set(float64(len(e.clock.waiting)))
	if e.clock.known() {
		e.cfg.Metrics.through.Set(float64(through.UnixMilli()) / 1000)
	}
	if e.held[0] != nil && e.clock.known() {
		e.learn.at(through)
	}
	for part := range alert.Partitions {
		if p := e.held[part]; p != nil && p.global != nil {
			if err := e.failure(ctx, part, p, e.evaluate(ctx, part, p, through)); err != nil {
				return err
			}
		}
	}
	return nil
}

// failure notes what a partition was tried with came to. What it returns concerns all of them: there is no connection, or somebody
// else has the partition. With all else the partition begins again by itself.
func (e *Evaluator) failure(ctx context.Context, part int, p *partition, err error) error {
	switch {
	case err == nil && p.failed == 0:
		return nil
	case err == nil:
		e.log.Info("alerts of a partition are decided again", zap.Int("partition", part), zap.Int("tries", p.failed+1))
		p.failed = 0
		return nil
	case ctx.Err() != nil, store.Unavailable(err), errors.Is(err, store.ErrFenced):
		return err
	}
	p.failed++
	p.global, p.again = nil, time.Now().Add(e.backOff(p.failed))
	if p.failed == 1 { // once, however often it is tried
		e.log.Warn("alerts of a partition are not decided: it begins again with what was saved, until that helps; the others go on",
			zap.Int("partition", part), zap.Error(err))
	}
	return nil
}

// thresholdsEvery is how often it is looked whether thresholds have changed, so that what is set takes
// effect within two seconds.
const thresholdsEvery = time.Second

// readThresholds reads the thresholds, unless they are those that were read before.
func (e *Evaluator) readThresholds(ctx context.Context) error {
	if time.Since(e.asked) < thresholdsEvery {
		return nil
	}
	read, version, err := e.db.ThresholdsSince(ctx, e.version, e.rules)
	if err != nil {
		return err
	}
	if e.asked = time.Now(); read == nil {
		return nil
	}
	e.thresholds, e.version = read, version
	for _, p := range e.held {
		if p.global != nil {
			p.global.SetThresholds(e.thresholds)
		}
	}
	return nil
}

// evaluate takes in the evidence of a partition, and decides.
func (e *Evaluator) evaluate(ctx context.Context, part int, p *partition, through time.Time) error {
	if err := e.db.Evidence(ctx, part, p.cursors, p.global.Add); err != nil {
		return err
	}
	for shard, batch := range e.read { // of which all evidence has been read, if there was some
		p.cursors[shard] = max(p.cursors[shard], batch)
	}
	if e.clock.known() {
		written, err := e.parts.WriteDecisions(ctx, part, p.global.Decide(through))
		if err != nil {
			return err
		}
		for _, a := range written {
			e.cfg.Metrics.alerts.WithLabelValues(a.Rule, string(a.State)).Inc()
		}
		if len(written) > 0 {
			e.relay.Wake()
		}
	}
	if late := p.global.Late(); late > 0 {
		e.cfg.Metrics.late.Add(float64(late))
		e.log.Info("events came too late to change alerts", zap.Int64("events", late), zap.Time("decided_through", through))
	}
	if crowded := p.global.Crowded(); crowded > 0 {
		e.log.Warn("a key of a rule has too many members, steps or alerts: the oldest are forgotten, or the newest not told", zap.Int64("number", crowded))
	}
	if time.Since(p.saved) < e.cfg.Save {
		return nil
	}
	return e.save(ctx, part)
}

// save saves what has changed of what a partition remembers, if it does.
func (e *Evaluator) save(ctx context.Context, part int) error {
	p := e.held[part]
	if p.global == nil {
		return nil
	}
	var changed []alert.Remembered
	p.global.Save(func(r alert.Remembered) { changed = append(changed, r) })
	clock, lag := e.clock.saved()
	if err := e.parts.SaveMemory(ctx, part, store.Memory{Cursors: p.cursors, Clock: clock, Lag: lag}, changed); err != nil {
		return err
	}
	p.saved = time.Now()
	return e.db.ForgetBatches(ctx, e.clock.incarnation, e.clock.floor)
}

// balance takes partitions that nobody has, up to this evaluator's share, and gives back what is more.
func (e *Evaluator) balance(ctx context.Context) (err error) {
	if e.parts == nil {
		if e.parts, err = e.db.Partitions(ctx, e.cfg.Owner); err != nil {
			return err
		}
	}
	share, err := e.parts.Share(ctx)
	if err != nil {
		return err
	}
	for part := range alert.Partitions {
		switch {
		case e.held[part] == nil && len(e.held) < share:
			err = e.take(ctx, part)
		case e.held[part] != nil && len(e.held) > share:
			err = e.failure(ctx, part, e.held[part], e.save(ctx, part))
			err = errors.Join(err, e.parts.Release(ctx, part))
			delete(e.held, part)
		}
		if err != nil {
			return err
		}
	}
	for part, p := range e.held {
		if p.global != nil || time.Now().Before(p.again) {
			continue
		}
		if err := e.load(ctx, part, p); err != nil {
			if err = e.failure(ctx, part, p, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes a partition if nobody has it.
func (e *Evaluator) take(ctx context.Context, part int) error {
	ok, err := e.parts.Take(ctx, part)
	if err == nil && ok {
		e.held[part] = &partition{}
	}
	return err
}

// load begins with what was saved of a partition.
func (e *Evaluator) load(ctx context.Context, part int, p *partition) error {
	global := alert.NewGlobal(e.rules)
	global.SetThresholds(e.thresholds)
	foreign := 0
	memory, err := e.db.LoadMemory(ctx, part, func(r alert.Remembered) {
		if !global.Load(r) {
			foreign++
		}
	})
	if err != nil {
		return err
	}
	p.global, p.cursors, p.saved = global, memory.Cursors, time.Now()
	e.clock.restore(memory.Clock, memory.Lag)
	if p.failed == 0 {
		e.log.Info("took a partition of the alerts", zap.Int("partition", part), zap.Int("keys", global.Keys()), zap.Int("of_other_rules", foreign))
	}
	return nil
}
