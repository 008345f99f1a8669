package stream

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/embedded/embeddedtest"
)

// attempts listens where a stream would, and returns what was published there.
func attempts(t testing.TB, conn *Conn) <-chan *nats.Msg {
	t.Helper()
	arrived := make(chan *nats.Msg, 100)
	if _, err := conn.nc.ChanSubscribe(allEvents, arrived); err != nil {
		t.Fatal(err)
	}
	if err := conn.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return arrived
}

func respond(t testing.TB, m *nats.Msg, answer string) {
	t.Helper()
	if err := m.Respond([]byte(answer)); err != nil {
		t.Fatal(err)
	}
}

func TestPublish_TriesAgainWhenNoAnswerComesInTime(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	arrived := attempts(t, connect(t, url))
	conn := connectWith(t, Config{URL: url, AckTimeout: 50 * time.Millisecond})
	results := make(chan uint64, 3)
	err := conn.PublishAsync(testContext(t), event(1), func(seq uint64, _ bool, err error) {
		if err != nil {
			t.Error(err)
		}
		results <- seq
	})
	if err != nil {
		t.Fatal(err)
	}
	first, second := <-arrived, <-arrived
	if first.Header.Get("Nats-Msg-Id") != "gw-1/e/1" || second.Header.Get("Nats-Msg-Id") != "gw-1/e/1" || string(second.Data) != `{"n":1}` {
		t.Errorf("got %q %s, then %q %s", first.Header, first.Data, second.Header, second.Data)
	}
	respond(t, first, `{"stream":"EVENTS","seq":7}`) // too late: it is on its way again
	last := second
	for done := false; !done; { // whichever attempt is under way when the answer comes
		respond(t, last, `{"stream":"EVENTS","seq":8}`)
		select {
		case seq := <-results:
			if seq != 8 {
				t.Errorf("got place %d, want 8 of an attempt that was under way", seq)
			}
			done = true
		case last = <-arrived:
		}
	}
	if err := conn.nc.Flush(); err != nil { // with late answers to attempts, if there are any
		t.Fatal(err)
	}
	if len(results) > 0 {
		t.Error("the message was done twice")
	}
	if len(conn.pub.slots) != 0 || len(conn.pub.underway) != 0 {
		t.Errorf("%d slots and %d attempts are left", len(conn.pub.slots), len(conn.pub.underway))
	}
}

func TestPublish_UnderstandsEveryAnswer(t *testing.T) {
	t.Parallel()
	var tooLarge *jetstream.APIError
	for text, want := range map[string]struct {
		seq       uint64
		duplicate bool
		err       func(error) bool
	}{
		`{"stream":"EVENTS","seq":7}`:                                          {seq: 7},
		`{"stream":"EVENTS","seq":7,"duplicate": true}`:                        {seq: 7, duplicate: true},
		`{"stream":"EVENTS","seq":7,"duplicate":true}`:                         {seq: 7, duplicate: true},
		`{"stream":"EVENTS","domain":"hub","seq":7}`:                           {seq: 7},
		`{"stream":"EVENTS", "seq":7}`:                                         {seq: 7},
		`{"type":"pub_ack","stream":"EVENTS","seq":7}`:                         {seq: 7},
		`{"stream":"EV\"ENTS","seq":7}`:                                        {seq: 7},
		`{"error":{"code":400,"err_code":10054,"description":"too large"}}`:    {err: func(err error) bool { return errors.As(err, &tooLarge) && tooLarge.Code == 400 }},
		`{"stream":"EVENTS","seq":7,"error":{"code":400,"description":"bad"}}`: {err: func(err error) bool { return errors.As(err, &tooLarge) }},
		`{"stream":"EVENTS","seq":`:                                            {err: func(err error) bool { return errors.Is(err, jetstream.ErrInvalidJSAck) }},
		`{"stream":"","seq":7}`:                                                {err: func(err error) bool { return errors.Is(err, jetstream.ErrInvalidJSAck) }},
		``:                                                                     {err: func(err error) bool { return errors.Is(err, jetstream.ErrInvalidJSAck) }},
	} {
		t.Run(fmt.Sprintf("%q", text), func(t *testing.T) {
			t.Parallel()
			seq, duplicate, err := stored(&nats.Msg{Data: []byte(text)})
			if want.err != nil {
				if err == nil || !want.err(err) {
					t.Errorf("got %d, %v", seq, err)
				}
				return
			}
			if seq != want.seq || duplicate != want.duplicate || err != nil {
				t.Errorf("got %d, %v, %v, want %d, %v", seq, duplicate, err, want.seq, want.duplicate)
			}
		})
	}
}

// Messages share what carries them to the client library: nothing of one may be found in another.
func TestPublish_KeepsMessagesApart(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	outs := []Outgoing{
		event(1),
		{Subject: EventSubject("fault", "gw-2"), Data: []byte("2")},
		{Subject: EventSubject("request", "gw-1"), MsgID: "gw-1/e/3", ContentEncoding: "zstd", Data: []byte("3")},
		{Subject: EventSubject("request", "gw-1"), ContentType: "application/json"},
	}
	var done sync.WaitGroup
	for n := range 200 {
		out := outs[n%len(outs)]
		if out.MsgID != "" {
			out.MsgID = fmt.Sprintf("gw-1/e/%d", n+1)
		}
		done.Add(1)
		if err := conn.PublishAsync(ctx, out, func(_ uint64, _ bool, err error) {
			defer done.Done()
			if err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	for i, m := range readAll(t, conn, 200) {
		want := outs[i%len(outs)]
		if want.MsgID != "" {
			want.MsgID = fmt.Sprintf("gw-1/e/%d", i+1)
		}
		got := Outgoing{Subject: m.Subject, MsgID: m.MsgID(), ContentType: m.ContentType(), ContentEncoding: m.ContentEncoding(), Data: m.Data}
		if got.Subject != want.Subject || got.MsgID != want.MsgID || got.ContentType != want.ContentType ||
			got.ContentEncoding != want.ContentEncoding || !slices.Equal(got.Data, want.Data) {
			t.Errorf("message %d: got %+v, want %+v", i+1, got, want)
		}
	}
}

func readAll(t testing.TB, conn *Conn, total int) []Message {
	t.Helper()
	consumer := openConsumer(t, conn)
	var all []Message
	for len(all) < total {
		all = append(all, fetch(t, consumer, Limits{Messages: 70})...)
	}
	return all
}
