package query_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// sketchOf returns what workers store of a sketched measure for some values.
func sketchOf(t testing.TB, m aggregation.Measure, values ...any) []byte {
	t.Helper()
	def := &aggregation.Definition{
		PartitionByID: true,
		Name:          "One", Measures: []aggregation.Measure{m}, Granularities: []aggregation.Granularity{aggregation.Years},
		Zone: time.UTC, Inputs: []aggregation.Input{{Stream: "s", Where: -1, Args: []int{0}}},
	}
	schema := &event.Schema{Name: "s", Attributes: []event.Attribute{{Name: "x", Kind: m.ArgKind}}}
	c := event.NewColumns(schema, event.NewDictionary())
	for _, v := range values {
		c.Times, c.Sequences, c.Messages = append(c.Times, 0), append(c.Sequences, 1), append(c.Messages, 0)
		c.Offsets, c.Checksums, c.Dropped = append(c.Offsets, 0), append(c.Checksums, 0), append(c.Dropped, false)
		var cell event.Cell
		switch v := v.(type) {
		case string:
			cell = c.Dict.Intern(v)
		case int64:
			cell = event.Cell(v)
		case float64:
			cell = event.FloatCell(v)
		}
		c.Cells[0] = append(c.Cells[0], cell)
	}
	return aggregation.NewFolder(nil).Fold([]*aggregation.Definition{def}, []*event.Columns{c}).Parts[0].Sketches[0][0]
}

// visits defines an aggregation with sketched measures.
func visits() *aggregation.Definition {
	return &aggregation.Definition{
		PartitionByID: true,
		Name:          "Visits", Zone: time.UTC, Granularities: []aggregation.Granularity{aggregation.Seconds, aggregation.Hours},
		Keys: []aggregation.Key{{Name: "apiName", Kind: event.String}},
		Measures: []aggregation.Measure{
			{Name: "hits", Op: aggregation.Count},
			{Name: "clients", Op: aggregation.Distinct, Arg: "label", ArgKind: event.String},
			{Name: "p50", Op: aggregation.Quantile, Percent: 50, Arg: "bytes", ArgKind: event.Int},
			{Name: "p99", Op: aggregation.Quantile, Percent: 99, Arg: "bytes", ArgKind: event.Int, Shares: "p50"},
			{Name: "spread", Op: aggregation.Deviation, Arg: "bytes", ArgKind: event.Int},
			{Name: "bytes", Op: aggregation.Sum, Arg: "bytes", ArgKind: event.Int},
		},
	}
}

func insertVisits(t *testing.T, raw *sql.DB, def *aggregation.Definition, all []call) {
	t.Helper()
	var groups []packed
	for i, c := range all {
		groups = append(groups, packed{
			bucket: def.Finest().Truncate(c.at, def.Zone), shard: c.shard, batch: int64(i), keys: []any{c.api}, events: 1,
			measures: []any{sketchOf(t, def.Measures[1], c.label), sketchOf(t, def.Measures[2], c.bytes), sketchOf(t, def.Measures[4], c.bytes), c.bytes},
		})
	}
	insert(t, raw, def, groups)
}

// visit is a row of the oracle.
type visit struct {
	bucket                  string
	api                     string
	hits, clients, bytes    int64
	p50, p99, spread, ratio float64
}

func visitsOf(all []call, by func(c call) string) []visit {
	groups := map[string][]call{}
	for _, c := range all {
		groups[by(c)] = append(groups[by(c)], c)
	}
	var rows []visit
	for _, calls := range groups {
		v := visit{bucket: stamp(calls[0].at - calls[0].at%3_600_000_000), api: calls[0].api, hits: int64(len(calls))}
		labels, mean, squares := map[string]bool{}, 0.0, 0.0
		slices.SortFunc(calls, func(a, b call) int { return cmp.Compare(a.bytes, b.bytes) })
		for _, c := range calls {
			labels[c.label] = true
			v.bytes += c.bytes
			mean += float64(c.bytes) / float64(len(calls))
		}
		for _, c := range calls {
			squares += (float64(c.bytes) - mean) * (float64(c.bytes) - mean)
		}
		v.clients, v.spread = int64(len(labels)), math.Sqrt(squares/float64(len(calls)))
		v.p50 = float64(calls[50*(len(calls)-1)/100].bytes)
		v.p99 = float64(calls[99*(len(calls)-1)/100].bytes)
		v.ratio = float64(v.clients) / float64(v.hits)
		rows = append(rows, v)
	}
	slices.SortFunc(rows, func(a, b visit) int { return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.api, b.api)) })
	return rows
}

// wantVisits compares within the bound of quantiles.
func wantVisits(t *testing.T, what string, got, want [][]any) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: got %d rows, want %d\n got %v\nwant %v", what, len(got), len(want), head(got), head(want))
	}
	for i := range want {
		for k := range want[i] {
			x, isFloat := got[i][k].(float64)
			y, _ := want[i][k].(float64)
			if got[i][k] != want[i][k] && (!isFloat || math.Abs(x-y) > 0.01*math.Abs(y)) {
				t.Errorf("%s: row %d: got %v, want %v", what, i, got[i], want[i])
			}
		}
	}
}

