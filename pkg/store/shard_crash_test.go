package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

func TestMergeShard_KilledInTheMiddleChangesNothingAndIsDoneAgain(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	db := migrated(t, def)
	a, b := &shardState{lease: mustLease(t, db, "a", def)}, &shardState{lease: mustLease(t, db, "b", def)}
	for _, s := range []*shardState{a, b} {
		if err := s.write(t.Context(), db, []*aggregation.Definition{def}, triedAt(0, 20), noLevel); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.lease.Close()
	want := func(when string) {
		t.Helper()
		for _, per := range def.Granularities {
			if got, err := countOf(t.Context(), db, def, per); err != nil || got != 40 {
				t.Errorf("%s, per %s: %d events, want 40 (%v)", when, per, got, err)
			}
		}
		if got := ask[int](t, db, `SELECT sum(events) FROM weir.shard`); got != 40 {
			t.Errorf("%s: the control totals have %d events, want 40", when, got)
		}
	}
	// A flush of the other shard that is open stops the merge at its last step.
	flushing := begin(t.Context(), db, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(t.Context(), `SELECT 1 FROM weir.shard WHERE shard_id = 'b' FOR NO KEY UPDATE`)
		return err
	})
	if err := <-flushing.did; err != nil {
		t.Fatal(err)
	}
	// The reservation needs that row for a moment: it waits too, before anything is moved.
	merged := make(chan error, 1)
	go func() {
		_, err := db.MergeShard(t.Context(), upkeepOf(def), "a", "b")
		merged <- err
	}()
	waitForLock(t, db, 1)
	killMove(t, db)
	if err := <-merged; err == nil {
		t.Fatal("a merge that was killed says nothing")
	}
	flushing.end <- nil
	if err := <-flushing.done; err != nil {
		t.Fatal(err)
	}
	want("after the first kill")

	// And once with all rows moved, but not committed.
	mustExec(t, db, `CREATE FUNCTION pg_temp_wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.moved_to IS NOT NULL THEN PERFORM pg_advisory_lock(4711); END IF; RETURN NEW; END $$`)
	mustExec(t, db, `CREATE TRIGGER hold BEFORE UPDATE ON weir.shard FOR EACH ROW EXECUTE FUNCTION pg_temp_wait()`)
	holding := begin(t.Context(), db, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock(4711)`)
		return err
	})
	if err := <-holding.did; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := db.MergeShard(t.Context(), upkeepOf(def), "a", "b")
		merged <- err
	}()
	until(t, "the merge has moved all rows", func() bool {
		return ask[bool](t, db, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 4711
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	})
	want("while all is moved but not committed")
	_ = mustLease(t, db, "c", def).Close()
	if _, err := db.MergeShard(t.Context(), upkeepOf(def), "c", "b"); err == nil || !strings.Contains(err.Error(), "another process moves shards now") {
		t.Errorf("a second move at the same time: got %v", err)
	}
	if _, err := db.Purge(t.Context(), time.Now(), []*aggregation.Definition{def}); !MaintenanceBusy(err) {
		t.Errorf("a purge at the same time: got %v, want busy", err)
	}
	killMove(t, db)
	if err := <-merged; err == nil {
		t.Fatal("a merge that was killed says nothing")
	}
	holding.end <- nil
	if err := <-holding.done; err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `DROP TRIGGER hold ON weir.shard`)
	want("after the second kill")
	if moved := mustMerge(t, db, upkeepOf(def), "a", "b"); moved.Events != 20 {
		t.Errorf("done again: %+v", moved)
	}
	want("done again")
}

// killMove ends the connection of the move.
func killMove(t *testing.T, db *DB) {
	t.Helper()
	n := ask[int](t, db, `SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
		AND (classid::bigint << 32) | objid::bigint = hashtextextended('weir.move_shard', 0)
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if n != 1 {
		t.Fatalf("%d moves were killed, want 1", n)
	}
}

func TestMergeShard_LeavesItsTablesToOlderSnapshotsAndClearsThemAwayLater(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	db := migrated(t, def)
	for _, id := range []string{"a", "b"} {
		s := &shardState{lease: mustLease(t, db, id, def)}
		if err := s.write(t.Context(), db, []*aggregation.Definition{def}, triedAt(0, 20), noLevel); err != nil {
			t.Fatal(err)
		}
		_ = s.lease.Close()
	}
	old, err := db.sql.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Rollback() }()
	count := func(query string) (n int) {
		t.Helper()
		if err := old.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := old.ExecContext(t.Context(), `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
		t.Fatal(err)
	}
	_ = count(`SELECT count(*) FROM weir.shard`) // takes the snapshot, but looks into no table of rows
	u := upkeepOf(def)
	u.Patience = 10 * time.Millisecond
	moved, err := db.MergeShard(t.Context(), u, "a", "b")
	if err != nil || moved.Left != len(def.Granularities) || moved.Dropped != 0 {
		t.Fatalf("with an older snapshot: %+v, %v", moved, err)
	}
	seconds := tableOf(def, def.Finest())
	if n := count(`SELECT count(*) FROM ` + seconds + ` WHERE shard_id = 'a' AND batch_no > 0`); n != 20 {
		t.Errorf("the older snapshot has %d rows of the shard, want 20", n)
	}
	if s, err := db.shard(t.Context(), "a"); err != nil || s.State() != "moved" || s.MovedTo != "b" || s.Totals != (Totals{}) {
		t.Errorf("got %+v, %v", s, err)
	}
	var closed ErrShardClosed
	if _, err := db.LeaseShard(t.Context(), "a", "o", 0, nil); !errors.As(err, &closed) || !strings.Contains(err.Error(), "weir shard merge a --into b") {
		t.Errorf("lease a shard that has moved: %v", err)
	}
	if _, err := db.MergeShard(t.Context(), u, "a", "c"); err == nil {
		t.Error("merged into a shard that is not there")
	}
	// A crash while a table is detached: the old snapshot has a lock on it now.
	parts, err := (&mover{conn: mustConn(t, db), lease: &Lease{number: ask[int64](t, db, `SELECT number FROM weir.shard WHERE shard_id = 'a'`)}}).tables(t.Context())
	if err != nil || len(parts) != len(def.Granularities) {
		t.Fatalf("tables of the shard: %v, %v", parts, err)
	}
	at := slices.IndexFunc(parts, func(p shardPart) bool { return p.parent == seconds })
	conn := mustConn(t, db)
	if _, err := conn.ExecContext(t.Context(), `SET statement_timeout = '300ms'`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY`, seconds, parts[at].table)); !TimedOut(err) {
		t.Fatalf("detach: %v", err)
	}
	if err := old.Rollback(); err != nil {
		t.Fatal(err)
	}
	again := mustMerge(t, db, upkeepOf(def), "a", "b")
	if again.Dropped != len(def.Granularities) || again.Rows != 0 || again.Totals != (Totals{}) {
		t.Errorf("done again: %+v", again)
	}
	mustLease(t, db, "a", def)
}

func mustConn(t *testing.T, db *DB) *sql.Conn {
	t.Helper()
	conn, err := db.sql.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
