package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq/pqerror"
	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// housekeeper is another process that compacts and purges in the test of the
// cascade.
type housekeeper struct {
	db      *DB
	def     *aggregation.Definition
	purging bool // of the two finest levels, all that can go
}

// kept lists the levels that may be asked for.
func (h housekeeper) kept() []aggregation.Granularity {
	if h.purging {
		return h.def.Granularities[2:]
	}
	return h.def.Granularities
}

func (h housekeeper) tidy(t *rapid.T) {
	t.Helper()
	if rapid.IntRange(0, 4).Draw(t, "compaction") == 0 {
		h.compact(t)
	}
	if h.purging && rapid.IntRange(0, 3).Draw(t, "purge") == 0 {
		def := *h.def
		def.Retention = map[aggregation.Granularity]time.Duration{def.Granularities[0]: 48 * time.Hour, def.Granularities[1]: 48 * time.Hour}
		if _, err := h.db.Purge(t.Context(), time.Now(), []*aggregation.Definition{&def}); err != nil {
			t.Fatal(err)
		}
	}
}

func (h housekeeper) compact(t *rapid.T) {
	t.Helper()
	if _, err := h.db.Compact(t.Context(), 0, []*aggregation.Definition{h.def}); err != nil {
		t.Fatal(err)
	}
}

// move makes the rows of one shard look as if they came from another: they have
// numbers below zero.
func (h housekeeper) move(t *rapid.T) {
	t.Helper()
	for _, level := range h.def.Granularities {
		if _, err := h.db.sql.ExecContext(t.Context(), `UPDATE `+tableOf(h.def, level)+` SET batch_no = batch_no - 1000000 WHERE shard_id = 'b'`); err != nil {
			t.Fatal(err)
		}
	}
}

func (h housekeeper) wantOneRowPerKey(t *rapid.T) {
	t.Helper()
	for _, level := range h.def.Granularities {
		key := "bucket, shard_id"
		if !h.def.Packed(level) {
			key += ", weir_key"
		} else if h.db.mostGroups != mostGroups || h.db.mergeRoom != mergeRoom {
			key += ", batch_no, weir_part" // some buckets may have too many groups for one row
		}
		var rows, keys, below int
		err := h.db.sql.QueryRowContext(t.Context(), `SELECT count(*), count(DISTINCT (`+key+`)), count(*) FILTER (WHERE batch_no < 0) FROM `+tableOf(h.def, level)).Scan(&rows, &keys, &below)
		if err != nil {
			t.Fatal(err)
		}
		if rows != keys || below > 0 {
			t.Errorf("per %s: %d rows for %d buckets and keys, %d numbered below zero", level, rows, keys, below)
		}
	}
}

