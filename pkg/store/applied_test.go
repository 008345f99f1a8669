package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

func mustApply(t *testing.T, db *DB, options PlanOptions, defs ...*aggregation.Definition) {
	t.Helper()
	if err := db.Apply(t.Context(), defs, options); err != nil {
		t.Fatal(err)
	}
}

// fewerKeys is the definition with only the first of its group keys: it needs a
// version of its own.
func fewerKeys(def *aggregation.Definition) *aggregation.Definition {
	narrow := *def
	narrow.Keys = def.Keys[:1]
	narrow.Inputs = []aggregation.Input{def.Inputs[0]}
	narrow.Inputs[0].Keys = def.Inputs[0].Keys[:1]
	return &narrow
}

// sumOf asks for the first two measures of growing over all times.
func sumOf(t *testing.T, db *DB, def *aggregation.Definition, per aggregation.Granularity) string {
	t.Helper()
	q := &Question{Aggregation: def, Per: per, From: micro(2000, 1, 1), Until: micro(2100, 1, 1), Limit: -1}
	for i, m := range def.Measures[:2] {
		q.Select = append(q.Select, Expr{Op: OpField, Kind: m.Kind(), Field: Field{Role: MeasureField, Index: i}})
	}
	return askAll(t, db, q)
}

func askAll(t *testing.T, db *DB, q *Question) string {
	t.Helper()
	var rows []string
	if err := db.Ask(t.Context(), q, func(v []any) error { rows = append(rows, fmt.Sprint(v...)); return nil }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(rows, ", ")
}

func (s *shardState) mustWrite(t *testing.T, db *DB, def *aggregation.Definition, events []tried, due func(aggregation.Granularity) bool) {
	t.Helper()
	if err := s.write(t.Context(), db, []*aggregation.Definition{def}, events, due); err != nil {
		t.Fatal(err)
	}
}

// writeShard gives a shard one event and all of its levels.
func writeShard(t *testing.T, db *DB, id string, def *aggregation.Definition, n int) {
	t.Helper()
	lease := mustLease(t, db, id, def)
	s := &shardState{lease: lease}
	s.mustWrite(t, db, def, triedAt(n, 1), everyLevel)
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
}

func toDays(g aggregation.Granularity) bool { return g <= aggregation.Days }

func TestCompact_ByAnOlderProcessLeavesAnAddedLevelItsRows(t *testing.T) {
	t.Parallel()
	older, newer := growing("Calls", 1, false), growing("Calls", 1, true)
	for name, compact := range map[string]func(*DB) error{
		"level added before": func(db *DB) error {
			_, err := db.Compact(t.Context(), 0, []*aggregation.Definition{older})
			return err
		},
		"level added meanwhile": func(db *DB) error {
			c := compaction{db: db, def: older, level: aggregation.Days, shardID: "w", most: mostGroups}
			return c.run(t.Context(), 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, older)
			mustApply(t, db, PlanOptions{}, newer)
			s := &shardState{lease: mustLease(t, db, "w", newer)}
			for n, due := range []func(aggregation.Granularity) bool{everyLevel, everyLevel, toDays, toDays} { // months have event 1
				s.mustWrite(t, db, newer, triedAt(n+1, 1), due)
			}
			if err := compact(db); err != nil {
				t.Fatal(err)
			}
			if got := sumOf(t, db, newer, aggregation.Months); got != "4 10" {
				t.Errorf("after compaction: got %s, want 4 10", got)
			}
			s.cascade = nil // it crashes
			s.mustWrite(t, db, newer, triedAt(5, 1), everyLevel)
			if got := sumOf(t, db, newer, aggregation.Months); got != "5 15" {
				t.Errorf("after a crash: got %s, want 5 15", got)
			}
		})
	}
}

func TestPurge_ByAnOlderProcessLeavesAnAddedLevelItsRows(t *testing.T) {
	t.Parallel()
	for name, levels := range map[string][2]aggregation.Granularity{
		"rows": {aggregation.Days, aggregation.Months}, "partitions": {aggregation.Seconds, aggregation.Minutes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			older, newer := growing("Calls", 1, false), growing("Calls", 1, false)
			older.Granularities = []aggregation.Granularity{aggregation.Seconds}
			if levels[0] != aggregation.Seconds {
				older.Granularities = append(older.Granularities, levels[0])
			}
			newer.Granularities = append(slices.Clone(older.Granularities), levels[1])
			for _, def := range []*aggregation.Definition{older, newer} {
				def.Retention = map[aggregation.Granularity]time.Duration{aggregation.Seconds: time.Hour, levels[0]: time.Hour}
			}
			db := migrated(t, older)
			mustApply(t, db, PlanOptions{}, newer)
			s := &shardState{lease: mustLease(t, db, "w", newer)}
			s.mustWrite(t, db, newer, triedAt(1, 1), toDaysExcept(levels[1]))
			s.mustWrite(t, db, newer, triedAt(2, 1), toDaysExcept(levels[1]))
			before := sumOf(t, db, newer, levels[1])
			if _, err := db.Purge(t.Context(), time.Now(), []*aggregation.Definition{older}); err != nil {
				t.Fatal(err)
			}
			// As if the level had been added while it runs.
			p := Purged{Aggregation: older.ID(), Level: levels[0], ShardID: "w", Before: time.Now()}
			if err := db.eachStretch(t.Context(), older, &p, db.remove); err != nil {
				t.Fatal(err)
			}
			s.cascade = nil // it crashes
			s.mustWrite(t, db, newer, nil, everyLevel)
			if got := sumOf(t, db, newer, levels[1]); got != before || got != "2 3" {
				t.Errorf("got %s, before %s, want 2 3", got, before)
			}
		})
	}
}

