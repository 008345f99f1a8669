package worker

import (
	"fmt"
	"testing"

	"weir/pkg/store"
	"weir/pkg/stream"
)

func TestIdentity_PublishedTwiceIsFoldedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	// Two spellings of one number: the stream takes them for two messages.
	h.publish("events.request.gw", "gw/e/1", "", call(1, ""))
	h.publish("events.request.gw", "gw/e/1-1", "", call(1, ""))
	h.publish("events.request.gw", "gw/f/1", "", call(1, "")) // another epoch is another message
	a, b := h.idle("w1"), h.idle("w2")
	messages := h.take(a, 3)
	h.process(a, messages[0])
	h.process(b, messages[1:]...)
	h.process(a, messages...)
	h.wantCalls("two messages, one of them twice", 2)
	if got, want := h.totals(), (store.Totals{Messages: 2, Events: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestIdentity_LooksIntoTheLedgerFirstWhileMessagesAreKnown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publishCalls("gw", 1, 4)
	messages := h.take(w, 4)
	for i, step := range []struct {
		messages []stream.Message
		want     int
	}{
		{messages[:2], 0}, {messages[:1], expectedAfter}, {messages[1:2], expectedAfter}, {messages[1:3], expectedAfter}, {messages[3:], expectedAfter - 1},
	} {
		h.process(w, step.messages...)
		if w.expectFolded != step.want {
			t.Errorf("after batch %d: expects folded messages for %d batches, want %d", i, w.expectFolded, step.want)
		}
	}
	h.wantCalls("all of them", 4)
}

func TestIdentity_TwiceInOneBatchIsFoldedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publish("events.request.gw", "gw/e/1", "", call(1, ""))
	h.publish("events.request.gw", "gw/e/1-1", "", call(1, ""))
	h.publish("events.request.gw", "", "", call(2, ""))
	w := h.idle("w1")
	messages := h.take(w, 3)
	h.process(w, messages[0], messages[2], messages[1], messages[2], messages[0])
	h.wantCalls("a batch with repetitions", 2)
}

func TestIdentity_OfEventsDoesNotDependOnTheCut(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a, b := h.idle("w1"), h.idle("w2")
	publish := func(from, to int) {
		body := ""
		for n := from; n <= to; n++ {
			body += call(n, "") + "\n"
		}
		h.publish("events.request.gw", fmt.Sprintf("gw/r/%d-%d", from, to), "application/x-ndjson", body)
	}
	publish(4090, 4100) // over the boundary of a ledger page
	publish(4085, 4095)
	publish(4098, 4110)
	publish(4085, 4110)
	messages := h.take(a, 4)
	h.process(a, messages[0])
	h.wantCalls("the first cut", 11)
	h.process(b, messages[1], messages[2])
	h.wantCalls("what others add", 26)
	h.process(a, messages[3])
	h.process(b, messages...)
	h.wantCalls("all of it again", 26)
	// Every event is in its own second.
	if got := ask[string](h, `SELECT count(*) || ' ' || max(n) FROM (
		SELECT bucket, sum(n) AS n FROM weir_data.apiversionperappagg_seconds, unnest(weir_events) AS n GROUP BY bucket) AS seconds`); got != "26 1" {
		t.Errorf("seconds and most events in one: %s, want 26 1", got)
	}
}

func TestIdentity_ForeignMessageDeliveredAgainIsFoldedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, id := range []string{"", "", "not-an-identity", "gw/e/0", "gw/e/01", "gw/e/x"} {
		h.publish("events.request.gw", id, "", call(1, ""))
	}
	a, b := h.idle("w1"), h.idle("w2")
	messages := h.take(a, 6)
	h.process(a, messages[:4]...)
	h.process(b, messages[2:]...)
	h.process(b, messages...)
	h.wantCalls("six foreign messages", 6)
	if got, want := h.totals(), (store.Totals{Messages: 6, Events: 6}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestIdentity_OfAnotherSourceIsNotBelieved(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publish("events.request.evil", "gw/e/1", "", call(1, ""))
	h.process(w, h.take(w, 1)...)
	h.publish("events.request.gw", "gw/e/1-1", "", call(2, ""))
	h.process(w, h.take(w, 1)...)
	h.wantCalls("the source's own message after one in its name", 2)
	got := h.counts(`SELECT source || '/' || epoch, count(*) FROM weir.ledger_page GROUP BY 1 UNION ALL SELECT 'foreign', count(*) FROM weir.ledger_foreign`)
	if len(got) != 2 || got["gw/e"] != 1 || got["foreign"] != 1 {
		t.Errorf("the ledger holds %v", got)
	}
}