// emptyTables forgets all that was folded; batch numbers go on.
func emptyTables(t *rapid.T, db *DB, def *aggregation.Definition) {
	t.Helper()
	statements := []string{"DELETE FROM weir.watermark", "DELETE FROM weir.compacted", "DELETE FROM weir.control", "DELETE FROM weir.purged"}
	for _, level := range def.Granularities {
		statements = append(statements, "TRUNCATE "+tableOf(def, level))
	}
	for _, statement := range statements {
		if _, err := db.sql.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// Sums of a key that do not fit into one row stay in as many as they need.
func TestCompact_KeepsSumsThatOverflow(t *testing.T) {
	t.Parallel()
	def := calls("Overflow")
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	day := time.Date(2026, 5, 17, 0, 0, 0, 0, time.UTC)
	for range 3 {
		delta := oneCall(def, day)
		delta.Parts[0].Level, delta.Parts[0].Measures[1][0] = aggregation.Days, math.MaxInt64-1
		if err := flush(t.Context(), db, lease, delta, NewClaims()); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, db, `INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no) VALUES ('s', 'Overflow', 'months', 3)`)
	for range 2 {
		if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{def}); err != nil {
			t.Fatal(err)
		}
		got := ask[string](t, db, `SELECT concat_ws(' ', sum(bytes), sum(weir_events), count(*), max(weir_part), min(batch_no)) FROM weir_data.overflow_days`)
		if want := "27670116110564327418 3 3 2 3"; got != want {
			t.Errorf("got sum, events, rows, last part and batch %s, want %s", got, want)
		}
	}
}

// Buckets that have more groups than are merged at a time become several rows, and
// those beside them are compacted as ever, also when they come from another shard.
func TestCompact_OfALargeBucketGoesByRuns(t *testing.T) {
	t.Parallel()
	def := calls("Large")
	db := migrated(t, def)
	db.mostGroups = 6
	lease := mustLease(t, db, "s", def)
	minute := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	write := func() {
		t.Helper()
		delta := aggregation.Delta{Dict: event.NewDictionary()}
		for i, groups := range []int{2, 3, 2} {
			p := aggregation.Part{Definition: def, Level: aggregation.Minutes, Bucket: minute.Add(time.Duration(i) * time.Minute).UnixMicro(), Keys: make([][]event.Cell, 2), Measures: make([][]event.Cell, 2)}
			for n := range groups {
				p.Keys[0], p.Keys[1] = append(p.Keys[0], delta.Dict.Intern("pizza")), append(p.Keys[1], event.Cell(n))
				p.Events, p.Checksums, p.Measures[1] = append(p.Events, 1), append(p.Checksums, event.Cell(i)), append(p.Measures[1], 10)
			}
			delta.Parts = append(delta.Parts, p)
		}
		if err := flush(t.Context(), db, lease, delta, NewClaims()); err != nil {
			t.Fatal(err)
		}
	}
	compacted := func(what string, batch int, want string) {
		t.Helper()
		mustExec(t, db, `INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no) VALUES ('s', 'Large', 'hours', $1)
			ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no`, batch)
		if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{def}); err != nil {
			t.Fatal(err)
		}
		got := ask[string](t, db, `SELECT string_agg(concat_ws(' ', rows, events, bytes, checksum, batches), ', ' ORDER BY bucket) FROM (
			SELECT bucket, count(*) AS rows, sum((SELECT sum(n) FROM unnest(weir_events) AS n)) AS events, sum((SELECT sum(n) FROM unnest(bytes) AS n)) AS bytes,
				sum(weir_checksum) AS checksum, min(batch_no) || '-' || max(batch_no) AS batches FROM weir_data.large_minutes GROUP BY bucket) AS b`)
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
		if mark := ask[int](t, db, `SELECT batch_no FROM weir.compacted WHERE level = 'minutes'`); mark != batch {
			t.Errorf("%s: compacted up to %d, want %d", what, mark, batch)
		}
	}
	for range 3 {
		write()
	}
	compacted("three flushes", 3, "1 6 60 0 3-3, 2 9 90 9 3-3, 1 6 60 12 3-3")
	write()
	compacted("one more", 4, "1 8 80 0 4-4, 2 12 120 12 4-4, 1 8 80 16 4-4")
	mustExec(t, db, `UPDATE weir_data.large_minutes SET batch_no = batch_no - 1000`)
	compacted("moved", 4, "1 8 80 0 4-4, 1 12 120 12 4-4, 1 8 80 16 4-4")
}

