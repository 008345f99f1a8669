package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
)

// sheet says what an aggregation must have of the tally.
type sheet struct {
	keys []string // the API version, in terms of the aggregation
	sums []sum    // none: the aggregation has no measure that counts, and the events behind its rows are compared
}

// sum is a measure, and what all of it must be together.
type sum struct {
	measure string
	want    func(*counts) int64
}

// sheets are those of all aggregations that are measured, written by hand from their definitions.
func sheets() map[string]sheet {
	byContext, byName := []string{"apiContext"}, []string{"apiName", "apiVersion"}
	requests := func(c *counts) int64 { return c.requests }
	succeeded := func(c *counts) int64 { return c.succeeded }
	faults := func(c *counts) int64 { return c.faults }
	throttles := func(c *counts) int64 { return c.throttles }
	calls := sheet{byContext, []sum{{"totalRequestCount", requests}}}
	return map[string]sheet{
		"GeoLocationAgg":         {byContext, []sum{{"totalCount", requests}}},
		"ApiVersionPerAppAgg":    calls,
		"ApiResPathPerApp":       calls,
		"ApiPerDestinationAgg":   calls,
		"ApiUserPerAppAgg":       calls,
		"ApiUserBrowserAgg":      calls,
		"ApiExeTime":             {byContext, nil},
		"APIM_ReqCountAgg":       {byName, []sum{{"successCount", requests}, {"throttleCount", throttles}}},
		"ApiErrorAnalysisAgg":    {byName, []sum{{"responseCount", requests}, {"_2xx", succeeded}, {"faultCount", faults}, {"throttledCount", throttles}}},
		"MonetizationAgg":        {byName, []sum{{"requestCount", succeeded}}},
		"ApiFaultyInvocationAgg": {byContext, []sum{{"totalFaultCount", faults}}},
		"ApiThrottledOutAgg":     {byContext, []sum{{"throttledOutCount", throttles}}},
		oneAggregation: {byName, []sum{
			{"requests", requests}, {"total", func(c *counts) int64 { return c.responseTime }}, {"errors", func(c *counts) int64 { return c.failed }},
		}},
	}
}

const mostProblems = 10 // said; one cause has many effects

// open opens a database with what its tables are called.
func (b *bed) open(ctx context.Context, database string) (*store.DB, *definition.Catalog, error) {
	db, err := store.Open(ctx, store.Config{URL: b.postgres.url(database), Name: "weir bench", StatementTimeout: -1})
	if err != nil {
		return nil, nil, err
	}
	bound, earlier, missing, err := db.Bind(ctx, b.catalog.Aggregations)
	if err == nil && missing != "" {
		err = errors.New(missing)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("find the tables: %w", err), db.Close())
	}
	return db, b.catalog.Bound(bound, earlier), nil
}

// check compares the answers for every aggregation at every level, per bucket and API version, with the tally. It returns
// what is wrong, and how many levels of aggregations it has compared.
func (b *bed) check(ctx context.Context, database string) (problems []string, checked int, err error) {
	db, catalog, err := b.open(ctx, database)
	if err != nil {
		return nil, 0, err
	}
	defer db.Close()
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	levels := map[aggregation.Granularity]map[tallyKey]*counts{}
	for _, def := range catalog.Aggregations {
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
			group.Go(func() error {
				c := newComparison(def.Name+" per "+level.String(), s, want)
				if err := c.run(ctx, b, db, database, catalog, def, level); err != nil {
					return fmt.Errorf("compare %s: %w", c.name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, c.problems...)
				checked++
				return nil
			})
		}
	}
	err = group.Wait()
	if more := len(problems) - mostProblems; more > 0 {
		problems = append(problems[:mostProblems], fmt.Sprintf("and %d more", more))
	}
	return problems, checked, err
}

// comparison is that of one level of an aggregation.
type comparison struct {
	name     string
	sheet    sheet
	want     map[tallyKey]*counts
	got      map[tallyKey][]int64
	others   map[int64][]int64 // by bucket: what its groups beyond the cap have, all together
	problems []string
}

func newComparison(name string, s sheet, want map[tallyKey]*counts) *comparison {
	return &comparison{name: name, sheet: s, want: want, got: map[tallyKey][]int64{}, others: map[int64][]int64{}}
}

func (c *comparison) run(ctx context.Context, b *bed, db *store.DB, database string, catalog *definition.Catalog, def *aggregation.Definition, level aggregation.Granularity) error {
	var err error
	if c.sheet.sums == nil {
		c.sheet.sums = []sum{{"weir_events", func(n *counts) int64 { return n.requests }}}
		err = c.view(ctx, b.postgres, database, def.View(level, true))
	} else {
		err = c.ask(ctx, db, catalog, def.Name, level)
	}
	if err != nil {
		return err
	}
	c.judge()
	return nil
}

