package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

func TestRetireShard_CompletesItAndRefusesEverybodyAfter(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	s := &shardState{lease: mustLease(t, db, "w1", def)}
	if err := s.write(t.Context(), db, defs, triedAt(0, 20), noLevel); err != nil {
		t.Fatal(err)
	}
	u := upkeepOf(def)
	u.Wait = 0
	if _, err := db.RetireShard(t.Context(), u, "w1"); err == nil || !strings.Contains(err.Error(), "live") || !strings.Contains(err.Error(), "tests") {
		t.Errorf("retire a live shard: got %v", err)
	}
	wantState := func(state string, behind int) {
		t.Helper()
		got, err := db.shard(t.Context(), "w1")
		lacking, levels, behindErr := db.Behind(t.Context(), defs)
		if err := errors.Join(err, behindErr); err != nil || got.State() != state || lacking["w1"] != behind || levels != len(def.Granularities)-1 {
			t.Errorf("got %s with %v of %d behind, want %s with %d (%v)", got.State(), lacking, levels, state, behind, err)
		}
	}
	wantState("live", 7)
	_ = s.lease.Close()
	wantState("idle", 7)
	for n, want := range []bool{true, false} {
		groups, err := db.RetireShard(t.Context(), u, "w1")
		if err != nil || (groups > 0) != want {
			t.Errorf("retire, time %d: %d groups, %v", n+1, groups, err)
		}
		wantState("retired", 0)
	}
	var closed ErrShardClosed
	if _, err := db.LeaseShard(t.Context(), "w1", "o", 0, defs); !errors.As(err, &closed) || !strings.Contains(err.Error(), "weir shard unretire w1") {
		t.Errorf("lease a retired shard: got %v", err)
	}
	if err := s.write(t.Context(), db, defs, triedAt(50, 1), noLevel); !errors.Is(err, ErrFenced) {
		t.Errorf("the worker that had it writes: %v", err)
	}
	if n, err := countOf(t.Context(), db, def, aggregation.Hours); err != nil || n != 20 {
		t.Errorf("%d events, want 20 (%v)", n, err)
	}
	// A retired shard can be merged, and one can be merged into it.
	mustLease(t, db, "w2", def)
	mustMerge(t, db, u, "w1", "w2")
	if err := db.UnretireShard(t.Context(), "w2"); err == nil {
		t.Error("unretired what is not retired")
	}
	lease := mustLease(t, db, "w1", def)
	_ = lease.Close()
	if _, err := db.RetireShard(t.Context(), u, "w1"); err != nil {
		t.Fatal(err)
	}
	if err := db.UnretireShard(t.Context(), "w1"); err != nil {
		t.Fatal(err)
	}
	mustLease(t, db, "w1", def)
}

func TestRenameShard_KeepsEverythingUnderTheNewID(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	for _, id := range []string{"old", "other"} {
		s := &shardState{lease: mustLease(t, db, id, def)}
		if err := s.write(t.Context(), db, defs, triedAt(0, 20), noLevel); err != nil {
			t.Fatal(err)
		}
		_ = s.lease.Close()
	}
	u := upkeepOf(def)
	if _, err := db.RenameShard(t.Context(), u, "old", "other"); err == nil || !strings.Contains(err.Error(), "weir shard merge old --into other") {
		t.Errorf("rename to a shard that there is: got %v", err)
	}
	for _, bad := range []string{"", strings.Repeat("x", 21), "a b"} {
		if _, err := db.RenameShard(t.Context(), u, "old", bad); err == nil {
			t.Errorf("renamed to %q", bad)
		}
	}
	// What a crash before the move leaves: the new shard, empty, with numbers given out.
	mustExec(t, db, `INSERT INTO weir.shard (shard_id, owner, moved_in) VALUES ('new', 'crashed', 77)`)
	moved, err := db.RenameShard(t.Context(), u, "old", "new")
	if err != nil || moved.Events != 20 || moved.Left != 0 {
		t.Fatalf("got %+v, %v", moved, err)
	}
	wantGone(t, db, "old")
	// Named back, its batch numbers are negative already; and it can be written.
	if moved, err = db.RenameShard(t.Context(), u, "new", "old"); err != nil || moved.Events != 20 {
		t.Fatalf("got %+v, %v", moved, err)
	}
	s := &shardState{lease: mustLease(t, db, "old", def)}
	if err := s.write(t.Context(), db, defs, triedAt(30, 2), func(g aggregation.Granularity) bool { return g < aggregation.Days }); err != nil {
		t.Fatal(err)
	}
	for _, per := range def.Granularities {
		if n, err := countOf(t.Context(), db, def, per); err != nil || n != 42 {
			t.Errorf("per %s: %d events, want 42 (%v)", per, n, err)
		}
	}
	var unknown ErrNoShard
	if _, err := db.RenameShard(t.Context(), u, "odl", "new"); !errors.As(err, &unknown) || !slices.Equal(unknown.Known, []string{"old", "other"}) {
		t.Errorf("rename an unknown shard: got %v", err)
	}
}

