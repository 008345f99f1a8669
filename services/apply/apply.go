// Package apply is `weir apply`: it makes what the other roles need in
// JetStream and Postgres. It alone creates or alters anything there.
package apply

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/pkg/definition"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir apply`.
func Command() *cobra.Command {
	var planOnly bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Provision JetStream and Postgres for the definitions",
		Long: `Compare what the definitions need with what JetStream and Postgres have, print the plan, and carry it out.
Running it again changes nothing. What is there is kept: streams and tables are never recreated.`,
		Example: `  weir apply --plan --streams ./streams
  weir apply --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, planOnly) },
	}
	config.Flags(cmd, config.NATS, config.Postgres, config.Definitions)
	cmd.Flags().BoolVar(&planOnly, "plan", false, "only print what would be done")
	return cmd
}

func run(cmd *cobra.Command, planOnly bool) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	db, err := wire.Store(ctx, cfg, "apply")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := wire.Stream(ctx, cfg, "apply", config.Logger(cfg))
	if err != nil {
		return err
	}
	defer conn.Close()
	if planOnly {
		_, err := plan(ctx, cmd.OutOrStdout(), cfg, catalog, db, conn)
		return err
	}
	return Provision(ctx, cmd.OutOrStdout(), cfg, catalog, db, conn)
}

// Provision prints the plan to out and carries it out.
func Provision(ctx context.Context, out io.Writer, cfg config.Config, catalog *definition.Catalog, db *store.DB, conn *stream.Conn) error {
	streams, err := plan(ctx, out, cfg, catalog, db, conn)
	if err != nil {
		return err
	}
	if err := db.Apply(ctx, catalog.Aggregations); err != nil {
		return err
	}
	return streams.Apply(ctx)
}

func plan(ctx context.Context, out io.Writer, cfg config.Config, catalog *definition.Catalog, db *store.DB, conn *stream.Conn) (stream.Plan, error) {
	streams, err := conn.PlanProvision(ctx, wire.Provision(cfg))
	if err != nil {
		return stream.Plan{}, err
	}
	changes, err := db.Plan(ctx, catalog.Aggregations)
	if err != nil {
		return stream.Plan{}, err
	}
	for _, line := range streams.Lines() {
		_, _ = fmt.Fprintln(out, "nats:     ", line)
	}
	for _, change := range changes {
		_, _ = fmt.Fprintln(out, "postgres: ", change.Text)
	}
	if len(changes) == 0 {
		_, _ = fmt.Fprintln(out, "postgres:  unchanged")
	}
	return streams, nil
}
