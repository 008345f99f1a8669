package worker

import (
	"testing"

	"weir/pkg/store"
)

// repairAll asks for all messages to be repaired, as the auditor does after a
// Postgres that has lost commits.
func (h *harness) repairAll(incarnation string) {
	h.t.Helper()
	h.repairFrom(incarnation, 1)
}

// repairFrom asks for the messages from one on.
func (h *harness) repairFrom(incarnation string, sequence int) {
	h.t.Helper()
	if _, err := h.sql.ExecContext(h.t.Context(), `INSERT INTO weir.repair (incarnation, sequence) SELECT $1, generate_series($2, $3::bigint)`,
		incarnation, sequence, int64(h.lastSequence())); err != nil { //nolint:gosec // few
		h.t.Fatal(err)
	}
}

// The worker is idle while Postgres comes back without its last commits, and no
// statement of it fails: what is folded again is at every level once.
func TestLost_CommitsUnderALiveWorkerAreNotCountedTwiceWhenRepaired(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publishCalls("gw", 1, 20)
	h.process(w, h.take(w, 20)...)
	restore := h.tables()
	h.publishCalls("gw", 21, 60)
	h.process(w, h.take(w, 40)...)
	restore()
	h.wantCalls("after the restore", 20)
	h.repairFrom(w.consumer.Incarnation(), 21) // what is lost, so that the ledger refuses nothing: that would have the levels read again
	if _, err := w.repair(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.rollUpNow(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.wantCalls("after the repair", 60)
	for _, def := range h.catalog.Aggregations {
		if def.Name != "ApiVersionPerAppAgg" {
			continue
		}
		for _, level := range def.Granularities[1:] {
			events := "weir_events"
			if def.Packed(level) {
				events = "(SELECT sum(n) FROM unnest(weir_events) AS n)"
			}
			if got := ask[int64](h, `SELECT coalesce(sum(`+events+`), 0)::bigint FROM weir_data.`+def.Table(level)); got != 60 {
				t.Errorf("per %s: %d events, want 60", level, got)
			}
		}
	}
}

// A shard that is rolled up with what was lost still in memory would have it at
// the coarser levels alone.
func TestLost_CommitsAreNotRolledUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	restore := h.tables()
	h.publishCalls("gw", 1, 40)
	h.process(w, h.take(w, 40)...)
	restore()
	for range 3 {
		if err := w.rollUp(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	h.wantCalls("rolled up", 0)
	if w.cascade == nil || !w.cascade.Empty() {
		t.Error("what was lost is still in memory")
	}
}

func TestLost_AlertsAreRaisedAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	restore := h.tables()
	h.publish("events.request.gw", "gw/e/1", "", call(1, `,"responseTime":1000000`))
	h.process(w, h.take(w, 1)...)
	restore()
	h.repairAll(w.consumer.Incarnation())
	if _, err := w.repair(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](h, `SELECT count(*) FROM weir.alert`); n != 1 {
		t.Errorf("%d alerts, want the one that was lost", n)
	}
}

// The flush whose connection breaks with the failover is the first that tells.
func TestLost_AlertsAreRaisedAgainWhereAFlushFailedToo(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	restore := h.tables()
	h.publish("events.request.gw", "gw/e/1", "", call(1, `,"responseTime":1000000`))
	h.process(w, h.take(w, 1)...)
	restore()
	w.cascade = nil // as settle leaves it after an error
	h.repairAll(w.consumer.Incarnation())
	if _, err := w.repair(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](h, `SELECT count(*) FROM weir.alert`); n != 1 {
		t.Errorf("%d alerts, want the one that was lost", n)
	}
}

// What other writers do to the shard under the worker's own lease (none may
// take a batch number) does not make it forget, nor try forever.
func TestLost_AMergeIntoTheShardIsNoLoss(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w, other := h.idle("w1"), h.idle("w2")
	h.publishCalls("gw", 1, 40)
	messages := h.take(w, 40)
	h.process(w, messages[:20]...)
	h.process(other, messages[20:30]...)
	if err := other.lease.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.MergeShard(t.Context(), store.Upkeep{Owner: "test", Aggregations: h.catalog.Aggregations}, "w2", "w1"); err != nil {
		t.Fatal(err)
	}
	cascade := w.cascade
	h.process(w, messages[30:]...)
	if w.cascade != cascade {
		t.Error("the worker has read again what the levels lack")
	}
	h.wantCalls("after the merge", 40)
}

// The backfill waits for a worker while Postgres loses what it has committed; at
// its end the aggregation has everything all the same.
func TestLost_CommitsOfABackfillAreBroughtInAgain(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"while it waits", "before it ends"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			h := newBackfillHarness(t)
			before, old := h.idle("w1"), h.idle("old")
			_, events := h.publishMix("e")
			_, more := h.publishMix("f")
			events += more
			h.process(before, h.take(before, 18)...)
			if err := before.lease.Close(); err != nil {
				t.Fatal(err)
			}
			catalog := h.twin("Twin")
			var restore func()
			lost := false
			err := h.backfill(t.Context(), catalog, "Twin", func(p BackfillProgress) {
				if restore == nil { // nothing but the first few messages
					restore = h.tables()
				}
				if lost || p.Events != int64(events) || len(p.WaitingFor) == 0 {
					return
				}
				lost = true
				restore()
				if when == "while it waits" {
					h.publishTicks("gw/e/5", 50, 52)
					h.process(old, h.take(before, 1)...)
					events += 3
				}
				if err := old.lease.Close(); err != nil {
					t.Error(err)
				}
			})
			if err != nil || !lost {
				t.Fatalf("lost %v, %v", lost, err)
			}
			h.wantTwin("after the backfill", catalog, "Twin", int64(events))
		})
	}
}

// A worker with nothing to do notices that the connection of its lease is gone,
// before somebody else takes its shard.
func TestWorker_LeasesItsShardAgainWhileIdle(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	held := func() (bool, error) {
		return ask[int](h, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0, nil
	}
	h.publishCalls("gw", 1, 10)
	h.drain()
	epoch := ask[int64](h, `SELECT epoch FROM weir.shard WHERE shard_id = 'w1'`)
	h.terminate(holdsALease)
	h.until("the shard is leased again", func() (bool, error) {
		ok, err := held()
		return ok && ask[int64](h, `SELECT epoch FROM weir.shard WHERE shard_id = 'w1'`) > epoch, err
	})
	h.publishCalls("gw", 11, 20)
	h.drain()
	h.wantCalls("under the new lease", 20)
}
