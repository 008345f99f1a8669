// Package apply is `weir apply`: it makes what the other roles need in
// JetStream and Postgres. It alone creates or alters anything there.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/pkg/definition"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/progress"
	"weir/services/wire"
)

// Command is `weir apply`.
func Command() *cobra.Command {
	var planOnly, noProgress bool
	var options store.PlanOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Provision JetStream and Postgres for the definitions",
		Long: `Compare what the definitions need with what JetStream and Postgres have, print the plan, and carry it out.
Running it again changes nothing. What is there is kept: streams and tables are never recreated.

An aggregation whose definition changed keeps its tables where they can serve both: a measure or a coarser level that
was added goes into them while workers write, a measure that was removed is not filled any more. Other group keys,
another zone, another finest level or a measure that is computed otherwise make a new version of the aggregation beside
the old one, whose rows stay and can be asked for by version (Calls@1). Restart the workers with the new definitions
afterwards, one by one: until then each folds by those it has.

An aggregation, or version, that is added to others counts from then on. With --backfill it also gets what the stream
still holds of the events before, each exactly once, while workers go on. That runs here, in the foreground, and ends when
the last worker that was started without the new definition has ended: restart the workers meanwhile. It can be
interrupted; run it again, and it goes on. Only what this command creates can be backfilled: to give an aggregation that
exists its past, add it under another name.

Nothing is dropped unless --destroy says so: with it, what is not defined any more goes with its rows (aggregations,
measures, levels, earlier versions); --destroy=NAME,NAME@1 names what may go. Stop the workers for it: they roll up and
purge all that was there when they were started. The stream keeps what comes meanwhile.`,
		Example: `  weir apply --plan --streams ./streams
  weir apply --backfill --streams ./streams
  weir apply --plan --destroy
  weir apply --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, planOnly, noProgress, options) },
	}
	config.Flags(cmd, config.NATS, config.Postgres, config.Definitions)
	cmd.Flags().BoolVar(&planOnly, "plan", false, "only print what would be done")
	cmd.Flags().BoolVar(&options.Backfill, "backfill", false, "give the aggregations that are created what the stream still holds of the time before")
	cmd.Flags().StringSliceVar(&options.Destroy, "destroy", nil, "drop what is not defined any more with its rows; of the named aggregations only, if any are named")
	progress.Flag(cmd, &noProgress)
	cmd.Flags().Lookup("destroy").NoOptDefVal = store.Everything
	return cmd
}

func run(cmd *cobra.Command, planOnly, noProgress bool, options store.PlanOptions) error {
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
	past := backfills{out: cmd.OutOrStdout(), catalog: catalog, db: db, conn: conn, log: config.Logger(cfg)}
	if !noProgress {
		past.stderr = cmd.ErrOrStderr()
	}
	if planOnly {
		if _, err := plan(ctx, cmd.OutOrStdout(), cfg, catalog, options, db, conn); err != nil {
			return err
		}
		return past.plan(ctx, options)
	}
	if err := Provision(ctx, cmd.OutOrStdout(), cfg, catalog, options, db, conn); err != nil {
		return err
	}
	return past.run(ctx, options)
}

// Provision prints the plan to out and carries it out.
func Provision(ctx context.Context, out io.Writer, cfg config.Config, catalog *definition.Catalog, options store.PlanOptions, db *store.DB, conn *stream.Conn) error {
	streams, err := plan(ctx, out, cfg, catalog, options, db, conn)
	if err != nil {
		return err
	}
	if err := db.Apply(ctx, catalog.Aggregations, options); err != nil {
		return err
	}
	return streams.Apply(ctx)
}

// plan prints the plan; the error is also what of it cannot be carried out.
func plan(ctx context.Context, out io.Writer, cfg config.Config, catalog *definition.Catalog, options store.PlanOptions, db *store.DB, conn *stream.Conn) (stream.Plan, error) {
	streams, err := conn.PlanProvision(ctx, wire.Provision(cfg))
	if err != nil {
		return stream.Plan{}, err
	}
	changes, err := db.Plan(ctx, catalog.Aggregations, options)
	if refused := store.Refused(nil); err != nil && !errors.As(err, &refused) {
		return stream.Plan{}, err
	}
	for _, line := range streams.Lines() {
		_, _ = fmt.Fprintln(out, "nats:     ", line)
	}
	todo := false
	for _, change := range changes {
		what := "postgres:  "
		if change.Note {
			what = "note:      "
		}
		todo = todo || !change.Note
		_, _ = fmt.Fprintln(out, what+change.Text)
	}
	if !todo && err == nil {
		_, _ = fmt.Fprintln(out, "postgres:  unchanged")
	}
	return streams, err // what cannot be done comes last
}
