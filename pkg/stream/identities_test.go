package stream

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestIdentities_AreOfEveryMessageFromASequenceOn(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	h := history(t, conn)
	if got, err := h.Identities(ctx, 0, 100); err != nil || len(got) != 0 {
		t.Errorf("an empty stream: %d identities, %v", len(got), err)
	}
	before := time.Now()
	publish(t, conn, 1, 5)
	pretend(t, conn, "404")
	publish(t, conn, 6, 7)
	got, err := h.Identities(ctx, 0, 100)
	if err != nil || len(got) != 8 {
		t.Fatalf("got %d identities, %v, want 8", len(got), err)
	}
	for i, s := range got {
		if s.Sequence != uint64(i+1) || s.Subject != "events.request.gw-1" || s.Stored.Before(before) || s.Stored.After(time.Now()) {
			t.Errorf("number %d: %+v", i+1, s)
		}
	}
	if got[4].MsgID != "gw-1/e/5" || got[5].MsgID != "" || got[6].MsgID != "gw-1/e/6" {
		t.Errorf("got %+v", got[4:7])
	}
	if got, err := h.Identities(ctx, 3, 2); err != nil || len(got) != 2 || got[0].Sequence != 3 || got[1].Sequence != 4 {
		t.Errorf("two from the third on: %+v, %v", got, err)
	}
	if got, err := h.Identities(ctx, 9, 100); err != nil || len(got) != 0 {
		t.Errorf("after the last: %+v, %v", got, err)
	}
}

func TestGet_ReturnsTheMessagesThatTheStreamHolds(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	publish(t, conn, 1, 3)
	pretend(t, conn, "503") // the 4th
	h := history(t, conn)
	var got []Message
	for _, sequence := range []uint64{3, 1, 4} {
		m, err := h.Get(ctx, sequence)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if sequenceOf(got) != "3 1 4 " {
		t.Fatalf("got %s", sequenceOf(got))
	}
	if m, err := h.Get(ctx, 99); !errors.Is(err, ErrNoMessage) {
		t.Errorf("message 99: %+v, %v, want ErrNoMessage", m, err)
	}
	stored, err := h.Identities(ctx, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := got[0]
	if id, ok := m.Identity(); !ok || id != (Identity{"gw-1", "e", 3, 3}) || string(m.Data) != `{"n":3}` ||
		m.ContentType() != "application/json" || !m.Stored.Equal(stored[0].Stored) {
		t.Errorf("got %+v", m)
	}
	for _, m := range append(got, Message{}) {
		if m.Ack() != nil || m.Nak(0) != nil || m.Nak(time.Second) != nil {
			t.Errorf("message %d was not delivered, yet it is not left alone", m.Sequence)
		}
	}
}

// A publisher may write any header, also those in which NATS says what a message is.
func TestState_BelievesNoHeaderOfAPublisher(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	lie := nats.NewMsg(EventSubject("request", "gw-1"))
	lie.Header.Set("Nats-Time-Stamp", "2099-01-01T00:00:00Z")
	lie.Header.Set("Nats-Sequence", "7")
	lie.Data = []byte("{}")
	publish(t, conn, 1, 2)
	if _, err := conn.nc.Request(lie.Subject, nil, time.Second); err != nil { // stored without headers
		t.Fatal(err)
	}
	if _, err := conn.nc.RequestMsgWithContext(testContext(t), lie); err != nil {
		t.Fatal(err)
	}
	publish(t, conn, 3, 3)
	consumer := openConsumer(t, conn)
	batch := fetch(t, consumer, Limits{Messages: 5, Wait: 5 * time.Second})
	ackAll(t, append(slices.Clone(batch[:1]), batch[1], batch[2]))
	var got State
	eventually(t, "three acknowledged", func() bool { got = state(t, conn); return got.AckPending == 2 })
	if !got.CompleteThrough.Equal(batch[3].Stored.Add(-1)) {
		t.Errorf("complete through %s, want just before %s", got.CompleteThrough, batch[3].Stored)
	}
	if got.AckFloor != 3 || got.Delivered != 5 || got.FirstSequence != 1 || got.LastSequence != 5 || got.Incarnation != consumer.Incarnation() {
		t.Errorf("got %+v", got)
	}
}
