package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// refusal is what an apply of the definitions is refused with.
func refusal(t *testing.T, db *DB, options PlanOptions, defs ...*aggregation.Definition) string {
	t.Helper()
	_, planned := db.Plan(t.Context(), defs, options)
	err := db.Apply(t.Context(), defs, options)
	var refused Refused
	if !errors.As(err, &refused) || planned == nil || planned.Error() != err.Error() {
		t.Fatalf("apply: %v, plan: %v, want one refusal", err, planned)
	}
	return err.Error()
}

// byAPI is growing with one group key less: it cannot share its tables.
func byAPI(n int) *aggregation.Definition {
	def := growing("Calls", n, false)
	def.Keys, def.Inputs[0].Keys = def.Keys[:1], def.Inputs[0].Keys[:1]
	return def
}

// folded leases a shard, writes a few events and gives it back.
func folded(t *testing.T, db *DB, shardID string, def *aggregation.Definition, due func(aggregation.Granularity) bool, batches ...[]tried) {
	t.Helper()
	lease := mustLease(t, db, shardID, def)
	defer func() { _ = lease.Close() }()
	s := &shardState{lease: lease}
	for _, events := range batches {
		if err := s.write(t.Context(), db, []*aggregation.Definition{def}, events, due); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	all     = PlanOptions{Destroy: []string{Everything}}
	ofCalls = PlanOptions{Destroy: []string{"Calls"}}
)

func TestApply_KeepsTheVersionThatIsUsedAgainAndDropsTheOther(t *testing.T) {
	t.Parallel()
	first, second := growing("Calls", 1, false), byAPI(1)
	db := migrated(t, first)
	mustApply(t, db, PlanOptions{}, second)
	plan := planned(t, db, all, first)
	if !strings.Contains(plan, "version 1 is used again; what workers folded meanwhile that did not know it is not in it") ||
		!strings.Contains(plan, "DROP aggregation Calls@2 with all its rows") || strings.Contains(plan, "Calls@1") {
		t.Errorf("plan:\n%s", plan)
	}
	mustApply(t, db, all, first)
	if missing, err := db.Missing(t.Context(), []*aggregation.Definition{first}); err != nil || missing != "" {
		t.Errorf("after it: missing %q, %v", missing, err)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM pg_class WHERE relname LIKE 'calls@%'`); n != 0 {
		t.Errorf("%d tables and views of version 2 are left", n)
	}
}

func TestApply_UsesAnOlderVersionAgainAlsoWhereItDropsItsIdleMeasures(t *testing.T) {
	t.Parallel()
	wide, narrow, other := growing("Calls", 2, false), growing("Calls", 1, false), byAPI(1)
	db := migrated(t, wide)
	mustApply(t, db, PlanOptions{}, narrow)
	mustApply(t, db, PlanOptions{}, other)
	plan := planned(t, db, ofCalls, narrow)
	if !strings.Contains(plan, "version 1 is used again") || !strings.Contains(plan, "DROP measure newest") || strings.Contains(plan, "create") {
		t.Errorf("plan:\n%s", plan)
	}
}

func TestPlan_ExtendsTheCurrentVersionBeforeItGoesBack(t *testing.T) {
	t.Parallel()
	sum, most, count := growing("Calls", 0, false), growing("Calls", 0, false), growing("Calls", 0, false)
	most.Measures[1].Op = aggregation.Max
	count.Measures = count.Measures[:1]
	db := migrated(t, sum)
	mustApply(t, db, PlanOptions{}, count) // version 1 without the sum
	mustApply(t, db, PlanOptions{}, most)  // version 2
	if plan := planned(t, db, PlanOptions{}, count); !strings.Contains(plan, "fill measure millis no more") || strings.Contains(plan, "used again") {
		t.Errorf("without the greatest: plan\n%s", plan)
	}
}

func TestApply_DropsMeasuresAndLevelsAndKeepsRights(t *testing.T) {
	t.Parallel()
	with, without := growing("Calls", 1, true), growing("Calls", 0, true)
	db := migrated(t, with)
	for _, level := range with.Granularities {
		mustExec(t, db, "GRANT SELECT ON "+viewOf(with, level)+" TO PUBLIC")
	}
	readable := func() int {
		return ask[int](t, db, `SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a WHERE relnamespace = 'weir_view'::regnamespace AND a.grantee = 0`)
	}
	mustApply(t, db, ofCalls, without)
	if n := readable(); n != 4 {
		t.Errorf("%d views can be read by all after a measure was dropped, want 4", n)
	}
	without.Granularities = without.Granularities[:2]
	mustApply(t, db, ofCalls, without)
	if n := readable(); n != 2 {
		t.Errorf("%d views can be read by all after two levels were dropped, want 2", n)
	}
	mustApply(t, db, PlanOptions{}, byAPI(0))
	if n := readable(); n < 4 {
		t.Errorf("%d views can be read by all with two versions, want 2 of the first and 2 of the second", n)
	}
}

func TestApply_NamesTheViewThatIsInTheWay(t *testing.T) {
	t.Parallel()
	db := migrated(t, growing("Calls", 1, false))
	mustExec(t, db, `CREATE VIEW public.report AS SELECT * FROM weir_view.calls_days`)
	err := db.Apply(t.Context(), []*aggregation.Definition{growing("Calls", 0, false)}, ofCalls)
	if err == nil || !strings.Contains(err.Error(), "view report depends on view weir_view.calls_days") || !strings.Contains(err.Error(), "run `weir apply` again") {
		t.Errorf("got %v", err)
	}
}

func TestApply_AddsALevelWhileAMeasureIsIdle(t *testing.T) {
	t.Parallel()
	db := migrated(t, growing("Calls", 1, false))
	mustApply(t, db, PlanOptions{}, growing("Calls", 0, false))
	months := growing("Calls", 0, true)
	mustApply(t, db, PlanOptions{}, months)
	folded(t, db, "w", months, everyLevel, triedAt(1, 1), triedAt(2, 1), triedAt(3, 1))
	if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{months}); err != nil {
		t.Errorf("compact: %v", err)
	}
	mustApply(t, db, PlanOptions{}, growing("Calls", 1, true))
}

func TestApply_FillsALevelFromItsStartWhateverWatermarkIsLeft(t *testing.T) {
	t.Parallel()
	days, months := growing("Calls", 0, false), growing("Calls", 0, true)
	db := migrated(t, days)
	folded(t, db, "w", days, everyLevel, triedAt(1, 1), nil)
	mustExec(t, db, `INSERT INTO weir.watermark VALUES ('w', 'Calls', 'months', 1000)`)
	mustExec(t, db, `INSERT INTO weir.compacted VALUES ('w', 'Calls', 'months', 1000)`)
	mustApply(t, db, PlanOptions{}, months)
	folded(t, db, "w", months, everyLevel, triedAt(2, 1), nil)
	if got := ask[string](t, db, `SELECT calls || ' ' || millis FROM weir_view.calls_months`); got != "2 3" {
		t.Errorf("months have %s, want 2 3", got)
	}
}

func TestApply_DropsALevelInBetweenOnlyOnceCoarserOnesHaveItsRows(t *testing.T) {
	t.Parallel()
	with, without := growing("Calls", 0, true), growing("Calls", 0, true)
	without.Granularities = []aggregation.Granularity{aggregation.Seconds, aggregation.Months}
	db := migrated(t, with)
	months := func() string { return ask[string](t, db, `SELECT calls || ' ' || millis FROM weir_view.calls_months`) }
	// All are of one bucket, so that compaction gives rows later numbers.
	folded(t, db, "w", with, everyLevel, triedAt(1, 1), triedAt(1, 1))
	folded(t, db, "w", with, func(g aggregation.Granularity) bool { return g <= aggregation.Days }, triedAt(1, 1), triedAt(1, 1))
	if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{with}); err != nil {
		t.Fatal(err)
	}
	if got := refusal(t, db, ofCalls, without); !strings.Contains(got, "level days of aggregation Calls is to be dropped, but months lack rows of it, of shards: w") {
		t.Errorf("refused with %s", got)
	}
	folded(t, db, "w", with, everyLevel, nil, nil)
	folded(t, db, "w", with, func(g aggregation.Granularity) bool { return g <= aggregation.Days }, nil, nil) // nothing, but a later watermark
	if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{with}); err != nil {
		t.Fatal(err)
	}
	before := months()
	mustApply(t, db, ofCalls, without)
	folded(t, db, "w", without, noLevel, triedAt(1, 1))
	if got := months(); before != "4 4" || got != "5 5" {
		t.Errorf("months: %s, after the levels in between were dropped and one event more %s, want 4 4 and 5 5", before, got)
	}
	folded(t, db, "w", without, everyLevel, nil, nil)
	if got := months(); got != "5 5" {
		t.Errorf("months rolled up: %s, want 5 5", got)
	}
}

func TestPlan_MakesAVersionWhereIdleMeasuresLeaveNoPlace(t *testing.T) {
	t.Parallel()
	many := func(prefix string, n int) *aggregation.Definition {
		def := growing("Calls", 0, false)
		for i := range n {
			def.Measures = append(def.Measures, aggregation.Measure{Name: fmt.Sprint(prefix, i), Op: aggregation.Min, Arg: "ms", ArgKind: event.Int})
			def.Inputs[0].Args = append(def.Inputs[0].Args, 2)
		}
		return def
	}
	db := migrated(t, many("a", 31))
	if plan := planned(t, db, PlanOptions{}, many("b", 31)); !strings.HasPrefix(plan, "change aggregation Calls") {
		t.Errorf("64 measures in all: plan\n%s", plan)
	}
	if plan := planned(t, db, PlanOptions{}, many("b", 32)); !strings.Contains(plan, "create version 2") || !strings.Contains(plan, "at most 64 measures") {
		t.Errorf("65 measures in all: plan\n%s", plan)
	}
	if plan := planned(t, db, ofCalls, many("b", 32)); !strings.Contains(plan, "DROP measure a30") {
		t.Errorf("where the old ones may go: plan\n%s", plan)
	}
}

func TestApply_DropsNothingThatALiveWorkerWrites(t *testing.T) {
	t.Parallel()
	first, second := growing("Calls", 1, true), byAPI(1)
	for what, drop := range map[string]func(t *testing.T, db *DB) string{
		"measure": func(t *testing.T, db *DB) string { return refusal(t, db, ofCalls, growing("Calls", 0, true)) },
		"level":   func(t *testing.T, db *DB) string { return refusal(t, db, ofCalls, growing("Calls", 1, false)) },
		"earlier version": func(t *testing.T, db *DB) string {
			mustApply(t, db, PlanOptions{}, second)
			return refusal(t, db, PlanOptions{Destroy: []string{"Calls@1"}}, second)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, first)
			mustLease(t, db, "w", first)
			if got := drop(t, db); !strings.Contains(got, "w (tests)") || !strings.Contains(got, "stop them, run this again") {
				t.Errorf("refused with %s", got)
			}
		})
	}
}

func TestApply_FencesWhoLostTheLeaseOfWhatIsDropped(t *testing.T) {
	t.Parallel()
	for what, drop := range map[string]func(t *testing.T, db *DB){
		"aggregation": func(t *testing.T, db *DB) {
			mustApply(t, db, all)
			mustApply(t, db, PlanOptions{}, growing("Calls", 1, true))
		},
		"measure": func(t *testing.T, db *DB) { mustApply(t, db, all, growing("Calls", 0, true)) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			def := growing("Calls", 1, true)
			db := migrated(t, def)
			lease := mustLease(t, db, "w", def)
			if _, err := lease.conn.ExecContext(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
				t.Fatal(err)
			}
			drop(t, db)
			err := db.InTx(t.Context(), func(tx *Tx) error { _, err := tx.NextBatch(t.Context(), lease, Totals{}); return err })
			if !errors.Is(err, ErrFenced) {
				t.Errorf("its next flush: %v, want ErrFenced", err)
			}
		})
	}
}

func TestPlan_ShowsAllBesideWhatItRefuses(t *testing.T) {
	t.Parallel()
	db := migrated(t, growing("Calls", 0, true), growing("Other", 0, false), growing("Gone", 0, false))
	for what, c := range map[string]struct {
		options PlanOptions
		change  func(calls *aggregation.Definition)
		want    string
	}{
		"a level that goes": {PlanOptions{}, func(d *aggregation.Definition) { d.Granularities = d.Granularities[:3] }, "level months of aggregation Calls"},
		"another case":      {PlanOptions{}, func(d *aggregation.Definition) { d.Name = "CALLS" }, "the database has it as Calls"},
		"an unknown name":   {PlanOptions{Destroy: []string{"Nix"}}, nil, "--destroy=Nix: the database has no such aggregation; did you mean Gone"},
		"a defined name":    {PlanOptions{Destroy: []string{"calls"}}, nil, "--destroy=calls: all that the database has of it is defined; did you mean Gone"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			calls, other := growing("Calls", 0, true), growing("Other", 1, false)
			if c.change != nil {
				c.change(calls)
			}
			changes, err := db.Plan(t.Context(), []*aggregation.Definition{calls, other}, c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("refused with %v", err)
			}
			if !slices.ContainsFunc(changes, func(c Change) bool { return strings.HasPrefix(c.Text, "change aggregation Other") }) {
				t.Errorf("the other change is not there: %+v", changes)
			}
			_ = refusal(t, db, c.options, calls, other)
		})
	}
}

func TestPlan_SaysWhatIsMissingOfWhatIsDefinedAgain(t *testing.T) {
	t.Parallel()
	calls, other := growing("Calls", 0, false), growing("Other", 0, false)
	db := migrated(t, calls, other)
	for range 2 { // the second changes nothing
		mustApply(t, db, PlanOptions{}, other)
	}
	want := "change aggregation Calls: it is defined again; what workers folded meanwhile that did not know it is not in it"
	if got := planned(t, db, PlanOptions{}, calls, other); got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	mustApply(t, db, PlanOptions{}, calls, other)
	if got := planned(t, db, PlanOptions{}, calls, other); got != "" {
		t.Errorf("plan after it: %q", got)
	}
}

func TestPlan_ListsEarlierVersions(t *testing.T) {
	t.Parallel()
	db := migrated(t, growing("Calls", 0, false))
	mustApply(t, db, PlanOptions{}, byAPI(0))
	want := "version 1 of aggregation Calls is there too: its rows can be asked for as Calls@1 (`weir apply --destroy=Calls@1` drops them)"
	if got := planned(t, db, PlanOptions{}, byAPI(0)); got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
}
