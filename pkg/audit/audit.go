// Package audit proves, from the outside, that every event is counted once.
//
// There are three links, each an equation:
//
//   - source to stream: what a publisher was told is stored (its heartbeats say
//     so) is in the ledger;
//   - stream to ledger: every message of the stream that the workers have
//     acknowledged is in the ledger; what is not is given to them once more;
//   - ledger to aggregates: at every level, the rows of an aggregation add up to
//     the control totals that flushes wrote beside them, in number and in the sum
//     of the events' checksums, which shows also one event lost and another
//     counted twice.
//
// And the ledger and the dead letters add up to the control totals of shards.
// Everything is asked with SQL of this package's own: it shares nothing with
// the code that folds or answers, but for the calendar, and works beside
// workers that fold, compact, purge and move shards. What does not add up is a
// [Finding]; [Auditor.Drill] plants some and looks whether they are found.
//
// [Auditor.Pass] verifies what is new, and is called every few seconds;
// [Auditor.Full] verifies everything.
package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pkg/stream"
)

// Config says how the auditor works.
type Config struct {
	Version string        // of the program, for certificates
	Budget  time.Duration // a pass begins nothing new after this; 0 = 2s
	Drill   time.Duration // a pass drills when the last drill is so long ago; 0 = 24h
}

// Auditor verifies one database and one stream. It belongs to one goroutine.
type Auditor struct {
	db   *sql.DB
	conn *stream.Conn
	cfg  Config

	turn    map[string]time.Time // when a part was looked at last,
	through map[string]time.Time // what was changed by then is verified, by the clock of the database
	seen    map[string]recent    // what had changed last when a part was verified
	rotated map[string]time.Time // and when old periods of it were added up again
	smaller map[string]int       // how often its pieces have been halved, because they failed
	open    map[string]bool      // the parts in which something did not add up when the pass began
	hour    time.Time            // the end of the hour that is to be certified; zero: none is
	reached time.Time            // and since when the stream is verified up to it

	balance Balance
	counted time.Time     // when balance was; zero: it is due
	cost    time.Duration // and how long it took
	chained time.Time     // when the certificates were verified
	drilled bool          // since this auditor began
}

// New returns an auditor of the database that the pool connects to (see
// store.OpenPool) and of the stream.
func New(db *sql.DB, conn *stream.Conn, cfg Config) *Auditor {
	if cfg.Budget == 0 {
		cfg.Budget = 2 * time.Second
	}
	if cfg.Drill == 0 {
		cfg.Drill = 24 * time.Hour
	}
	return &Auditor{db: db, conn: conn, cfg: cfg, turn: map[string]time.Time{}, through: map[string]time.Time{}, seen: map[string]recent{}, rotated: map[string]time.Time{}, smaller: map[string]int{}}
}

// ErrBusy means that another auditor is at work.
var ErrBusy = errors.New("another auditor is at work")

// Pass verifies what is new, and some of what is old. ErrBusy means that another
// auditor does just that; [Auditor.Report] then says how things stand.
func (a *Auditor) Pass(ctx context.Context) (*Report, error) {
	return a.alone(ctx, func() (*Report, error) { return a.pass(ctx, false) })
}

// Full verifies everything, from the first message that the stream holds and
// the first row that there is. It may take a while.
func (a *Auditor) Full(ctx context.Context) (*Report, error) {
	return a.alone(ctx, func() (*Report, error) { return a.pass(ctx, true) })
}

// alone runs f as the only auditor of the database.
func (a *Auditor) alone(ctx context.Context, f func() (*Report, error)) (*Report, error) {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return nil, wrap(err, "audit: connect")
	}
	defer func() { _ = conn.Close() }() // back to the pool
	var free bool
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('weir.audit', 0))`).Scan(&free); err != nil {
		return nil, wrap(err, "audit")
	}
	if !free {
		return nil, ErrBusy
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtextextended('weir.audit', 0))`)
	}()
	report, err := f()
	return report, wrap(err, "audit")
}

