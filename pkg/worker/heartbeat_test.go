package worker

import (
	"strings"
	"testing"
	"time"

	"weir/pkg/event"
	"weir/pkg/store"
)

func (h *harness) beat(msgID string, beat event.Heartbeat) {
	h.t.Helper()
	h.publish("events.heartbeat."+beat.Source, msgID, "application/json", string(beat.Body()))
}

func (h *harness) sources() []store.Source {
	h.t.Helper()
	all, err := h.db.Sources(h.t.Context(), "", 100)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func TestHeartbeat_TheNewestOfEachEpochIsKeptWhateverTheOrder(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w, other := h.idle("w1"), h.idle("w2")
	for n := range uint64(4) {
		h.beat("gw/e.hb/"+string('1'+byte(n)), event.Heartbeat{Source: "gw", Epoch: "e", Next: 10 * (n + 1), Acked: 10*n + 1, Dropped: n, Closed: n == 3})
	}
	h.beat("gw/f.hb/1", event.Heartbeat{Source: "gw", Epoch: "f", Next: 2})
	h.publishCalls("gw", 1, 1)
	messages := h.take(w, 6)
	h.process(w, messages[1])
	if all := h.sources(); len(all) != 1 || all[0].Heartbeat != (event.Heartbeat{Source: "gw", Epoch: "e", Next: 20, Acked: 11, Dropped: 1}) {
		t.Fatalf("got %+v", all)
	}
	h.process(other, messages[3], messages[5], messages[4], messages[2]) // in one batch the newest comes first
	h.process(w, messages...)                                            // again, and what was left
	all := h.sources()
	if len(all) != 2 || all[1].Heartbeat != (event.Heartbeat{Source: "gw", Epoch: "e", Next: 40, Acked: 31, Dropped: 3, Closed: true}) {
		t.Fatalf("got %+v", all)
	}
	if s := all[1]; s.Number != 4 || s.Sequence != messages[3].Sequence || s.Incarnation != w.consumer.Incarnation() || !s.ToldAt.Equal(messages[3].Stored.Round(time.Microsecond)) {
		t.Errorf("got %+v, the message is %d at %s", s, messages[3].Sequence, messages[3].Stored)
	}
	h.wantCalls("beside the heartbeats", 1)
	if got, want := h.totals(), (store.Totals{Messages: 6, Events: 1}); got.Messages != want.Messages || got.Events != want.Events || got.DeadLetters != 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHeartbeat_WhatIsNoneIsADeadLetterAndItsNeighboursGoOn(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	good := event.Heartbeat{Source: "gw", Epoch: "e", Next: 3, Acked: 2}
	body := string(good.Body())
	for _, c := range []struct{ msgID, body, reason string }{
		{"gw/e.hb/1", `{"source":"gw"}`, "it should have source, epoch"},
		{"gw/e.hb/2", strings.Replace(body, `"gw"`, `"other"`, 1), `it speaks for the source "other", and comes from "gw"`},
		{"gw/e.hb/3", strings.Replace(body, `"e"`, `"f"`, 1), `it speaks of the epoch "f", and its Nats-Msg-Id of "e"`},
		{"gw/e/4", body, "its Nats-Msg-Id should be"},
		{"gw/e.hb/5-6", body, "its Nats-Msg-Id should be"},
		{"other/e.hb/7", body, "its Nats-Msg-Id should be"},
		{"", body, "its Nats-Msg-Id should be"},
		{"gw/e.hb/8", "", "heartbeat"},
	} {
		h.publish("events.heartbeat.gw", c.msgID, "application/json", c.body)
		defer func() {
			if got := ask[string](h, `SELECT reason FROM weir.dead_letter WHERE msg_id = $1`, c.msgID); !strings.Contains(got, c.reason) {
				t.Errorf("%s: got %q, want %q", c.msgID, got, c.reason)
			}
		}()
	}
	h.beat("gw/e.hb/9", good)
	h.publishCalls("gw", 1, 3)
	w := h.idle("w1")
	messages := h.take(w, 12)
	h.process(w, messages...)
	h.process(w, messages...)
	if all := h.sources(); len(all) != 1 || all[0].Heartbeat != good || all[0].Number != 9 {
		t.Errorf("got %+v", all)
	}
	h.wantCalls("beside them", 3)
	if got := h.totals(); got.Messages != 12 || got.DeadLetters != 8 {
		t.Errorf("got %+v, want 12 messages, 8 dead letters", got)
	}
}
