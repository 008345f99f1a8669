// Package sources is `weir sources`: who publishes, and what they say was stored.
package sources

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir sources`.
func Command() *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sources [SOURCE]",
		Short: "List who publishes, and which of their messages they know to be stored",
		Long: `List what the publishers say of themselves every 10 s, and when they end: a line for each epoch, that is for each time
one was started, or had to give messages up. Their messages are numbered; next is the number that comes next, and all up to acked were
acknowledged by the stream. What is between them is under way, or was given up: dropped counts such events, which may be in
the stream all the same. Closed says that nothing more will come. An epoch that is not closed and was not heard for long is that of a
publisher that died, or cannot reach NATS. Replays, and HTTP clients with an Idempotency-Key, say nothing of themselves.`,
		Example: `  weir sources
  weir sources gw-1 --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := list(cmd, append(args, "")[0], limit)
			if err != nil {
				return err
			}
			return show(cmd, all, asJSON)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", query.ListedSources, "list at most this `number` of epochs, those that were heard last")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one epoch a line")
	cmd.Flags().String("postgres", "", "ask the database at this `URL`, not the HTTP API")
	config.Flags(cmd, config.API)
	return cmd
}

// list asks the API, or the database if --postgres is given.
func list(cmd *cobra.Command, source string, limit int) ([]query.Source, error) {
	cfg, err := config.Load(cmd)
	if err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, config.Problems{"--limit must be at least 1; it is " + strconv.Itoa(limit)}
	}
	f := cmd.Flags().Lookup("postgres")
	if !f.Changed {
		client := query.Client{URL: string(cfg.HTTP.URL)}
		return client.Sources(cmd.Context(), source, limit)
	}
	cfg.Postgres.URL = config.URL(f.Value.String())
	db, err := wire.Store(cmd.Context(), cfg, "sources")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	all, err := query.Sources(cmd.Context(), db, source, limit)
	return all, wire.Explain(err)
}

func show(cmd *cobra.Command, all []query.Source, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		for i := range all {
			if err := encoder.Encode(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
	lines := [][]string{{"source", "epoch", "next", "acked", "dropped", "closed", "last heard"}}
	for _, s := range all {
		closed := "no"
		if s.Closed {
			closed = "yes"
		}
		lines = append(lines, []string{
			s.Source, s.Epoch, number(s.Next), number(s.Acked), number(s.Dropped), closed, s.HeardAt.Format(time.RFC3339),
		})
	}
	return query.WriteAligned(out, lines, []bool{false, false, true, true, true, false, false})
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
