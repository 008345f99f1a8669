package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// growing is an aggregation with the first n of its optional measures, and with
// months if it is to have them.
func growing(name string, n int, months bool) *aggregation.Definition {
	optional := []aggregation.Measure{
		{Name: "slowest", Op: aggregation.Max, Arg: "ms", ArgKind: event.Int},
		{Name: "newest", Op: aggregation.Last, Arg: "ms", ArgKind: event.Int},
		{Name: "mean", Op: aggregation.Avg, Arg: "ms", ArgKind: event.Int},
		{Name: "oldest", Op: aggregation.First, Arg: "ms", ArgKind: event.Int},
		{Name: "sizes", Op: aggregation.Distinct, Arg: "size", ArgKind: event.Float},
		{Name: "spread", Op: aggregation.Deviation, Arg: "size", ArgKind: event.Float},
	}
	def := &aggregation.Definition{
		Name: name, Zone: time.UTC,
		Keys: []aggregation.Key{{Name: "api", Kind: event.String}, {Name: "code", Kind: event.Int}},
		Measures: append([]aggregation.Measure{
			{Name: "calls", Op: aggregation.Count},
			{Name: "millis", Op: aggregation.Sum, Arg: "ms", ArgKind: event.Int},
		}, optional[:n]...),
		Granularities: []aggregation.Granularity{aggregation.Seconds, aggregation.Hours, aggregation.Days},
		Inputs:        []aggregation.Input{{Stream: "calls", Where: -1, Keys: []int{0, 1}, Args: []int{-1, 2, 2, 2, 2, 2, 3, 3}[:2+n]}},
	}
	if months {
		def.Granularities = append(def.Granularities, aggregation.Months)
	}
	return def
}

const optionalMeasures = 6

// known is an event, and how many optional measures its worker knew.
type known struct {
	tried
	measures int
}

// expectGrown is the answer by a loop over all events: each measure is over
// the events whose worker knew it, and null where there is none.
func expectGrown(per aggregation.Granularity, events []known) string {
	rows := map[string][]known{}
	for _, e := range events {
		key := fmt.Sprintf("%s %s %d", time.UnixMicro(per.Truncate(e.at, time.UTC)).UTC().Format(time.RFC3339), e.api, e.code)
		rows[key] = append(rows[key], e)
	}
	var lines []string
	for key, all := range rows {
		slices.SortFunc(all, func(a, b known) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sequence, b.sequence)) })
		total := int64(0)
		for _, e := range all {
			total += e.ms
		}
		values := []any{int64(len(all)), total}
		for i := range optionalMeasures {
			values = append(values, optionalMeasure(i, slices.DeleteFunc(slices.Clone(all), func(e known) bool { return e.measures <= i })))
		}
		lines = append(lines, key+" "+fmt.Sprint(values...))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func optionalMeasure(i int, events []known) any {
	if len(events) == 0 {
		return nil
	}
	slowest, sum, mean, squares := events[0].ms, 0.0, 0.0, 0.0
	sizes := map[float64]bool{}
	for _, e := range events {
		slowest, sum, mean = max(slowest, e.ms), sum+float64(e.ms), mean+e.size/float64(len(events))
		sizes[e.size] = true
	}
	for _, e := range events {
		squares += (e.size - mean) * (e.size - mean)
	}
	return []any{
		slowest, events[len(events)-1].ms, rounded(sum / float64(len(events))), events[0].ms, int64(len(sizes)),
		rounded(math.Sqrt(squares / float64(len(events)))),
	}[i]
}

func rounded(f float64) string { return fmt.Sprintf("%.4f", math.Abs(f)) }

