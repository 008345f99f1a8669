package worker

import (
	"fmt"
	"strings"
	"testing"

	"weir/pkg/store"
)

func TestDeadLetters_TakeBadInputAndTheRestIsFolded(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	for _, m := range []struct{ subject, id, contentType, body string }{
		{"events.request.gw", "gw/e/1", "", `{"apiName":`},
		{"events.nosuch.gw", "gw/e/2", "", `{}`},
		{"events.request.gw.more", "", "", call(3, "")},
		{"events.request.gw", "gw/e/4", "application/json", "[" + strings.Join([]string{
			call(4, ""), call(5, `,"username":"a\u0000b"`), call(6, `,"responseTime":-1`),
			`{"requestTimestamp":"yesterday"}`, `{"requestTimestamp":1e300}`, `7`, call(7, ""),
		}, ",") + "]"},
		{"events.request.gw", "gw/e/5", "application/x-ndjson", call(8, "") + "\n{broken\n\n" + call(9, "") + "\n"},
		{"events.request.gw", "gw/e/6", "", `[]`},
		{"events.request.gw", "", "", "\xff\x00"},
		{"events.request.gw", "gw/e/8", "", call(10, "")},
	} {
		h.publish(m.subject, m.id, m.contentType, m.body)
	}
	h.process(w, h.take(w, 8)...)
	h.wantCalls("good events", 5)
	if got, want := h.totals(), (store.Totals{Messages: 8, Events: 5, DeadLetters: 11}); got != want {
		t.Errorf("control totals: got %+v, want %+v", got, want)
	}
	letters, err := h.db.DeadLetters(t.Context(), store.DeadLetterFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]store.DeadLetter{}
	for _, l := range letters {
		got[fmt.Sprintf("%d.%d", l.Sequence, l.Offset)] = l
	}
	for place, want := range map[string]struct{ reason, payload string }{
		"1.-1": {"undecodable", `{"apiName":`},
		"2.-1": {`unknown type: no stream is defined for the subject "events.nosuch.gw"`, `{}`},
		"3.-1": {`unknown type: no stream is defined for the subject "events.request.gw.more"`, call(3, "")},
		"4.1":  {"username: holds a NUL byte", call(5, `,"username":"a\u0000b"`)},
		"4.2":  {"responseTime: -1 is below 0", call(6, `,"responseTime":-1`)},
		"4.3":  {`requestTimestamp: "yesterday" is no time`, `{"requestTimestamp":"yesterday"}`},
		"4.4":  {"requestTimestamp", `{"requestTimestamp":1e300}`},
		"4.5":  {"must be a JSON object", `7`},
		"5.1":  {"broken JSON", `{broken`},
		"6.-1": {"no event in it", `[]`},
		"7.-1": {"undecodable", "\xff\x00"},
	} {
		letter, ok := got[place]
		if !ok || !strings.Contains(letter.Reason, want.reason) || string(letter.Payload) != want.payload {
			t.Errorf("%s: got %q with payload %q, want %q with %q", place, letter.Reason, letter.Payload, want.reason, want.payload)
		}
		delete(got, place)
	}
	if len(got) > 0 {
		t.Errorf("beside them: %+v", got)
	}
	// Everything that the batch caused was written by one transaction.
	writers := ask[string](h, `SELECT string_agg(DISTINCT x::text, ',') FROM (
		SELECT xmin AS x FROM weir.dead_letter UNION ALL SELECT xmin FROM weir.ledger_page UNION ALL SELECT xmin FROM weir.ledger_foreign
		UNION ALL SELECT xmin FROM weir.shard UNION ALL SELECT xmin FROM weir_data.apiversionperappagg_seconds_s1_rest) AS rows`)
	if strings.Contains(writers, ",") {
		t.Errorf("the batch was written by the transactions %s, want one", writers)
	}
}

func TestDeadLetters_AreWrittenOncePerEvent(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publish("events.request.gw", "gw/e/1", "application/json", "[7,"+call(1, "")+"]")
	h.publish("events.request.gw", "", "", "broken")
	h.publish("events.nosuch.gw", "gw/e/2", "", "{}")
	h.publish("events.nosuch.gw", "gw/r/1-3", "", "{}")
	messages := h.take(w, 4)
	for range 2 {
		h.process(w, messages...)
	}
	if got, want := h.totals(), (store.Totals{Messages: 4, Events: 1, DeadLetters: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n := ask[int](h, `SELECT count(*) FROM weir.dead_letter`); n != 4 {
		t.Errorf("%d dead letters, want 4", n)
	}
}

func TestDeadLetters_TakeAMessageWhoseRangeIsWrong(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	two := "[" + call(1, "") + "," + call(2, "") + "]"
	h.publish("events.request.gw", "gw/r/1-3", "application/json", two)
	h.process(w, h.take(w, 1)...)
	h.wantCalls("a range of three with two events", 0)
	letters, err := h.db.DeadLetters(t.Context(), store.DeadLetterFilter{Limit: 10})
	if err != nil || len(letters) != 1 || !strings.Contains(letters[0].Reason, "gw/r/1-3 names 3 events, the message carries 2") || string(letters[0].Payload) != two {
		t.Errorf("got %+v, %v", letters, err)
	}
}

// A message whose first events are folded already, by another cut, and whose
// others cannot be read: these must not vanish.
func TestDeadLetters_TakeWhatARangeAddsToFoldedEvents(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publish("events.request.gw", "gw/r/1-2", "application/json", "["+call(1, "")+","+call(2, "")+"]")
	h.process(w, h.take(w, 1)...)
	h.publish("events.request.gw", "gw/r/2-4", "application/json", "broken")
	second := h.take(w, 1)
	for second[0].Sequence == 1 { // delivered again, on a busy machine
		second = h.take(w, 1)
	}
	for range 2 {
		h.process(w, second...)
	}
	h.wantCalls("the first cut", 2)
	if n := ask[int](h, `SELECT count(*) FROM weir.dead_letter`); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}
