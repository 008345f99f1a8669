package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"weir/pkg/alert"
	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/local"
)

// view shows the running demo: on a terminal a line that is redrawn, with
// alerts scrolling above it; elsewhere a line every two seconds.
type view struct {
	out      io.Writer
	terminal bool
	instance *local.Instance
	watching chan struct{} // closed once publishers is set
	started  time.Time

	mu         sync.Mutex // guards what follows, and out
	publishers []*gateway.Publisher
	line       string // the figures now on the screen
	raised     int
}

func newView(out io.Writer, instance *local.Instance, steps int) *view {
	v := &view{out: out, instance: instance, watching: make(chan struct{}), started: time.Now()}
	if f, ok := out.(*os.File); ok {
		v.terminal = term.IsTerminal(int(f.Fd()))
	}
	_, _ = fmt.Fprintf(out, `
  Weir runs: 3 simulated gateways → NATS JetStream → 3 workers, a shard each → Postgres   (%d things provisioned)

    HTTP API   %s/api/v1/aggregations
    NATS       %s
    Postgres   %s

  In another terminal:  go run ./services/weir query ApiVersionPerAppAgg --last 1h --per minutes --group-by apiName --select "apiName,sum(totalRequestCount)"
  All events are generated. Ctrl-C ends the demo and checks every count.

`, steps, instance.HTTPURL, instance.NATSURL, instance.PostgresURL)
	return v
}

// watch tells whose figures to show.
func (v *view) watch(publishers []*gateway.Publisher) {
	v.mu.Lock()
	v.publishers = publishers
	v.mu.Unlock()
	close(v.watching)
}

// run redraws the figures until ctx ends.
func (v *view) run(ctx context.Context) error {
	every := 2 * time.Second
	if v.terminal {
		every = 500 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last figures
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := v.figures(ctx)
		if err != nil {
			continue // ctx ended, or a server is away for a moment
		}
		v.draw(now.line(last))
		last = now
	}
}

// figures are what is shown at one moment.
type figures struct {
	at                time.Time
	published, folded int64
	dead              int64
	waiting           uint64
	through           time.Time
	raised            int
	running           time.Duration
}

func (v *view) figures(ctx context.Context) (figures, error) {
	f := figures{at: time.Now(), running: time.Since(v.started)}
	v.mu.Lock()
	f.raised = v.raised
	for _, p := range v.publishers {
		f.published += int64(p.Stats().Acknowledged)
	}
	v.mu.Unlock()
	state, err := v.instance.Conn.State(ctx)
	if err != nil {
		return f, err
	}
	f.waiting, f.through = state.Behind, state.CompleteThrough
	shards, err := v.instance.DB.Shards(ctx)
	for _, s := range shards {
		f.folded += s.Events
		f.dead += s.DeadLetters
	}
	return f, err
}

func (f figures) line(last figures) string {
	rate := 0.0
	if !last.at.IsZero() {
		rate = float64(f.folded-last.folded) / f.at.Sub(last.at).Seconds()
	}
	return fmt.Sprintf("  %6s  published %d  folded %d  %.0f events/s  waiting %d messages  complete through %s  alerts %d  dead letters %d",
		f.running.Round(time.Second), f.published, f.folded, rate, f.waiting, f.through.UTC().Format("15:04:05.0"), f.raised, f.dead)
}

func (v *view) draw(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.terminal {
		_, _ = fmt.Fprintln(v.out, line)
		return
	}
	v.line = line
	_, _ = fmt.Fprint(v.out, "\r\x1b[2K"+fit(v.out, line))
}

// fit cuts the line to the width of the terminal: a wrapped line could not be
// redrawn.
func fit(out io.Writer, line string) string {
	f, ok := out.(*os.File)
	if !ok {
		return line
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if runes := []rune(line); err == nil && width > 1 && len(runes) >= width {
		return string(runes[:width-1])
	}
	return line
}

// alerts prints every alert as it is published, until ctx ends.
func (v *view) alerts(ctx context.Context) error {
	return v.instance.Conn.SubscribeAlerts(ctx, stream.AlertFilter{Since: v.started}, func(m stream.AlertMessage) {
		var a alert.Alert
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return // not one of ours: anyone may publish on the demo's NATS
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.raised++
		text := fmt.Sprintf("  ALERT   %s %s [%s, shard %s, severity %d]: %s", a.FiredAt.Format("15:04:05"), a.Rule, a.Scope, a.ShardID, a.Severity, printable(a.Message))
		if v.terminal {
			_, _ = fmt.Fprint(v.out, "\r\x1b[2K"+text+"\n"+fit(v.out, v.line))
			return
		}
		_, _ = fmt.Fprintln(v.out, text)
	})
}

// printable keeps what events say from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, text)
}

// finish prints the result; its last line is for programs.
func (v *view) finish(r report) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.terminal {
		_, _ = fmt.Fprintln(v.out)
	}
	for _, problem := range r.problems {
		_, _ = fmt.Fprintln(v.out, "  WRONG  ", problem)
	}
	_, _ = fmt.Fprintln(v.out, "\n  Every count in the database was compared with what the gateways published:")
	_, _ = fmt.Fprintln(v.out, r)
}
