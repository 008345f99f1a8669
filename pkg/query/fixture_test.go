package query_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
	"weir/pkg/query"
	"weir/pkg/store"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// call is one event of the tests' aggregation.
type call struct {
	at    int64 // event time, µs
	seq   int64 // order in the stream
	shard string
	api   string
	code  int64
	cache bool
	bytes int64
	load  float64
	label string
}

// calls defines the aggregation that the tests ask: all kinds of keys and
// measures, at every granularity.
func calls(zone *time.Location) *aggregation.Definition {
	return &aggregation.Definition{
		PartitionByID: true,
		Name:          "Calls",
		Doc:           "Calls by API, <status> & cache",
		Keys:          []aggregation.Key{{Name: "apiName", Kind: event.String}, {Name: "code", Kind: event.Int}, {Name: "cached", Kind: event.Bool}},
		Measures: []aggregation.Measure{
			{Name: "hits", Op: aggregation.Count},
			{Name: "bytes", Op: aggregation.Sum, Arg: "bytes", ArgKind: event.Int},
			{Name: "avgBytes", Op: aggregation.Avg, Arg: "bytes", ArgKind: event.Int},
			{Name: "least", Op: aggregation.Min, Arg: "load", ArgKind: event.Float},
			{Name: "most", Op: aggregation.Max, Arg: "load", ArgKind: event.Float},
			{Name: "label", Op: aggregation.Last, Arg: "label", ArgKind: event.String},
			{Name: "seenAt", Op: aggregation.Last, Arg: "at", ArgKind: event.Time},
		},
		Granularities: aggregation.Granularities(),
		Retention:     map[aggregation.Granularity]time.Duration{aggregation.Seconds: 72 * time.Hour},
		Zone:          zone,
	}
}

// packed is one group of one stored row.
type packed struct {
	bucket    int64
	shard     string
	batch     int64
	keys      []any
	events    int64
	measures  []any // of stored measures, as stored
	time, seq int64 // of the newest event
}

