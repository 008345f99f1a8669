package worker

import (
	"context"
	"maps"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/stream"
)

// incomplete is how many groups the coarser levels of the shard lack.
func (h *harness) incomplete(shard string) int {
	h.t.Helper()
	cascade, _, err := h.db.LoadCascade(h.t.Context(), shard, h.catalog.Aggregations, nil, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if cascade.Empty() {
		return 0
	}
	return max(1, cascade.Groups()) // some may be left behind
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

func TestLevels_LackNothingAfterARollUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publishCalls("g", 1, 6)
	w := h.idle("w1")
	messages := h.take(w, 6)
	for _, some := range [][]stream.Message{messages[:4], messages[4:]} {
		h.process(w, some...)
		if err := w.rollUp(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if n := h.incomplete("w1"); n != 0 {
			t.Errorf("after %d messages: the levels lack %d groups", len(some), n)
		}
	}
	h.wantCalls("rolled up", 6)
}

func TestMaintain_PurgesAndThenCompacts(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publishCalls("g", 1, 6)
	for range 3 {
		h.process(w, h.take(w, 2)...)
		if err := w.rollUp(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	state := func() map[string]int64 {
		return h.counts(`SELECT 'seconds', count(*) FROM weir_data.apiversionperappagg_seconds UNION ALL SELECT 'years', count(*) FROM weir_data.apiversionperappagg_years
			UNION ALL SELECT 'events', sum(weir_events) FROM weir_data.apiversionperappagg_years`)
	}
	if got, want := state(), (map[string]int64{"seconds": 6, "years": 3, "events": 6}); !maps.Equal(got, want) {
		t.Fatalf("before: got %v, want %v", got, want)
	}
	if _, err := h.sql.ExecContext(t.Context(), `INSERT INTO weir.alert (id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, shard_id, created_at)
		SELECT 'id' || i, 'slow', '', 'local', 'firing', '{}', 2, 'm', i, 1, '2024-01-01Z', 'w1', now() - i * interval '1 day' FROM generate_series(0, 4) i`); err != nil {
		t.Fatal(err)
	}
	w.cfg.AlertRetention = 60 * time.Hour
	for range 2 {
		if err := w.maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := state(), (map[string]int64{"seconds": 0, "years": 1, "events": 6}); !maps.Equal(got, want) {
			t.Errorf("after: got %v, want %v", got, want)
		}
		if n := ask[int](h, `SELECT count(*) FROM weir.alert`); n != 3 {
			t.Errorf("%d alerts are left, want those of 60 hours", n)
		}
	}
}

// The cascade gets a batch while that is written; what the ledger refuses of it is not in the levels.
func TestLevels_HaveNothingOfABatchThatTheLedgerRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publishCalls("g", 1, 4)
	a, b := h.idle("w1"), h.idle("w2")
	messages := h.take(a, 4)
	h.process(a, messages[:2]...)
	h.process(b, messages[1:]...) // refused as a whole at first: b does not expect the second message to be folded
	for _, w := range []*Worker{a, b} {
		if err := w.rollUp(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	h.wantCalls("four messages, one of them twice", 4)
	for _, def := range h.catalog.Aggregations {
		h.wantConserved("after a refused batch", def)
	}
}
