package worker

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/alert"
	"weir/pkg/store"
)

const slowCalls = "abnormal-response-time"

// slowCall publishes a call of the API pizza of a tenant, number n of all.
func (h *harness) slowCall(n int, tenant string, millis int) {
	h.t.Helper()
	h.publish("events.request.gw", fmt.Sprintf("gw/e/%d", n), "", call(n, fmt.Sprintf(
		`,"apiMethod":"M%d","responseTime":%d,"apiCreatorTenantDomain":%q`, n, millis, tenant))) // each a key of its own
}

// probe publishes calls of so many milliseconds, from number n on, until they
// raise alerts, or raise none any more; it returns the next number, and the
// threshold that was used.
func (h *harness) probe(n int, millis int, alerts bool) (next int, threshold float64) {
	h.t.Helper()
	h.until(fmt.Sprintf("%d ms raise alerts: %v", millis, alerts), func() (bool, error) {
		h.slowCall(n, "a.com", millis)
		key := fmt.Sprintf("M%d", n)
		n++
		h.drain()
		recorded, err := h.db.Alerts(h.t.Context(), store.AlertFilter{Rule: slowCalls, Limit: 10_000})
		i := slices.IndexFunc(recorded, func(a alert.Alert) bool { return a.Key["apiMethod"] == key })
		if i >= 0 {
			threshold = recorded[i].Threshold
		}
		return (i >= 0) == alerts, err
	})
	return n, threshold
}

func (h *harness) set(tenant string, value float64) {
	h.t.Helper()
	_, err := h.db.SetThreshold(h.t.Context(), alert.Threshold{Rule: slowCalls, Dimensions: alert.Dimensions{API: "pizza", Tenant: tenant}, Value: value}, "test")
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) unset(tenant string) {
	h.t.Helper()
	if err := h.db.UnsetThreshold(h.t.Context(), alert.Threshold{Rule: slowCalls, Dimensions: alert.Dimensions{API: "pizza", Tenant: tenant}}); err != nil {
		h.t.Fatal(err)
	}
}

// In the original a threshold that was removed stayed in every worker's memory.
func TestThresholds_TakeEffectOnARunningWorkerAndAreGoneWhenUnset(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	h.slowCall(1, "a.com", 4000)
	h.drain()
	if got := h.published(slowCalls); len(got) != 0 {
		t.Fatalf("before anything is set: %+v", got)
	}
	h.set("", 100)
	n, threshold := h.probe(2, 4000, true)
	if threshold != 100 {
		t.Errorf("the alert tells of the threshold %v, want 100", threshold)
	}
	h.set("", 4500)
	n, _ = h.probe(n, 4000, false)
	if n, threshold = h.probe(n, 4501, true); threshold != 4500 {
		t.Errorf("the alert tells of the threshold %v, want 4500", threshold)
	}
	h.unset("")
	n, _ = h.probe(n, 4501, false)
	if _, threshold = h.probe(n, 5001, true); threshold != 5000 {
		t.Errorf("the alert tells of the threshold %v, want the rule's own", threshold)
	}
}

// https://github.com/wso2/product-apim/issues/6771: the API of one name that two
// tenants have.
func TestThresholds_TwoTenantsWithTheSameAPIHaveTheirOwn(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.set("a.com", 100) // before the worker starts
	h.set("b.com", 300)
	h.set("", 9000)
	h.run(1)
	for i, c := range []struct {
		tenant string
		millis int
	}{{"a.com", 200}, {"b.com", 200}, {"b.com", 301}, {"c.com", 8000}, {"a.com", 100}, {"b.com", 300}} {
		h.slowCall(i+1, c.tenant, c.millis)
	}
	h.drain()
	var got []string
	for _, a := range h.published(slowCalls) {
		got = append(got, fmt.Sprint(a.Key["apiCreatorTenantDomain"], " ", a.Value, " over ", a.Threshold))
	}
	slices.Sort(got)
	if want := []string{"a.com 200 over 100", "b.com 301 over 300"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A worker whose thresholds cannot be read goes on with those that it has, and
// takes the new ones when they can.
func TestThresholds_ThatCannotBeReadEndNoWorker(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.set("", 100)
	w := h.worker("w1")
	core, said := observer.New(zap.WarnLevel)
	w.log = zap.New(core)
	h.runAll(w)
	n, _ := h.probe(1, 200, true)
	h.exec(`ALTER TABLE weir.threshold_version RENAME TO away`)
	h.until("the worker says that it cannot read them", func() (bool, error) {
		return said.FilterMessageSnippet("thresholds not read").Len() > 0, nil
	})
	n, threshold := h.probe(n, 200, true)
	if threshold != 100 {
		t.Errorf("meanwhile the threshold is %v, want the one that was read last", threshold)
	}
	h.exec(`ALTER TABLE weir.away RENAME TO threshold_version`)
	h.unset("")
	h.probe(n, 200, false)
	if times := said.FilterMessageSnippet("thresholds not read").Len(); times != 1 {
		t.Errorf("it was said %d times, want once", times)
	}
}

// A worker reads thresholds before its first batch, or does not begin.
func TestThresholds_AreReadBeforeTheFirstBatch(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.set("", 100)
	w := h.worker("w1")
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.lease.Close(); w.consumer.Close() })
	if v, found := w.thresholds.now.Load().For(slowCalls, "").For([]string{"pizza", "", "", "", "", ""}); v != 100 || !found {
		t.Errorf("got %v, %v", v, found)
	}
	before := w.thresholds.now.Load()
	if err := w.readThresholds(t.Context()); err != nil || w.thresholds.now.Load() != before {
		t.Errorf("read again though nothing has changed, %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.followThresholds(ended); err != nil {
		t.Errorf("got %v when asked to stop", err)
	}
}
