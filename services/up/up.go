// Package up is `weir up`: Weir as one process with a data directory that
// lasts, for real use on one machine.
package up

import (
	"fmt"

	"github.com/spf13/cobra"

	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/services/config"
	"weir/services/local"
	"weir/services/wire"
)

type options struct {
	dir            string
	workers        int
	natsListen     string
	postgresListen string
	retention      string
	backfill       bool
	notifiers      string
}

// Command is `weir up`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run all of Weir in one process, with data that last",
		Long: `Start NATS with JetStream, a private Postgres, the workers and the HTTP API in one process, with everything that
lasts in one directory, which one process uses at a time. Print their URLs, one a line, once all is up. Gateways publish
to the nats:// URL; other workers and commands may join at the same URLs. Ctrl-C or SIGTERM ends it cleanly.

With --notify it also tells Alertmanager, webhooks and mailboxes of alerts, as the file says (docs/notifications.md); "weir alerts test" tries
them out.`,
		Example: `  weir up
  weir up --dir /var/lib/weir --workers 4 --http 127.0.0.1:8080 --nats-listen 127.0.0.1:4222
  weir up --retention all        # to load old logs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	config.Flags(cmd, config.Embedded, config.Definitions, config.Alerts)
	f := cmd.Flags()
	dir, _ := embedded.DefaultDir() // where there is none, run says so
	f.StringVar(&o.dir, "dir", dir, "data `directory`, which follows XDG_STATE_HOME where that is set")
	f.IntVar(&o.workers, "workers", 2, "`number` of workers in this process, each with a shard of its own; 0 for none")
	f.StringVar(&o.natsListen, "nats-listen", "", "`address` NATS listens at, host:port; by default a free port of this machine")
	f.StringVar(&o.postgresListen, "postgres-listen", "", "`address` Postgres listens at, host:port; by default a free port of this machine")
	f.StringVar(&o.retention, "retention", "definitions", "how long rows are kept: as the `definitions` say, or all for ever")
	f.BoolVar(&o.backfill, "backfill", false, "give aggregations that the definitions add what the stream still holds of the time before")
	f.StringVar(&o.notifiers, "notify", "", "tell the notifiers of this YAML `file` of alerts")
	return cmd
}

func (o options) check() error {
	var problems config.Problems
	if o.workers < 0 || o.workers > 64 {
		problems = append(problems, fmt.Sprintf("--workers: %d should be 0 to 64", o.workers))
	}
	if o.retention != "definitions" && o.retention != "all" {
		problems = append(problems, fmt.Sprintf("--retention: %q should be definitions or all", o.retention))
	}
	problems = append(problems, local.CheckListen("--nats-listen", o.natsListen)...)
	problems = append(problems, local.CheckListen("--postgres-listen", o.postgresListen)...)
	if len(problems) > 0 {
		return problems
	}
	return nil
}

func run(cmd *cobra.Command, o options) (err error) {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	catalog, err := wire.CatalogWith(cfg, definition.Options{KeepAll: o.retention == "all"})
	if err != nil {
		return err
	}
	notifiers, err := wire.Notifiers(catalog, o.notifiers)
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = embedded.DefaultDir(); err != nil {
			return fmt.Errorf("find the data directory: %w; give one with --dir", err)
		}
	}
	instance, err := local.Start(cmd.Context(), local.Options{
		Role: "up", Dir: o.dir, Workers: o.workers, NATSListen: o.natsListen, PostgresListen: o.postgresListen, Durable: true, Backfill: o.backfill,
		Catalog: catalog, Notifiers: notifiers, Settings: cfg, Plan: cmd.ErrOrStderr(), Log: config.Logger(cfg),
	})
	if err != nil && cmd.Context().Err() != nil {
		return nil // asked to end before all was up; Start has left nothing running
	}
	if err != nil {
		return err
	}
	defer func() {
		if closed := instance.Close(); err == nil {
			err = closed
		}
	}()
	defer instance.Announce()()
	for _, url := range []string{instance.HTTPURL, instance.NATSURL, instance.PostgresURL} {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), url); err != nil {
			return err
		}
	}
	select {
	case <-cmd.Context().Done():
		return nil
	case err := <-instance.Failed():
		return err
	}
}