// Measures and a level are added one after another, while workers that do not
// know them go on, crash and come back: every answer has of each measure what
// was written by workers that knew it, at every level.
func TestApply_AddsMeasuresAndLevelsWhileWorkersFold(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	tries := 0
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		tries++
		leases := []*Lease{mustLease(outer, db, "a"), mustLease(outer, db, "b")}
		name := fmt.Sprint("Grows", tries)
		measures, months := rapid.IntRange(0, 3).Draw(t, "at first"), false
		apply := func() *aggregation.Definition {
			defs := []*aggregation.Definition{growing(name, measures, months)}
			if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, lease := range leases {
				if err := addPartitions(t.Context(), lease.conn, lease.ShardID, defs); err != nil {
					t.Fatal(err)
				}
			}
			return defs[0]
		}
		defer func() {
			for _, lease := range leases {
				_ = lease.Close()
			}
			if err := db.Apply(t.Context(), nil, PlanOptions{Destroy: []string{name}}); err != nil {
				t.Fatal(err)
			}
		}()
		newest := apply()
		shards := []*shardState{{lease: leases[0]}, {lease: leases[1]}}
		knows := []*aggregation.Definition{newest, newest}
		var committed []known
		for n := range rapid.IntRange(2, 10).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				measures = rapid.IntRange(measures, optionalMeasures).Draw(t, "measures")
				months = months || rapid.Bool().Draw(t, "months")
				newest = apply()
			}
			at := rapid.IntRange(0, 1).Draw(t, "shard")
			if rapid.IntRange(0, 2).Draw(t, "restart") == 0 {
				shards[at].cascade, knows[at] = nil, newest
			}
			events := rapid.SliceOfN(rapid.Custom(drawTried), 0, 8).Draw(t, "events")
			for i := range events {
				events[i].sequence = uint64(100*n + i)
			}
			due := rapid.SliceOf(rapid.SampledFrom(newest.Granularities)).Draw(t, "due")
			if shards[at].flush(t, db, knows[at], events, due, rapid.IntRange(0, 4).Draw(t, "fate") == 0) {
				for _, e := range events {
					committed = append(committed, known{e, len(knows[at].Measures) - 2})
				}
			}
		}
		newest = growing(name, optionalMeasures, months)
		measures = optionalMeasures
		apply()
		var events []tried
		for _, e := range committed {
			events = append(events, e.tried)
		}
		wantProof(t, db, newest, events)
		for _, per := range newest.Granularities {
			got := answerGrown(t, db, newest, per)
			if want := expectGrown(per, committed); got != want {
				t.Fatalf("per %s: got\n%s\nwant\n%s", per, got, want)
			}
		}
	})
}