// pass fails at once if nothing can be read. What only keeps a part from being
// verified comes with the report, when the others are.
func (a *Auditor) pass(ctx context.Context, everything bool) (*Report, error) {
	deadline := time.Now().Add(a.cfg.Budget)
	r := &Report{Full: everything}
	var err, lagging error
	if r.Stream, lagging = a.verifyStream(ctx, everything, deadline); lagging != nil && !errors.Is(lagging, ErrUnread) {
		return nil, lagging
	}
	if err := a.reach(ctx, r.Stream.Through); err != nil {
		return nil, err
	}
	if r.Sources, err = a.verifySources(ctx, r.Stream.Incarnation, everything); err != nil {
		return nil, err
	}
	if err := a.verifyBalance(ctx, everything); err != nil {
		return nil, err
	}
	if err := a.repair(ctx, a.balance); err != nil {
		return nil, err
	}
	all, err := aggregates(ctx, a.db)
	if err != nil {
		return nil, err
	}
	if err := a.forget(ctx, all); err != nil {
		return nil, err
	}
	failed := a.verifyAggregates(ctx, r, all, deadline)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r.CaughtUp = r.CaughtUp && r.Stream.Verified >= r.Stream.AckFloor
	if err := a.verifyPurged(ctx, all); err != nil {
		return nil, err
	}
	if everything || time.Since(a.chained) >= certificatesEvery {
		if err := a.verifyCertificates(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.drillIfDue(ctx); err != nil {
		return nil, err
	}
	if err := a.certify(ctx, r, all); err != nil {
		return nil, err
	}
	if err := a.finish(ctx, r); err != nil {
		return nil, err
	}
	return r, errors.Join(lagging, failed)
}

// verifyAggregates is the third link, for all aggregations.
func (a *Auditor) verifyAggregates(ctx context.Context, r *Report, all []*aggregate, deadline time.Time) (err error) {
	if !r.Full {
		r.CaughtUp, err = a.verifyChanged(ctx, all, deadline)
		return err
	}
	for _, agg := range all {
		now, err := a.now(ctx)
		if err != nil {
			return err
		}
		levels, err := a.verifyAll(ctx, agg)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return err
		}
		for level := range agg.levels {
			a.through[part{agg, level}.key()] = now
		}
		r.Levels = append(r.Levels, levels...)
	}
	r.CaughtUp = true
	return nil
}

// now is the time by the clock of the database.
func (a *Auditor) now(ctx context.Context) (now time.Time, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT now()`).Scan(&now)
	return now, wrap(err, "read the time")
}

const (
	kindLedger  = "ledger"
	kindLetters = "dead letters"
)

// verifyBalance compares the ledger and the dead letters with the control
// totals of the shards. What takes long is done less often.
func (a *Auditor) verifyBalance(ctx context.Context, now bool) error {
	started := time.Now()
	if !now && started.Sub(a.counted) < 20*a.cost {
		return nil
	}
	err := inSnapshot(ctx, a.db, nil, func(s snapshot) (err error) {
		a.balance, err = s.balance(ctx)
		return err
	})
	if err != nil {
		return err
	}
	a.counted, a.cost = started, time.Since(started)
	for _, f := range a.balance.findings() {
		if f.Lost == 0 && f.Duplicated == 0 {
			err = a.settle(ctx, f)
		} else {
			err = a.note(ctx, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// findings says of each equation whether it holds: if so, nothing is lost and
// nothing duplicated.
func (b Balance) findings() []Finding {
	ledger := Finding{
		Kind: kindLedger, Subject: "claims", Lost: max(0, b.Claims-b.Ledger), Duplicated: max(0, b.Ledger-b.Claims),
		Detail: fmt.Sprintf("flushes put %s into the ledger, and it has %s: holes are not repaired while it has too few, because they may be folded already",
			plural(b.Claims, "identity", "identities"), Grouped(b.Ledger)),
	}
	if b.Ledger > b.Claims {
		ledger.Detail = fmt.Sprintf("flushes put %s into the ledger, and it has %s: what was put there by hand will never be folded",
			plural(b.Claims, "identity", "identities"), Grouped(b.Ledger))
	}
	letters := Finding{
		Kind: kindLetters, Subject: "dead letters", Lost: max(0, b.DeadLetters-b.Letters), Duplicated: max(0, b.Letters-b.DeadLetters),
		Detail: fmt.Sprintf("flushes wrote %s, and there are %s", plural(b.DeadLetters, "dead letter", "dead letters"), Grouped(b.Letters)),
	}
	return []Finding{ledger, letters}
}

// forget settles what was found in aggregations and levels that are dropped, and
// notes in which others something is open.
func (a *Auditor) forget(ctx context.Context, all []*aggregate) error {
	kept := map[[2]string]bool{}
	for _, agg := range all {
		for _, g := range agg.levels {
			kept[[2]string{agg.id, g.String()}] = true
		}
	}
	open, err := a.findings(ctx)
	if err != nil {
		return err
	}
	a.open = map[string]bool{}
	for _, f := range open {
		if f.Kind != kindAggregate {
			continue
		}
		a.open[f.Aggregation+" "+f.Level] = true
		if kept[[2]string{f.Aggregation, f.Level}] {
			continue
		}
		if err := a.settle(ctx, f); err != nil {
			return err
		}
	}
	return nil
}