func toDaysExcept(level aggregation.Granularity) func(aggregation.Granularity) bool {
	return func(g aggregation.Granularity) bool { return g != level && toDays(g) }
}

func TestUpkeep_LeavesOutWhatWasDropped(t *testing.T) {
	t.Parallel()
	first := growing("Calls", 1, false)
	first.Retention = map[aggregation.Granularity]time.Duration{aggregation.Seconds: time.Hour}
	second := fewerKeys(growing("Calls", 1, false))
	db := migrated(t, first)
	mustApply(t, db, PlanOptions{}, second)
	bound, earlier, _, err := db.Bind(t.Context(), []*aggregation.Definition{second})
	if err != nil {
		t.Fatal(err)
	}
	kept := append(bound[:1:1], earlier...)
	writeShard(t, db, "w", bound[0], 1)
	mustApply(t, db, PlanOptions{Destroy: []string{"Calls@1"}}, second)
	if _, _, err := db.LoadCascade(t.Context(), "w", kept, nil, 0); err != nil {
		t.Error(err)
	}
	if _, err := db.Purge(t.Context(), time.Now(), kept); err != nil {
		t.Error(err)
	}
	if _, err := db.Compact(t.Context(), 0, kept); err != nil {
		t.Error(err)
	}
	if err := db.AddSpans(t.Context(), "w", kept); err != nil {
		t.Error(err)
	}
	mustExec(t, db, `UPDATE weir.shard SET flushed_at = now() - interval '1 hour'`)
	if shards, err := db.Abandoned(t.Context(), time.Minute, kept); err != nil || len(shards) != 1 {
		t.Errorf("abandoned: got %v, %v, want w, whose levels are a batch behind", shards, err)
	}
	if _, err := db.RollUp(t.Context(), mustLease(t, db, "w", bound...), kept); err != nil {
		t.Fatal(err)
	}
	if shards, err := db.Abandoned(t.Context(), 0, kept); err != nil || len(shards) != 0 {
		t.Errorf("abandoned after a roll-up: got %v, %v", shards, err)
	}
}

func TestAbandoned_GoesByTheAggregationsItIsAskedFor(t *testing.T) {
	t.Parallel()
	one, two := growing("One", 0, false), growing("Two", 0, false)
	db := migrated(t, one, two)
	lease := mustLease(t, db, "w", one, two)
	if _, err := db.RollUp(t.Context(), lease, []*aggregation.Definition{one}); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `UPDATE weir.shard SET flushed_at = now() - interval '1 hour'`)
	for def, want := range map[*aggregation.Definition]int{one: 0, two: 1} {
		if shards, err := db.Abandoned(t.Context(), time.Minute, []*aggregation.Definition{def}); err != nil || len(shards) != want {
			t.Errorf("%s: got %v, %v, want %d shards", def.Name, shards, err, want)
		}
	}
}

func TestPurge_GoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	defs := []*aggregation.Definition{growing("One", 0, false), growing("Two", 0, false)}
	for _, def := range defs {
		def.Retention = map[aggregation.Granularity]time.Duration{aggregation.Seconds: time.Hour}
	}
	db := migrated(t, defs...)
	writer := &shardState{lease: mustLease(t, db, "w", defs...)}
	for range 2 {
		if err := writer.write(t.Context(), db, defs, triedAt(1, 1), everyLevel); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, db, `ALTER TABLE weir_data.one_seconds RENAME TO somewhere_else`)
	purged, err := db.Purge(t.Context(), time.Now(), defs)
	if err == nil || !strings.Contains(err.Error(), "One per seconds") || len(purged) != 1 || purged[0].Rows != 1 {
		t.Errorf("got %+v, %v, want the rows of Two, and what failed of One", purged, err)
	}
	if got := ask[int](t, db, `SELECT count(*) FROM weir_data.two_seconds`); got != 1 {
		t.Errorf("%d rows of Two are left, want that of the last batch", got)
	}
}

