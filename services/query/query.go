// Package query is `weir query`: a question to an aggregation, answered on the
// terminal.
package query

import (
	"context"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weir/pkg/query"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir query`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query AGGREGATION",
		Short: "Ask an aggregation a question",
		Long: `Ask an aggregation for its buckets in an interval, at one of the granularities it keeps. The HTTP API is asked,
by default that of the instance that runs on this machine; with --postgres the database is, without an API.`,
		Example: `  weir query ApiVersionPerAppAgg --within '2026-11-22 00:00:00,2026-11-23 00:00:00' --per hours
  weir query ApiVersionPerAppAgg --within '2026-11-** **:**:**' --per days \
      --select 'bucket, sum(totalRequestCount) as calls' --where 'apiContext == "/calc"' --order-by 'calls desc'`,
		Args: cobra.ExactArgs(1),
		RunE: run,
	}
	flags := cmd.Flags()
	flags.String("within", "", "`interval` START,END or a time with wildcards, 2026-11-** **:**:**")
	flags.String("per", "", "`granularity`: seconds, minutes, hours, days, months or years")
	flags.String("select", "", "`columns`, fn(column) with sum, min, max, avg, count or last, or arithmetic; each with an optional: as name")
	flags.String("where", "", "`condition` on the aggregation's rows, such as apiName == \"calc\" and totalRequestCount > 10")
	flags.String("group-by", "", "`columns` to group the rows by; '' for one row over all")
	flags.String("having", "", "`condition` on the rows of the answer")
	flags.String("order-by", "", "`columns` of the answer, each with an optional: desc")
	flags.String("limit", "", "show at most this `number` of rows")
	flags.String("offset", "", "leave out this `number` of rows first")
	flags.String("time", "", "how times are written: rfc3339 or ms")
	flags.Bool("json", false, "print the answer as JSON, as the HTTP API gives it")
	flags.Bool("csv", false, "print the answer as CSV")
	flags.String("postgres", "", "ask the database at this `URL`, not the HTTP API")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	config.Flags(cmd, config.API, config.Definitions)
	return cmd
}

// parameters are the flags that are parameters of the question; a dash in
// a flag is an underscore there.
func parameters(flags *pflag.FlagSet) url.Values {
	values := url.Values{}
	for _, name := range []string{"within", "per", "select", "where", "group-by", "having", "order-by", "limit", "offset", "time"} {
		if f := flags.Lookup(name); f.Changed {
			values.Set(strings.ReplaceAll(name, "-", "_"), f.Value.String())
		}
	}
	return values
}

func run(cmd *cobra.Command, args []string) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	values := parameters(cmd.Flags())
	var answer *query.Answer
	if f := cmd.Flags().Lookup("postgres"); f.Changed {
		cfg.Postgres.URL = config.URL(f.Value.String())
		answer, err = askPostgres(cmd.Context(), cfg, args[0], values)
	} else {
		client := query.Client{URL: string(cfg.HTTP.URL)}
		answer, err = client.Ask(cmd.Context(), args[0], values)
	}
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if set, _ := cmd.Flags().GetBool("json"); set {
		return answer.WriteJSON(out)
	}
	if set, _ := cmd.Flags().GetBool("csv"); set {
		return answer.WriteCSV(out)
	}
	return answer.WriteTable(out)
}

func askPostgres(ctx context.Context, cfg config.Config, name string, values url.Values) (*query.Answer, error) {
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return nil, err
	}
	question, err := query.Parse(catalog, name, values)
	if err != nil {
		return nil, err
	}
	db, err := wire.Store(ctx, cfg, "query")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	return question.Ask(ctx, db)
}
