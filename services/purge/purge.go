// Package purge is `weir purge`: it deletes what is older than its retention
// now, or says what would go. Workers do the same on their own, every quarter
// of an hour.
package purge

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir purge`.
func Command() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Delete what is older than its retention",
		Long: `Delete the rows of each aggregation and level that are older than the retention of its definition, by the start of
their bucket. What a coarser level still lacks is never deleted. Levels finer than hours have partitions by time (of an
hour, a day or 30 days, by their retention), which are dropped when all that is in them is too old. Alerts go when they were
recorded longer than --alert-retention ago, unless they still fire, and silences 30 days after their end.

Workers do this on their own every quarter of an hour. They also compact, hourly; this command does not, because that
changes no answer and can always wait.`,
		Example: `  weir purge --dry-run`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd, dryRun) },
	}
	config.Flags(cmd, config.Postgres, config.Definitions, config.Alerts)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would go")
	return cmd
}

func run(cmd *cobra.Command, dryRun bool) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	catalog, db, err := wire.Bound(cmd.Context(), cfg, "purge")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	purge, purgeAlerts := db.Purge, db.PurgeAlerts
	if dryRun {
		purge, purgeAlerts = db.Purgeable, db.PurgeableAlerts
	}
	now := time.Now()
	purged, err := purge(cmd.Context(), now, catalog.Kept())
	if err != nil {
		return wire.Explain(err)
	}
	alerts, err := purgeAlerts(cmd.Context(), now, cfg.Alerts.Retention)
	if err != nil {
		return wire.Explain(err)
	}
	return report(cmd, purged, alerts, dryRun)
}

func report(cmd *cobra.Command, purged []store.Purged, alerts store.PurgedAlerts, dryRun bool) error {
	out := cmd.OutOrStdout()
	lines := [][]string{{"aggregation", "level", "shard", "rows", "partitions", "kept for a coarser level", "older than"}}
	var rows int64
	var partitions, busy int
	for _, p := range purged {
		rows, partitions, busy = rows+p.Rows, partitions+p.Partitions, busy+p.Busy
		lines = append(lines, []string{
			p.Aggregation, p.Level.String(), p.ShardID, strconv.FormatInt(p.Rows, 10), strconv.Itoa(p.Partitions), strconv.FormatInt(p.Kept, 10), p.Before.Format(time.RFC3339),
		})
	}
	if len(purged) > 0 {
		if err := query.WriteAligned(out, lines, []bool{false, false, false, true, true, true, false}); err != nil {
			return err
		}
	}
	verb := "deleted"
	if dryRun {
		verb = "would be deleted"
	}
	_, _ = fmt.Fprintf(out, "%d rows %s, %d partitions dropped with them\n", rows, verb, partitions)
	_, _ = fmt.Fprintf(out, "%d alerts and %d silences %s\n", alerts.Alerts, alerts.Silences, verb)
	if busy > 0 {
		_, _ = fmt.Fprintf(out, "%d partitions are being read or written and stay for now: purge again later\n", busy)
	}
	return nil
}