func TestAsk_MergesSketchesAndComputesWithThem(t *testing.T) {
	t.Parallel()
	def := visits()
	db, raw := database(t, def)
	all := traffic(11, 400, time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 5, 1, 15, 0, 0, 0, time.UTC))
	for i := range all {
		all[i].label = fmt.Sprint("client ", i*7%37)
		all[i].bytes += 101 // the order of 0 and of near values is not for this test
	}
	insertVisits(t, raw, def, all)
	const within = "within=2026-05-01,2026-05-02\nper=hours\n"
	hourly := visitsOf(all, func(c call) string { return fmt.Sprint(c.at/3_600_000_000, c.api) })
	perAPI := visitsOf(all, func(c call) string { return c.api })
	slices.SortFunc(perAPI, func(a, b visit) int { return cmp.Compare(a.api, b.api) })

	var natural, grouped, busy, steady [][]any
	for _, v := range hourly {
		natural = append(natural, []any{v.bucket, v.api, v.hits, v.clients, v.p50, v.p99, v.spread, v.bytes})
		if v.clients > 15 && v.hits != 0 {
			busy = append(busy, []any{v.api, v.clients})
		}
	}
	for _, v := range perAPI {
		grouped = append(grouped, []any{v.api, v.hits, v.clients, v.p50, v.p99, v.spread, v.bytes})
		steady = append(steady, []any{v.api, 2*v.clients + 1, v.ratio, v.p99 / v.p50, -v.clients})
	}
	wantVisits(t, "natural rows", ask(t, db, def, within).Rows, natural)
	wantVisits(t, "grouped", ask(t, db, def, within+"group_by=apiName").Rows, grouped)
	wantVisits(t, "arithmetic", ask(t, db, def, within+"group_by=apiName\nselect=apiName, 2 * clients + 1 as a, clients / hits as b, p99 / p50 as c, -clients as d").Rows, steady)
	wantVisits(t, "a condition", ask(t, db, def, within+"select=apiName, clients\nwhere=clients > 15 and hits != 0").Rows, busy)
	wantVisits(t, "a condition, limit and offset", ask(t, db, def, within+"select=apiName, clients\nhaving=not (clients <= 15 or hits == 0)\nlimit=2\noffset=1").Rows, busy[1:3])

	// Functions, and conditions on rows, are over the values of natural rows.
	var functions, filtered [][]any
	for _, v := range perAPI {
		peak, most, sum, rows, hits := 0.0, int64(0), 0.0, 0, int64(0)
		var clients int64
		for _, h := range hourly {
			if h.api != v.api {
				continue
			}
			peak, most, sum, rows = max(peak, h.p99), max(most, h.clients), sum+h.spread, rows+1
			if h.clients > 15 {
				hits += h.hits
				clients = max(clients, h.clients)
			}
		}
		functions = append(functions, []any{v.api, peak, most, sum / float64(rows), v.p99})
		if hits > 0 {
			filtered = append(filtered, []any{v.api, hits, clients})
		}
	}
	wantVisits(t, "functions", ask(t, db, def, within+"group_by=apiName\nselect=apiName, max(p99) as peak, max(clients), avg(spread), p99").Rows, functions)
	wantVisits(t, "a condition on rows", ask(t, db, def, within+"group_by=apiName\nwhere=clients > 15\nselect=apiName, hits, max(clients)").Rows, filtered)

	slices.SortStableFunc(perAPI, func(a, b visit) int { return cmp.Compare(b.spread, a.spread) })
	var sorted [][]any
	for _, v := range perAPI {
		sorted = append(sorted, []any{v.api, v.spread})
	}
	const bySpread = within + "group_by=apiName\nselect=apiName, spread\norder_by=spread desc\n"
	wantVisits(t, "sorted", ask(t, db, def, bySpread).Rows, sorted)
	wantVisits(t, "sorted, limit and offset", ask(t, db, def, bySpread+"limit=2\noffset=1").Rows, sorted[1:3])
	if rows := ask(t, db, def, bySpread+"limit=0").Rows; len(rows) != 0 {
		t.Errorf("got %d rows, want none", len(rows))
	}
	// Columns of all kinds are sorted by in Go as SQL does it.
	slices.SortStableFunc(hourly, func(a, b visit) int {
		return cmp.Or(cmp.Compare(b.api, a.api), cmp.Compare(a.clients, b.clients), cmp.Compare(a.bucket, b.bucket))
	})
	sorted = nil
	for _, v := range hourly {
		sorted = append(sorted, []any{v.api, v.clients, v.bucket})
	}
	wantVisits(t, "sorted by three", ask(t, db, def, within+"select=apiName, clients, bucket\norder_by=apiName desc, clients, bucket").Rows, sorted)
}

func TestAsk_SketchesOfShardsAndInvalidOnes(t *testing.T) {
	t.Parallel()
	def := visits()
	db, raw := database(t, def)
	all := traffic(5, 60, time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	insertVisits(t, raw, def, all)
	const within = "within=2026-05-01,2026-05-02\nper=hours\n"
	var want [][]any
	shards := map[string][]call{}
	for _, c := range all {
		shards[c.shard] = append(shards[c.shard], c)
	}
	for _, shard := range []string{"w0", "w1", "w2"} {
		want = append(want, []any{shard, visitsOf(shards[shard], func(call) string { return "" })[0].clients})
	}
	wantVisits(t, "by shard", ask(t, db, def, within+"group_by=shard_id\nselect=shard_id, clients").Rows, want)

	exec(t, raw, fmt.Sprintf(`UPDATE weir_data.%q SET clients = ARRAY['\x0563'::bytea]`, def.Table(def.Finest())))
	if _, err := tryAsk(t, db, def, within); err == nil {
		t.Error("corrupted sketches were taken for a number")
	}
}

func TestHandler_DescribesSketchedMeasures(t *testing.T) {
	t.Parallel()
	def := visits()
	db, _ := database(t, def)
	base := serve(t, db, def, nil)
	_, _, body := get(t, "GET", base+"/api/v1/aggregations/visits")
	for _, want := range []string{
		`{"name":"clients","op":"distinct_count","arg":"label","type":"int"}`,
		`{"name":"p99","op":"p99","arg":"bytes","type":"float"}`,
		`{"name":"spread","op":"stddev","arg":"bytes","type":"float"}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
}
