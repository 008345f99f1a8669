package worker

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What is folded again changes no count but that of what was refused.
func TestMetrics_TellWhatIsFoldedFromWhatIsRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	registry := prometheus.NewRegistry()
	registry.MustRegister(w.cfg.Metrics)
	const n = 12
	h.publishCalls("gw-1", 1, n)
	h.publish("events.request.gw-1", "", "application/json", `{"requestTimestamp":"yesterday"}`)
	messages := h.take(w, n+1)
	h.process(w, messages...)
	events := float64(h.totals().Events)
	check := func(when string, refused, claimed, committed float64) {
		t.Helper()
		for name, c := range map[string]struct {
			counter prometheus.Collector
			want    float64
		}{
			"folded": {w.tally.folded, events}, "dead letters": {w.tally.deadLetters, 1}, "refused": {w.tally.duplicates, refused},
			"claimed": {w.tally.flushes.WithLabelValues(flushClaimed), claimed}, "committed": {w.tally.flushes.WithLabelValues(flushCommitted), committed},
		} {
			if got := testutil.ToFloat64(c.counter); got != c.want {
				t.Errorf("%s: %s is %v, want %v", when, name, got, c.want)
			}
		}
	}
	if events < n {
		t.Fatalf("%v events are folded of %d messages", events, n)
	}
	check("at first", 0, 0, 1)
	h.process(w, messages...)
	check("the second time", events, 1, 1)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
