package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Report is the result of a run.
type Report struct {
	Plan   Plan           `json:"plan"`
	Checks []*Check       `json:"checks"`
	States map[string]int `json:"states"`
	// Missed are the interesting states that were reached too rarely: the run shows too little.
	Missed []string `json:"missed,omitempty"`
}

// Failed reports whether anything was wrong, too little trouble included.
func (r *Report) Failed() bool {
	for _, c := range r.Checks {
		if c.wrong() {
			return true
		}
	}
	return len(r.Missed) > 0 || len(r.Checks) < 3
}

// String is the last line.
func (r *Report) String() string {
	last := &Check{}
	lost, doubled := int64(0), int64(0)
	for _, c := range r.Checks {
		last, lost, doubled = c, max(lost, c.Lost()), max(doubled, c.Doubled())
	}
	reached := 0
	for _, n := range r.States {
		if n > 0 {
			reached++
		}
	}
	folded := int64(0)
	for _, l := range last.Lines {
		if l.Level == "years" && slices.Contains([]string{"ApiVersionPerAppAgg", "ApiFaultyInvocationAgg", "ApiThrottledOutAgg"}, l.Aggregation) {
			folded += l.Folded // these three have every event once
		}
	}
	return fmt.Sprintf("seed=%d events=%d folded=%d dead_letters=%d lost=%d doubled=%d states=%d",
		r.Plan.Seed, last.Events, folded, last.DeadLetters, lost, doubled, reached)
}

// run is a run on its way.
type run struct {
	cfg     Config
	plan    Plan
	site    *site
	history *history
	sources map[string]*source
	states  *states
	begin   time.Time
	report  *Report
}

const (
	drainLimit = 3 * time.Minute // from the last publish until everything is folded
	drainedFor = 5               // looks in a row
)

