package worker

import (
	"testing"
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
	for _, def := range h.catalog.Aggregations {
		h.wantConserved("after the failover and the repairs", def)
	}
}
