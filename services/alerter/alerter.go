// Package alerter is `weir alerter`: the role that decides the alerts that are right
// whatever the number of workers.
package alerter

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"weir/pkg/evaluator"
	"weir/pkg/notify"
	"weir/services/config"
	"weir/services/health"
	"weir/services/metrics"
	"weir/services/wire"
)

// Command is `weir alerter`.
func Command() *cobra.Command {
	grace := evaluator.DefaultGrace
	var notifiers string
	cmd := &cobra.Command{
		Use:   "alerter",
		Short: "Decide alerts over the traffic of all workers",
		Long: `Take in what the workers commit of each batch for the rules, and decide, in event time, once all that happened before is
folded: the same alerts, each once, with any number of workers. They are published on alerts.global.<rule>, when they fire and when they are
resolved. Any number may run: the keys of the rules are shared among them in 8 partitions, and the others take over what one leaves
or dies with.

Events that are published later than --grace after they happened are late: they correct what was decided, for an hour.

With --notify it also tells Alertmanager, webhooks and mailboxes, as the file says (docs/notifications.md); "weir alerts test" tries them out.

With --health it answers /healthz, /readyz and /metrics (Prometheus) at that address. It may be started before Postgres and NATS are: it waits for them.`,
		Example: `  weir alerter --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir
  weir alerter --grace 30s --health 0.0.0.0:8082`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, grace, notifiers) },
	}
	cmd.Flags().DurationVar(&grace, "grace", grace, "how long after it happened an event may be published without being late")
	cmd.Flags().StringVar(&notifiers, "notify", "", "tell the notifiers of this YAML `file`")
	config.Flags(cmd, config.NATS, config.Postgres, config.Health, config.Definitions)
	return cmd
}

// gcPercent lets an alerter's memory grow to five times what it remembers before it is cleared up: that is little, and what comes
// in every moment is soon garbage.
const gcPercent = 400

func run(cmd *cobra.Command, grace time.Duration, notifiers string) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	if grace <= 0 || grace > time.Hour {
		return config.Problems{fmt.Sprintf("--grace: %s should be more than 0s, and 1h at most", grace)}
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	targets, err := wire.Notifiers(catalog, notifiers)
	if err != nil {
		return err
	}
	debug.SetGCPercent(gcPercent)
	log := config.Logger(cfg)
	probes, err := health.Listen(cmd.Context(), cfg, "alerter", log)
	if err != nil {
		return err
	}
	defer probes.Close()
	var links wire.Links
	defer links.Close()
	evaluated, sent := evaluator.NewMetrics(), notify.NewMetrics()
	roles, ctx := errgroup.WithContext(cmd.Context())
	roles.Go(func() error {
		db, conn, err := links.Open(ctx, cfg, "alerter", log)
		if err != nil {
			return wire.UnlessStopped(ctx, err)
		}
		roles.Go(func() error {
			return notify.New(db, notify.Config{Targets: targets, Silenced: db.Silenced, Metrics: sent}, log).Run(ctx)
		})
		return evaluator.New(evaluator.Config{Owner: wire.Owner(), Grace: grace, Metrics: evaluated}, catalog.Rules, db, conn, log).Run(ctx)
	})
	registry := metrics.New("alerter")
	registry.MustRegister(evaluated, sent)
	registry.Links(&links)
	roles.Go(func() error { return probes.Serve(ctx, registry.Probes(links.Ready(catalog))) })
	return roles.Wait()
}
