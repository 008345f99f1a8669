package worker

import (
	"context"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

// incomplete is how many groups the coarser levels of the shard lack.
func (h *harness) incomplete(shard string) int {
	h.t.Helper()
	cascade, err := h.db.LoadCascade(h.t.Context(), shard, h.catalog.Aggregations, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return cascade.Groups()
}

func TestLevels_ThatAKilledWorkerLeftAreCompletedWithoutAnotherEvent(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publishCalls("g", 1, 5)
	killed := h.idle("w1")
	h.process(killed, h.take(killed, 5)...)
	if err := killed.lease.Close(); err != nil {
		t.Fatal(err)
	}
	if h.incomplete("w1") == 0 {
		t.Fatal("the levels are complete before the test begins")
	}
	w := h.worker("w1")
	w.cfg.Cadence = func(aggregation.Granularity) time.Duration { return 0 }
	ctx, stop := context.WithCancel(t.Context())
	go func() { h.failed <- w.Run(ctx) }()
	h.until("the levels are complete", func() (bool, error) { return h.incomplete("w1") == 0, nil })
	stop()
	if err := <-h.failed; err != nil {
		t.Error(err)
	}
}