func TestMaintenance_OfOneLargeBucketIsNotBoundByTheStatementTimeout(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 0, false)
	db := migrated(t, def)
	err := db.steady(t.Context(), def, def.Finest(), func(tx *Tx, _ *aggregation.Definition) error {
		var statement, idle string
		err := tx.tx.QueryRowContext(t.Context(), `SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')`).Scan(&statement, &idle)
		if statement != "0" || idle != "10min" {
			t.Errorf("got %s, %s", statement, idle)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if got := ask[string](t, db, `SELECT current_setting('statement_timeout')`); got == "0" {
		t.Error("it stays without bound")
	}
}

func TestCompactLedger_KeepsTheScopeOfARunningBackfillOfALaterVersion(t *testing.T) {
	t.Parallel()
	db := migrated(t, growing("Calls", 1, false))
	mustApply(t, db, PlanOptions{Backfill: true}, fewerKeys(growing("Calls", 1, false)))
	byWorker, byJob := NewClaims("Calls@2"), NewBackfillClaims("Calls@2")
	byWorker.Add("gw", "e", 1)
	mustClaim(t, db, byWorker)
	if _, err := db.CompactLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	byJob.Add("gw", "e", 1)
	if err := claim(t.Context(), db, byJob); !errors.Is(err, ErrClaimed) {
		t.Errorf("got %v, want ErrClaimed: it is in the aggregation", err)
	}
}

func TestLease_AddsPartitionsOfEarlierVersions(t *testing.T) {
	t.Parallel()
	first := growing("Calls", 1, false)
	db := migrated(t, first)
	writeShard(t, db, "w", first, 1)
	mustApply(t, db, PlanOptions{}, growing("Calls", 1, true))
	second := fewerKeys(growing("Calls", 1, true))
	mustApply(t, db, PlanOptions{}, second)
	bound, earlier, _, err := db.Bind(t.Context(), []*aggregation.Definition{second})
	if err != nil {
		t.Fatal(err)
	}
	lease := mustLease(t, db, "w", bound...)
	if _, err := db.RollUp(t.Context(), lease, append(bound[:1:1], earlier...)); !TablesChanged(err) {
		t.Errorf("without: got %v, want an error that says that the tables are others", err)
	}
	if err := lease.AddPartitions(t.Context(), append(earlier, growing("Dropped", 0, false))); err != nil {
		t.Fatal(err)
	}
	if _, err := db.RollUp(t.Context(), lease, append(bound[:1:1], earlier...)); err != nil {
		t.Error(err)
	}
	if got := ask[string](t, db, `SELECT aggregations::text FROM weir.shard`); got != "{Calls@2}" {
		t.Errorf("the shard is written with %s, want {Calls@2}", got)
	}
}

func TestMerge_LeavesUnknownMomentsUnknown(t *testing.T) {
	t.Parallel()
	before, after := growing("Calls", 0, false), growing("Calls", 2, false)
	db := migrated(t, before)
	s := &shardState{lease: mustLease(t, db, "w", before)}
	events := triedAt(1, 2)
	events[0].api, events[1].api = "zebra", "apple"
	events[1].at += int64(time.Hour / time.Microsecond)
	for range 2 {
		s.mustWrite(t, db, before, events, noLevel)
	}
	mustApply(t, db, PlanOptions{}, after)
	newest := func(per aggregation.Granularity) string {
		q := &Question{Aggregation: after, Per: per, From: micro(2000, 1, 1), Until: micro(2100, 1, 1), Limit: -1}
		q.Select = []Expr{{Op: OpField, Kind: event.String, Field: Field{Role: KeyField}}}
		return askAll(t, db, q)
	}
	want := newest(aggregation.Seconds)
	s.cascade = nil
	s.mustWrite(t, db, after, nil, everyLevel)
	if got := newest(aggregation.Hours); got != want {
		t.Errorf("the newest key of rolled up hours is %s, want %s", got, want)
	}
	if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{after}); err != nil {
		t.Fatal(err)
	}
	if got := newest(aggregation.Seconds); got != want {
		t.Errorf("the newest key of compacted seconds is %s, want %s", got, want)
	}
	for _, at := range []string{"(SELECT (weir_view.numbers(weir_last_time))[1] FROM weir_data.calls_seconds LIMIT 1)", "(SELECT (weir_view.numbers(weir_last_seq))[1] FROM weir_data.calls_hours LIMIT 1)"} {
		if !ask[bool](t, db, `SELECT `+at+` IS NULL`) {
			t.Errorf("%s is known", at)
		}
	}
}

// A worker that the database does not take any more neither compacts nor purges
// with its older code.
func TestMaintenance_OfAnOlderReleaseEndsWithTheProtocol(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 0, false)
	db := migrated(t, def)
	steady := func() error {
		return db.steady(t.Context(), def, def.Finest(), func(*Tx, *aggregation.Definition) error { return nil })
	}
	if err := steady(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `SELECT weir.require_protocol(`+strconv.Itoa(Protocol+1)+`)`)
	var outdated ErrProtocol
	if err := steady(); !errors.As(err, &outdated) {
		t.Errorf("got %v, want an ErrProtocol", err)
	}
}
