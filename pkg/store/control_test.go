package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// proof is what rows, control totals and the oracle must agree on, by the start
// of a span of time.
type proof map[int64]proven

type proven struct {
	events   int64
	checksum uint32
}

func (p proof) add(at, events, checksum int64) {
	had := p[at]
	p[at] = proven{had.events + events, had.checksum + uint32(checksum)}
}

func (p proof) String() string {
	var lines []string
	for _, at := range slices.Sorted(maps.Keys(p)) {
		lines = append(lines, fmt.Sprintf("%s %d %08x", time.UnixMicro(at).UTC().Format(time.RFC3339), p[at].events, p[at].checksum))
	}
	return strings.Join(lines, "\n")
}

// addUp adds up rows of a query, a time, a number of events and a checksum each,
// from a time on, by what cut makes of the time.
func addUp(t testContext, db *DB, from time.Time, cut func(int64) int64, query string) proof {
	rows, err := db.sql.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(query, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	sum := proof{}
	for rows.Next() {
		var at time.Time
		var events, checksum int64
		if err := rows.Scan(&at, &events, &checksum); err != nil {
			t.Fatal(err)
		}
		if unit := cut(at.UnixMicro()); !time.UnixMicro(unit).Before(from) {
			sum.add(unit, events, checksum)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return sum
}

// levelAndTail selects the rows of a level, and those of finer ones that it
// lacks.
func levelAndTail(def *aggregation.Definition, level aggregation.Granularity) string {
	list := func(level aggregation.Granularity) string {
		if def.Packed(level) {
			return "bucket, (SELECT sum(n) FROM unnest(weir_events) AS n), weir_checksum"
		}
		return "bucket, weir_events, weir_checksum"
	}
	query := "SELECT " + list(level) + " FROM " + tableOf(def, level)
	for parent, ok := def.Parent(level); ok; parent, ok = def.Parent(level) {
		query += fmt.Sprintf(` UNION ALL SELECT %s FROM %s t WHERE batch_no > coalesce(
			(SELECT batch_no FROM weir.watermark w WHERE w.shard_id = t.shard_id AND w.aggregation = '%s' AND w.level = '%s'), -9223372036854775807)`,
			list(parent), tableOf(def, parent), def.ID(), level)
		level = parent
	}
	return query
}

// wantProof checks at every level that the rows' numbers and checksums of events
// are those of the events, bucket by bucket, and those of the control totals.
// Buckets that may have been purged are left out.
func wantProof(t testContext, db *DB, def *aggregation.Definition, events []tried) {
	const quarter = int64(15 * time.Minute / time.Microsecond)
	period := func(at int64) int64 { return at - at%quarter }
	for _, level := range def.Granularities {
		var from time.Time // nothing is purged
		if err := db.sql.QueryRowContext(t.Context(), `SELECT coalesce((SELECT before FROM weir.purged WHERE aggregation = $1 AND level = $2), '0001-01-01Z')`,
			def.ID(), level.String()).Scan(&from); err != nil {
			t.Fatal(err)
		}
		bucket := func(at int64) int64 { return level.Truncate(at, def.Zone) }
		unit := bucket // of rows and control totals alike
		if period(bucket(quarter-1)) == 0 && bucket(quarter-1) != bucket(quarter) && level < aggregation.Hours {
			unit = period
		}
		want := func(cut func(int64) int64) proof {
			sum := proof{}
			for _, e := range events {
				if at := cut(e.at); !time.UnixMicro(at).Before(from) {
					sum.add(at, 1, int64(e.checksum()))
				}
			}
			return sum
		}
		rows := levelAndTail(def, level)
		if got, want := addUp(t, db, from, bucket, rows).String(), want(bucket).String(); got != want {
			t.Fatal(fmt.Sprintf("%s per %s, by bucket: got\n%s\nwant\n%s", def.ID(), level, got, want))
		}
		if got, want := addUp(t, db, from, unit, rows).String(), want(unit).String(); got != want {
			t.Fatal(fmt.Sprintf("%s per %s, by period: got\n%s\nwant\n%s", def.ID(), level, got, want))
		}
		control := fmt.Sprintf(`SELECT period, events, checksum FROM weir.control WHERE aggregation = '%s'`, def.ID())
		if got, want := addUp(t, db, from, unit, control).String(), want(unit).String(); got != want {
			t.Fatal(fmt.Sprintf("the control totals of %s, per %s: got\n%s\nwant\n%s", def.ID(), level, got, want))
		}
	}
}

// Shards come and go with their control totals, and a batch of any events adds
// to one row per aggregation, shard and period.
func TestWriteControl_AddsUpPerShardAndPeriod(t *testing.T) {
	t.Parallel()
	def, other := growing("Calls", 0, false), growing("Other", 0, false)
	db := migrated(t, def, other)
	mustLease(t, db, "a", def)
	write := func(controls ...aggregation.Control) {
		t.Helper()
		if err := db.InTx(t.Context(), func(tx *Tx) error { return tx.WriteControl(t.Context(), "a", controls) }); err != nil {
			t.Fatal(err)
		}
	}
	const quarter = 15 * 60 * 1_000_000
	write()
	write(aggregation.Control{Definition: other, Period: 2 * quarter, Events: 1, Checksum: 5}, aggregation.Control{Definition: def, Events: 2, Checksum: 1<<32 - 1})
	write(aggregation.Control{Definition: def, Events: 3, Checksum: 3}, aggregation.Control{Definition: def, Period: quarter, Events: 1, Checksum: 1<<32 - 1})
	got := ask[string](t, db, `SELECT string_agg(concat_ws(' ', aggregation, shard_id, extract(epoch FROM period)::int, events, checksum), ', ' ORDER BY aggregation, period) FROM weir.control`)
	if want := "Calls a 0 5 2, Calls a 900 1 4294967295, Other a 1800 1 5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestApply_DropsTheControlTotalsOfWhatItDrops(t *testing.T) {
	t.Parallel()
	def, other := growing("Calls", 0, false), growing("Other", 0, false)
	db := migrated(t, def, other)
	for _, d := range []*aggregation.Definition{def, other} {
		folded(t, db, "a", d, everyLevel, triedAt(0, 3))
		mustExec(t, db, `INSERT INTO weir.purged VALUES ($1, 'seconds', '2020-01-01Z')`, d.ID())
	}
	mustApply(t, db, ofCalls, other)
	for table, want := range map[string]string{"weir.control": "Other", "weir.purged": "Other"} {
		if got := ask[string](t, db, `SELECT string_agg(DISTINCT aggregation, ' ') FROM `+table); got != want {
			t.Errorf("%s has %s, want %s", table, got, want)
		}
	}
}

// A level that is added has nothing that the one it is filled from has lost.
func TestApply_TellsOfAnAddedLevelWhatItsParentHasLost(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 0, false)
	db := migrated(t, def)
	mustExec(t, db, `INSERT INTO weir.purged VALUES ('Calls', 'days', '2020-01-02Z'), ('Calls', 'hours', '2021-01-01Z'), ('Calls', 'months', '2025-01-01Z')`)
	mustApply(t, db, PlanOptions{}, growing("Calls", 0, true))
	got := ask[string](t, db, `SELECT string_agg(level || ' ' || before::date, ', ' ORDER BY level) FROM weir.purged`)
	if want := "days 2020-01-02, hours 2021-01-01, months 2020-01-02"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPurge_NotesUpToWhereRowsMayBeGone(t *testing.T) {
	t.Parallel()
	def := shortLived("Noted")
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	now := time.Now().UTC().Truncate(time.Hour).Add(30 * time.Minute)
	live, late := now.Add(-time.Hour), now.Add(-100*time.Hour)
	mustFlush(t, db, lease, def, live)
	mustFlush(t, db, lease, def, late)
	purged := func() time.Time {
		return ask[time.Time](t, db, `SELECT coalesce(max(before), '0001-01-01Z') FROM weir.purged WHERE aggregation = 'Noted' AND level = 'seconds'`)
	}
	mustPurge(t, db, now, def)
	if got := purged(); !got.IsZero() {
		t.Errorf("before coarser levels have it: got %s, want nothing noted", got)
	}
	caughtUp(t, db, def, 2)
	mustPurge(t, db, now, def)
	noted := purged()
	if noted.Before(live) || noted.After(now.Add(-5*time.Minute)) {
		t.Errorf("got %s, want a time after the row of %s that is gone, and at most the bound of retention", noted, live)
	}
	mustFlush(t, db, lease, def, late.Add(-time.Hour))
	caughtUp(t, db, def, 3)
	mustPurge(t, db, now.Add(-time.Minute), def)
	if got := purged(); !got.Equal(noted) {
		t.Errorf("after a purge of less: got %s, want %s as before", got, noted)
	}
}

// A part of a batch that breaks nothing else but the checksum is seen.
func TestWriteDelta_RefusesChecksumsThatAreNotParallel(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 0, false)
	db := migrated(t, def)
	mustLease(t, db, "a", def)
	delta := aggregation.NewFolder(nil).Fold([]*aggregation.Definition{def}, []*event.Columns{columnsOfTried(triedAt(0, 1))})
	delta.Parts[0].Checksums = append(delta.Parts[0].Checksums, 1)
	err := db.InTx(t.Context(), func(tx *Tx) error { return tx.WriteDelta(t.Context(), "a", 1, delta) })
	if err == nil || !strings.Contains(err.Error(), "weir_checksum has 2 values for 1 groups") {
		t.Errorf("got %v, want that a column is not parallel", err)
	}
}
