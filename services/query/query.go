// Package query is `weir query`: a question to an aggregation, answered on the
// terminal.
package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/wire"
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
bucket is cut: --last 1h --per days is today or, in the first hour of a day, yesterday and today.`,
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
	flags.String("nats", "", "ask over NATS at this `URL`, not the HTTP API")
	flags.String("postgres", "", "ask the database at this `URL`, not the HTTP API")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	cmd.MarkFlagsMutuallyExclusive("within", "last")
	config.Flags(cmd, config.API, config.Definitions)
	cmd.MarkFlagsMutuallyExclusive("nats", "postgres")
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
	a, err := newAsker(cmd, cfg, args[0])
	if err != nil {
		return err
	}
	values := parameters(cmd.Flags())
	if f := cmd.Flags().Lookup("last"); f.Changed {
		zone, err := a.zone(cmd.Context())
		if err != nil {
			return err
		}
		if err := setLast(values, f.Value.String(), time.Now(), zone); err != nil {
			return config.Problems{"--last: " + err.Error()}
		}
	}
	answer, err := a.ask(cmd.Context(), values)
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
	return answer.WriteTable(out)
}

// asker puts a question to the API, over HTTP or NATS, or, where it has a
// catalogue, to the database.
type asker struct {
	aggregation string
	cfg         config.Config
	client      query.Client
	overNATS    bool
	catalog     *definition.Catalog
}

func newAsker(cmd *cobra.Command, cfg config.Config, aggregation string) (a asker, err error) {
	a = asker{aggregation: aggregation, cfg: cfg, client: query.Client{URL: string(cfg.HTTP.URL)}}
	if f := cmd.Flags().Lookup("nats"); f.Changed {
		a.cfg.NATS.URL, a.overNATS = config.URL(f.Value.String()), true
	}
	if f := cmd.Flags().Lookup("postgres"); f.Changed {
		a.cfg.Postgres.URL = config.URL(f.Value.String())
		a.catalog, err = wire.Catalog(cfg)
	}
	return a, err
}

// zone is where the aggregation cuts its buckets; UTC where there is no such
// aggregation, which ask tells better.
func (a asker) zone(ctx context.Context) (*time.Location, error) {
	if a.catalog != nil {
		if def := a.catalog.Aggregation(a.aggregation); def != nil {
			return def.Zone, nil
		}
		return time.UTC, nil
	}
	all, err := a.aggregations(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == a.aggregation {
			return time.LoadLocation(all[i].Zone)
		}
	}
	return time.UTC, nil
}

func (a asker) aggregations(ctx context.Context) ([]query.Aggregation, error) {
	if !a.overNATS {
		return a.client.Aggregations(ctx)
	}
	body, err := a.request(ctx, query.CatalogueSubject, nil)
	if err != nil {
		return nil, err
	}
	var catalogue struct {
		Aggregations []query.Aggregation `json:"aggregations"`
	}
	if err := json.Unmarshal(body, &catalogue); err != nil {
		return nil, fmt.Errorf("read the aggregations: %w", err)
	}
	return catalogue.Aggregations, nil
}

func (a asker) ask(ctx context.Context, values url.Values) (*query.Answer, error) {
	if a.overNATS {
		body, err := a.request(ctx, query.QuestionSubject, query.NewMessage(a.aggregation, values))
		if err != nil {
			return nil, err
		}
		return query.ReadAnswer(body)
	}
	if a.catalog == nil {
		return a.client.Ask(ctx, a.aggregation, values)
	}
	db, err := wire.Store(ctx, a.cfg, "query")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	catalog, err := wire.Bind(ctx, a.catalog, db)
	if err != nil {
		return nil, err
	}
	question, err := query.Parse(catalog, a.aggregation, values)
	if err != nil {
		return nil, err
	}
	answer, err := question.Ask(ctx, db)
	return answer, wire.Explain(err)
}

// answerTimeout is how long an answer over NATS is waited for; who answers
// gives up before.
const answerTimeout = time.Minute

// request asks the service weir-query.
func (a asker) request(ctx context.Context, subject string, request []byte) ([]byte, error) {
	conn, err := wire.Stream(ctx, a.cfg, "query", zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := conn.Request(ctx, subject, request)
	var refusal *stream.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, &query.Error{Status: refusal.Code, Detail: refusal.Detail}
	case errors.Is(err, stream.ErrNobodyAnswers):
		return nil, fmt.Errorf("%w; questions are answered by `weir api`, `up` and `demo`", err)
	}
	return answer, err
}
