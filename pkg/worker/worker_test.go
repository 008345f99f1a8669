package worker

import (
	"testing"

	"weir/pkg/gateway"
	"weir/pkg/store"
)

func (h *harness) replay(path string, config gateway.ReplayConfig) gateway.ReplayResult {
	h.t.Helper()
	log, err := gateway.OpenLog(h.t.Context(), path, nil, "")
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	result, err := gateway.Replay(h.t.Context(), h.conn, log, config)
	if err != nil {
		h.t.Fatal(err)
	}
	return result
}

func TestWorker_SecondReplayOfTheSameFileChangesNothing(t *testing.T) {
	t.Parallel()
	path := data(t, "elastic-apache/apache_logs.gz")
	h := newHarness(t)
	h.run(2)
	h.replay(path, gateway.ReplayConfig{})
	h.drain()
	want := store.Totals{Messages: 100, Events: 9999}
	if got := h.totals(); got != want {
		t.Errorf("first replay: got %+v, want %+v", got, want)
	}
	h.replay(path, gateway.ReplayConfig{Batch: 7})
	h.drain()
	want.Messages = 100
	if got := h.totals(); got != want {
		t.Errorf("second replay, cut differently: got %+v, want %+v", got, want)
	}
}