// Rows from before a measure was added stay apart from those that have it.
func TestCompact_KeepsApartWhatLacksAMeasure(t *testing.T) {
	t.Parallel()
	def := calls("Lacks")
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	for range 4 {
		delta := oneCall(def, time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC))
		days := oneCall(def, time.Date(2026, 5, 17, 0, 0, 0, 0, time.UTC)).Parts[0]
		days.Level = aggregation.Days
		delta.Parts = append(delta.Parts, days)
		if err := flush(t.Context(), db, lease, delta, NewClaims()); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"weir_data.lacks_seconds", "weir_data.lacks_days"} {
		mustExec(t, db, `ALTER TABLE `+table+` ALTER bytes DROP NOT NULL`)
		mustExec(t, db, `UPDATE `+table+` SET bytes = NULL WHERE batch_no <= 2`)
	}
	mustExec(t, db, `INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no) VALUES ('s', 'Lacks', 'minutes', 4), ('s', 'Lacks', 'months', 4)`)
	for range 2 {
		if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{def}); err != nil {
			t.Fatal(err)
		}
		for query, want := range map[string]string{
			`SELECT string_agg(concat_ws(' ', weir_part, weir_events, coalesce(bytes::text, 'unknown')), ', ' ORDER BY weir_part) FROM weir_data.lacks_days`: "0 2 unknown, 1 2 20",
			`SELECT string_agg(concat_ws(' ', weir_events::text, bytes::text), ', ') FROM weir_data.lacks_seconds`:                                           "{2,2} {NULL,20}",
		} {
			if got := ask[string](t, db, query); got != want {
				t.Errorf("%s: got %s, want %s", query, got, want)
			}
		}
	}
}

func TestCompact_GoesOnPastWhatIsCorrupted(t *testing.T) {
	t.Parallel()
	defs := []*aggregation.Definition{cascadeDef("Broken", time.UTC), cascadeDef("Sound", time.UTC)}
	db := migrated(t, defs...)
	lease := mustLease(t, db, "s", defs...)
	for _, def := range defs {
		s := &shardState{lease: lease}
		for n := range 3 {
			s.flush(t, db, def, []tried{{api: "x", at: 1, size: float64(n)}}, def.Granularities, false)
		}
		s.flush(t, db, def, nil, def.Granularities, false)
	}
	mustExec(t, db, `UPDATE weir_data.broken_hours SET sizes = ARRAY['\x0563'::bytea]`)
	if _, err := db.Compact(t.Context(), 0, defs); err == nil || !strings.Contains(err.Error(), "Broken per hours of shard s") || !strings.Contains(err.Error(), "corrupted sketch") {
		t.Errorf("got %v", err)
	}
	for table, want := range map[string]int{"broken_hours": 3, "broken_days": 1, "sound_seconds": 1, "sound_hours": 1} {
		if got := ask[int](t, db, `SELECT count(*) FROM weir_data.`+table); got != want {
			t.Errorf("%s has %d rows, want %d", table, got, want)
		}
	}
}

func TestCompact_LeavesAloneWhatIsRecentOrGoesSoon(t *testing.T) {
	t.Parallel()
	def := calls("Recent")
	def.Retention = map[aggregation.Granularity]time.Duration{aggregation.Minutes: worthCompacting - time.Second, aggregation.Hours: worthCompacting}
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	state := map[aggregation.Granularity]int{aggregation.Seconds: 1, aggregation.Minutes: 2, aggregation.Hours: 1}
	write := func() {
		for level := range state {
			delta := oneCall(def, time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC))
			delta.Parts[0].Level = level
			if err := flush(t.Context(), db, lease, delta, NewClaims()); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, db, `INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no) SELECT 's', 'Recent', l, 6 FROM unnest(ARRAY['minutes', 'hours', 'days']) AS l
			ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no`)
	}
	want := func(what string, every time.Duration) {
		if _, err := db.Compact(t.Context(), every, []*aggregation.Definition{def}); err != nil {
			t.Fatal(err)
		}
		for level, rows := range state {
			if got := ask[int](t, db, `SELECT count(*) FROM `+tableOf(def, level)); got != rows {
				t.Errorf("%s: %d rows per %s, want %d", what, got, level, rows)
			}
		}
	}
	write()
	write()
	want("first", time.Hour)
	mustExec(t, db, `UPDATE weir.watermark SET batch_no = 9`)
	write()
	state = map[aggregation.Granularity]int{aggregation.Seconds: 2, aggregation.Minutes: 3, aggregation.Hours: 2}
	want("again within the hour", time.Hour)
	mustExec(t, db, `UPDATE weir.watermark SET batch_no = 9`)
	state = map[aggregation.Granularity]int{aggregation.Seconds: 1, aggregation.Minutes: 3, aggregation.Hours: 1}
	want("an hour later", 0)
}