// judge compares what there is with what there should be. Where a bucket has groups beyond the cap, those of an API
// version may be among them, and as much must be there as the API versions lack.
func (c *comparison) judge() {
	missing := 0
	for key, n := range c.want {
		switch {
		case c.got[key] != nil || !c.some(n):
		case c.others[key.second] != nil:
			c.got[key] = make([]int64, len(c.sheet.sums))
		default:
			missing++
		}
	}
	if missing > 0 {
		c.problems = append(c.problems, fmt.Sprintf("%s lacks %d buckets of API versions", c.name, missing))
	}
	for key, got := range c.got {
		want := c.want[key]
		if want == nil {
			want = &counts{}
		}
		for i, s := range c.sheet.sums {
			n, others := s.want(want), c.others[key.second]
			if got[i] < n && others != nil {
				others[i] -= n - got[i]
			} else if got[i] != n {
				c.problems = append(c.problems, fmt.Sprintf("%s, bucket %d of %v: %s is %d, should be %d", c.name, key.second, key.api, s.measure, got[i], n))
			}
		}
	}
	for bucket, left := range c.others {
		for i, s := range c.sheet.sums {
			if left[i] != 0 {
				c.problems = append(c.problems, fmt.Sprintf("%s, bucket %d: %s of the groups beyond the cap is %d too many", c.name, bucket, s.measure, left[i]))
			}
		}
	}
}

// ask asks the question that a user would ask.
func (c *comparison) ask(ctx context.Context, db *store.DB, catalog *definition.Catalog, name string, level aggregation.Granularity) error {
	by := "bucket," + strings.Join(c.sheet.keys, ",")
	selected := by
	for _, s := range c.sheet.sums {
		selected += ",sum(" + s.measure + ")"
	}
	question, err := query.Parse(catalog, name, url.Values{
		"within": {"1990-01-01,2200-01-01"}, "per": {level.String()}, "time": {"ms"}, "group_by": {by}, "select": {selected},
	})
	if err != nil {
		return err
	}
	return question.Each(ctx, db, func(cells []any) error {
		bucket, _ := cells[0].(int64)
		context := fmt.Sprint(cells[1])
		if len(c.sheet.keys) == 2 {
			context = fmt.Sprintf("/%v/%v", cells[1], cells[2])
		}
		var got []int64
		for _, cell := range cells[1+len(c.sheet.keys):] {
			n, err := strconv.ParseInt(fmt.Sprint(cell), 10, 64)
			if err != nil {
				return err
			}
			got = append(got, n)
		}
		c.row(bucket/1000, context, got)
		return nil
	})
}

// view reads the number of events behind the rows, which no question asks for.
func (c *comparison) view(ctx context.Context, pg *postgres, database, view string) error {
	db, err := pg.open(ctx, pg.url(database))
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT floor(extract(epoch FROM bucket))::bigint, `+c.sheet.keys[0]+`, sum(weir_events)::bigint FROM weir_view.`+view+` GROUP BY 1, 2`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var bucket, events int64
		var context string
		if err := rows.Scan(&bucket, &context, &events); err != nil {
			return err
		}
		c.row(bucket, context, []int64{events})
	}
	return rows.Err()
}

// row takes in a row of an answer.
func (c *comparison) row(bucket int64, context string, got []int64) {
	if strings.Contains(context, aggregation.OtherGroup) {
		c.others[bucket] = plus(c.others[bucket], got)
		return
	}
	key := tallyKey{bucket, apiOf(context)}
	c.got[key] = plus(c.got[key], got)
}

// plus adds up; nil is nothing yet.
func plus(sums, more []int64) []int64 {
	if sums == nil {
		return slices.Clone(more)
	}
	for i := range sums {
		sums[i] += more[i]
	}
	return sums
}

// some reports whether the aggregation must have a row for it.
func (c *comparison) some(n *counts) bool {
	for _, s := range c.sheet.sums {
		if s.want(n) > 0 {
			return true
		}
	}
	return false
}

// apiOf reads a context; what is none of the load's is none.
func apiOf(context string) (a api) {
	if _, err := fmt.Sscanf(strings.ReplaceAll(context, "/", " "), " api-%d 1.%d", &a.name, &a.version); err != nil {
		return api{-1, -1}
	}
	return a
}
