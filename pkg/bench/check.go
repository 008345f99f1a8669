package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"weir/pkg/aggregation"
)

// sheet says what an aggregation must have of the tally.
type sheet struct {
	context string // the API version, as SQL
	events  func(*counts) int64
	sums    []sum
}

// sum is a measure, as SQL, and what it must be.
type sum struct {
	sql  string
	want func(*counts) int64
}

// sheets are those of all aggregations that are measured, written by hand from their definitions.
func sheets() map[string]sheet {
	const byContext, byName = "apicontext", "'/' || apiname || '/' || apiversion"
	requests := func(c *counts) int64 { return c.requests }
	faults := func(c *counts) int64 { return c.faults }
	throttles := func(c *counts) int64 { return c.throttles }
	calls := sheet{byContext, requests, nil}
	counted := func(name string, s sheet) sheet {
		s.sums = []sum{{name, s.events}}
		return s
	}
	return map[string]sheet{
		"GeoLocationAgg":         counted("totalcount", calls),
		"ApiVersionPerAppAgg":    counted("totalrequestcount", calls),
		"ApiResPathPerApp":       counted("totalrequestcount", calls),
		"ApiPerDestinationAgg":   counted("totalrequestcount", calls),
		"ApiUserPerAppAgg":       counted("totalrequestcount", calls),
		"ApiUserBrowserAgg":      counted("totalrequestcount", calls),
		"ApiExeTime":             calls,
		"APIM_ReqCountAgg":       {byName, func(c *counts) int64 { return c.requests + c.throttles }, []sum{{"successcount", requests}, {"throttlecount", throttles}}},
		"ApiErrorAnalysisAgg":    {byName, func(c *counts) int64 { return c.requests + c.faults + c.throttles }, []sum{{"_2xx", succeeded}, {"faultcount", faults}, {"throttledcount", throttles}}},
		"MonetizationAgg":        counted("requestcount", sheet{byName, succeeded, nil}),
		"ApiFaultyInvocationAgg": counted("totalfaultcount", sheet{byContext, faults, nil}),
		"ApiThrottledOutAgg":     counted("throttledoutcount", sheet{byContext, throttles, nil}),
		oneAggregation: {byName, requests, []sum{
			{"requests", requests}, {"total", func(c *counts) int64 { return c.responseTime }}, {"errors", func(c *counts) int64 { return c.failed }},
		}},
	}
}

func succeeded(c *counts) int64 { return c.succeeded }

const mostProblems = 10 // said; one cause has many effects

// check compares every aggregation at every level, per bucket and API version, with the tally. It returns what is wrong, and
// how many levels of aggregations it has compared.
func (b *bed) check(ctx context.Context, database string) (problems []string, checked int, err error) {
	db, err := b.postgres.open(ctx, b.postgres.url(database))
	if err != nil {
		return nil, 0, err
	}
	defer db.Close()
	levels := map[aggregation.Granularity]map[tallyKey]*counts{}
	for _, def := range b.catalog.Aggregations {
		s, ok := sheets()[def.Name]
		if !ok {
			problems = append(problems, def.Name+" is not compared: nothing is known of what it should have")
			continue
		}
		for _, level := range def.Granularities {
			want := levels[level]
			if want == nil {
				want = b.generate.tally.level(level.String())
				levels[level] = want
			}
			wrong, err := compare(ctx, db, def, level, s, want)
			if err != nil {
				return nil, 0, fmt.Errorf("compare %s per %s: %w", def.Name, level, err)
			}
			problems = append(problems, wrong...)
			checked++
		}
	}
	if more := len(problems) - mostProblems; more > 0 {
		problems = append(problems[:mostProblems], fmt.Sprintf("and %d more", more))
	}
	return problems, checked, nil
}

// compare compares one level.
func compare(ctx context.Context, db *sql.DB, def *aggregation.Definition, level aggregation.Granularity, s sheet, want map[tallyKey]*counts) (problems []string, err error) {
	columns := []string{"weir_events"}
	wanted := []func(*counts) int64{s.events}
	for _, m := range s.sums {
		columns, wanted = append(columns, m.sql), append(wanted, m.want)
	}
	query := `SELECT floor(extract(epoch FROM bucket))::bigint, ` + s.context
	for _, c := range columns {
		query += `, coalesce(sum(` + c + `), 0)::bigint`
	}
	rows, err := db.QueryContext(ctx, query+` FROM weir_view.`+def.View(level, true)+` GROUP BY 1, 2`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := 0
	got := make([]int64, len(columns))
	for rows.Next() {
		var second int64
		var context string
		into := []any{&second, &context}
		for i := range got {
			into = append(into, &got[i])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		c := want[tallyKey{second, apiOf(context)}]
		if c == nil {
			c = &counts{}
		}
		if s.events(c) > 0 {
			found++
		}
		for i, column := range columns {
			if n := wanted[i](c); got[i] != n {
				problems = append(problems, fmt.Sprintf("%s per %s, bucket %d of %s: %s is %d, should be %d", def.Name, level, second, context, column, got[i], n))
			}
		}
	}
	missing := -found
	for _, c := range want {
		if s.events(c) > 0 {
			missing++
		}
	}
	if missing > 0 {
		problems = append(problems, fmt.Sprintf("%s per %s lacks %d buckets of API versions", def.Name, level, missing))
	}
	return problems, rows.Err()
}

// apiOf reads a context; what is none of the load's is none.
func apiOf(context string) (a api) {
	if _, err := fmt.Sscanf(strings.ReplaceAll(context, "/", " "), " api-%d 1.%d", &a.name, &a.version); err != nil {
		return api{-1, -1}
	}
	return a
}
