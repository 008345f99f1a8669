package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
	"weir/pkg/stream"
	"weir/streams"
)

// heartbeats are those that the stream holds, in order, with their identities.
func heartbeats(t *testing.T, conn *stream.Conn) (beats []event.Heartbeat, ids []string) {
	t.Helper()
	for _, m := range storedMessages(t, conn) {
		if m.Subject != "events.heartbeat.gw-1" {
			continue
		}
		beat, err := event.ParseHeartbeat(m.Data)
		if err != nil {
			t.Fatalf("%s: %v", m.Data, err)
		}
		beats, ids = append(beats, beat), append(ids, m.MsgID())
	}
	return beats, ids
}

func closePublisher(t *testing.T, p *Publisher) {
	t.Helper()
	if err := p.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestHeartbeat_SaysWhatIsAcknowledgedAndAtTheEndThatItIsTheEnd(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{HeartbeatEvery: 20 * time.Millisecond, BatchEvents: 2, Linger: -1})
	publishEvents(t, p, "request", 1, 5) // 3 messages, the last of them open
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx := testContext(t); messagesInStream(t, conn) < 4; { // two heartbeats
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("no heartbeats come")
		}
	}
	closePublisher(t, p)
	closePublisher(t, p) // says nothing more
	beats, ids := heartbeats(t, conn)
	last := len(beats) - 1
	for i, id := range ids {
		want := fmt.Sprintf("gw-1/%s.hb/%d", p.Epoch(), i+1)
		next := fmt.Sprintf("gw-1/%s.hb/%d", p.Epoch(), i+2)
		if id != want && (i < last || id != next) { // the end may break off the one before it, which has its number all the same
			t.Errorf("heartbeat %d is %s, want %s", i, id, want)
		}
	}
	if want := (event.Heartbeat{Source: "gw-1", Epoch: p.Epoch(), Next: 4, Acked: 3, Closed: true}); beats[last] != want {
		t.Errorf("the last one is %+v, want %+v", beats[last], want)
	}
	for _, b := range beats[:last] {
		if b.Closed || b.Next > 4 || b.Acked >= b.Next {
			t.Errorf("before it there was %+v", b)
		}
	}
}

func TestHeartbeat_ThereIsNoneWhereItCouldBeWrong(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	every := time.Millisecond
	for _, cfg := range []PublisherConfig{
		{Epoch: "given"},        // somebody else may use it too
		{HeartbeatEvery: -1},    // switched off
		{HeartbeatEvery: every}, // nothing was published
	} {
		p, err := NewPublisher(conn, PublisherConfig{Source: "gw-1", Epoch: cfg.Epoch, HeartbeatEvery: cfg.HeartbeatEvery})
		if err != nil {
			t.Fatal(err)
		}
		if cfg.HeartbeatEvery != every {
			publishEvents(t, p, "request", 1, 1)
		}
		closePublisher(t, p)
	}
	p := newPublisher(t, conn, PublisherConfig{Epoch: "replay", HeartbeatEvery: every})
	if err := p.PublishMessage(testContext(t), "request", [][]byte{[]byte(`{}`)}, 1); err != nil {
		t.Fatal(err)
	}
	closePublisher(t, p)
	p = newPublisher(t, conn, PublisherConfig{Epoch: "mine", HeartbeatEvery: time.Hour})
	publishEvents(t, p, "request", 1, 1)
	closePublisher(t, p)
	if beats, _ := heartbeats(t, conn); len(beats) != 1 || beats[0] != (event.Heartbeat{Source: "gw-1", Epoch: "mine", Next: 2, Acked: 1, Closed: true}) {
		t.Errorf("got %+v, want one of the epoch that was given, but is its own", beats)
	}
}

func TestHeartbeat_RefusesWhatHasNoRoomForIt(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	for epoch, reason := range map[string]string{
		strings.Repeat("e", 62): "62 characters: with heartbeats, at most 61",
		"e.hb":                  "must not end in .hb",
	} {
		if _, err := NewPublisher(conn, PublisherConfig{Source: "gw-1", Epoch: epoch, HeartbeatEvery: time.Hour}); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want %q", epoch, err, reason)
		}
	}
	if _, err := NewPublisher(conn, PublisherConfig{Source: "gw-1", Epoch: strings.Repeat("e", 64)}); err != nil {
		t.Errorf("without heartbeats: %v", err)
	}
	p := newPublisher(t, conn, PublisherConfig{})
	if err := p.Publish(t.Context(), "heartbeat", []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "what publishers say of themselves") {
		t.Errorf("an event of the type heartbeat: %v", err)
	}
}

