// Package query is `weir query`: a question to an aggregation, answered on the
// terminal.
package query

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weir/pkg/aggregation"
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
  weir query ApiErrorAnalysisAgg --last 1h --per minutes --group-by bucket \
      --select 'bucket, responseCount as calls, _5xx * 100 / responseCount as pct'
  weir query ApiVersionPerAppAgg --within '2026-11-** **:**:**' --per days \
      --select 'bucket, sum(totalRequestCount) as calls' --where 'apiContext == "/calc"' --order-by 'calls desc'`,
		Args: cobra.ExactArgs(1),
		RunE: run,
	}
	flags := cmd.Flags()
	flags.String("within", "", "`interval` START,END or a time with wildcards, 2026-11-** **:**:**")
	flags.String("last", "", "in place of --within: the `time` up to now, such as 15m, 24h or 7d")
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
	cmd.MarkFlagsMutuallyExclusive("within", "last")
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

// setLast makes the interval the time up to now, the bucket of now and the
// bucket in which it begins included.
func setLast(values url.Values, last string, now time.Time) error {
	length, err := time.ParseDuration(last)
	if days, isDays := strings.CutSuffix(last, "d"); isDays {
		var n int
		n, err = strconv.Atoi(days)
		length = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || length <= 0 {
		return fmt.Errorf("%q is no time: write 15m, 24h or 7d", last)
	}
	start := now.Add(-length)
	if g, err := aggregation.ParseGranularity(values.Get("per")); err == nil {
		start = time.UnixMicro(g.Truncate(start.UnixMicro(), time.UTC))
	}
	values.Set("within", fmt.Sprintf("%d,%d", start.UnixMilli(), now.UnixMilli()+1))
	return nil
}

func run(cmd *cobra.Command, args []string) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	values := parameters(cmd.Flags())
	if f := cmd.Flags().Lookup("last"); f.Changed {
		if err := setLast(values, f.Value.String(), time.Now()); err != nil {
			return config.Problems{"--last: " + err.Error()}
		}
	}
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