func answerGrown(t *rapid.T, db *DB, def *aggregation.Definition, per aggregation.Granularity) string {
	q := &Question{
		Aggregation: def, Per: per, From: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), Until: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(),
		Limit: -1, Group: []Field{{Role: BucketField}, {Role: KeyField}, {Role: KeyField, Index: 1}},
		Select: []Expr{
			{Op: OpField, Kind: event.Time, Field: Field{Role: BucketField}},
			{Op: OpField, Kind: event.String, Field: Field{Role: KeyField}},
			{Op: OpField, Kind: event.Int, Field: Field{Role: KeyField, Index: 1}},
		},
	}
	for i, m := range def.Measures {
		q.Select = append(q.Select, Expr{Op: OpField, Kind: m.Kind(), Field: Field{Role: MeasureField, Index: i}})
	}
	var lines []string
	err := db.Ask(t.Context(), q, func(v []any) error {
		bucket, _ := v[0].(time.Time)
		for i, value := range v {
			if f, ok := value.(float64); ok {
				v[i] = rounded(f)
			}
		}
		lines = append(lines, fmt.Sprintf("%s %s %d %s", bucket.Format(time.RFC3339), v[1], v[2], fmt.Sprint(v[3:]...)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// planned returns the lines of a plan.
func planned(t *testing.T, db *DB, options PlanOptions, defs ...*aggregation.Definition) string {
	t.Helper()
	changes, err := db.Plan(t.Context(), defs, options)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.Text)
	}
	return strings.Join(lines, "\n")
}

func TestApply_MakesAVersionBesideTheOldOneWhereTablesCannotBeShared(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*aggregation.Definition){
		"group by (api string), was (api string, code int)": func(d *aggregation.Definition) { d.Keys = d.Keys[:1] },
		"code string": func(d *aggregation.Definition) { d.Keys[1].Kind = event.String },
		"measure millis max of int, was sum of int":   func(d *aggregation.Definition) { d.Measures[1].Op = aggregation.Max },
		"every hours, days, was seconds, hours, days": func(d *aggregation.Definition) { d.Granularities = d.Granularities[1:] },
		"every seconds, minutes, hours, days": func(d *aggregation.Definition) {
			d.Granularities = slices.Insert(d.Granularities, 1, aggregation.Minutes)
		},
		"zone Asia/Kolkata, was UTC": func(d *aggregation.Definition) { d.Zone = time.FixedZone("Asia/Kolkata", 19800) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			first, second := growing("Calls", 2, false), growing("Calls", 2, false)
			change(second)
			db := migrated(t, first)
			plan := planned(t, db, PlanOptions{}, second)
			if !strings.Contains(plan, what) || !strings.Contains(plan, "version 2 of aggregation Calls") || !strings.Contains(plan, "Calls@1") {
				t.Errorf("the plan says\n%s\nnot: %s", plan, what)
			}
			if err := db.Apply(t.Context(), []*aggregation.Definition{second}, PlanOptions{}); err != nil {
				t.Fatal(err)
			}
			for i, def := range []*aggregation.Definition{first, second} {
				bound, earlier, missing, err := db.Bind(t.Context(), []*aggregation.Definition{def})
				if err != nil || missing != "" || len(bound) != 1 || bound[0].Version != i+1 || len(earlier) != 1 || earlier[0].Version != 2-i {
					t.Fatalf("definition %d is bound to %+v, earlier %+v, %s, %v", i+1, bound, earlier, missing, err)
				}
			}
			if plan := planned(t, db, PlanOptions{}, first); !strings.Contains(plan, "version 1 is used again") {
				t.Errorf("back to the first definition: the plan says\n%s", plan)
			}
			if err := db.Apply(t.Context(), []*aggregation.Definition{second}, PlanOptions{Destroy: []string{"calls@1"}}); err != nil {
				t.Fatal(err)
			}
			if n := ask[int](t, db, `SELECT count(*) FROM weir.aggregation WHERE version = 1 OR NOT current`); n != 0 {
				t.Errorf("%d versions that are not the current one after they were dropped", n)
			}
			if got := ask[int](t, db, `SELECT count(*) FROM pg_tables WHERE schemaname = 'weir_data' AND tablename NOT LIKE 'calls@2%'`); got != 0 {
				t.Errorf("%d tables of the first version are left", got)
			}
		})
	}
}

