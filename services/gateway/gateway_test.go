package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/metrics"
	"weir/streams"
)

func TestGateway_RefusesToStartWhereNothingIsProvisioned(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"HTTP", nil},
		{"simulated", []string{"--simulate", "100"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := Command()
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			cmd.SetArgs(append([]string{"--nats", url, "--listen", "127.0.0.1:0"}, tt.args...))
			if err := cmd.ExecuteContext(ctx); !errors.Is(err, stream.ErrNotProvisioned) {
				t.Errorf("weir gateway = %v, want ErrNotProvisioned", err)
			}
		})
	}
}

func TestGateway_RefusesFlagsThatCouldOnlyFailLater(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--source", "edge.1"}, `--source: "edge.1" is no token`},
		{[]string{"--simulate", "-1"}, "--simulate: -1 should be"},
		{[]string{"--simulate", "NaN"}, "--simulate: NaN should be"},
		{[]string{"--streams", "no-such-directory"}, "no-such-directory"},
		{[]string{"--batch-events", "0"}, "publisher.batch_events must be 1 to 10000; it is 0"},
		{[]string{"--batch-bytes", "100"}, "publisher.batch_bytes must be 1KiB to 8MiB; it is 100"},
		{[]string{"--linger", "0s"}, "publisher.linger must be above 0, and 1m"},
		{[]string{"--max-in-flight", "5000"}, "publisher.max_in_flight must be 1 to 4096; it is 5000"},
		{[]string{"--compression", "lz4"}, `publisher.compression must be none, gzip or zstd; it is "lz4"`},
	} {
		cmd := Command()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(append([]string{"--nats", "nats://127.0.0.1:1"}, tt.args...))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("weir gateway %q: got error %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestHandler_TakesEventsAndAnswersForItsHealth(t *testing.T) {
	t.Parallel()
	conn, err := stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	ingest, err := gateway.NewIngest(conn, gateway.PublisherConfig{Source: "edge-1"}, catalog.Streams)
	if err != nil {
		t.Fatal(err)
	}
	asks := func(method, path, body string, status int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		handler(ingest, conn, metrics.New("gateway")).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		if w.Code != status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s %s: got %d %s, want %d with %s", method, path, w.Code, w.Body, status, text)
		}
	}
	asks(http.MethodGet, "/healthz", "", http.StatusOK, "ok")
	asks(http.MethodGet, "/readyz", "", http.StatusServiceUnavailable, "weir apply")
	if _, err := conn.Provision(t.Context(), stream.Provision{}); err != nil {
		t.Fatal(err)
	}
	asks(http.MethodGet, "/readyz", "", http.StatusOK, `"ready":true`)
	asks(http.MethodPost, "/api/v1/events/request", `{"requestTimestamp":1790000000000}`, http.StatusAccepted, `"events":1`)
	asks(http.MethodPost, "/api/v1/events/requests", `{}`, http.StatusNotFound, "there are fault, request, throttle")
	asks(http.MethodGet, "/metrics", "", http.StatusOK, "weir_build_info")
	asks(http.MethodGet, "/nothing", "", http.StatusNotFound, `"status":404`)
}

// simulated runs `weir gateway --simulate` with the arguments, and returns the first messages of events that the stream has.
func simulated(t *testing.T, number int, args ...string) []jetstream.Msg {
	t.Helper()
	url := embeddedtest.NATS(t)
	conn, err := stream.Connect(t.Context(), stream.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Provision(t.Context(), stream.Provision{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	cmd := Command()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{"--nats", url, "--listen", "127.0.0.1:0", "--simulate", "3000", "--log-level", "error"}, args...))
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(running) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := js.OrderedConsumer(ctx, "EVENTS", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"events.request.*"}})
	if err != nil {
		t.Fatal(err)
	}
	var messages []jetstream.Msg
	for len(messages) < number {
		batch, err := reader.Fetch(number-len(messages), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			messages = append(messages, m)
		}
		if ctx.Err() != nil {
			t.Fatalf("%d messages in a minute, want %d", len(messages), number)
		}
	}
	return messages
}

// What the settings say is seen in the messages: each has as many events, or bytes, as it may have, however long that
// takes, and is compressed.
func TestGateway_CutsMessagesByItsSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, encoding     string
		args               []string
		leastLines, lines  int
		leastBytes, within int
	}{
		{"by events", "", []string{"--batch-events", "7", "--linger", "1m"}, 7, 7, 1, 1 << 20},
		{"by bytes", "", []string{"--batch-events", "1000", "--batch-bytes", "8KiB", "--linger", "1m"}, 2, 1000, 4 << 10, 8 << 10},
		{"by linger", "", []string{"--batch-events", "10000", "--batch-bytes", "8MiB", "--linger", "2ms"}, 1, 999, 1, 1 << 20},
		{"gzip", "gzip", []string{"--compression", "gzip", "--batch-events", "20", "--linger", "1m"}, 20, 20, 1, 1 << 20},
		{"zstd", "zstd", []string{"--compression", "zstd", "--batch-events", "20", "--linger", "1m", "--max-in-flight", "4"}, 20, 20, 1, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, m := range simulated(t, 10, tt.args...) {
				if got := m.Headers().Get("Content-Encoding"); got != tt.encoding {
					t.Fatalf("a message is encoded %q, want %q", got, tt.encoding)
				}
				body := unpacked(t, m.Data(), tt.encoding)
				if n := bytes.Count(body, []byte("\n")); n < tt.leastLines || n > tt.lines || len(body) < tt.leastBytes || len(body) > tt.within {
					t.Errorf("a message has %d events and %d bytes", n, len(body))
				}
			}
		})
	}
}

func unpacked(t *testing.T, body []byte, encoding string) []byte {
	t.Helper()
	var plain io.Reader = bytes.NewReader(body)
	var err error
	switch encoding {
	case "gzip":
		plain, err = gzip.NewReader(plain)
	case "zstd":
		plain, err = zstd.NewReader(plain)
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPublisher_HasAllOfTheSettings(t *testing.T) {
	t.Parallel()
	cfg := config.Config{Publisher: config.PublisherConfig{BatchEvents: 2, BatchBytes: 3, Linger: 4, MaxInFlight: 5, Compression: "gzip"}}
	want := gateway.PublisherConfig{Source: "gw", BatchEvents: 2, BatchBytes: 3, Linger: 4, MaxInFlight: 5, Compression: "gzip"}
	if got := publisherConfig(cfg, "gw"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
