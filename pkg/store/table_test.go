package store

import (
	"strings"
	"sync"
	"testing"

	"weir/pkg/aggregation"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
)

func TestApply_MakesWhatThePlanSaysAndThenNothing(t *testing.T) {
	t.Parallel()
	defs := []*aggregation.Definition{calls("PlanOne"), calls("PlanTwo")}
	db := open(t, embeddedtest.Postgres(t))
	plan := func() (lines []string) {
		changes, err := db.Plan(t.Context(), defs)
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
		"create aggregation PlanTwo (tables weir_data.plantwo_{seconds,minutes,hours,days,months,years})\n" +
		"make views of PlanOne (weir_view.planone_{seconds,minutes,hours,days,months,years})\n" +
		"make views of PlanTwo (weir_view.plantwo_{seconds,minutes,hours,days,months,years})"
	if got := strings.Join(plan(), "\n"); got != want {
		t.Errorf("plan:\n%s\nwant:\n%s", got, want)
	}
	for range 2 {
		if err := db.Apply(t.Context(), defs); err != nil {
			t.Fatal(err)
		}
		if got := plan(); len(got) != 0 {
			t.Errorf("plan after apply: %q", got)
		}
	}
	defs = append(defs, calls("PlanThree"))
	if got := plan(); len(got) != 2 || !strings.Contains(got[0], "PlanThree") || !strings.Contains(got[1], "PlanThree") {
		t.Errorf("plan with one more: %q", got)
	}
}

func TestMissing_SaysWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	defs := []*aggregation.Definition{calls("Missing")}
	db := open(t, embeddedtest.Postgres(t))
	got, err := db.Missing(t.Context(), defs)
	if err != nil || !strings.Contains(got, "weir apply") || !strings.Contains(got, "migrate") || !strings.Contains(got, "1 more") {
		t.Errorf("before: %q, %v", got, err)
	}
	if _, err := db.LeaseShard(t.Context(), "s", "o", 0, defs); err == nil {
		t.Error("a lease before apply: no error")
	}
	if err := db.Apply(t.Context(), defs); err != nil {
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
			if err := db.Apply(t.Context(), defs); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := ask[int](t, open(t, address), `SELECT count(*) FROM weir.aggregation`); n != 3 {
		t.Errorf("%d aggregations are recorded, want 3", n)
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

func TestPlan_RefusesAChangedDefinition(t *testing.T) {
	t.Parallel()
	db := migrated(t, calls("Changed"), calls("Unchanged"))
	for what, change := range map[string]func(*aggregation.Definition){
		"key":     func(d *aggregation.Definition) { d.Keys = d.Keys[:1] },
		"kind":    func(d *aggregation.Definition) { d.Keys[1].Kind = event.String },
		"measure": func(d *aggregation.Definition) { d.Measures[1].Op = aggregation.Max },
		"levels":  func(d *aggregation.Definition) { d.Granularities = d.Granularities[1:] },
	} {
		def := calls("Changed")
		change(def)
		_, err := db.Plan(t.Context(), []*aggregation.Definition{calls("Unchanged"), def})
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		for _, part := range []string{"aggregation Changed is defined differently", shape(calls("Changed")), shape(def), "new name"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error does not say %q: %v", what, part, err)
			}
		}
		if err := db.Apply(t.Context(), []*aggregation.Definition{calls("New"), def}); err == nil {
			t.Errorf("%s: apply has no error", what)
		}
	}
	if n := ask[int](t, db, `SELECT count(*) FROM weir.aggregation`); n != 2 {
		t.Errorf("%d aggregations after refused applies, want 2", n)
	}
}

func TestApply_CompressesArraysWithLZ4InEveryPartition(t *testing.T) {
	t.Parallel()
	def := allKinds()
	db := migrated(t, def)
	mustLease(t, db, "s", def)
	const arrays = `FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type y ON y.oid = a.atttypid
		WHERE c.relnamespace = 'weir_data'::regnamespace AND c.relkind IN ('r', 'p') AND y.typcategory = 'A' AND a.attnum > 0`
	// The table, the shard's partition, and its part for all times, of 13 arrays each.
	if n := ask[int](t, db, `SELECT count(*) `+arrays); n != 39 {
		t.Errorf("%d array columns, want 39", n)
	}
	if n := ask[int](t, db, `SELECT count(*) `+arrays+` AND (a.attcompression <> 'l' OR NOT a.attnotnull)`); n != 0 {
		t.Errorf("%d of them are without lz4 or NOT NULL", n)
	}
}