func TestApply_DropsNothingUnlessTold(t *testing.T) {
	t.Parallel()
	wide, narrow := growing("Calls", 3, true), growing("Calls", 1, true)
	db := migrated(t, wide, growing("Other", 0, false))
	columns := func() int {
		return ask[int](t, db, `SELECT count(*) FROM information_schema.columns WHERE table_schema = 'weir_data' AND table_name = 'calls_days' AND column_name IN ('newest', 'mean', 'weir_last_seq')`)
	}
	want := "change aggregation Calls: fill measure newest no more; what it has stays (`weir apply --destroy=Calls` drops it); fill measure mean no more; " +
		"what it has stays (`weir apply --destroy=Calls` drops it)\n" +
		"aggregation Other is not defined any more: its rows stay and can be asked for (`weir apply --destroy=Other` drops them)"
	if got := planned(t, db, PlanOptions{}, narrow); got != want {
		t.Errorf("plan:\n%s\nwant:\n%s", got, want)
	}
	if err := db.Apply(t.Context(), []*aggregation.Definition{narrow}, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := columns(); n != 3 {
		t.Errorf("%d columns after measures were left out, want 3", n)
	}
	if plan := planned(t, db, PlanOptions{}, wide); !strings.Contains(plan, "fill measure newest again; fill measure mean again") {
		t.Errorf("with the measures again: %s", plan)
	}
	for _, def := range []*aggregation.Definition{wide, narrow} {
		if missing, err := db.Missing(t.Context(), []*aggregation.Definition{def}); err != nil || missing != "" {
			t.Errorf("with %d measures: missing %q, %v", len(def.Measures), missing, err)
		}
	}
	if err := db.Apply(t.Context(), []*aggregation.Definition{narrow}, PlanOptions{Destroy: []string{Everything}}); err != nil {
		t.Fatal(err)
	}
	if n := columns(); n != 0 {
		t.Errorf("%d columns after they were dropped", n)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM pg_tables WHERE schemaname = 'weir_data' AND tablename LIKE 'other%'`); n != 0 {
		t.Errorf("%d tables of the other aggregation after it was dropped", n)
	}
	if plan := planned(t, db, PlanOptions{Destroy: []string{Everything}}, narrow); plan != "" {
		t.Errorf("plan after all: %s", plan)
	}
}

func TestPlan_RemovesALevelOnlyWhereTold(t *testing.T) {
	t.Parallel()
	with, without := growing("Calls", 1, true), growing("Calls", 1, false)
	db := migrated(t, with)
	_, err := db.Plan(t.Context(), []*aggregation.Definition{without}, PlanOptions{})
	if err == nil || !strings.Contains(err.Error(), "level months of aggregation Calls") || !strings.Contains(err.Error(), "--destroy=Calls") {
		t.Errorf("got %v", err)
	}
	if got, want := planned(t, db, PlanOptions{Destroy: []string{"calls"}}, without), "change aggregation Calls: DROP level months with its rows"; got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	if err := db.Apply(t.Context(), []*aggregation.Definition{without}, PlanOptions{Destroy: []string{"calls"}}); err != nil {
		t.Fatal(err)
	}
	if got := planned(t, db, PlanOptions{}, with); !strings.Contains(got, "add level months") {
		t.Errorf("with months again: plan %q", got)
	}
}

func TestApply_DropsNothingThatALiveWorkerUses(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 1, false)
	db := migrated(t, def)
	lease := mustLease(t, db, "w1", def)
	drop := PlanOptions{Destroy: []string{Everything}}
	err := db.Apply(t.Context(), nil, drop)
	if err == nil || !strings.Contains(err.Error(), "w1 (tests)") || !strings.Contains(err.Error(), "stop them") {
		t.Errorf("got %v, want an error that names the worker", err)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM pg_tables WHERE schemaname = 'weir_data' AND tablename = 'calls_days'`); n != 1 {
		t.Errorf("%d tables per days after a refused drop, want 1", n)
	}
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Apply(t.Context(), nil, drop); err != nil {
		t.Errorf("once the worker has ended: %v", err)
	}
}

func TestPlan_TellsOfRetentionAndShards(t *testing.T) {
	t.Parallel()
	before, after := growing("Calls", 1, false), growing("Calls", 1, false)
	after.Retention = map[aggregation.Granularity]time.Duration{aggregation.Hours: 48 * time.Hour}
	after.PartitionByID = true
	db := migrated(t, before)
	want := "change aggregation Calls: shard_id becomes a column of its answers; hours are kept for 48 hours, not for ever"
	if got := planned(t, db, PlanOptions{}, after); got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	if missing, err := db.Missing(t.Context(), []*aggregation.Definition{after}); err != nil || missing != "" {
		t.Errorf("it can fold before: missing %q, %v", missing, err)
	}
	if err := db.Apply(t.Context(), []*aggregation.Definition{after}, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := planned(t, db, PlanOptions{}, after); got != "" {
		t.Errorf("plan after it: %q", got)
	}
}