func TestHeartbeat_AckedIsWithoutGapsInWhateverOrderAcknowledgementsCome(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		chance := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
		h := newHeart(nil, "gw-1", "e", -1, false)
		const n = 60
		for range n {
			h.take()
		}
		failed, settled, stuck := map[int]bool{}, map[int]bool{}, n+1
		for _, i := range chance.Perm(n) {
			var err error
			if failed[i+1] = chance.IntN(40) == 0; failed[i+1] {
				err = errors.New("given up")
				stuck = min(stuck, i+1)
			}
			h.settle("e", uint64(i+1), 10, err)
			settled[i+1] = !failed[i+1]
			want := uint64(0)
			for settled[int(want)+1] {
				want++
			}
			if got := h.current.acked; got != want {
				t.Fatalf("seed %d: acked %d, want %d", seed, got, want)
			}
		}
		if stuck > n && len(h.current.ahead) > 0 {
			t.Errorf("seed %d: %d numbers are kept for nothing", seed, len(h.current.ahead))
		}
	}
}

func TestHeartbeat_GoesOnInANewEpochAfterMessagesWereGivenUp(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	h := newHeart(conn, "gw-1", "first", time.Hour, true)
	for range 4 {
		h.take()
	}
	h.settle("first", 1, 1, nil)
	h.settle("first", 2, 7, errors.New("given up"))
	if name, n := h.take(); name != "first" || n != 5 {
		t.Fatalf("while nothing is known to be stored again: %s/%d", name, n)
	}
	h.settle("first", 3, 1, nil)
	second, n := h.take()
	if second == "first" || n != 1 || h.name() != second {
		t.Fatalf("then it goes on with %s/%d", second, n)
	}
	ctx := testContext(t)
	h.beat(ctx, false) // 4 and 5 of the first are under way
	h.settle("first", 4, 1, nil)
	h.settle("first", 5, 1, nil)
	h.settle(second, 1, 1, nil)
	h.beat(ctx, false)
	h.beat(ctx, false)
	h.close(ctx)
	var got []event.Heartbeat
	beats, _ := heartbeats(t, conn)
	for _, b := range beats {
		b.Source = ""
		got = append(got, b)
	}
	want := []event.Heartbeat{
		{Epoch: "first", Next: 6, Acked: 1, Dropped: 7, Closed: false},
		{Epoch: second, Next: 2, Acked: 0, Dropped: 0, Closed: false},
		{Epoch: "first", Next: 6, Acked: 1, Dropped: 7, Closed: true},
		{Epoch: second, Next: 2, Acked: 1, Dropped: 0, Closed: false},
		{Epoch: second, Next: 2, Acked: 1, Dropped: 0, Closed: false},
		{Epoch: second, Next: 2, Acked: 1, Dropped: 0, Closed: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestHeartbeat_AnOutageHoldsUpNeitherPublishingNorTheEnd(t *testing.T) {
	t.Parallel()
	nats, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer nats.Close()
	conn := connect(t, nats.URL())
	p := newPublisher(t, conn, PublisherConfig{HeartbeatEvery: time.Millisecond, BatchEvents: 1})
	publishEvents(t, p, "request", 1, 1)
	flush(t, p)
	nats.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for range 100 {
		if err := p.Publish(ctx, "request", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	ending, stop := context.WithCancel(t.Context())
	stop()
	if err := p.Close(ending); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestIngest_SendsHeartbeatsOfItsOwnEpoch(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewIngest(conn, PublisherConfig{Source: "gw-1"}, catalog.Streams)
	if err != nil {
		t.Fatal(err)
	}
	ctx, h := testContext(t), g.Handler()
	mustAccept(t, post(ctx, h, eventsPath, goodEvent))
	mustAccept(t, post(ctx, h, eventsPath, goodEvent, "Idempotency-Key", "client/9")) // an epoch of the client's own
	mustAccept(t, post(ctx, h, eventsPath, goodEvent))
	g.Close(testContext(t))
	beats, _ := heartbeats(t, conn)
	if len(beats) != 1 || beats[0].Next != 3 || beats[0].Acked != 2 || !beats[0].Closed {
		t.Errorf("got %+v", beats)
	}
}
