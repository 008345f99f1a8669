package worker

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"weir/pkg/store"
)

func TestDeadLetters_TakeEventsOutsideTheBoundsOfTheirStream(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	request := h.catalog.Stream("request")
	request.Past = 90 * 24 * time.Hour
	w := h.idle("w1")
	now := time.Now()
	for n, at := range []time.Time{now.Add(-91 * 24 * time.Hour), now.Add(-89 * 24 * time.Hour), now, now.Add(23 * time.Hour), now.Add(25 * time.Hour)} {
		h.publish("events.request.gw", fmt.Sprintf("gw/e/%d", n+1), "", fmt.Sprintf(`{"requestTimestamp":%d}`, at.UnixMilli()))
	}
	h.process(w, h.take(w, 5)...)
	h.wantCalls("events within the bounds, the late one included", 3)
	letters, err := h.db.DeadLetters(t.Context(), store.DeadLetterFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64]string{
		1: " lies more than 2160h0m0s before the time at which the stream took the message (",
		5: " lies more than 24h0m0s after the time at which the stream took the message (",
	}
	for _, l := range letters {
		if reason := want[l.Sequence]; reason == "" || !strings.Contains(l.Reason, reason) {
			t.Errorf("event %d is refused: %s", l.Sequence, l.Reason)
		}
		delete(want, l.Sequence)
	}
	if len(want) > 0 {
		t.Errorf("not refused: %v", want)
	}
}

func TestPack_GroupsPathsByTemplateWhereTheGatewayGivesNone(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	for n, resource := range []string{
		`"apiResourcePath":"/orders/1?full=1"`, `"apiResourcePath":"/orders/2","apiResourceTemplate":""`,
		`"apiResourcePath":"/orders/3","apiResourceTemplate":"/orders/{orderId}"`, `"apiResourcePath":"/orders/4","apiResourceTemplate":"/orders/4"`,
	} {
		h.publish("events.request.gw", fmt.Sprintf("gw/e/%d", n+1), "", call(n, ","+resource))
	}
	h.publish("events.fault.gw", "gw/e/5", "", `{"requestTimestamp":1715947200000,"apiResourcePath":"/orders/5"}`)
	h.process(w, h.take(w, 5)...)
	want := map[string]int64{"/orders/{id}": 3, "/orders/{orderId}": 1, "/orders/4": 1}
	got := h.counts(`SELECT name, sum(n)::bigint FROM weir_data.apierroranalysisagg_seconds, unnest(weir_view.texts(apiresourcetemplate), weir_events) AS u (name, n) GROUP BY 1`)
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
