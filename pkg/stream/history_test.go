package stream

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func history(t testing.TB, conn *Conn) *History {
	t.Helper()
	h, err := conn.History(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHistory_ReadsWhatTheStreamHoldsBesideTheConsumer(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	h := history(t, conn)
	if e, err := h.Extent(ctx); err != nil || e.Messages != 0 || !e.Since.IsZero() {
		t.Errorf("an empty stream: %+v, %v", e, err)
	}
	if batch, err := h.Read(ctx, 0, Limits{}, []string{"request"}); err != nil || len(batch) != 0 {
		t.Errorf("an empty stream: %d messages, %v", len(batch), err)
	}
	publish(t, conn, 1, 5)
	if _, _, err := conn.Publish(ctx, Outgoing{Subject: EventSubject("fault", "gw-1"), Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, 6, 9)
	for _, c := range []struct {
		from  uint64
		types []string
		want  string
	}{
		{0, []string{"request"}, "1 2 3 4 5 7 8 9 10 "},
		{4, []string{"request", "fault"}, "4 5 6 7 8 9 10 "},
		{2, []string{"fault"}, "6 "},
		{11, []string{"request"}, ""},
		{100, []string{"request"}, ""},
		{1, []string{"nosuch"}, ""},
	} {
		batch, err := h.Read(ctx, c.from, Limits{}, c.types)
		if err != nil || sequenceOf(batch) != c.want {
			t.Errorf("from %d, %v: got %s, %v, want %s", c.from, c.types, sequenceOf(batch), err, c.want)
		}
	}
	if e, err := h.Extent(ctx); err != nil || e.First != 1 || e.Last != 10 || e.Messages != 10 || e.Since.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
	if batch := fetch(t, openConsumer(t, conn), Limits{Messages: 10, Wait: 5 * time.Second}); sequenceOf(batch) != "1 2 3 4 5 6 7 8 9 10 " {
		t.Errorf("the consumer then has %s, want all", sequenceOf(batch))
	}
}

func TestHistory_KeepsItsLimitsButReadsAtLeastOneMessage(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	for range 4 {
		if _, _, err := conn.Publish(ctx, Outgoing{Subject: EventSubject("request", "gw-1"), Data: bytes.Repeat([]byte("x"), conn.MaxPayload()-1024)}); err != nil {
			t.Fatal(err)
		}
	}
	h := history(t, conn)
	for next := uint64(1); next <= 4; {
		batch, err := h.Read(ctx, next, Limits{Bytes: 10}, []string{"request"})
		if err != nil || len(batch) != 1 || batch[0].Sequence != next {
			t.Fatalf("from %d: got %s, %v, want one message", next, sequenceOf(batch), err)
		}
		next++
	}
	publish(t, conn, 5, 9)
	if batch, err := h.Read(ctx, 5, Limits{Messages: 2}, []string{"request"}); err != nil || sequenceOf(batch) != "5 6 " {
		t.Errorf("at most two: got %s, %v", sequenceOf(batch), err)
	}
}

func TestHistory_OfAStreamThatWasMadeAnewIsGone(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	h := history(t, conn)
	if err := conn.js.DeleteStream(ctx, EventsStream); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Extent(ctx); !errors.Is(err, ErrGone) {
		t.Errorf("deleted: got %v", err)
	}
	if _, err := conn.History(ctx); !errors.Is(err, ErrNotProvisioned) {
		t.Errorf("opened when deleted: got %v", err)
	}
	provision(t, conn, Provision{})
	publish(t, conn, 1, 1)
	if batch, err := h.Read(ctx, 1, Limits{}, []string{"request"}); !errors.Is(err, ErrGone) {
		t.Errorf("made anew: got %s, %v", sequenceOf(batch), err)
	}
}
