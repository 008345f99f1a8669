package store

import (
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/embedded/embeddedtest"
)

func TestApply_MakesWhatThePlanSaysAndThenNothing(t *testing.T) {
	t.Parallel()
	defs := []*aggregation.Definition{calls("PlanOne"), calls("PlanTwo")}
	db := open(t, embeddedtest.Postgres(t))
	plan := func() (lines []string) {
		changes, err := db.Plan(t.Context(), defs, PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			lines = append(lines, c.Text)
		}
		return lines
	}
	want := "migrate Weir's own tables (schema weir)\n" +
		"create aggregation PlanOne (tables weir_data.planone_{seconds,minutes,hours,days,months,years})\n" +
		"create aggregation PlanTwo (tables weir_data.plantwo_{seconds,minutes,hours,days,months,years})"
	if got := strings.Join(plan(), "\n"); got != want {
		t.Errorf("plan:\n%s\nwant:\n%s", got, want)
	}
	for range 2 {
		if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := plan(); len(got) != 0 {
			t.Errorf("plan after apply: %q", got)
		}
	}
	defs = append(defs, calls("PlanThree"))
	if got := plan(); len(got) != 1 || !strings.Contains(got[0], "PlanThree") {
		t.Errorf("plan with one more: %q", got)
	}
}

func TestMissing_SaysWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	defs := []*aggregation.Definition{calls("Missing")}
	db := open(t, embeddedtest.Postgres(t))
	got, err := db.Missing(t.Context(), defs)
	if err != nil || !strings.Contains(got, "weir apply") || !strings.Contains(got, "own tables") || !strings.Contains(got, "1 more") {
		t.Errorf("before: %q, %v", got, err)
	}
	if _, err := db.LeaseShard(t.Context(), "s", "o", 0, defs); err == nil {
		t.Error("a lease before apply: no error")
	}
	if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Missing(t.Context(), defs); got != "" || err != nil {
		t.Errorf("after: %q, %v", got, err)
	}
}

func TestApply_ManyAtOnceMakeEverythingOnce(t *testing.T) {
	t.Parallel()
	address := embeddedtest.Postgres(t)
	defs := []*aggregation.Definition{calls("AtOnceA"), calls("AtOnceB"), calls("AtOnceC")}
	if err := open(t, address).Migrate(t.Context()); err != nil { // else they wait seconds for goose's lock
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		db := open(t, address)
		group.Go(func() {
			if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := ask[int](t, open(t, address), `SELECT count(*) FROM weir.aggregation`); n != 3 {
		t.Errorf("%d aggregations are recorded, want 3", n)
	}
}

func TestApply_TriesAgainWhereItsSessionIsLost(t *testing.T) {
	t.Parallel()
	address := embeddedtest.Postgres(t)
	other, db := open(t, address), open(t, address)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	holder, err := other.sql.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback() }()
	if _, err := holder.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended('weir.apply', 0))`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- db.Apply(t.Context(), []*aggregation.Definition{calls("Lost")}, PlanOptions{}) }()
	waiting := func(but int) (pid int) {
		for pid == 0 {
			select {
			case err := <-ended:
				t.Fatalf("Apply ended before it had its turn: %v", err)
			default:
				pid = ask[int](t, other, `SELECT coalesce(max(pid), 0) FROM pg_locks JOIN pg_database ON pg_database.oid = database
					WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted AND pid <> $1`, but)
			}
		}
		return pid
	}
	lost := waiting(0)
	mustExec(t, other, `SELECT pg_terminate_backend($1)`, lost)
	waiting(lost)
	if err := holder.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := ask[int](t, other, `SELECT count(*) FROM weir.aggregation`); n != 1 {
		t.Errorf("%d aggregations are recorded, want 1", n)
	}
}

func TestMigrate_ManyAtOnceRunEachMigrationOnce(t *testing.T) {
	t.Parallel()
	address := embeddedtest.Postgres(t)
	var group sync.WaitGroup
	for range 3 {
		db := open(t, address)
		group.Go(func() {
			if err := db.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if ok, err := open(t, address).Migrated(t.Context()); !ok || err != nil {
		t.Errorf("migrated: %v, %v", ok, err)
	}
}

// Nor does ANALYZE look into them.
func TestApply_CompressesArraysWithLZ4InEveryPartition(t *testing.T) {
	t.Parallel()
	def := allKinds()
	def.Retention = map[aggregation.Granularity]time.Duration{aggregation.Seconds: time.Hour}
	db := migrated(t, def)
	mustLease(t, db, "s", def)
	const arrays = `FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type y ON y.oid = a.atttypid
		WHERE c.relnamespace = 'weir_data'::regnamespace AND c.relkind IN ('r', 'p') AND y.typcategory = 'A' AND a.attnum > 0`
	// Per seconds and minutes: the table, the shard's partition, and its part for all times, of 13 arrays each; per hours no part;
	// and per seconds one or two for spans of time.
	if n := ask[int](t, db, `SELECT count(*) `+arrays); n != 104+13 && n != 104+26 {
		t.Errorf("%d array columns, want 117 or 130", n)
	}
	if n := ask[int](t, db, `SELECT count(*) `+arrays+` AND c.relkind = 'r' AND a.attstattarget <> 0`); n != 0 {
		t.Errorf("%d of them have statistics", n)
	}
	if n := ask[int](t, db, `SELECT count(*) `+arrays+` AND (a.attcompression <> 'l' OR NOT a.attnotnull)`); n != 0 {
		t.Errorf("%d of them are without lz4 or NOT NULL", n)
	}
}