// Run runs the plan. The error is of the harness or of what could not be brought up again; what was lost or doubled is in
// the report.
func Run(ctx context.Context, cfg Config, plan Plan) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := makeDir(cfg.Dir); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, plan: plan, history: newHistory(), sources: map[string]*source{}, states: newStates(), begin: time.Now(), report: &Report{Plan: plan}}
	unmount, err := r.mountDisks()
	defer unmount()
	if err != nil {
		return nil, err
	}
	r.say("starting NATS (%s), Postgres, %d workers and %d alerters", plan.Topology, plan.Workers, alerters)
	if r.site, err = startSite(ctx, cfg, plan); err != nil {
		return nil, err
	}
	defer r.site.close()
	if err := r.phases(ctx); err != nil {
		return r.report, err
	}
	return r.report, nil
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.cfg.Out, "%6.1fs  %s\n", time.Since(r.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (r *run) phases(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go r.watch(watching)
	r.site.startRoles()
	if err := r.load(ctx); err != nil {
		return err
	}
	if err := r.drainAndCheck(ctx, "after the drain"); err != nil {
		return err
	}
	r.say("restarting everything")
	if err := r.site.restart(ctx); err != nil {
		return err
	}
	if err := r.drainAndCheck(ctx, "after a restart of everything"); err != nil {
		return err
	}
	r.say("replaying everything: the consumer is deleted and provisioned anew")
	r.site.stopRoles()
	if err := r.site.resetConsumer(ctx); err != nil {
		return err
	}
	r.site.startRoles()
	if err := r.drain(ctx); err != nil {
		return err
	}
	if c := r.site.consumer(ctx); c != nil {
		r.states.add("redelivered in the replay", int(c.Delivered.Stream)) //nolint:gosec // a count
	}
	if err := r.checkNow(ctx, "after a replay of everything"); err != nil {
		return err
	}
	return r.finish()
}

// load publishes while the faults go on, and heals.
func (r *run) load(ctx context.Context) error {
	origin := time.Now()
	var publishing sync.WaitGroup
	for i := range r.plan.Sources {
		gen := newGenerator(r.plan.Seed, i+1, origin.UnixMilli())
		url, err := r.site.natsLinks(gen.source)
		if err != nil {
			return err
		}
		s := &source{
			name: gen.source, url: url, gen: gen, history: r.history, links: r.site.links[gen.source+"-nats"],
			rate: r.plan.Rate / float64(r.plan.Sources), events: r.plan.Events / r.plan.Sources,
		}
		r.sources[s.name] = s
	}
	for _, s := range r.sources {
		publishing.Go(func() { s.run(ctx) })
	}
	progress, stop := context.WithCancel(ctx)
	defer stop()
	go r.progress(progress)
	err := r.faults(ctx, origin)
	r.say("healing everything")
	if err := errors.Join(err, r.site.heal(ctx)); err != nil {
		return err
	}
	publishing.Wait()
	return ctx.Err()
}

// faults makes the steps of the plan, each in its time, and returns when the last is healed or the load's time is over.
func (r *run) faults(ctx context.Context, origin time.Time) error {
	ctx, end := context.WithDeadline(ctx, origin.Add(r.plan.Length))
	defer end()
	var all sync.WaitGroup
	errs := make(chan error, len(r.plan.Steps))
	for _, step := range r.plan.Steps {
		all.Go(func() {
			r.await(ctx, origin, step)
			if ctx.Err() != nil {
				return
			}
			r.say("fault: %s %s for %.1fs", step.Fault, step.Target, step.For.Seconds())
			if err := r.inject(ctx, step); err != nil {
				errs <- fmt.Errorf("fault %s: %w", step.Fault, err)
			}
		})
	}
	all.Wait()
	pause(ctx, r.plan.Length) // to the deadline: the load goes on without faults
	close(errs)
	var failed error
	for err := range errs {
		failed = errors.Join(failed, err)
	}
	return failed
}

// await returns when the step is due: at the latest when there is just the time that it lasts, however slow the load is.
func (r *run) await(ctx context.Context, origin time.Time, s Step) {
	if s.AtEvents == 0 {
		pause(ctx, time.Until(origin.Add(s.At)))
		return
	}
	for latest := origin.Add(r.plan.Length - s.For); ctx.Err() == nil && time.Now().Before(latest); {
		if _, confirmed := r.history.counts(); confirmed >= s.AtEvents {
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// progress says every few seconds how far the load is.
func (r *run) progress(ctx context.Context) {
	const every = 5 * time.Second
	for pause(ctx, every); ctx.Err() == nil; pause(ctx, every) {
		attempted, confirmed := r.history.counts()
		r.say("published %d of %d events, acknowledged %d, messages in hand %d", attempted, r.plan.Events, confirmed, r.site.inHand(ctx))
	}
}

// drain returns when nothing is left to fold or to tell.
func (r *run) drain(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	last := "nothing is known"
	for calm := 0; calm < drainedFor; pause(limit, 200*time.Millisecond) {
		if limit.Err() != nil {
			return fmt.Errorf("not drained within %s: %s", drainLimit, last)
		}
		c := r.site.consumer(limit)
		var outbox int
		err := r.site.sql.QueryRowContext(limit, "SELECT count(*) FROM weir.alert_outbox").Scan(&outbox)
		switch {
		case c == nil || err != nil:
			calm = 0
		case c.NumPending > 0 || c.NumAckPending > 0 || outbox > 0:
			calm = 0
			last = fmt.Sprintf("%d messages wait, %d are in hand, %d alerts are not published", c.NumPending, c.NumAckPending, outbox)
		default:
			calm++
		}
	}
	return ctx.Err()
}

func (r *run) drainAndCheck(ctx context.Context, when string) error {
	if err := r.drain(ctx); err != nil {
		return err
	}
	return r.checkNow(ctx, when)
}

func (r *run) checkNow(ctx context.Context, when string) error {
	r.say("checking everything %s", when)
	c, err := r.site.check(ctx, r.history, when)
	if err != nil {
		return err
	}
	r.report.Checks = append(r.report.Checks, c)
	r.say("%s: %d events, %d dead letters, %d alerts, %d of all workers, of %d messages, %d of which came twice; lost=%d doubled=%d, %d problems",
		when, c.Events, c.DeadLetters, c.Alerts, c.Global, c.Messages, c.Again, c.Lost(), c.Doubled(), len(c.Problems))
	if c.Audit != "" {
		r.say("weir audit: %s", c.Audit)
	}
	for _, p := range c.Problems {
		r.say("  PROBLEM: %s", p)
	}
	if c.wrong() {
		return errors.New("what is stored is not what was published; the run ends here, with everything as it is")
	}
	return nil
}

// finish counts the states.
func (r *run) finish() error {
	if err := r.readLogs(); err != nil {
		return err
	}
	first := r.report.Checks[0]
	r.states.add("messages stored twice", first.Again)
	r.states.add("dead letters", first.DeadLetters)
	r.states.add("alerts relayed", first.Alerts)
	r.states.add("alerts over all workers", first.Global)
	r.states.add("publishes with an unknown outcome", r.history.trouble)
	r.states.add("Postgres restarts", r.site.db.starts-2) // but for the first start, and the restart of everything
	for _, w := range r.site.workers {
		r.states.add("workers that ended by themselves", w.ownEnds)
		r.states.add("workers that ended at a failpoint", w.failed)
	}
	for _, links := range r.site.links {
		for _, l := range links {
			met := l.metSoFar()
			r.states.add("connections cut", met.cuts)
			r.states.add("pieces swallowed by links", met.holes)
			r.states.add("pieces held back by links", met.slow)
		}
	}
	r.report.States = r.states.all()
	r.report.Missed = r.plan.missed(r.report.States)
	return nil
}

// Table is the result per aggregation and granularity, for people, and the states that were reached.
func (r *Report) Table() string {
	var b strings.Builder
	if len(r.Checks) > 0 {
		last := r.Checks[len(r.Checks)-1]
		fmt.Fprintf(&b, "%-24s %-8s %10s %10s %6s %8s\n", "aggregation", "level", "published", "folded", "lost", "doubled")
		for _, l := range last.Lines {
			fmt.Fprintf(&b, "%-24s %-8s %10d %10d %6d %8d\n", l.Aggregation, l.Level, l.Published, l.Folded, l.Lost, l.Doubled)
		}
	}
	least := r.Plan.least()
	b.WriteString("states reached:\n")
	for _, name := range slices.Sorted(maps.Keys(r.States)) {
		fmt.Fprintf(&b, "  %7d  %s", r.States[name], name)
		if least[name] > 0 {
			fmt.Fprintf(&b, " (at least %d)", least[name])
		}
		b.WriteString("\n")
	}
	for _, m := range r.Missed {
		fmt.Fprintf(&b, "TOO FEW %s\n", m)
	}
	return b.String()
}

// WriteJSON writes the report to a file.
func (r *Report) WriteJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}
