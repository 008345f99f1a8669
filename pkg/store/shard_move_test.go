package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

func upkeepOf(defs ...*aggregation.Definition) Upkeep {
	return Upkeep{Owner: "upkeep", Wait: 10 * time.Second, Aggregations: defs}
}

// mustMerge merges and checks that nothing of the shard is left.
func mustMerge(t *testing.T, db *DB, u Upkeep, from, into string) Moved {
	t.Helper()
	moved, err := db.MergeShard(t.Context(), u, from, into)
	if err != nil {
		t.Fatal(err)
	}
	wantGone(t, db, from)
	return moved
}

func wantGone(t *testing.T, db *DB, shardID string) {
	t.Helper()
	var unknown ErrNoShard
	if _, err := db.shard(t.Context(), shardID); !errors.As(err, &unknown) {
		t.Errorf("shard %s is still there (%v)", shardID, err)
	}
	// Every part of a table belongs to a shard that there is.
	if n := ask[int](t, db, `SELECT count(*) FROM pg_class c WHERE relnamespace = 'weir_data'::regnamespace AND relname ~ '_s[0-9]+$'
		AND NOT EXISTS (SELECT 1 FROM weir.shard s WHERE c.relname LIKE '%\_s' || s.number)`); n != 0 {
		t.Errorf("%d tables of shards that are gone are left", n)
	}
}

// write writes events as a worker does, whose cascade is kept by s.
func (s *shardState) write(ctx context.Context, db *DB, defs []*aggregation.Definition, events []tried, due func(aggregation.Granularity) bool) (err error) {
	if s.cascade == nil {
		if s.cascade, _, err = db.LoadCascade(ctx, s.lease.ShardID, defs, nil, 0); err != nil {
			return err
		}
	}
	columns := []*event.Columns{columnsOfTried(events)}
	delta := aggregation.NewFolder(nil).Fold(defs, columns)
	levels := s.cascade.Prepare(due)
	err = db.InTx(ctx, func(tx *Tx) error {
		number, err := tx.NextBatch(ctx, s.lease, Totals{Messages: 1, Events: int64(len(events)), DeadLetters: 2, Claims: int64(len(events))})
		if err != nil {
			return err
		}
		if err := tx.WriteDelta(ctx, s.lease.ShardID, number, delta); err != nil {
			return err
		}
		if err := tx.WriteControl(ctx, s.lease.ShardID, aggregation.Controls(defs, columns)); err != nil {
			return err
		}
		return tx.WriteLevels(ctx, s.lease.ShardID, number-1, levels)
	})
	if err == nil {
		s.cascade.Commit(levels)
		s.cascade.Add(delta)
	}
	return err
}

// triedAt is n events of one group, a second apart.
func triedAt(first, n int) (events []tried) {
	for i := range n {
		at := time.Date(2026, 10, 24, 20, 0, first+i, 0, time.UTC)
		events = append(events, tried{api: "pizza", code: 200, ms: int64(first + i), size: 64, at: at.UnixMicro(), sequence: uint64(first + i)})
	}
	return events
}

func everyLevel(aggregation.Granularity) bool { return true }
func noLevel(aggregation.Granularity) bool    { return false }

// Whatever is flushed when, forgotten in crashes, and merged into what: at every
// level the answer is that of a loop over all events, and so are the totals.
func TestMergeShard_AnswersEqualTheOracleAtEveryLevel(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	def := cascadeDef("Calls", zone)
	def.Granularities = []aggregation.Granularity{aggregation.Seconds, aggregation.Hours, aggregation.Weeks, aggregation.Months} // the last two are side by side
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	rapid.Check(t, func(rt *rapid.T) {
		for _, level := range def.Granularities {
			mustExec(t, db, "DELETE FROM "+tableOf(def, level))
		}
		mustExec(t, db, "DELETE FROM weir.watermark")
		mustExec(t, db, "DELETE FROM weir.control")
		mustExec(t, db, "UPDATE weir.shard SET messages = 0, events = 0, dead_letters = 0, claims = 0")
		ids := []string{"a", "b", "c"}
		shards := map[string]*shardState{}
		defer func() {
			for _, s := range shards {
				_ = s.lease.Close()
			}
		}()
		var committed []tried
		merges := 0 // they take long
		for n := range rapid.IntRange(2, 7).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "shard")
			if into := rapid.SampledFrom(ids).Draw(rt, "into"); into != id && shards[id] != nil && shards[into] != nil && merges < 2 && rapid.Bool().Draw(rt, "merge") {
				_ = shards[id].lease.Close()
				delete(shards, id)
				merges++
				own := ownRows(t, db, def, into)
				mustMerge(t, db, upkeepOf(def), id, into)
				if after := ownRows(t, db, def, into); after != own {
					rt.Fatalf("%d of the rows have batch numbers of the shard's own, want %d", after, own)
				}
			} else {
				if shards[id] == nil {
					lease, err := db.LeaseShard(t.Context(), id, "tests", time.Minute, defs)
					if err != nil {
						t.Fatal(err)
					}
					shards[id] = &shardState{lease: lease}
				}
				events := rapid.SliceOfN(rapid.Custom(drawTried), 1, 8).Draw(rt, "events")
				for i := range events {
					events[i].sequence = uint64(100*n + i)
				}
				due := rapid.SliceOf(rapid.SampledFrom(def.Granularities)).Draw(rt, "due")
				if err := shards[id].write(t.Context(), db, defs, events, func(g aggregation.Granularity) bool { return slices.Contains(due, g) }); err != nil {
					t.Fatal(err)
				}
				committed = append(committed, events...)
			}
			if s := shards[id]; s != nil && rapid.IntRange(0, 3).Draw(rt, "crash") == 0 {
				s.cascade = nil
			}
		}
		for _, per := range rapid.SliceOfNDistinct(rapid.SampledFrom(def.Granularities), 3, 3, rapid.ID).Draw(rt, "per") {
			if got, want := answer(rt, db, def, per), expect(def, per, committed); got != want {
				rt.Fatalf("per %s: got\n%s\nwant\n%s", per, got, want)
			}
		}
		wantProof(rt, db, def, committed)
		for _, total := range []string{"events", "claims"} {
			if got := ask[int](t, db, `SELECT sum(`+total+`) FROM weir.shard`); got != len(committed) {
				rt.Fatalf("the shards' totals have %d %s, want %d", got, total, len(committed))
			}
		}
	})
}