// Workers flush to their shards while other processes give these partitions,
// purge and compact: nobody fails, and nothing is lost or counted twice.
func TestMaintenance_GoesOnBesideFlushingWorkers(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Busy", time.UTC)
	def.Retention = map[aggregation.Granularity]time.Duration{def.Granularities[0]: time.Hour, def.Granularities[1]: 48 * time.Hour}
	defs := []*aggregation.Definition{def}
	address := migratedAddress(t)
	db := open(t, address)
	if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	const workers, flushes, events = 3, 40, 20
	var work, upkeep sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for i := range workers {
		s := &shardState{lease: mustLease(t, db, fmt.Sprint("w", i), def)}
		work.Go(func() {
			for n := range flushes {
				due := def.Granularities[1+n%7 : 2+n%7]
				if n == flushes-1 {
					due = def.Granularities
				}
				flush := func() error { return s.tryFlush(t.Context(), db, def, busyEvents(n, events), due, false) }
				err := flush()
				for hasCode(err, pqerror.CheckViolation) { // a span was attached while rows of it were on their way to the default partition
					err = flush()
				}
				if err != nil {
					t.Errorf("flush: %v", err)
					return
				}
			}
		})
	}
	var purged, compacted atomic.Int64
	for i := range 2 {
		other := open(t, address)
		upkeep.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := other.AddSpans(t.Context(), fmt.Sprint("w", n%workers), defs)
				if err == nil && i == 0 {
					var all []Purged
					all, err = other.Purge(t.Context(), time.Now().Add(time.Duration(n%2)*100*time.Hour), defs)
					purged.Add(int64(len(all)))
				} else if err == nil {
					var groups int64
					groups, err = other.Compact(t.Context(), 0, defs)
					compacted.Add(groups)
				}
				if err != nil && !MaintenanceBusy(err) {
					t.Errorf("upkeep: %v", err)
					return
				}
			}
		})
	}
	work.Wait()
	until(t, "something is purged and something compacted", func() bool { return purged.Load() > 0 && compacted.Load() > 0 || t.Failed() })
	stop()
	upkeep.Wait()
	for _, level := range def.Granularities[2:] {
		counted := "weir_events"
		if def.Packed(level) {
			counted = "(SELECT sum(n) FROM unnest(weir_events) AS n)"
		}
		got := ask[int](t, db, `SELECT coalesce(sum(`+counted+`), 0) FROM `+tableOf(def, level))
		if want := workers * (flushes - 1) * events; got != want { // the last flush is past the watermark
			t.Errorf("per %s: %d events, want %d", level, got, want)
		}
	}
	if n := ask[int](t, db, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n > 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// busyEvents are of now, of yesterday and of years ago, in turn.
func busyEvents(n, count int) (events []tried) {
	for i := range count {
		at := time.Now().AddDate(0, 0, -n%3*i*50)
		events = append(events, tried{api: fmt.Sprint("api", i%4), ms: int64(i), size: 1, at: at.UnixMicro(), sequence: uint64(n*count + i)})
	}
	return events
}

func TestMaintenance_IsForOneProcessAtATime(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	err := db.alone(t.Context(), func() error {
		_, err := db.Purge(t.Context(), time.Now(), nil)
		_, also := db.Compact(t.Context(), 0, nil)
		if !MaintenanceBusy(err) || !MaintenanceBusy(also) {
			t.Errorf("beside another: %v, %v", err, also)
		}
		return nil
	})
	if _, again := db.Purge(t.Context(), time.Now(), nil); errors.Join(err, again) != nil {
		t.Errorf("after it: %v, %v", err, again)
	}
}
