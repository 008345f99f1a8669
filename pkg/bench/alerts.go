package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"weir/pkg/stream"
)

// alerting is how rules are measured: not at all, or with an evaluator, or by workers that know of none.
type alerting int

const (
	rulesOnly    alerting = iota // workers write evidence, and nobody takes it in
	withAlerter                  // an evaluator does
	withoutRules                 // there are no rules
)

// used are the definitions that processes get.
func (b *bed) used() string {
	if b.alerting == withoutRules {
		return b.silent
	}
	return b.streams
}

// settle is how long an evaluator gets, after all is folded, to take in what is left, at least; workers without rules get as long.
const settle = 3 * time.Second

// alerts is one run: what folding takes with rules and an evaluator, and without either.
type alerts struct {
	with, without *CPU // of all that folding takes, the coarser levels at the end too
	rate          [2]float64
	problems      []string
	decided       map[string]int // by rule
}

// alertsCost measures both in turn, each run another one first.
func (b *bed) alertsCost(ctx context.Context, number, events int) (*alerts, error) {
	a := &alerts{}
	order := []alerting{withAlerter, withoutRules}
	if number%2 == 0 {
		slices.Reverse(order)
	}
	defer func() { b.alerting = rulesOnly }()
	for _, b.alerting = range order {
		cpu, rate, err := b.alertsRun(ctx, events, a)
		if err != nil {
			return nil, err
		}
		if b.alerting == withAlerter {
			a.with, a.rate[0] = cpu, rate
		} else {
			a.without, a.rate[1] = cpu, rate
		}
	}
	return a, nil
}

func (b *bed) alertsRun(ctx context.Context, events int, a *alerts) (cpu *CPU, rate float64, err error) {
	database := b.database()
	if err := b.postgres.create(ctx, database, b.name); err != nil {
		return nil, 0, err
	}
	if err := errors.Join(b.postgres.checkpoint(ctx), b.hold(ctx, stream.FoldConsumer)); err != nil {
		return nil, 0, err
	}
	workers, end, err := b.measured(ctx, database, &Memory{})
	if err != nil {
		return nil, 0, err
	}
	defer end()
	all := workers
	if b.alerting == withAlerter {
		p, err := spawn("alerter", b.cfg.Program, filepath.Join(b.cfg.Dir, b.name, "alerter.log"), b.environment(database, b.streams), "alerter")
		if err != nil {
			return nil, 0, err
		}
		defer p.kill()
		if err := b.evaluating(ctx, database, p); err != nil {
			return nil, 0, err
		}
		all = append(slices.Clone(workers), p)
	}
	before, after, err := b.timed(ctx, stream.FoldConsumer, all)
	if err != nil {
		return nil, 0, err
	}
	rate = float64(events) / after.at.Sub(before.at).Seconds()
	if err := settled(ctx, all[len(all)-1]); err != nil {
		return nil, 0, err
	}
	if err := endAll(all); err != nil {
		return nil, 0, err
	}
	if after, err = b.look(ctx, nil, all); err != nil {
		return nil, 0, err
	}
	cpu, _ = after.since(before, events)
	problems, checked, err := b.check(ctx, database)
	if err != nil {
		return nil, 0, err
	}
	if levels := b.levels(); checked != levels {
		problems = append(problems, fmt.Sprintf("%d of %d levels were compared", checked, levels))
	}
	a.problems = append(a.problems, problems...)
	if b.alerting == withAlerter {
		if err := b.taken(ctx, database, a); err != nil {
			return nil, 0, err
		}
	}
	return cpu, rate, b.postgres.drop(ctx, database)
}

// settled waits until a process has nothing to do any more, which is after settle at the earliest.
func settled(ctx context.Context, p *process) error {
	const look, idle = 500 * time.Millisecond, 25 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	began, before, quiet := time.Now(), time.Duration(0), 0
	for quiet < 3 || time.Since(began) < settle {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		used, err := treeCPU(p.Pid())
		if err != nil {
			return err
		}
		if quiet++; used-before > idle {
			quiet = 0
		}
		if before = used; time.Since(began) > patience {
			return fmt.Errorf("%s is still busy %s after everything was folded", p.name, patience)
		}
	}
	return nil
}

// evaluating waits until the evaluator has all partitions: what it takes to start is not of any event.
func (b *bed) evaluating(ctx context.Context, database string, p *process) error {
	db, err := b.postgres.open(ctx, b.postgres.url(database))
	if err != nil {
		return err
	}
	defer db.Close()
	for began := time.Now(); ; {
		var free int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM weir.alert_partition WHERE owner = ''`).Scan(&free); err != nil || free == 0 {
			return err
		}
		if p.Err() != nil || time.Since(began) > patience {
			return p.failed()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// taken checks that the evaluator has taken in all evidence: else its cost would be too low.
func (b *bed) taken(ctx context.Context, database string, a *alerts) error {
	db, err := b.postgres.open(ctx, b.postgres.url(database))
	if err != nil {
		return err
	}
	defer db.Close()
	var left int
	var decided []byte
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM weir.alert_evidence),
		(SELECT coalesce(jsonb_object_agg(rule, n), '{}') FROM (SELECT rule, count(*) AS n FROM weir.alert WHERE scope = 'global' GROUP BY rule) x)`).Scan(&left, &decided)
	if err == nil && left > 0 {
		err = fmt.Errorf("the evaluator has left %d rows of evidence", left)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(decided, &a.decided)
}

// AlertsResult is what rules add to what the full pack takes: CPU of workers, evaluator, NATS and Postgres, the
// coarser levels at the end included.
type AlertsResult struct {
	With    *CPU    `json:"with_cpu_us_per_event"` // worker is workers and evaluator
	Without *CPU    `json:"without_cpu_us_per_event"`
	Added   float64 `json:"added"` // share: 0.1 is a tenth more
	Spread  Spread  `json:"added_spread"`
	// Rates are events/s with rules and evaluator, and without.
	Rates   [2]float64     `json:"events_per_s"`
	Decided map[string]int `json:"global_alerts"` // of the last run, by rule
	Exact   bool           `json:"exact"`
	Problem []string       `json:"problems,omitempty"`
}

func alertsResult(all []*alerts) *AlertsResult {
	if len(all) == 0 || all[0].with == nil {
		return nil
	}
	r := &AlertsResult{Exact: true}
	var added []float64
	for _, a := range all {
		added = append(added, a.with.sum()/a.without.sum()-1)
		r.Exact = r.Exact && len(a.problems) == 0
		r.Problem = append(r.Problem, a.problems...)
		r.Decided = a.decided
	}
	r.With, r.Without = medianCPU(each(all, func(a *alerts) *CPU { return a.with })), medianCPU(each(all, func(a *alerts) *CPU { return a.without }))
	r.Added, r.Spread = median(added), spreadOf(added)
	for i := range r.Rates {
		r.Rates[i] = median(each(all, func(a *alerts) float64 { return a.rate[i] }))
	}
	return r
}

// decided is how many global alerts there were.
func (r *AlertsResult) decided() (n int) {
	for _, of := range r.Decided {
		n += of
	}
	return n
}
