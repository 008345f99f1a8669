// Package top is `weir top`: what APIs, workers and the stream do right now, on the terminal.
package top

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/terminal"
)

type options struct {
	every, window time.Duration
	once          bool
	sort, filter  string
}

// Command is `weir top`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch APIs, workers and the stream as they are right now",
		Long: `Show the APIs that have calls now, and the shards of the workers, again and again: of each API the calls a second, the
share of errors (response codes from 500 on, and faults in the gateway) and of codes from 400 to 499, percentiles of the
response time, and the calls a second that were throttled out, all of the last --window. Of each shard the events a second, how
long ago its last flush was, and how many coarser levels do not have it yet. At the top: up to which time all that the
stream holds is counted. While workers are behind, the window ends there.

Keys: left and right, or s, choose the column to sort by, r turns the order round; / filters by name and version (Enter
keeps, Escape drops the filter); up, down, PgUp and PgDn scroll; p pauses; q ends.

The percentiles are those of an aggregation of the definitions that has p50, p95 or p99 of responseTime by apiName and
apiVersion; without one there are none. The other figures are those of ApiErrorAnalysisAgg.

With --once, and where standard input or output is no terminal, it prints one plain table, and ends; the events a second of
shards are of one second then.`,
		Example: `  weir top
  weir top --sort p99 --filter pizza
  weir top --once --window 15m --sort errors
  weir top --http http://weir.example:8080 --every 5s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.every, "every", 2*time.Second, "ask this `often`")
	f.DurationVar(&o.window, "window", 10*time.Second, "show calls of this `time`, up to 24h")
	f.BoolVar(&o.once, "once", false, "print one plain table, and end")
	f.StringVar(&o.sort, "sort", "calls/s", "the `column` to sort by: "+strings.Join(columnNames(), ", "))
	f.StringVar(&o.filter, "filter", "", "show only APIs with this `text` in their name or version")
	config.Flags(cmd, config.API)
	complete.Words(cmd, "sort", columnNames()...)
	return cmd
}

func (o options) check() error {
	var problems config.Problems
	if o.every < 200*time.Millisecond || o.every > time.Hour {
		problems = append(problems, fmt.Sprintf("--every: %s should be 200ms to 1h", o.every))
	}
	if o.window < time.Second || o.window > 24*time.Hour {
		problems = append(problems, fmt.Sprintf("--window: %s should be 1s to 24h", o.window))
	}
	if !slices.Contains(columnNames(), o.sort) {
		problems = append(problems, fmt.Sprintf("--sort: there is no column %q; there are: %s", o.sort, strings.Join(columnNames(), ", ")))
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

func run(cmd *cobra.Command, o options) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	probe := newProbe(&query.Client{URL: string(cfg.HTTP.URL)}, o.window)
	v := view{url: config.Redact(string(cfg.HTTP.URL)), filter: o.filter, sort: slices.Index(columnNames(), o.sort)}
	in, inIsFile := cmd.InOrStdin().(*os.File)
	_, _, inIsTerminal := terminal.Size(in)
	_, _, outIsTerminal := terminal.Size(cmd.OutOrStdout())
	if o.once || !inIsFile || !inIsTerminal || !outIsTerminal {
		return once(cmd, probe, v)
	}
	return watch(cmd.Context(), in, cmd.OutOrStdout().(*os.File), probe, v, o.every)
}

// once prints a plain table. It asks twice, because a rate takes two looks.
func once(cmd *cobra.Command, probe *probe, v view) error {
	ctx := cmd.Context()
	if _, err := probe.ask(ctx, time.Now()); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	now := time.Now()
	sample, err := probe.ask(ctx, now)
	if err != nil {
		return err
	}
	v.sample = sample
	return v.print(cmd.OutOrStdout(), now)
}

// pause waits.
func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
