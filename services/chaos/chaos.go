// Package chaos is `weir chaos`: it runs Weir in processes of its own, breaks them, and proves that each event was counted
// once all the same.
package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/chaos"
	"weir/services/config"
)

type options struct {
	seed     uint64
	length   time.Duration
	hours    float64
	topology string
	faults   []string
	events   int
	rate     float64
	workers  int
	keep     string
	jsonFile string
	planOnly bool
}

// Command is `weir chaos`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Break Weir in every way a seed draws, and prove that each event was counted once",
		Long: `Start NATS, Postgres and workers as processes of their own, with a proxy on every link between them, publish made up
events, and break everything meanwhile: by a plan that the seed alone decides, and that is printed first. Then all is healed and
drained, and everything stored is compared with what was published: every aggregation at every granularity, dead letters, the
ledger, alerts. It is compared again after everything was restarted, and again after the whole stream was delivered once more.
The last line has the result. The exit code is 3 if anything was lost, doubled or wrong, or if too few of the interesting
states were reached for the run to show anything; then the directory of the run is kept.

Faults, for --faults; all is what the topology and the rights of the user allow:
` + chaos.FaultHelp(),
		Example: `  weir chaos --seed 7 --for 60s
  weir chaos --seed 7 --topology r3 --faults leader-kill,worker-kill
  weir chaos --events 200000 --faults worker-kill,nats-kill,postgres-restart
  weir chaos --hours 8 --keep /var/tmp/chaos`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	f := cmd.Flags()
	f.Uint64Var(&o.seed, "seed", 1, "`number` that decides load and faults")
	f.DurationVar(&o.length, "for", 45*time.Second, "`time` of the load and the faults; draining and checking come on top")
	f.Float64Var(&o.hours, "hours", 0, "run seed after seed for so many `hours`, both topologies in turn, until one fails")
	f.StringVar(&o.topology, "topology", chaos.R1, "r1 is one NATS server, r3 three with every message on each")
	f.StringSliceVar(&o.faults, "faults", []string{"all"}, "`names` of faults, separated by commas; all, none")
	f.IntVar(&o.events, "events", 0, "`number` of events to be published; by default --rate for the time")
	f.Float64Var(&o.rate, "rate", 0, "`events` a second of all sources together; by default 2000, or what --events needs")
	f.IntVar(&o.workers, "workers", 3, "`number` of workers")
	f.StringVar(&o.keep, "keep", "", "keep data, logs and report in this `directory`; by default only after a failure, in a temporary one")
	f.StringVar(&o.jsonFile, "json", "", "write plan and report to this `file`")
	f.BoolVar(&o.planOnly, "plan", false, "only print the plan")
	cmd.AddCommand(nodeCommand())
	return cmd
}

func run(cmd *cobra.Command, o options) error {
	if again, err := inOwnMounts(cmd, o.faults); again {
		return err
	}
	if o.hours <= 0 {
		return o.one(cmd)
	}
	end := time.Now().Add(time.Duration(o.hours * float64(time.Hour)))
	for runs := 1; time.Now().Before(end) && cmd.Context().Err() == nil; runs++ {
		o.topology = []string{chaos.R1, chaos.R3}[o.seed%2]
		if err := o.one(cmd); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%d runs without a failure\n", runs)
		o.seed++
	}
	return nil
}

// one runs one seed.
func (o options) one(cmd *cobra.Command) (err error) {
	out := cmd.OutOrStdout()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cfg := chaos.Config{
		Program: program, Out: out, Seed: o.seed, Topology: o.topology, Length: o.length, Events: o.events, Rate: o.rate,
		Workers: o.workers, Faults: o.faults, CanMount: ownMounts(), Audit: has(cmd.Root(), "audit"), Failpoints: failpoints,
	}
	plan, err := chaos.NewPlan(cfg)
	if err != nil {
		return config.Problems{err.Error()}
	}
	_, _ = fmt.Fprint(out, plan)
	if slices.Contains(o.faults, "all") && !cfg.CanMount {
		_, _ = fmt.Fprintln(out, "disk-full is left out: only root on Linux can mount the small file systems that it takes")
	}
	if o.planOnly {
		return o.write(&chaos.Report{Plan: plan}, "")
	}
	if cfg.Dir, err = o.directory(); err != nil {
		return err
	}
	if err := o.write(&chaos.Report{Plan: plan}, cfg.Dir); err != nil {
		return err
	}
	report, err := chaos.Run(cmd.Context(), cfg, plan)
	if report != nil {
		_, _ = fmt.Fprint(out, report.Table())
		err = errors.Join(err, o.write(report, cfg.Dir))
	}
	if err == nil && !report.Failed() {
		_, _ = fmt.Fprintln(out, report)
		if o.keep == "" {
			return os.RemoveAll(cfg.Dir)
		}
		return nil
	}
	_, _ = fmt.Fprintf(out, "FAILED; logs, data and report are in %s\nagain: %s\n", cfg.Dir, o.command())
	if report != nil {
		_, _ = fmt.Fprintln(out, report)
	}
	return failure{err}
}

// directory is a new one for a run.
func (o options) directory() (string, error) {
	if o.keep == "" {
		return os.MkdirTemp("", "weir-chaos-")
	}
	dir, err := filepath.Abs(filepath.Join(o.keep, fmt.Sprintf("seed-%d-%s", o.seed, o.topology)))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return "", fmt.Errorf("%s is there already, from another run: remove it, or give another --keep", dir)
	}
	return dir, os.MkdirAll(dir, 0o711) //nolint:gosec // Postgres, which never runs as root, passes through
}

// write writes the report to where it was asked for, and into the directory of the run.
func (o options) write(report *chaos.Report, dir string) error {
	var failed error
	if o.jsonFile != "" {
		failed = report.WriteJSON(o.jsonFile)
	}
	if dir != "" {
		failed = errors.Join(failed, report.WriteJSON(filepath.Join(dir, "report.json")))
	}
	return failed
}

// command runs the same plan again.
func (o options) command() string {
	name, err := os.Executable() // this build: another may lack the failpoints
	if err != nil {
		name = "weir"
	}
	parts := []string{name + " chaos", fmt.Sprintf("--seed %d --for %s --topology %s --workers %d", o.seed, o.length, o.topology, o.workers)}
	parts = append(parts, "--faults "+strings.Join(o.faults, ","))
	if o.events > 0 {
		parts = append(parts, fmt.Sprintf("--events %d", o.events))
	}
	if o.rate > 0 {
		parts = append(parts, fmt.Sprintf("--rate %g", o.rate))
	}
	return strings.Join(parts, " ")
}

// has reports whether weir has the command.
func has(root *cobra.Command, name string) bool {
	return slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
}

// failure is a run that did not end well.
type failure struct{ cause error }

func (f failure) Error() string {
	if f.cause != nil {
		return "chaos: " + f.cause.Error()
	}
	return "chaos: not every event was counted exactly once, or too little was shown; see above"
}

func (f failure) Unwrap() error { return f.cause }

// ExitCode is that of a check that did not hold.
func (failure) ExitCode() int { return 3 }
