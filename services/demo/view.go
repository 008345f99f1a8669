package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/pkg/alert"
	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/local"
)

// view shows the running demo: on a terminal a few lines that are redrawn in
// place, with alerts scrolling above them; elsewhere a line every two seconds.
type view struct {
	screen   *screen
	instance *local.Instance
	opened   time.Time     // alerts from then on are shown
	watching chan struct{} // closed once publishers is set

	mu         sync.Mutex // guards what follows
	started    time.Time  // of the traffic
	publishers []*gateway.Publisher
	raised     int
}

func newView(out io.Writer, instance *local.Instance, steps int) *view {
	now := time.Now()
	v := &view{screen: newScreen(out), instance: instance, opened: now, watching: make(chan struct{}), started: now}
	v.screen.print(fmt.Sprintf(`
  Weir runs: 3 simulated gateways → NATS JetStream → 3 workers, each with a
  shard of its own → Postgres (%d things provisioned)

    HTTP API   %s/api/v1/aggregations
    NATS       %s
    Postgres   %s

  In another terminal:

    go run ./services/weir query ApiVersionPerAppAgg --last 1h --per minutes \
      --group-by apiName --select "apiName,sum(totalRequestCount)"

  An alert is told twice: at once by a worker (local), of its share of the
  traffic, and some seconds later over all workers (global), once.

  All events are generated, and not kept through a power cut (weir up does
  that). Ctrl-C ends the demo and checks every count.
`, steps, instance.HTTPURL, instance.NATSURL, instance.PostgresURL))
	return v
}

// watch tells whose figures to show.
func (v *view) watch(publishers []*gateway.Publisher) {
	v.mu.Lock()
	v.publishers, v.started = publishers, time.Now()
	v.mu.Unlock()
	close(v.watching)
}

const (
	drawOnTerminal = 500 * time.Millisecond
	drawElsewhere  = 2 * time.Second
	rateOver       = 2 * time.Second // events/s are those of this time
	lastFigures    = time.Second     // the last figures may take this long
)

// run redraws the figures until ctx ends, and then once more.
func (v *view) run(ctx context.Context) error {
	every := drawElsewhere
	if v.screen.terminal != nil {
		every = drawOnTerminal
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	v.mu.Lock()
	past := []figures{{at: v.started}} // the oldest first
	v.mu.Unlock()
	for ctx.Err() == nil {
		asking, cancel := ctx, context.CancelFunc(func() {})
		select {
		case <-tick.C:
		case <-ctx.Done():
			asking, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastFigures)
		}
		now, err := v.figures(asking)
		cancel()
		if err != nil {
			continue // a server is away for a moment
		}
		for len(past) > 1 && now.at.Sub(past[1].at) >= rateOver {
			past = past[1:]
		}
		now.rate = float64(now.folded-past[0].folded) / now.at.Sub(past[0].at).Seconds()
		v.screen.show(now)
		past = append(past, now)
	}
	return nil
}

// figures are what is shown at one moment.
type figures struct {
	at                time.Time
	running           time.Duration
	published, folded int64
	rate              float64 // events folded in a second
	lag               time.Duration
	waiting           uint64 // messages
	raised            int    // alerts
	dead              int64
}

func (v *view) figures(ctx context.Context) (figures, error) {
	var f figures
	v.mu.Lock()
	f.raised, f.running = v.raised, time.Since(v.started)
	for _, p := range v.publishers {
		f.published += int64(p.Stats().Acknowledged)
	}
	v.mu.Unlock()
	state, err := v.instance.Conn.State(ctx)
	if err != nil {
		return f, err
	}
	f.at = time.Now()
	f.waiting, f.lag = state.Behind, max(0, f.at.Sub(state.CompleteThrough))
	shards, err := v.instance.DB.Shards(ctx)
	for _, s := range shards {
		if slices.Contains(v.instance.Shards, s.ShardID) {
			f.folded += s.Events
			f.dead += s.DeadLetters
		}
	}
	return f, err
}

// block is the figures as an empty line and others of 72 characters, while the
// numbers have no more than nine digits.
func (f figures) block() []string {
	line := func(cells ...any) string {
		return fmt.Sprintf("  %-11s %9v    %-12s %9v    %-8s %9v", cells...)
	}
	return []string{
		"",
		line("published", f.published, "folded", f.folded, "events/s", fmt.Sprintf("%.0f", f.rate)),
		line("waiting", f.waiting, "lag", short(f.lag), "running", f.running.Round(time.Second)),
		strings.TrimRight(line("alerts", f.raised, "dead letters", f.dead, "", ""), " "),
	}
}

// line is the figures on one line.
func (f figures) line() string {
	return fmt.Sprintf("  %5s  published %d  folded %d  %.0f events/s  lag %s  waiting %d  alerts %d  dead letters %d",
		f.running.Round(time.Second), f.published, f.folded, f.rate, short(f.lag), f.waiting, f.raised, f.dead)
}

// short writes a lag: 0.3s, 12.0s, 2m5s.
func short(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// alerts prints every alert as it is published, until ctx ends.
func (v *view) alerts(ctx context.Context) error {
	return v.instance.Conn.SubscribeAlerts(ctx, stream.AlertFilter{Since: v.opened}, func(m stream.AlertMessage) {
		var a alert.Alert
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return // not one of ours: anyone may publish on the demo's NATS
		}
		v.mu.Lock()
		v.raised++
		v.mu.Unlock()
		v.screen.scroll(line(&a))
	})
}

// line is an alert as a line: whose traffic it was decided on, and when it fired or was resolved.
func line(a *alert.Alert) string {
	what, at, of := "ALERT   ", a.FiredAt, "all workers"
	if a.State == alert.Resolved {
		what, at = "RESOLVED", a.ResolvedAt
	}
	if a.Scope == alert.ScopeLocal {
		of = "shard " + a.ShardID
	}
	return fmt.Sprintf("%s %s %s [%s, %s, severity %d]: %s", what, at.Format("15:04:05"), a.Rule, a.Scope, of, a.Severity, a.Message)
}

// finish prints the result; its last line is for programs.
func (v *view) finish(r *report, audit string) {
	for _, problem := range r.problems {
		v.screen.print("  WRONG   " + problem)
	}
	v.screen.print("\n  Every count in the database was compared with what the gateways published:")
	if r.skipped > 0 {
		v.screen.print(fmt.Sprintf("  (but for %d totals that count the events of other gateways too)", r.skipped))
	}
	v.screen.print("  The audit: " + audit + ".\n")
	v.screen.print(r.String())
}
