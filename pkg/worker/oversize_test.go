package worker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// Small messages can hold a lot: a worker takes as much of it at a time as it
// has room for, keeps the beginning of what is bad, and goes on.
func TestProcess_MessagesThatInflateEnormouslyDoNotStopTheWorker(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const bombs, size = 6, 4 << 20 // more than is kept of a body
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	_, _ = fmt.Fprintf(w, `{"apiName":"%s","responseTime":-1,"requestTimestamp":1715947200000}`, strings.Repeat("x", size))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for n := range bombs {
		_, _, err := h.conn.Publish(t.Context(), stream.Outgoing{
			Subject: "events.request.gw", MsgID: fmt.Sprintf("gw/bomb/%d", n+1), ContentEncoding: "gzip", Data: body.Bytes(),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.publish("events.request.gw", "gw/e/1", "", call(1, ""))
	bounded := h.worker("w1")
	bounded.reader.most = size + 1 // room for two of them
	h.runAll(bounded)
	h.drain()
	shards, err := h.db.Shards(t.Context())
	if err != nil || len(shards) != 1 || shards[0].LastBatch < bombs/2 {
		t.Errorf("%+v, %v: want a batch for every two messages", shards, err)
	}
	if got, want := h.totals(), (store.Totals{Messages: bombs + 1, Events: 1, DeadLetters: bombs}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	letters, err := h.db.DeadLetters(t.Context(), store.DeadLetterFilter{Limit: 10})
	if err != nil || len(letters) != bombs {
		t.Fatalf("%d dead letters, %v", len(letters), err)
	}
	if l := letters[0]; len(l.Payload) > 1<<10 || l.Size < size {
		t.Errorf("the list shows %d bytes of %d", len(l.Payload), l.Size)
	}
	l, err := h.db.DeadLetter(t.Context(), letters[0].ID)
	if err != nil || len(l.Payload) != store.MaxPayload {
		t.Errorf("kept %d bytes, %v", len(l.Payload), err)
	}
}

// What passes decoding and Postgres refuses all the same becomes a dead letter
// alone; its neighbours are folded.
func TestProcess_AMessageThatPostgresRefusesIsIsolated(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if _, err := h.sql.ExecContext(t.Context(), `
		ALTER TABLE weir_data.apiversionperappagg_seconds ADD CHECK (1 / (CASE WHEN 'poison' = ANY (apicontext) THEN 0 ELSE 1 END) = 1)`); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 20; n++ {
		body := call(n, "")
		if n == 13 {
			body = strings.Replace(body, "/pizza/1", "poison", 1)
		}
		h.publish("events.request.gw", fmt.Sprintf("gw/e/%d", n), "", body)
	}
	h.run(1)
	h.drain()
	if got, want := h.totals(), (store.Totals{Messages: 20, Events: 19, DeadLetters: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	letters, err := h.db.DeadLetters(t.Context(), store.DeadLetterFilter{Limit: 10})
	if err != nil || len(letters) != 1 || letters[0].MsgID != "gw/e/13" || !strings.Contains(letters[0].Reason, "Postgres cannot store it") {
		t.Errorf("got %+v, %v", letters, err)
	}
}
