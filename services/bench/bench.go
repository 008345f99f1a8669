// Package bench is `weir bench`: what Weir folds on this machine, next to what JetStream alone delivers.
package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/bench"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/progress"
	"weir/services/wire"
)

type options struct {
	bench.Config
	jsonFile   string
	noProgress bool
}

// Command is `weir bench`.
func Command() *cobra.Command {
	o := options{Config: bench.Default()}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what Weir folds on this machine, next to a bare consumer",
		Long: `Start NATS, a private Postgres and workers as processes of their own in a temporary directory, fill a stream with made up
events, and measure on it, in turn and --runs times:

  bare             a consumer that acknowledges each message and does nothing else
  full-pack        workers with the definitions of WSO2: twelve aggregations of six granularities, and the evidence for
                   alerts, which nobody takes in
  alerts           workers and an evaluator with the built-in definitions, and workers without rules: what alerts add; only if it is named
  questions        workers with the built-in definitions while --questions questions are under way at the HTTP API, and while
                   none are: how long answers take, and by how much they slow folding; only if it is named
  one-aggregation  workers with one aggregation of four granularities, 200 groups, 2 % of the events late; on a stream of its own
  live             workers with the built-in definitions while events are published, at half the rate of full-pack: how long
                   an event takes from the call of Publish until an answer has it

It prints events/s, the ratio to the bare consumer of the same run, CPU µs per event by process, WAL and rows per event, peak
memory; medians of the runs. After each measurement every aggregation at every granularity is compared with what was published; the exit code is 3
if anything differs. fsync and synchronous_commit are on. Events are made and published before the time is taken.

Everything that it has started is ended and removed at the end, also after Ctrl-C. Batch sizes and the like are the
settings of the roles, from --config and the environment (WEIR_WORKER_BATCH_MESSAGES, …).`,
		Example: `  weir bench
  weir bench --batch 1 --events 300000 --runs 5 --json bench.json
  weir bench --workers 4 --cardinality 10 --measure bare,full-pack
  weir bench --history 50000000 --measure bare,full-pack
  weir bench --measure questions --events 3000000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.flags(cmd)
	config.Flags(cmd)
	cmd.AddCommand(natsCommand(), bareCommand())
	return cmd
}

func (o *options) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.Events, "events", o.Events, "`number` of events of each run")
	f.IntVar(&o.Batch, "batch", o.Batch, "`number` of events in a message")
	f.IntVar(&o.EventSize, "event-size", o.EventSize, "`bytes` of an event, at least: it has more attributes then, and filler")
	f.IntVar(&o.Workers, "workers", o.Workers, "`number` of worker processes")
	f.IntVar(&o.Runs, "runs", o.Runs, "`number` of runs")
	f.Float64Var(&o.Cardinality, "cardinality", o.Cardinality, "`factor` of the number of APIs, applications, users and addresses: 1 is 100, 50, 5,000 and 60,000")
	f.Float64Var(&o.Skew, "skew", o.Skew, "`exponent` of Zipf's law by which they are drawn; 0 is evenly")
	f.Float64Var(&o.Late, "late", o.Late, "`share` of events that are up to 10 minutes late; by default 0, and 0.02 for one-aggregation")
	f.IntVar(&o.History, "history", o.History, "`number` of events that are folded before the first run")
	f.StringSliceVar(&o.Measure, "measure", o.Measure, "what to measure, `names` separated by commas")
	complete.Words(cmd, "measure", bench.Measurements()...)
	f.DurationVar(&o.LiveFor, "live", o.LiveFor, "`time` of a live run; 3 s to warm up come on top")
	f.Float64Var(&o.LiveRate, "live-rate", o.LiveRate, "`events` a second of live runs; by default half of what full-pack has reached")
	f.IntVar(&o.Questions, "questions", o.Questions, "`number` of questions under way at a time")
	f.BoolVar(&o.SyncAlways, "sync-always", o.SyncAlways, "let NATS write each message to its disk before it acknowledges it, as weir up does")
	progress.Flag(cmd, &o.noProgress)
	f.StringVar(&o.jsonFile, "json", "", "write the report to this `file`, as one JSON object; docs/performance.md has its keys and units")
}

func (o *options) run(cmd *cobra.Command) (err error) {
	problems := config.Problems(o.Problems())
	if cmd.Flags().Changed("late") && o.Late < 0 {
		problems = append(problems, fmt.Sprintf("--late must be from 0 to 1, the share of late events, it is %g", o.Late))
	}
	if len(problems) > 0 {
		return problems
	}
	settings, err := config.Load(cmd)
	if err != nil {
		return err
	}
	// As large as a stream needs to be here; nothing else uses it.
	settings.Stream.MaxBytes, settings.Stream.Replicas = 0, 1
	o.Provision, o.Worker = wire.Provision(settings), workerSettings(settings)
	if o.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if o.Dir, err = os.MkdirTemp("", "weir-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	began := time.Now()
	bar := progress.New(cmd.ErrOrStderr(), o.noProgress, 0)
	o.Out = lines{bar, began}
	done := int64(0)
	o.Step = func(steps int) {
		done++
		bar.Set(done, int64(steps))
	}
	bar.Start()
	report, err := bench.Run(cmd.Context(), o.Config)
	bar.Finish()
	if err != nil {
		if cmd.Context().Err() != nil {
			return interrupted{}
		}
		return err
	}
	_, _ = fmt.Fprint(cmd.OutOrStdout(), report.Table())
	if o.jsonFile != "" {
		if err := report.WriteJSON(o.jsonFile); err != nil {
			return err
		}
	}
	if !report.Exact() {
		return inexact{}
	}
	return nil
}

// workerSettings is the environment of workers with the settings of this command.
func workerSettings(c config.Config) []string {
	return []string{
		fmt.Sprintf("WEIR_WORKER_BATCH_MESSAGES=%d", c.Worker.BatchMessages),
		fmt.Sprintf("WEIR_WORKER_BATCH_BYTES=%d", c.Worker.BatchBytes),
		fmt.Sprintf("WEIR_WORKER_MEMORY=%d", c.Worker.Memory),
		fmt.Sprintf("WEIR_WORKER_LINGER=%s", c.Worker.Linger),
		fmt.Sprintf("WEIR_STREAM_ACK_WAIT=%s", c.Stream.AckWait),
		fmt.Sprintf("WEIR_LOG_LEVEL=%s", c.Log.Level),
	}
}

// lines prints lines to standard error, with the time since the start.
type lines struct {
	out   io.Writer
	began time.Time
}

func (p lines) Write(line []byte) (int, error) {
	_, _ = fmt.Fprintf(p.out, "%6.1f s  %s\n", time.Since(p.began).Seconds(), strings.TrimSpace(string(line)))
	return len(line), nil
}

// inexact is a measurement that does not count.
type inexact struct{}

func (inexact) Error() string { return "bench: not every event was counted exactly once; see above" }

// ExitCode is that of a check that did not hold.
func (inexact) ExitCode() int { return 3 }

// interrupted is the end of a run that somebody did not want to wait for.
type interrupted struct{}

func (interrupted) Error() string { return "bench: stopped before there was a result" }