func TestMergeShard_RefusesRowsThatItsDefinitionsDoNotKnow(t *testing.T) {
	t.Parallel()
	def, other := cascadeDef("Calls", time.UTC), cascadeDef("Others", time.UTC)
	db := migrated(t, def, other)
	s := &shardState{lease: mustLease(t, db, "a", def, other)}
	if err := s.write(t.Context(), db, []*aggregation.Definition{def}, triedAt(0, 2), noLevel); err != nil {
		t.Fatal(err)
	}
	_ = s.lease.Close()
	mustLease(t, db, "b", def)
	if _, err := db.MergeShard(t.Context(), upkeepOf(other), "a", "b"); err == nil || !strings.Contains(err.Error(), "calls_") || !strings.Contains(err.Error(), "--streams") {
		t.Errorf("got %v", err)
	}
	if moved := mustMerge(t, db, upkeepOf(def), "a", "b"); moved.Events != 2 { // of the others there are no rows
		t.Errorf("got %+v", moved)
	}
}

// A shard may be removed and made again: a worker that hung meanwhile must not
// take it for its own, even were their epochs equal.
func TestNextBatch_FencesTheWorkerOfARemovedShardOfTheSameID(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	db := migrated(t, def)
	hung := &shardState{lease: mustLease(t, db, "a", def)}
	mustLease(t, db, "b", def)
	epoch := hung.lease.epoch
	_ = hung.lease.Close() // its connection is gone, and it does not know yet
	mustMerge(t, db, upkeepOf(def), "a", "b")
	mustLease(t, db, "a", def)
	if _, err := db.sql.ExecContext(t.Context(), `UPDATE weir.shard SET epoch = $1 WHERE shard_id = 'a'`, epoch); err != nil { // as chance might have it
		t.Fatal(err)
	}
	if err := hung.write(t.Context(), db, []*aggregation.Definition{def}, triedAt(0, 1), noLevel); !errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
}

func TestLeaseFromPool_TakesTheFirstThatIsFree(t *testing.T) {
	t.Parallel()
	def := calls("Pooled")
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	pool := []string{"pool-1", "pool-2", "pool-3"}
	lease := func(want string) *Lease {
		t.Helper()
		l, err := db.LeaseFromPool(t.Context(), pool, "o", 0, defs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		if l.ShardID != want {
			t.Errorf("got %s, want %s", l.ShardID, want)
		}
		return l
	}
	first := lease("pool-1")
	second := lease("pool-2")
	_ = first.Close()
	_ = lease("pool-1")
	_ = second.Close()
	if _, err := db.RetireShard(t.Context(), upkeepOf(def), "pool-2"); err != nil {
		t.Fatal(err)
	}
	third := lease("pool-3")
	var taken ErrPoolTaken
	if _, err := db.LeaseFromPool(t.Context(), pool, "o", 0, defs); !errors.As(err, &taken) || taken.Closed != 1 || !strings.Contains(err.Error(), "--shard-pool") {
		t.Errorf("with none free: got %v", err)
	}
	got := make(chan error, 1)
	go func() { // the connection of a killed worker ends while another waits
		l, err := db.LeaseFromPool(t.Context(), pool, "o", time.Minute, defs)
		if err == nil {
			err = l.Close()
		}
		got <- err
	}()
	_ = third.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
}
