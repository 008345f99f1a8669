// Package worker is `weir worker`: the role that folds events into one shard.
package worker

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"weir/pkg/worker"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir worker`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Fold events into one shard of the aggregates",
		Long: `Take events from the stream, together with all other workers, and fold them into the aggregates, in a
shard of its own. Any number of workers may run; each needs its own --shard-id. On SIGTERM the batch in hand
is finished first.`,
		Example: `  weir worker --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir --shard-id w1`,
		Args:    cobra.NoArgs,
		RunE:    run,
	}
	config.Flags(cmd, config.NATS, config.Postgres, config.Shard, config.Definitions)
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
	db, err := wire.Store(cmd.Context(), cfg, "worker")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := wire.Stream(cmd.Context(), cfg, "worker", log)
	if err != nil {
		return err
	}
	defer conn.Close()
	return worker.New(Config(cfg), catalog, db, conn, log).Run(cmd.Context())
}

// Config is the worker's part of the configuration.
func Config(cfg config.Config) worker.Config {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return worker.Config{
		ShardID:  cfg.Worker.ShardID,
		Owner:    fmt.Sprintf("%s process %d", host, os.Getpid()),
		Messages: cfg.Worker.BatchMessages,
		Bytes:    int(cfg.Worker.BatchBytes),
		Linger:   cfg.Worker.Linger,
	}
}
