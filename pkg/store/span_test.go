package store

import (
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

// shortLived keeps seconds for minutes and minutes for three days.
func shortLived(name string) *aggregation.Definition {
	def := calls(name)
	def.Retention = map[aggregation.Granularity]time.Duration{aggregation.Seconds: 5 * time.Minute, aggregation.Minutes: 72 * time.Hour, aggregation.Hours: 90 * 24 * time.Hour}
	return def
}

// home tells in which partition the one row of a time is.
func home(t *testing.T, db *DB, def *aggregation.Definition, at time.Time) string {
	t.Helper()
	return ask[string](t, db, `SELECT tableoid::regclass::text FROM `+tableOf(def, def.Finest())+` WHERE bucket = $1`, at)
}

func spansOf(t *testing.T, db *DB, def *aggregation.Definition, level aggregation.Granularity) []stretch {
	t.Helper()
	spans, err := db.spans(t.Context(), def, level, "s")
	if err != nil {
		t.Fatal(err)
	}
	return spans
}

func mustFlush(t *testing.T, db *DB, lease *Lease, def *aggregation.Definition, at time.Time) {
	t.Helper()
	if err := flush(t.Context(), db, lease, oneCall(def, at), NewClaims()); err != nil {
		t.Fatal(err)
	}
}

// caughtUp says that the level above the finest has everything up to a batch.
func caughtUp(t *testing.T, db *DB, def *aggregation.Definition, batch int64) {
	t.Helper()
	mustExec(t, db, `INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no) VALUES ('s', $1, $2, $3)
		ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no`, def.Name, def.Granularities[1].String(), batch)
}

func mustPurge(t *testing.T, db *DB, now time.Time, def *aggregation.Definition) (total Purged) {
	t.Helper()
	would, err := db.Purgeable(t.Context(), now, []*aggregation.Definition{def})
	if err != nil {
		t.Fatal(err)
	}
	purged, err := db.Purge(t.Context(), now, []*aggregation.Definition{def})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range purged {
		total.Rows, total.Kept, total.Partitions, total.Busy = total.Rows+p.Rows, total.Kept+p.Kept, total.Partitions+p.Partitions, total.Busy+p.Busy
	}
	if total.Busy == 0 && !slices.Equal(would, purged) {
		t.Errorf("purged\n%+v\nwas to be\n%+v", purged, would)
	}
	return total
}

func TestLeaseShard_HasPartitionsForTheTimeToCome(t *testing.T) {
	t.Parallel()
	def := shortLived("Ahead")
	db := migrated(t, def)
	before := time.Now()
	lease := mustLease(t, db, "s", def)
	for level, width := range map[aggregation.Granularity]time.Duration{aggregation.Seconds: time.Hour, aggregation.Minutes: 24 * time.Hour} {
		spans := spansOf(t, db, def, level)
		if len(spans) == 0 || len(spans) > 2 {
			t.Fatalf("per %s: got %v, want one or two", level, spans)
		}
		if first, last := spans[0], spans[len(spans)-1]; first.from.After(before) || last.until.Before(before.Add(spanAhead)) {
			t.Errorf("per %s: got %v, does not cover half an hour from %s", level, spans, before)
		}
		for _, s := range spans {
			if s.until.Sub(s.from) != width || !s.from.Equal(s.from.Truncate(width)) {
				t.Errorf("per %s: got %v, want a whole %s of UTC", level, s, width)
			}
		}
	}
	if spans := spansOf(t, db, def, aggregation.Hours); spans != nil {
		t.Errorf("per hour: got %v, want none", spans)
	}
	now, old := time.Now().Truncate(time.Second), time.Now().Truncate(time.Second).AddDate(-5, 0, 0)
	mustFlush(t, db, lease, def, now)
	mustFlush(t, db, lease, def, old)
	if rest := "weir_data.ahead_seconds_s1_rest"; home(t, db, def, now) == rest || home(t, db, def, old) != rest {
		t.Errorf("the row of now is in %s, the old one in %s", home(t, db, def, now), home(t, db, def, old))
	}
	for range 2 { // what is there stays
		if err := db.AddSpans(t.Context(), "s", []*aggregation.Definition{def}); err != nil {
			t.Error(err)
		}
	}
}

func TestPurge_DropsSpansThatAreOver(t *testing.T) {
	t.Parallel()
	def := shortLived("Over")
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	now := time.Now().Truncate(time.Second)
	mustFlush(t, db, lease, def, now)
	mustFlush(t, db, lease, def, now.AddDate(-1, 0, 0)) // deleted
	caughtUp(t, db, def, 2)
	spans := spansOf(t, db, def, aggregation.Seconds)
	last := spans[len(spans)-1].until
	// The row of now may be older than five minutes, but its span is not over.
	if got, want := mustPurge(t, db, spans[0].until.Add(4*time.Minute), def), (Purged{Rows: 1}); got != want {
		t.Errorf("while the span is not over: purged %+v, want %+v", got, want)
	}
	if got, want := mustPurge(t, db, last.Add(5*time.Minute), def), (Purged{Rows: 1, Partitions: len(spans)}); got != want {
		t.Errorf("once it is over: purged %+v, want %+v", got, want)
	}
	if spans := spansOf(t, db, def, aggregation.Seconds); spans != nil {
		t.Errorf("%v are left", spans)
	}
	// A late row of the span is taken all the same, and then keeps it from being made again.
	mustFlush(t, db, lease, def, now)
	if err := db.AddSpans(t.Context(), "s", defs); err != nil {
		t.Fatal(err)
	}
	if got := home(t, db, def, now); got != "weir_data.over_seconds_s1_rest" {
		t.Errorf("a late row is in %s", got)
	}
	caughtUp(t, db, def, 3)
	if got := mustPurge(t, db, now.Add(3*time.Hour), def); got.Rows != 1 {
		t.Errorf("the late row: purged %+v", got)
	}
}

func TestPurge_KeepsRowsOutsideOfSpansThatACoarserLevelLacks(t *testing.T) {
	t.Parallel()
	def := shortLived("Late")
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	now := time.Now().Truncate(time.Second)
	for range 3 {
		mustFlush(t, db, lease, def, now.AddDate(-1, 0, 0))
	}
	caughtUp(t, db, def, 1)
	if got, want := mustPurge(t, db, now, def), (Purged{Rows: 1, Kept: 2}); got != want {
		t.Errorf("while two batches are lacking: purged %+v, want %+v", got, want)
	}
	caughtUp(t, db, def, 3)
	if got, want := mustPurge(t, db, now, def), (Purged{Rows: 2}); got != want {
		t.Errorf("once they are not: purged %+v, want %+v", got, want)
	}
}

func TestPurge_KeepsASpanThatACoarserLevelLacks(t *testing.T) {
	t.Parallel()
	def := shortLived("Lacking")
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	now := time.Now().Truncate(time.Second)
	mustFlush(t, db, lease, def, now)
	mustFlush(t, db, lease, def, now)
	caughtUp(t, db, def, 1)
	if got := mustPurge(t, db, now.Add(3*time.Hour), def); got.Rows != 0 || got.Kept != 2 {
		t.Errorf("before: purged %+v, want nothing, two rows kept", got)
	}
	// What looks stale to a purge is decided under the partition's lock once more.
	if gone := ask[bool](t, db, `SELECT weir.drop_span('lacking_seconds', 's', $1, 1)`, now.Truncate(time.Hour)); gone {
		t.Error("dropped what a coarser level lacks")
	}
	caughtUp(t, db, def, 2)
	if got := mustPurge(t, db, now.Add(3*time.Hour), def); got.Rows != 2 || got.Partitions == 0 || got.Kept != 0 {
		t.Errorf("after: purged %+v, want two rows and their partition", got)
	}
}

func TestSpans_WaitForNobodyForLong(t *testing.T) {
	t.Parallel()
	def := shortLived("Patient")
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	now := time.Now().Truncate(time.Second)
	mustFlush(t, db, lease, def, now)
	caughtUp(t, db, def, 1)
	errDone := errors.New("done")
	later := now.Add(48 * time.Hour)
	// A question that takes long, and has not even begun to read: what it is going
	// to see must stay.
	err := db.inSnapshot(t.Context(), defs, func(tx *sql.Tx) error {
		if got := mustPurge(t, db, now.Add(3*time.Hour), def); got.Busy == 0 || got.Rows != 0 || got.Partitions != 0 {
			t.Errorf("beside a question: purged %+v, want none but busy partitions", got)
		}
		mustExec(t, db, `SELECT weir.add_span('patient_seconds', 's', 1, $1)`, later)
		mustFlush(t, db, lease, def, now.Add(time.Second))
		if n := countIn(t, tx, def); n != 2 {
			t.Errorf("the question sees %d rows, want 2", n)
		}
		mustFlush(t, db, lease, def, now.Add(2*time.Second))
		if n := countIn(t, tx, def); n != 2 {
			t.Errorf("the question, later, sees %d rows, want 2", n)
		}
		return errDone
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	spans := len(spansOf(t, db, def, aggregation.Seconds))
	mustExec(t, db, `SELECT weir.add_span('patient_seconds', 's', 1, $1)`, later)
	if got := len(spansOf(t, db, def, aggregation.Seconds)); got != spans+1 {
		t.Errorf("%d spans after the second try, had %d", got, spans)
	}
	// Another width: what would overlap is left to the default partition.
	def.Retention[aggregation.Seconds] = 72 * time.Hour
	if err := db.AddSpans(t.Context(), "s", defs); err != nil {
		t.Errorf("with a longer retention: %v", err)
	}
	caughtUp(t, db, def, 3)
	if got := mustPurge(t, db, now.AddDate(0, 1, 0), def); got.Busy > 0 || got.Partitions < 2 || got.Rows != 3 {
		t.Errorf("after the question: purged %+v", got)
	}
}

func countIn(t *testing.T, tx *sql.Tx, def *aggregation.Definition) (n int) {
	t.Helper()
	if err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM `+tableOf(def, def.Finest())).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
