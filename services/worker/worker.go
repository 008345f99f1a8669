// Package worker is `weir worker`: the role that folds events into one shard.
package worker

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"weir/pkg/worker"
	"weir/services/config"
	"weir/services/durability"
	"weir/services/health"
	"weir/services/metrics"
	"weir/services/wire"
)

// Command is `weir worker`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Fold events into one shard of the aggregates",
		Long: `Take events from the stream, together with all other workers, and fold them into the aggregates, in a
shard of its own. Any number of workers may run; each needs its own --shard-id, one that lasts: a second live worker with
the same one is refused. Workers that have no lasting name, as those of a Kubernetes Deployment, are all given the same
--shard-pool N in its place, with N at least the most of them that run at once: each takes the first of the shards pool-1
to pool-N that nobody holds, and one that starts anew takes another if its old one is still held. "weir shard" lists,
retires, merges and renames shards.

On SIGTERM the batch in hand is finished first, and what else was fetched goes to other workers at once. With --health it
answers /healthz (it runs), /readyz (Postgres and NATS answer, and all is provisioned) and /metrics (Prometheus) at that
address. It may be started before Postgres and NATS are: it waits for them.`,
		Example: `  weir worker --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir --shard-id w1
  weir worker --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir --shard-pool 8`,
		Args: cobra.NoArgs,
		RunE: run,
	}
	config.Flags(cmd, config.NATS, config.Postgres, config.Shard, config.Health, config.Definitions, config.Alerts)
	return cmd
}

func run(cmd *cobra.Command, _ []string) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	log := config.Logger(cfg)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.Worker.Memory))
	}
	probes, err := health.Listen(cmd.Context(), cfg, "worker", log)
	if err != nil {
		return err
	}
	defer probes.Close()
	var links wire.Links
	defer links.Close()
	counted := worker.NewMetrics()
	work := func(ctx context.Context) error {
		db, conn, err := links.Open(ctx, cfg, "worker", log)
		if err != nil {
			return wire.UnlessStopped(ctx, err)
		}
		if err := durability.Report(ctx, db, conn, durability.OfMonitors(ctx, cfg), log); err != nil {
			return wire.UnlessStopped(ctx, err)
		}
		c := Config(cfg)
		c.Metrics = counted
		if c.Failpoints, err = wire.Failpoints(); err != nil {
			return err
		}
		return worker.New(c, catalog, db, conn, log).Run(ctx)
	}
	group, ctx := errgroup.WithContext(cmd.Context())
	alive, dead := context.WithCancel(context.WithoutCancel(ctx)) // as long as the worker runs, its last batch included
	defer dead()
	group.Go(func() error { defer dead(); return work(ctx) })
	registry := metrics.New("worker")
	registry.MustRegister(counted)
	registry.Links(&links)
	group.Go(func() error { return probes.Serve(alive, registry.Probes(links.Ready(catalog))) })
	return group.Wait()
}

// Config is the worker's part of the configuration.
func Config(cfg config.Config) worker.Config {
	return worker.Config{
		ShardID:  cfg.Worker.ShardID,
		Pool:     cfg.Worker.Pool(),
		Owner:    wire.Owner(),
		Messages: cfg.Worker.BatchMessages,
		Bytes:    int(cfg.Worker.BatchBytes),
		Memory:   int(cfg.Worker.Memory / 4),
		Linger:   cfg.Worker.Linger,

		AlertRetention: cfg.Alerts.Retention,
	}
}
