// Package query is `weir query`: a question to an aggregation, answered on the
// terminal.
package query

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weir/pkg/aggregation"
	"weir/pkg/query"
	"weir/services/ask"
	"weir/services/complete"
	"weir/services/config"
)

// Command is `weir query`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query AGGREGATION",
		Short: "Ask an aggregation a question",
		Long: `Ask an aggregation for its buckets in an interval, at one of the granularities it keeps. The HTTP API is asked,
by default that of the instance that runs on this machine; with --nats the service weir-query of NATS is, and with
--postgres the database, without an API.

--last reaches back to the start of the bucket in which it begins, by the time zone of the aggregation, so that no
bucket is cut: --last 1h --per days is today or, in the first hour of a day, yesterday and today.

On a terminal the measures of an answer with buckets are also drawn below its table, a line for each group; not where --limit, --offset
or --having leave rows out.`,
		Example: `  weir query ApiVersionPerAppAgg --within '2026-11-22 00:00:00,2026-11-23 00:00:00' --per hours
  weir query ApiErrorAnalysisAgg --last 1h --per minutes --group-by bucket \
      --select 'bucket, responseCount as calls, _5xx * 100 / responseCount as pct'
  weir query ApiVersionPerAppAgg --within '2026-11-** **:**:**' --per days \
      --select 'bucket, sum(totalRequestCount) as calls' --where 'apiContext == "/calc"' --order-by 'calls desc'
  weir query ApiVersionPerAppAgg --join ApiFaultyInvocationAgg --last 24h --per hours --group-by bucket,apiContext \
      --select 'bucket, apiContext, ApiFaultyInvocationAgg.totalFaultCount / totalRequestCount as error_rate'`,
		Args: cobra.ExactArgs(1),
		RunE: run,
	}
	flags := cmd.Flags()
	flags.String("within", "", "`interval` START,END or a time with wildcards, 2026-11-** **:**:**")
	flags.String("last", "", "in place of --within: the `time` up to now, such as 15m, 24h or 7d")
	flags.String("per", "", "`granularity`: seconds, minutes, hours, days, months or years")
	flags.String("join", "", "another `aggregation` to ask together with the first, matched on bucket and common keys")
	flags.String("join-type", "", "which rows of a join stay where one side has no events: `full`, inner, left or right")
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
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	cmd.MarkFlagsMutuallyExclusive("within", "last")
	ask.Flags(cmd)
	complete.Aggregations(cmd)
	complete.Aggregation(cmd, "join")
	complete.Words(cmd, "join-type", "full", "inner", "left", "right")
	complete.Granularity(cmd, "per")
	for _, flag := range []string{"select", "group-by", "order-by", "where"} {
		complete.Columns(cmd, flag)
	}
	complete.Words(cmd, "time", "rfc3339", "ms")
	return cmd
}

// parameters are the flags that are parameters of the question; a dash in
// a flag is an underscore there.
func parameters(flags *pflag.FlagSet) url.Values {
	values := url.Values{}
	for _, name := range []string{"within", "per", "join", "join-type", "select", "where", "group-by", "having", "order-by", "limit", "offset", "time"} {
		if f := flags.Lookup(name); f.Changed {
			values.Set(strings.ReplaceAll(name, "-", "_"), f.Value.String())
		}
	}
	return values
}

// setLast makes the interval the time up to now, the bucket of now and the
// bucket in which it begins included; zone is where the buckets are cut.
func setLast(values url.Values, last string, now time.Time, zone *time.Location) error {
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
		start = time.UnixMicro(g.Truncate(start.UnixMicro(), zone))
	}
	values.Set("within", fmt.Sprintf("%d,%d", start.UnixMilli(), now.UnixMilli()+1))
	return nil
}

func run(cmd *cobra.Command, args []string) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	asker, err := ask.New(cmd, cfg)
	if err != nil {
		return err
	}
	values := parameters(cmd.Flags())
	if f := cmd.Flags().Lookup("last"); f.Changed {
		zone, err := asker.Zone(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := setLast(values, f.Value.String(), time.Now(), zone); err != nil {
			return config.Problems{"--last: " + err.Error()}
		}
	}
	answer, err := asker.Ask(cmd.Context(), args[0], values)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if set, _ := cmd.Flags().GetBool("json"); set {
		return answer.WriteJSON(query.TerminalJSON(out))
	}
	if set, _ := cmd.Flags().GetBool("csv"); set {
		return answer.WriteCSV(out)
	}
	if err := answer.WriteTable(out); err != nil {
		return err
	}
	return sparklines(cmd.Context(), out, asker, args[0], values, answer)
}
