// Package demo is `weir demo`: everything at once, with simulated gateways,
// on a machine where nothing runs. At its end it checks itself.
package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/alert"
	"weir/pkg/gateway"
	"weir/services/config"
	"weir/services/local"
	"weir/services/signals"
	"weir/services/wire"
)

const (
	gateways     = 3
	workers      = 3
	drainTimeout = time.Minute
)

type options struct {
	length time.Duration
	rate   float64
	seed   uint64

	natsListen, postgresListen string
	notifiers                  string
}

// Command is `weir demo`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See Weir work: simulated gateways, three workers, live figures",
		Long: `Start NATS, a private Postgres, three simulated gateways, three workers with a shard each and the HTTP API in one
process, and show what happens. All events are made up and labelled as generated. Ctrl-C ends it: the gateways stop, the
workers finish, and every count in the database is compared with what was published. The last line has the result;
the exit code is 3 if an event was lost or counted twice. Nothing is left behind, but for the events in a database that
was given with --postgres. Others may publish at the same NATS, or use the same database, meanwhile: only what the
demo's own gateways have published is checked. A second Ctrl-C ends it without the check.`,
		Example: `  weir demo
  weir demo --for 20s --rate 2000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	config.Flags(cmd, config.Embedded, config.Definitions)
	f := cmd.Flags()
	f.DurationVar(&o.length, "for", 0, "end after this `time`, such as 20s; by default with Ctrl-C")
	f.Float64Var(&o.rate, "rate", 600, "`events` a second of all gateways together")
	f.StringVar(&o.natsListen, "nats-listen", "", "`address` NATS listens at, host:port; by default a free port of this machine")
	f.StringVar(&o.postgresListen, "postgres-listen", "", "`address` Postgres listens at, host:port; by default a free port of this machine")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the made up traffic")
	f.StringVar(&o.notifiers, "notify", "", "tell the notifiers of this YAML `file` of alerts, which are of made up events")
	return cmd
}

func run(cmd *cobra.Command, o options) (err error) {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	if err := o.check(cmd.Flags().Changed("for")); err != nil {
		return err
	}
	if !cmd.Flags().Changed("log-level") {
		cfg.Log.Level = "warn" // the live figures are what there is to see
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	notifiers, err := wire.Notifiers(catalog, o.notifiers) // which may name a rule that is left out below
	if err != nil {
		return err
	}
	catalog.Rules = slices.DeleteFunc(catalog.Rules, noOrder)
	if err := checkable(catalog); err != nil {
		return err
	}
	dir, remove, err := makeDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	hurry, done := signals.Second(cmd.Context())
	defer done()
	out := cmd.OutOrStdout()
	run := newRun()
	_, _ = fmt.Fprintln(out, "Starting NATS, Postgres, 3 workers and the HTTP API …")
	plan := &counter{}
	settings := local.Options{
		Role: "demo", Dir: dir, Workers: workers, NATSListen: o.natsListen, PostgresListen: o.postgresListen,
		Catalog: catalog, Notifiers: notifiers, Settings: cfg, Plan: plan, Log: config.Logger(cfg),
	}
	if cfg.Postgres.URL != "" {
		settings.ShardPrefix = "demo-" + run + "-" // the database may be that of another demo, or of `weir up`
	}
	instance, err := local.Start(cmd.Context(), settings)
	if err != nil && cmd.Context().Err() != nil {
		return errors.New("ended before everything was up: nothing was checked")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, instance.Close()) }()
	defer instance.Announce()()

	d := &demo{options: o, instance: instance, catalog: instance.Catalog, view: newView(out, instance, plan.lines)}
	for n := range gateways {
		d.sources = append(d.sources, fmt.Sprintf("gw-%d-%s", n+1, run))
	}
	return d.run(cmd.Context(), hurry)
}

// newRun is a name for one run, which no other has: four bytes by chance.
func newRun() string { return fmt.Sprintf("%08x", rand.Uint32()) }

func (o options) check(lengthGiven bool) error {
	var problems config.Problems
	if o.rate <= 0 || o.rate > 1_000_000 {
		problems = append(problems, fmt.Sprintf("--rate: %v should be above 0, up to 1000000", o.rate))
	}
	if lengthGiven && o.length <= 0 {
		problems = append(problems, fmt.Sprintf("--for: %s should be above 0; leave it out to end with Ctrl-C", o.length))
	}
	problems = append(problems, local.CheckListen("--nats-listen", o.natsListen)...)
	problems = append(problems, local.CheckListen("--postgres-listen", o.postgresListen)...)
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// counter counts the lines of the plan.
type counter struct{ lines int }

func (c *counter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			c.lines++
		}
	}
	return len(p), nil
}

// traffic publishes as the simulated gateways until ctx ends, and returns
// once the stream has all of it, or hurry ends.
func (d *demo) traffic(ctx, hurry context.Context) error {
	errs := make(chan error, gateways)
	for n, source := range d.sources {
		publisher, err := gateway.NewPublisher(d.instance.Conn, gateway.PublisherConfig{Source: source})
		if err != nil {
			return err
		}
		simulator := gateway.NewSimulator(gateway.SimulatorConfig{
			Source: source, Rate: d.options.rate / gateways, Seed: d.options.seed + uint64(n), Record: true,
		})
		d.simulators, d.publishers = append(d.simulators, simulator), append(d.publishers, publisher)
	}
	d.instance.Metrics.MustRegister(gateway.Publishers(d.publishers))
	for n := range gateways {
		go func() {
			err := d.simulators[n].Run(ctx, d.publishers[n])
			last, cancel := context.WithTimeout(hurry, drainTimeout)
			defer cancel()
			errs <- errors.Join(err, d.publishers[n].Close(last))
		}()
	}
	d.view.watch(d.publishers)
	var all error
	for range gateways {
		all = errors.Join(all, <-errs)
	}
	return all
}

// noOrder reports whether a rule is one of the order of calls: simulated users call at random, so that nearly each of
// their steps would be abnormal, and nothing else would be seen.
func noOrder(r *alert.Rule) bool { return r.Type == alert.Transition }