// database makes an empty database with the tables of the definitions.
func database(t testing.TB, defs ...*aggregation.Definition) (*store.DB, *sql.DB) {
	t.Helper()
	address := embeddedtest.PostgresLike(t, "migrated", func(url string) error {
		db, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), nil, store.PlanOptions{}), db.Close())
	})
	db, err := store.Open(t.Context(), store.Config{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Apply(t.Context(), defs, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("postgres", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	for _, def := range defs {
		name := def.Table(def.Finest())
		exec(t, raw, fmt.Sprintf(`CREATE TABLE weir_data.%q PARTITION OF weir_data.%q DEFAULT`, name+"_all", name))
	}
	return db, raw
}

func exec(t testing.TB, raw *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := raw.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// insert writes groups as workers do: those of a bucket, shard and batch are
// one row of parallel arrays.
func insert(t testing.TB, raw *sql.DB, def *aggregation.Definition, groups []packed) {
	t.Helper()
	type id struct {
		bucket int64
		shard  string
		batch  int64
	}
	rows := map[id][]packed{}
	for _, g := range groups {
		rows[id{g.bucket, g.shard, g.batch}] = append(rows[id{g.bucket, g.shard, g.batch}], g)
	}
	columns := []string{"bucket", "shard_id", "batch_no"}
	for _, k := range def.Keys {
		columns = append(columns, strconv.Quote(strings.ToLower(k.Name)))
	}
	columns = append(columns, "weir_events", "weir_checksum")
	for _, m := range def.Measures {
		if m.Stored() {
			columns = append(columns, strconv.Quote(strings.ToLower(m.Name)))
		}
	}
	if def.HasLast() {
		columns = append(columns, "weir_last_time", "weir_last_seq")
	}
	for id, groups := range rows {
		values := []string{literal(time.UnixMicro(id.bucket).UTC()), literal(id.shard), strconv.FormatInt(id.batch, 10)}
		add := func(cell func(g packed) any) {
			cells := make([]string, len(groups))
			for i, g := range groups {
				cells[i] = literal(cell(g))
			}
			values = append(values, "ARRAY["+strings.Join(cells, ",")+"]")
			if _, ok := cell(groups[0]).(string); ok {
				values[len(values)-1] = "ARRAY['']||" + values[len(values)-1] // each group has a text of its own
			}
		}
		for i := range def.Keys {
			add(func(g packed) any { return g.keys[i] })
		}
		add(func(g packed) any { return g.events })
		values = append(values, "0")
		for i := range groups[0].measures {
			add(func(g packed) any { return g.measures[i] })
		}
		if def.HasLast() {
			add(func(g packed) any { return fmt.Sprint(g.time) })
			add(func(g packed) any { return fmt.Sprint(g.seq) })
		}
		exec(t, raw, fmt.Sprintf(`INSERT INTO weir_data.%q (%s) VALUES (%s)`,
			def.Table(def.Finest()), strings.Join(columns, ", "), strings.Join(values, ", ")))
	}
}

func literal(v any) string {
	switch v := v.(type) {
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case time.Time:
		return "'" + v.UTC().Format(time.RFC3339Nano) + "'::timestamptz"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64) + "::float8"
	case []byte:
		return fmt.Sprintf(`'\x%x'::bytea`, v)
	}
	return fmt.Sprint(v)
}

// pack folds calls into groups, every size of them a batch.
func pack(def *aggregation.Definition, all []call, size int) []packed {
	type id struct {
		bucket, batch int64
		shard, api    string
		code          int64
		cache         bool
	}
	groups := map[id][]call{}
	for i, c := range all {
		key := id{def.Finest().Truncate(c.at, def.Zone), int64(i / size), c.shard, c.api, c.code, c.cache}
		groups[key] = append(groups[key], c)
	}
	var out []packed
	for key, calls := range groups {
		r := merge(calls)
		out = append(out, packed{
			bucket: key.bucket, shard: key.shard, batch: key.batch, keys: []any{key.api, key.code, key.cache}, events: r.hits,
			measures: []any{r.bytes, r.bytes, r.least, r.most, r.label, time.UnixMicro(r.at)}, time: r.at, seq: r.seq,
		})
	}
	return out
}

// result is what the oracle says of some calls.
type result struct {
	hits, bytes, at, seq int64
	least, most          float64
	label                string
}

func merge(calls []call) result {
	r := result{least: math.Inf(1), most: math.Inf(-1), at: math.MinInt64}
	for _, c := range calls {
		r.hits++
		r.bytes += c.bytes
		r.least, r.most = min(r.least, c.load), max(r.most, c.load)
		if c.at > r.at || c.at == r.at && c.seq > r.seq {
			r.at, r.seq, r.label = c.at, c.seq, c.label
		}
	}
	return r
}

// measures are the result as the cells of an answer.
func (r result) measures() []any {
	return []any{r.hits, r.bytes, float64(r.bytes) / float64(r.hits), r.least, r.most, r.label, stamp(r.at)}
}

func stamp(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// bucketOf cuts time as the specification says, by other means than the
// product.
func bucketOf(per aggregation.Granularity, micros int64, zone *time.Location) int64 {
	t := time.UnixMicro(micros).In(zone)
	y, m, d := t.Date()
	switch per {
	case aggregation.Seconds:
		return t.Truncate(time.Second).UnixMicro()
	case aggregation.Minutes:
		return t.Truncate(time.Minute).UnixMicro()
	case aggregation.Hours:
		return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond())).UnixMicro()
	case aggregation.Days:
		return time.Date(y, m, d, 0, 0, 0, 0, zone).UnixMicro()
	case aggregation.Months:
		return time.Date(y, m, 1, 0, 0, 0, 0, zone).UnixMicro()
	default:
		return time.Date(y, 1, 1, 0, 0, 0, 0, zone).UnixMicro()
	}
}

// ask answers a question whose parameters are written name=value, one a line.
func ask(t *testing.T, db *store.DB, def *aggregation.Definition, parameters string) *query.Answer {
	t.Helper()
	answer, err := tryAsk(t, db, def, parameters)
	if err != nil {
		t.Fatalf("%s: %v", parameters, err)
	}
	return answer
}

func tryAsk(t *testing.T, db *store.DB, def *aggregation.Definition, parameters string) (*query.Answer, error) {
	t.Helper()
	q, err := query.Parse(catalogOf(def), def.Name, valuesOf(parameters))
	if err != nil {
		return nil, err
	}
	return q.Ask(t.Context(), db)
}

func catalogOf(defs ...*aggregation.Definition) *definition.Catalog {
	return &definition.Catalog{Aggregations: defs}
}

func valuesOf(parameters string) url.Values {
	values := url.Values{}
	for line := range strings.Lines(parameters) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values.Set(name, value)
		}
	}
	return values
}

// wantRows compares rows; floats may differ in their last digits, because they
// were added in another order.
func wantRows(t *testing.T, what string, got, want [][]any) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %d rows, want %d\n got %v\nwant %v", what, len(got), len(want), head(got), head(want))
		return
	}
	for i := range want {
		if !slices.EqualFunc(got[i], want[i], sameCell) {
			t.Errorf("%s: row %d: got %v, want %v", what, i, got[i], want[i])
			return
		}
	}
}

func head(rows [][]any) [][]any { return rows[:min(len(rows), 10)] }

func sameCell(a, b any) bool {
	x, ok := a.(float64)
	y, ok2 := b.(float64)
	if ok && ok2 {
		return x == y || math.Abs(x-y) <= 1e-12*max(math.Abs(x), math.Abs(y))
	}
	if n, ok := a.(*big.Int); ok {
		return n.String() == fmt.Sprint(b)
	}
	return a == b
}
