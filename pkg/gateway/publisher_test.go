package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
)

const testTimeout = 60 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// connect returns a connection to a NATS of this test's own, provisioned.
func connect(t testing.TB, url string) *stream.Conn {
	t.Helper()
	conn, err := stream.Connect(testContext(t), stream.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Provision(testContext(t), stream.Provision{AckWait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return conn
}

func newPublisher(t testing.TB, conn *stream.Conn, cfg PublisherConfig) *Publisher {
	t.Helper()
	if cfg.Source == "" {
		cfg.Source = "gw-1"
	}
	if cfg.HeartbeatEvery == 0 {
		cfg.HeartbeatEvery = -1 // these tests count messages
	}
	p, err := NewPublisher(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func publishEvents(t testing.TB, p *Publisher, eventType string, from, to int) {
	t.Helper()
	ctx := testContext(t)
	for n := from; n <= to; n++ {
		if err := p.Publish(ctx, eventType, fmt.Appendf(nil, `{"n":%d}`, n)); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t testing.TB, p *Publisher) {
	t.Helper()
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// stored returns the next count messages of the stream, each as "id: body"
// with its lines joined by commas.
func stored(t testing.TB, conn *stream.Conn, count int) []string {
	t.Helper()
	ctx := testContext(t)
	consumer, err := conn.Consumer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	var messages []string
	for len(messages) < count {
		batch, err := consumer.Fetch(ctx, stream.Limits{Messages: count - len(messages)})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range batch {
			if m.ContentType() != "application/x-ndjson" {
				t.Errorf("content type %q", m.ContentType())
			}
			body := strings.ReplaceAll(strings.TrimSpace(string(decompress(t, m))), "\n", ",")
			messages = append(messages, m.MsgID()+": "+body)
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return messages
}

func decompress(t testing.TB, m stream.Message) []byte {
	t.Helper()
	switch m.ContentEncoding() {
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(m.Data))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return data
	case "zstd":
		d, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		data, err := d.DecodeAll(m.Data, nil)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return m.Data
}

func messagesInStream(t testing.TB, conn *stream.Conn) uint64 {
	t.Helper()
	s, err := conn.State(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.Messages
}

func TestPublisher_CutsByCount(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	var acknowledged atomic.Int64
	p := newPublisher(t, conn, PublisherConfig{
		Epoch: "e", BatchEvents: 3, Linger: -1, MaxInFlight: 1, // one at a time: in order
		OnAck: func(_ string, events int) { acknowledged.Add(int64(events)) },
	})
	publishEvents(t, p, "request", 1, 7)
	flush(t, p)
	want := []string{
		`gw-1/e/1: {"n":1},{"n":2},{"n":3}`,
		`gw-1/e/2: {"n":4},{"n":5},{"n":6}`,
		`gw-1/e/3: {"n":7}`,
	}
	if got := stored(t, conn, 3); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s := p.Stats(); s.Accepted != 7 || s.Acknowledged != 7 || s.Messages != 3 || s.MessagesAcknowledged != 3 || s.MessagesDuplicate != 0 {
		t.Errorf("stats %+v", s)
	}
	if acknowledged.Load() != 7 {
		t.Errorf("OnAck was told of %d events", acknowledged.Load())
	}
}

func TestPublisher_CutsByBytesAndSendsALargerEventAlone(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{Epoch: "e", BatchBytes: 20, Linger: -1, MaxInFlight: 1})
	publishEvents(t, p, "request", 1, 3) // 8 bytes each, with the line's end
	if err := p.Publish(testContext(t), "request", []byte(`{"name":"a name that is longer than a batch"}`)); err != nil {
		t.Fatal(err)
	}
	flush(t, p)
	want := []string{
		`gw-1/e/1: {"n":1},{"n":2}`,
		`gw-1/e/2: {"n":3}`,
		`gw-1/e/3: {"name":"a name that is longer than a batch"}`,
	}
	if got := stored(t, conn, 3); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestPublisher_CutsWhenTheLingerIsOver(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{Epoch: "e", Linger: 10 * time.Millisecond})
	publishEvents(t, p, "request", 1, 2)
	got := stored(t, conn, 1) // nobody flushes
	if !strings.HasPrefix(got[0], `gw-1/e/1: {"n":1}`) {
		t.Errorf("got %v", got)
	}
}

func TestPublisher_KeepsTypesApartWhateverTheRoom(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	// Every type's open message needs a slot, and nothing cuts one but room.
	p := newPublisher(t, conn, PublisherConfig{Linger: -1, MaxInFlight: 2})
	for _, eventType := range []string{"request", "fault", "throttle", "request", "fault"} {
		publishEvents(t, p, eventType, 1, 1)
	}
	flush(t, p)
	if s := p.Stats(); s.Acknowledged != 5 || s.MessagesFailed != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPublisher_CompressesBodies(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	for i, compression := range []string{"none", "gzip", "zstd"} {
		p := newPublisher(t, conn, PublisherConfig{Epoch: compression, Compression: compression})
		publishEvents(t, p, "request", 1, 2)
		flush(t, p)
		want := "gw-1/" + compression + `/1: {"n":1},{"n":2}`
		if got := stored(t, conn, 1); got[0] != want {
			t.Errorf("message %d: got %s, want %s", i, got[0], want)
		}
	}
}

func TestPublisher_BringsAnEventOntoOneLine(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{Epoch: "e"})
	if err := p.Publish(testContext(t), "request", []byte("{\n  \"n\": 1\n}\n")); err != nil {
		t.Fatal(err)
	}
	if err := p.PublishJSON(testContext(t), "request", struct {
		N int `json:"n"`
	}{2}); err != nil {
		t.Fatal(err)
	}
	flush(t, p)
	if got := stored(t, conn, 1); got[0] != `gw-1/e/1: {"n":1},{"n":2}` {
		t.Errorf("got %v", got)
	}
}

func TestPublisher_RefusesWhatCanNeverBeFolded(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{})
	for _, c := range []struct{ eventType, event string }{
		{"", `{}`},
		{"a.b", `{}`},
		{"request", ""},
		{"request", "[1]"},
		{"request", "{\n"},
		{"request", "{\n\"a\":}"},
		{"request", `{"a":"` + strings.Repeat("x", conn.MaxPayload()) + `"}`},
	} {
		if err := p.Publish(testContext(t), c.eventType, []byte(c.event)); err == nil {
			t.Errorf("type %q, event %.20q: no error", c.eventType, c.event)
		}
	}
	for _, cfg := range []PublisherConfig{{}, {Source: "a.b"}, {Source: "gw", Epoch: "a/b"}, {Source: "gw", Compression: "lzma"}} {
		if _, err := NewPublisher(conn, cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestPublisher_PushesBackAndLosesNothingWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, server.URL())
	p := newPublisher(t, conn, PublisherConfig{BatchEvents: 10, MaxInFlight: 3, Linger: -1})
	listen := strings.TrimPrefix(server.URL(), "nats://")
	server.Close()

	publishEvents(t, p, "request", 1, 30)
	short, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if err := p.Publish(short, "request", []byte(`{"n":0}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with all messages under way: %v", err)
	}
	if err := p.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush: %v", err)
	}

	server, err = embedded.StartNATS(embedded.NATSConfig{Dir: dir, Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	t.Cleanup(conn.Close) // before the server goes
	flush(t, p)
	if s := p.Stats(); s.Accepted != 30 || s.Acknowledged != 30 || s.Failed != 0 {
		t.Errorf("stats %+v", s)
	}
	if got := messagesInStream(t, conn); got != 3 {
		t.Errorf("%d messages, want 3", got)
	}
}

func TestPublisher_ReportsWhatFailed(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	if _, err := conn.Provision(testContext(t), stream.Provision{MaxMessageBytes: 300}); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, conn, PublisherConfig{})
	if err := p.Publish(testContext(t), "request", []byte(`{"a":"`+strings.Repeat("x", 300)+`"}`)); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(testContext(t)); err == nil {
		t.Error("flush reports nothing")
	}
	if s := p.Stats(); s.Failed != 1 || s.MessagesFailed != 1 || s.LastError == nil || s.Acknowledged != 0 {
		t.Errorf("stats %+v", s)
	}
	publishEvents(t, p, "request", 1, 1)
	flush(t, p) // the failure was reported already
}

func TestPublisher_StartedAgainIsANewEpoch(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	epochs := make(map[string]bool)
	for range 2 {
		p := newPublisher(t, conn, PublisherConfig{})
		publishEvents(t, p, "request", 1, 1)
		if err := p.Close(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(testContext(t), "request", []byte(`{}`)); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
		epochs[p.Epoch()] = true
	}
	if len(epochs) != 2 || messagesInStream(t, conn) != 2 {
		t.Errorf("epochs %v, %d messages", epochs, messagesInStream(t, conn))
	}
}

func TestPublishMessage_TheSameEpochTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	events := [][]byte{[]byte(`{"n":1}`), []byte(`{"n":2}`), []byte(`{"n":3}`)}
	for run := range 2 {
		p := newPublisher(t, conn, PublisherConfig{Epoch: "file", MaxInFlight: 1})
		if err := p.PublishMessage(testContext(t), "request", events[:2], 1); err != nil {
			t.Fatal(err)
		}
		if err := p.PublishMessage(testContext(t), "request", events[2:], 3); err != nil {
			t.Fatal(err)
		}
		flush(t, p)
		if s := p.Stats(); s.Acknowledged != 3 || s.MessagesDuplicate != uint64(2*run) {
			t.Errorf("run %d: stats %+v", run, s)
		}
	}
	want := "gw-1/file/1-2: {\"n\":1},{\"n\":2}\ngw-1/file/3: {\"n\":3}"
	if got := strings.Join(stored(t, conn, 2), "\n"); got != want || messagesInStream(t, conn) != 2 {
		t.Errorf("got\n%s", got)
	}
}

func TestPublishMessage_RefusesWrongNumbersAndMixedUse(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{})
	one := [][]byte{[]byte(`{}`)}
	for _, first := range []uint64{0, stream.MaxNumber + 1, 1<<64 - 1} {
		if err := p.PublishMessage(testContext(t), "request", one, first); err == nil {
			t.Errorf("first number %d: no error", first)
		}
	}
	if err := p.PublishMessage(testContext(t), "request", nil, 1); err == nil {
		t.Error("no events: no error")
	}
	if err := p.PublishMessage(testContext(t), "request", one, 1); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(testContext(t), "request", []byte(`{}`)); err == nil {
		t.Error("Publish after PublishMessage: no error")
	}
	flush(t, p)
}

func TestPublisher_ManyGoroutinesShareOne(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	p := newPublisher(t, conn, PublisherConfig{BatchEvents: 7, MaxInFlight: 4, Linger: time.Millisecond})
	var group sync.WaitGroup
	for _, eventType := range []string{"request", "request", "fault", "throttle"} {
		group.Go(func() {
			for range 500 {
				if err := p.Publish(testContext(t), eventType, []byte(`{}`)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if err := p.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	if s.Accepted != 2000 || s.Acknowledged != 2000 || s.Messages != messagesInStream(t, conn) {
		t.Errorf("stats %+v, %d messages in the stream", s, messagesInStream(t, conn))
	}
}
