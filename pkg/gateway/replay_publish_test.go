package gateway

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
)

// replayStream starts NATS with Weir's streams.
func replayStream(t *testing.T) *stream.Conn {
	t.Helper()
	conn, err := stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Provision(t.Context(), stream.Provision{}); err != nil {
		t.Fatal(err)
	}
	return conn
}

// storedMessages fetches everything that the stream holds, without acknowledging it.
func storedMessages(t *testing.T, conn *stream.Conn) []stream.Message {
	t.Helper()
	state, err := conn.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := conn.Consumer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []stream.Message
	for uint64(len(all)) < state.Messages {
		batch, err := consumer.Fetch(ctx, stream.Limits{})
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), state.Messages, err)
		}
		all = append(all, batch...)
	}
	return all
}

// numberedEvents is every event by its number, as the messages carry them. It fails the test
// where one number has two different events.
func numberedEvents(t *testing.T, messages []stream.Message, epoch string) map[uint64]string {
	t.Helper()
	events := make(map[uint64]string)
	for _, m := range messages {
		id, ok := m.Identity()
		if !ok || id.Epoch != epoch || id.Source != "web" || m.Subject != "events.request.web" {
			t.Fatalf("got message %s with identity %+v", m.Subject, id)
		}
		lines := bytes.Split(bytes.TrimSuffix(m.Data, []byte("\n")), []byte("\n"))
		if uint64(len(lines)) != id.Count() {
			t.Fatalf("message %s has %d events", id, len(lines))
		}
		for i, line := range lines {
			n := id.First + uint64(i)
			if former, ok := events[n]; ok && former != string(line) {
				t.Fatalf("event %d is %s, and also %s", n, former, line)
			}
			events[n] = string(line)
		}
	}
	return events
}

func TestReplay_NumbersEventsWhateverTheMessages(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	lines := []string{}
	for n := range 250 {
		lines = append(lines, fmt.Sprintf(`h - - [17/May/2015:10:05:03 +0000] "GET /api/%d HTTP/1.1" 200 1 "-" "-"`, n+1))
		if n%50 == 0 {
			lines = append(lines, "malformed")
		}
	}
	log := textLog(t, Combined, lines...)
	want := make(map[uint64]string)
	for _, line := range readAll(t, log, 0) {
		if line.Malformed == "" {
			want[uint64(len(want)+1)] = string(bytes.Replace(line.Event, []byte(`"apiHostname":"replay"`), []byte(`"apiHostname":"web"`), 1))
		}
	}
	for _, test := range []struct {
		config ReplayConfig
		want   ReplayResult
	}{
		{ReplayConfig{Batch: 100}, ReplayResult{Published: 250, Messages: 3, Malformed: 5}},
		{ReplayConfig{Batch: 7}, ReplayResult{Published: 250, Messages: 36, Malformed: 5}},
		{ReplayConfig{Batch: 100}, ReplayResult{Published: 250, Messages: 3, Known: 3, Malformed: 5}},
		{ReplayConfig{Rate: 2500}, ReplayResult{Published: 250, Messages: 3, Known: 3, Malformed: 5}},
	} {
		test.config.Source = "web"
		got, err := Replay(t.Context(), conn, log, test.config)
		if err != nil {
			t.Fatal(err)
		}
		got.Elapsed = 0
		if got != test.want {
			t.Errorf("%+v: got %+v, want %+v", test.config, got, test.want)
		}
	}
	got := numberedEvents(t, storedMessages(t, conn), log.Epoch(0))
	if len(got) != len(want) {
		t.Fatalf("got %d different events, want %d", len(got), len(want))
	}
	for n, event := range want {
		if got[n] != event {
			t.Fatalf("event %d: got %s, want %s", n, got[n], event)
		}
	}
}

func TestReplay_CutsMessagesByBytes(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	path := bytes.Repeat([]byte("x"), 40<<10) // an event of four times that
	line := fmt.Sprintf(`h - - [17/May/2015:10:05:03 +0000] "GET /%s HTTP/1.1" 200 1 "-" "-"`, path)
	log := textLog(t, Combined, line, line, line)
	result, err := Replay(t.Context(), conn, log, ReplayConfig{Source: "web"})
	if err != nil || result.Published != 3 || result.Messages != 3 {
		t.Errorf("got %+v, error %v; want 3 events in 3 messages", result, err)
	}
}

func TestReplay_CancelledTellsWhatTheStreamHas(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	log := textLog(t, Combined, combinedLine, combinedLine, combinedLine)
	ctx, cancel := context.WithCancel(t.Context())
	config := ReplayConfig{Source: "web", Rate: 0.001, OnAck: func(int) { cancel() }} // one event, and a long wait
	result, err := Replay(ctx, conn, log, config)
	if err == nil || result.Published != 1 {
		t.Errorf("cancelled: got %+v, error %v; want an error and 1 event", result, err)
	}
	result, err = Replay(t.Context(), conn, log, ReplayConfig{Source: "web", Batch: 1})
	if err != nil || result.Published != 3 || result.Known != 1 {
		t.Errorf("completed: got %+v, error %v; want 3 events, 1 of them known", result, err)
	}
}

func TestReplay_RefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	log := textLog(t, Combined, combinedLine)
	for _, config := range []ReplayConfig{{Source: "a.b"}, {Batch: -1}, {Batch: stream.MaxRange + 1}, {Rate: -1}} {
		if _, err := Replay(t.Context(), conn, log, config); err == nil {
			t.Errorf("%+v: no error", config)
		}
	}
	if err := os.WriteFile(filepath.Clean(log.Name), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Replay(t.Context(), conn, log, ReplayConfig{}); err == nil {
		t.Error("a changed file: no error")
	}
}