// ownRows counts the rows whose batch numbers were not given to another shard's.
func ownRows(t *testing.T, db *DB, def *aggregation.Definition, shardID string) (n int) {
	t.Helper()
	for _, level := range def.Granularities {
		n += ask[int](t, db, `SELECT count(*) FROM `+tableOf(def, level)+` r JOIN weir.shard s USING (shard_id)
			WHERE shard_id = $1 AND r.batch_no NOT BETWEEN -s.moved_in AND -1`, shardID)
	}
	return n
}

// countOf asks for the number of events at a level.
func countOf(ctx context.Context, db *DB, def *aggregation.Definition, per aggregation.Granularity) (n int64, err error) {
	q := &Question{
		Aggregation: def, Per: per, From: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), Until: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(),
		Limit: -1, Select: []Expr{{Op: OpField, Kind: event.Int, Field: Field{Role: MeasureField}}},
	}
	err = db.Ask(ctx, q, func(v []any) error {
		n, _ = v[0].(int64)
		return nil
	})
	return n, err
}

func TestMergeShard_IsSeenByNobodyWhileTheOtherShardIsLive(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	defs := []*aggregation.Definition{def}
	db := migrated(t, def)
	const moved = 300
	from := map[string]*shardState{"a1": {}, "a2": {}}
	for id, s := range from {
		s.lease = mustLease(t, db, id, defs...)
		for n := range moved / 10 { // some levels complete, some with a tail, some with nothing
			due := func(g aggregation.Granularity) bool { return n%7 == 3 && g < aggregation.Days }
			if err := s.write(t.Context(), db, defs, triedAt(10*n, 10), due); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.lease.Close()
	}
	live := &shardState{lease: mustLease(t, db, "b", defs...)}
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	flushed := int64(2 * moved) // committed for certain; one flush more may be
	var group sync.WaitGroup
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			due := func(g aggregation.Granularity) bool { return n%5 == 4 && g < aggregation.Days || n%11 == 10 }
			if err := live.write(t.Context(), db, defs, triedAt(1000+n, 1), due); err != nil {
				t.Errorf("the live worker: %v", err)
				return
			}
			mu.Lock()
			flushed++
			mu.Unlock()
		}
	})
	asked := map[aggregation.Granularity]int{}
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			per := def.Granularities[n%len(def.Granularities)]
			mu.Lock()
			least := flushed
			mu.Unlock()
			got, err := countOf(t.Context(), db, def, per)
			mu.Lock()
			most := flushed + 1
			mu.Unlock()
			if err != nil || got < least || got > most {
				t.Errorf("per %s: %d events, want %d to %d (%v)", per, got, least, most, err)
				return
			}
			asked[per]++
		}
	})
	for _, id := range []string{"a1", "a2"} {
		before := live.lease
		got := mustMerge(t, db, upkeepOf(defs...), id, "b")
		if got.Events != moved || got.Messages != moved/10 || got.DeadLetters != 2*moved/10 || got.Rows == 0 || got.Groups == 0 || got.Dropped != len(def.Granularities) {
			t.Errorf("merge %s: %+v", id, got)
		}
		if before != live.lease {
			t.Error("the live worker had to lease anew")
		}
	}
	stop()
	group.Wait()
	t.Logf("asked by level: %v; %d flushes meanwhile", asked, flushed-2*moved)
	want := flushed
	check := func(when string) {
		t.Helper()
		for _, per := range def.Granularities {
			if got, err := countOf(t.Context(), db, def, per); err != nil || got != want {
				t.Errorf("%s, per %s: %d events, want %d (%v)", when, per, got, want, err)
			}
		}
		if got := ask[int64](t, db, `SELECT sum(events) FROM weir.shard`); got != want {
			t.Errorf("%s: the control totals have %d events, want %d", when, got, want)
		}
	}
	check("after the merge")
	live.cascade = nil // a crash
	if err := live.write(t.Context(), db, defs, triedAt(5000, 1), everyLevel); err != nil {
		t.Fatal(err)
	}
	want++
	check("after a crash and a flush of all levels")
	if err := live.write(t.Context(), db, defs, nil, everyLevel); err != nil {
		t.Fatal(err)
	}
	check("after another")
}
