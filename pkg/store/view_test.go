package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/streams"
)

// viewOf returns the view of a level of the current version as SQL names it.
func viewOf(def *aggregation.Definition, level aggregation.Granularity) string {
	return inViews(def.View(level, true))
}

// viewed is the answer of a level's view to "everything", as answer gives it.
func viewed(t testContext, db *DB, def *aggregation.Definition, per aggregation.Granularity) string {
	columns := []string{"bucket", "api", "code"}
	for _, m := range def.Measures {
		columns = append(columns, pq.QuoteIdentifier(ident(m.Name)))
	}
	rows, err := db.sql.QueryContext(t.Context(), fmt.Sprintf("SELECT %s FROM %s", strings.Join(columns, ", "), viewOf(def, per)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var lines []string
	for rows.Next() {
		raw, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range raw {
			targets[i] = &raw[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for i, m := range def.Measures {
			if raw[3+i], err = value(raw[3+i], m.Kind()); err != nil {
				t.Fatal(err)
			}
		}
		bucket, _ := raw[0].(time.Time)
		lines = append(lines, line(fmt.Sprintf("%s %s %d", bucket.UTC().Format(time.RFC3339), raw[1], raw[2]), raw[3:]...))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// As a reader who has been given the views and nothing else, in a session that
// writes times and numbers in ways of its own.
func TestViews_NeedNoRightsOnTables(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	address := migratedAddress(t)
	db := open(t, address)
	if err := db.Apply(t.Context(), []*aggregation.Definition{def}, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	lease := mustLease(t, db, "a", def)
	fold(t, db, lease, def, []tried{{api: "x", code: 1, ms: 5, size: 4, at: 1_790_000_000_123_456}, {api: "x", code: 1, ms: 7, size: 16, at: 1_790_000_001_000_000}})

	// Roles are of the whole cluster, which the databases of other tests share.
	role := "reader_of_" + ask[string](t, db, `SELECT current_database()`)
	mustExec(t, db, `CREATE ROLE `+role+` LOGIN PASSWORD 'reads'`)
	t.Cleanup(func() {
		for _, statement := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			if _, err := db.sql.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
				t.Error(err)
			}
		}
	})
	mustExec(t, db, `GRANT USAGE ON SCHEMA weir_view TO `+role)
	mustExec(t, db, `GRANT SELECT ON ALL TABLES IN SCHEMA weir_view TO `+role)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "reads")
	q := u.Query()
	q.Set("timezone", "Asia/Kolkata")
	q.Set("extra_float_digits", "3")
	u.RawQuery = q.Encode()
	reader := open(t, u.String())
	t.Cleanup(func() { _ = reader.Close() })

	for _, level := range def.Granularities {
		if n := ask[int](t, reader, `SELECT sum(calls) FROM `+viewOf(def, level)+` WHERE p50 > 3 AND sizes > 0 AND spread >= 0 AND since < until + interval '1 s'`); n != 2 {
			t.Errorf("per %s: %d calls, want 2", level, n)
		}
	}
	if got := ask[int](t, reader, `SELECT count(*) FROM generate_series('2026-01-01'::timestamptz, '2026-12-31', '1 day') d WHERE weir_view.bucket_start(d, 'days', 1, 'Asia/Kolkata') = d`); got != 365 {
		t.Errorf("%d of 365 days start where they should", got)
	}
	for _, refused := range []string{
		`SELECT FROM ` + tableOf(def, def.Finest()), `SELECT FROM weir.shard`, `SELECT FROM weir.watermark`,
		`SELECT weir.replace_view('x', 'SELECT 1')`, `DELETE FROM ` + viewOf(def, def.Finest()), `CREATE TABLE weir_view.mine ()`,
	} {
		if _, err := reader.sql.ExecContext(t.Context(), refused); err == nil || !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "cannot delete") {
			t.Errorf("%s: got %v, want a refusal", refused, err)
		}
	}
}

// fold flushes events to the finest level.
func fold(t *testing.T, db *DB, lease *Lease, def *aggregation.Definition, events []tried) {
	t.Helper()
	delta := aggregation.NewFolder(nil).Fold([]*aggregation.Definition{def}, []*event.Columns{columnsOfTried(events)})
	if err := flush(t.Context(), db, lease, delta, NewClaims()); err != nil {
		t.Fatal(err)
	}
}

// Values of all kinds go through the view as they are, however the session
// writes them.
func TestViews_GiveTheNewestValueOfEveryKind(t *testing.T) {
	t.Parallel()
	def := allKinds()
	db := migrated(t, def)
	lease := mustLease(t, db, "a", def)
	at := time.Date(2018, 2, 18, 1, 30, 0, 123_456_000, time.UTC).UnixMicro() // in the hour that São Paulo had twice
	newest := group{text: "ü\"\\\t", number: math.MinInt64, float: 0.1 + 0.2, flag: true, time: at, events: 2, lastTime: 7, lastSeq: 9}
	older := newest
	older.lastTime, older.lastSeq = 7, 8
	for i, g := range []group{older, newest} {
		dict := event.NewDictionary()
		p := part(def, dict, 0, []group{g})
		if i == 0 { // the same group with other values
			other := part(def, dict, 0, []group{{text: "zz", number: 5, float: 9, time: at + 1, events: 2}})
			p.Measures = other.Measures
		}
		if err := flush(t.Context(), db, lease, aggregation.Delta{Dict: dict, Parts: []aggregation.Part{p}}, NewClaims()); err != nil {
			t.Fatal(err)
		}
	}
	for _, level := range def.Granularities {
		var got group
		var stamp float64
		err := db.InTx(t.Context(), func(tx *Tx) error {
			if _, err := tx.tx.ExecContext(t.Context(), `SET LOCAL datestyle = 'SQL, DMY'; SET LOCAL timezone = 'America/Sao_Paulo'`); err != nil {
				return err
			}
			err := tx.tx.QueryRowContext(t.Context(), `
				SELECT last_string, last_int, last_float, last_bool, extract(epoch FROM last_time) * 1000000, n FROM `+viewOf(def, level)).
				Scan(&got.text, &got.number, &got.float, &got.flag, &stamp, &got.events)
			return errors.Join(err, errRollBack)
		})
		if !errors.Is(err, errRollBack) {
			t.Fatal(err)
		}
		got.time, got.lastTime, got.lastSeq = int64(stamp), 7, 9
		want := newest
		want.events = 4
		if got != want {
			t.Errorf("per %s: got %+v, want %+v", level, got, want)
		}
	}
}

// Rows that are older than a measure have no value of it.
func TestViews_LeaveRowsWithoutAMeasureOutOfIt(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	def.Measures = append(def.Measures, aggregation.Measure{Name: "mean", Op: aggregation.Avg, Arg: "ms", ArgKind: event.Int})
	def.Inputs[0].Args = append(def.Inputs[0].Args, 2)
	db := migrated(t, def)
	lease := mustLease(t, db, "a", def)
	table := tableOf(def, def.Finest())
	fold(t, db, lease, def, []tried{{api: "x", ms: 3, size: 4, at: 9e6}, {api: "x", ms: 5, size: 2, at: 8e6}})
	fold(t, db, lease, def, []tried{{api: "x", ms: 100, size: 64, at: 5e6}, {api: "x", ms: 1000, size: 64, at: 20e6}})
	for _, m := range def.Measures {
		if m.Stored() {
			name := pq.QuoteIdentifier(ident(m.Name))
			mustExec(t, db, fmt.Sprintf(`ALTER TABLE %s ALTER %s DROP NOT NULL`, table, name))
			mustExec(t, db, fmt.Sprintf(`UPDATE %s SET %s = CASE WHEN bucket < 'epoch'::timestamptz + interval '10 s' THEN array_replace(%[2]s, %[2]s[1], NULL) END WHERE batch_no = 2`, table, name))
		}
	}
	var got [9]float64
	err := db.sql.QueryRowContext(t.Context(), `SELECT calls, millis, slowest, newest, oldest, mean, sizes, spread, p90 FROM `+viewOf(def, aggregation.Years)).
		Scan(&got[0], &got[1], &got[2], &got[3], &got[4], &got[5], &got[6], &got[7], &got[8])
	if err != nil {
		t.Fatal(err)
	}
	got[8] = math.Round(got[8])
	if want := [9]float64{4, 8, 5, 3, 5, 4, 2, 1, 2}; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A reader's time range is an index condition on the level's table, and what
// the level lacks is found in the finer one by an index as well.
func TestViews_ReadByIndexes(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	db := migrated(t, def)
	mustLease(t, db, "a", def)
	var plan []string
	err := db.InTx(t.Context(), func(tx *Tx) error {
		if _, err := tx.tx.ExecContext(t.Context(), `SET LOCAL enable_seqscan = off`); err != nil { // which is best for empty tables
			return err
		}
		rows, err := tx.tx.QueryContext(t.Context(), `EXPLAIN SELECT * FROM `+viewOf(def, aggregation.Days)+` WHERE bucket BETWEEN '2026-11-22' AND '2026-11-23' AND api = 'x'`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // rows.Err tells
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				return err
			}
			plan = append(plan, line)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	for want, n := range map[string]int{"Index Cond: ((bucket >= '2026-11-22": 1, "(batch_no > COALESCE(w": 4} { // of days; of 6 hours, hours, 15 minutes and seconds
		if got := strings.Count(text, want); got != n {
			t.Errorf("%d times %q, want %d, in\n%s", got, want, n, text)
		}
	}
}

func TestViews_SumBeyond64Bits(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	db := migrated(t, def)
	lease := mustLease(t, db, "a", def)
	for range 3 {
		fold(t, db, lease, def, []tried{{api: "x", ms: math.MaxInt64, at: 1}, {api: "x", ms: math.MaxInt64, at: 2}})
	}
	if got := ask[string](t, db, `SELECT millis FROM `+viewOf(def, aggregation.Days)); got != "55340232221128654842" {
		t.Errorf("got %s, want 6 * (2^63 - 1)", got)
	}
}

func TestApply_MakesViewsAnewAndKeepsRightsOnThem(t *testing.T) {
	t.Parallel()
	def := calls("Views")
	db := migrated(t, def)
	defs := []*aggregation.Definition{def}
	apply := func(want int) {
		t.Helper()
		changes, err := db.Plan(t.Context(), defs, PlanOptions{})
		if err != nil || len(changes) != want {
			t.Fatalf("plan: %v, %v; want %d changes", changes, err, want)
		}
		if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	apply(0)
	mustExec(t, db, `DROP VIEW weir_view.views_days`)
	apply(1)
	if n := ask[int](t, db, `SELECT count(*) FROM weir_view.views_days`); n != 0 {
		t.Errorf("%d rows", n)
	}
	if missing, err := db.Missing(t.Context(), defs); missing != "" || err != nil {
		t.Errorf("missing: %s, %v", missing, err)
	}

	// As an earlier program made it: other columns, in another order.
	mustExec(t, db, dropView(def.View(aggregation.Days, true)))
	mustExec(t, db, `SELECT weir.replace_view('views_days', 'SELECT 1 AS bytes, 2 AS bucket')`)
	mustExec(t, db, `GRANT SELECT ON weir_view.views_days TO pg_monitor WITH GRANT OPTION`)
	mustExec(t, db, `GRANT SELECT ON weir_view.views_days TO PUBLIC`)
	rights := ask[string](t, db, `SELECT relacl::text FROM pg_class WHERE oid = 'weir_view.views_days'::regclass`)
	apply(1)
	if got := ask[string](t, db, `SELECT relacl::text FROM pg_class WHERE oid = 'weir_view.views_days'::regclass`); got != rights || !strings.Contains(got, "pg_monitor=r*") {
		t.Errorf("rights are %s, were %s", got, rights)
	}
	apply(0)

	// What others have built upon a view is not dropped with it.
	mustExec(t, db, dropView(def.View(aggregation.Days, true)))
	mustExec(t, db, `SELECT weir.replace_view('views_days', 'SELECT 1 AS bytes, 2 AS bucket')`)
	mustExec(t, db, `CREATE VIEW mine AS SELECT * FROM weir_view.views_days`)
	if err := db.Apply(t.Context(), defs, PlanOptions{}); err == nil || !strings.Contains(err.Error(), "make views of Views") || !strings.Contains(err.Error(), "depend") {
		t.Errorf("got %v, want an error that says what depends on it", err)
	}
}

func TestViews_OfTheWholePackCanBeSelectedFrom(t *testing.T) {
	t.Parallel()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{Dir: "streams"})
	if err != nil {
		t.Fatal(err)
	}
	db := migrated(t, catalog.Aggregations...)
	views := 0
	for _, def := range catalog.Aggregations {
		for _, level := range def.Granularities {
			views++
			var n, columns int
			if n = ask[int](t, db, `SELECT count(*) FROM (SELECT * FROM `+viewOf(def, level)+` WHERE bucket >= now() - interval '1 day') x`); n != 0 {
				t.Errorf("%s: %d rows of nothing", viewOf(def, level), n)
			}
			columns = ask[int](t, db, `SELECT count(*) FROM pg_attribute WHERE attrelid = $1::regclass AND col_description(attrelid, attnum) IS NOT NULL`, viewOf(def, level))
			want := 2 + len(def.Keys) + len(def.Measures)
			if def.Name == "ApiLatencyAgg" {
				want++ // the sketch of which its percentiles are read
			}
			if columns != want {
				t.Errorf("%s: %d columns are described, want %d", viewOf(def, level), columns, want)
			}
		}
	}
	if views != 90 {
		t.Errorf("%d views, want 90", views)
	}
}

// What the documentation shows can be run.
func TestViews_AnswerTheDocumentedQueries(t *testing.T) {
	t.Parallel()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{Dir: "streams"})
	if err != nil {
		t.Fatal(err)
	}
	latency := cascadeDef("Latency", time.UTC)
	db := migrated(t, append(catalog.Aggregations, latency)...)
	doc, err := os.ReadFile("../../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	run := 0
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		for statement := range strings.SplitSeq(block[1], ";\n") {
			if !strings.Contains(statement, "SELECT") || strings.Contains(statement, "GRANT") {
				continue
			}
			statement = strings.ReplaceAll(statement, "$__timeFilter(bucket)", "bucket BETWEEN '2026-11-22T00:00:00Z' AND '2026-11-23T00:00:00Z'")
			mustExec(t, db, statement)
			run++
		}
	}
	if run != 5 {
		t.Errorf("%d queries were run, want 5", run)
	}
}
