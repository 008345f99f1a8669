package worker

import (
	"errors"
	"testing"

	"weir/pkg/definition"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// Postgres fails over to one that lacks the last commits, while the worker has
// nothing to flush and whoever else uses its pool connects anew: the worker
// itself meets no error. What it remembers of the lost batches must not reach the
// coarser levels, or repairs count it there twice.
func TestInterleaving_FailoverThatLostCommitsUnderARunningWorker(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	w := h.idle("w1")
	n, _ := h.publishMix("a")
	h.process(w, h.take(w, n)...)
	restore := h.tables()
	more, _ := h.publishMix("b")
	h.process(w, h.take(w, more)...)
	restore()
	rest, _ := h.publishMix("c")
	if err := w.persist(t.Context(), t.Context(), h.take(w, rest)); err != nil {
		t.Fatal(err)
	}
	if err := w.rollUp(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if _, err := h.sql.ExecContext(t.Context(), `INSERT INTO weir.repair (incarnation, sequence) SELECT $1, generate_series(1, $2::bigint)`,
		w.consumer.Incarnation(), n+more+rest); err != nil {
		t.Fatal(err)
	}
	if _, err := w.repair(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.rollUp(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	events := h.folded("Ticks")
	for _, def := range h.catalog.Aggregations {
		h.wantConserved("after the failover and the repairs", def)
	}
	h.deliverAgain(h.catalog)
	for _, def := range h.catalog.Aggregations {
		h.wantConserved("delivered anew", def)
	}
	if got := h.folded("Ticks"); got != events {
		t.Errorf("delivered anew: %d events, want %d", got, events)
	}
}

// Among the lost commits is the lease that the worker has: nobody has taken its
// shard over, so it leases it again and goes on.
func TestInterleaving_FailoverThatLostTheLeaseOfARunningWorker(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publishCalls("gw", 1, 30)
	w := h.idle("w1")
	messages := h.take(w, 30)
	h.process(w, messages[:10]...)
	restore := h.tables()
	h.terminate(holdsALease)
	if err := w.keepLease(t.Context()); err != nil {
		t.Fatal(err)
	}
	restore()
	h.terminate(holdsALease) // as all sessions end with the server
	if err := w.persist(t.Context(), t.Context(), messages[10:]); err != nil {
		t.Errorf("got %v, want to go on under a new lease", err)
	}
	h.wantCalls("under the new lease", 30)
	h.deliverAgain(h.catalog)
	h.wantCalls("delivered anew", 30)
}

// The shard was taken over, which is lost, and is taken over again. The epochs of
// the two that took it must differ, or both would write it.
func TestInterleaving_FailoverThatLostATakeover(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publishCalls("gw", 1, 30)
	first := h.idle("w1")
	messages := h.take(first, 30)
	h.process(first, messages[:10]...)
	restore := h.tables()
	h.terminate(holdsALease)
	second := h.idle("w1")
	restore()
	h.terminate(holdsALease)
	third := h.idle("w1")
	for name, w := range map[string]*Worker{"first": first, "second": second} {
		if err := w.persist(t.Context(), t.Context(), messages[10:20]); !errors.Is(err, store.ErrFenced) {
			t.Errorf("the %s got %v, want to be fenced", name, err)
		}
	}
	h.process(third, messages...)
	h.wantCalls("under the last lease", 30)
	h.deliverAgain(h.catalog)
	h.wantCalls("delivered anew", 30)
}

// forgetAcks makes the consumer anew: the floor of its acknowledgements falls back
// to 1.
func (h *harness) forgetAcks() {
	h.t.Helper()
	if err := h.jetstream().DeleteConsumer(h.t.Context(), "EVENTS", "fold"); err != nil {
		h.t.Fatal(err)
	}
	h.provision()
}

func (h *harness) provision() {
	h.t.Helper()
	if _, err := h.conn.Provision(h.t.Context(), stream.Provision{AckWait: h.servers.ackWait}); err != nil {
		h.t.Fatal(err)
	}
}

// deliverAgain has a worker with these definitions fold the whole stream, of which
// nothing is acknowledged any more, and expects that it adds nothing to the
// control totals.
func (h *harness) deliverAgain(catalog *definition.Catalog) {
	h.t.Helper()
	h.forgetAcks()
	before := h.totals()
	w := h.knowing(catalog, "again")
	h.process(w, h.take(w, int(h.lastSequence()))...) //nolint:gosec // few
	if after := h.totals(); after != before {
		h.t.Errorf("everything was delivered anew: control totals %+v, were %+v", after, before)
	}
}
