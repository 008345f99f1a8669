package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
)

const eventsPath = "/api/v1/events/request"

func newIngest(t *testing.T, conn *stream.Conn) http.Handler {
	t.Helper()
	ingest, err := NewIngest(conn, "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	return ingest.Handler()
}

// post sends a body until ctx ends; header is alternating names and values.
func post(ctx context.Context, handler http.Handler, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// accepted is the answer to a request that the stream has stored.
type accepted struct {
	Sequence  uint64
	Duplicate bool
}

func mustAccept(t *testing.T, w *httptest.ResponseRecorder) accepted {
	t.Helper()
	if w.Code != http.StatusAccepted {
		t.Fatalf("status %d, want 202: %s", w.Code, w.Body)
	}
	var answer accepted
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("answer %q: %v", w.Body, err)
	}
	return answer
}

func mustRefuse(t *testing.T, w *httptest.ResponseRecorder, status int, detail string) {
	t.Helper()
	var problem struct {
		Status int
		Detail string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Errorf("answer %q: %v", w.Body, err)
	}
	if w.Code != status || problem.Status != status || !strings.Contains(problem.Detail, detail) {
		t.Errorf("answer %d %s, want %d with %q", w.Code, w.Body, status, detail)
	}
	if got, want := w.Header().Get("Content-Type"), "application/problem+json"; got != want {
		t.Errorf("Content-Type = %q, want %q", got, want)
	}
}

func TestIngest_AcceptsWhatTheStreamHasStored(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	const first, second = `{"apiName":"catalog"}`, "{\"n\":1}\n{\"n\":2}\n"
	if got, want := mustAccept(t, post(t.Context(), handler, eventsPath, first, "Content-Type", "application/json")), (accepted{Sequence: 1}); got != want {
		t.Errorf("first answer %+v, want %+v", got, want)
	}
	if got, want := mustAccept(t, post(t.Context(), handler, eventsPath, second, "Content-Type", "application/x-ndjson")), (accepted{Sequence: 2}); got != want {
		t.Errorf("second answer %+v, want %+v", got, want)
	}

	messages := storedMessages(t, conn)
	if len(messages) != 2 {
		t.Fatalf("the stream holds %d messages, want 2", len(messages))
	}
	var epoch string
	for i, want := range []struct{ contentType, body string }{{"application/json", first}, {"application/x-ndjson", second}} {
		m := messages[i]
		if m.Subject != "events.request.edge-1" || m.ContentType() != want.contentType || string(m.Data) != want.body {
			t.Errorf("message %d: %s, %s, %s; want events.request.edge-1, %s, %s", i+1, m.Subject, m.ContentType(), m.Data, want.contentType, want.body)
		}
		id, ok := m.Identity()
		if epoch == "" {
			epoch = id.Epoch
		}
		if n := uint64(i + 1); !ok || id != (stream.Identity{Source: "edge-1", Epoch: epoch, First: n, Last: n}) {
			t.Errorf("message %d has the id %q, want edge-1/%s/%d", i+1, m.MsgID(), epoch, n)
		}
	}
}

func TestIngest_StoresAnIdempotencyKeyOnce(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	for i, key := range []string{"epoch-1/7", "epoch-1/7", `"epoch-1/7"`} {
		got := mustAccept(t, post(t.Context(), handler, eventsPath, `{"n":1}`, "Idempotency-Key", key))
		if want := (accepted{Sequence: 1, Duplicate: i > 0}); got != want {
			t.Errorf("answer %d: %+v, want %+v", i+1, got, want)
		}
	}
	messages := storedMessages(t, conn)
	if len(messages) != 1 || messages[0].MsgID() != "edge-1/epoch-1/7" {
		t.Errorf("the stream holds %d messages, want one, edge-1/epoch-1/7", len(messages))
	}
}

func TestIngest_RefusesWhatCouldNotBeFolded(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	largest := conn.MaxPayload() - headerRoom
	for _, tt := range []struct {
		name       string
		path, body string
		key        string
		status     int
		detail     string
	}{
		{"no token as type", "/api/v1/events/a.b", "{}", "", http.StatusBadRequest, `"a.b" cannot be the type of an event`},
		{"empty body", eventsPath, "", "", http.StatusBadRequest, "empty"},
		{"key without a number", eventsPath, "{}", "epoch", http.StatusBadRequest, `Idempotency-Key "epoch"`},
		{"number 0", eventsPath, "{}", "epoch/0", http.StatusBadRequest, `Idempotency-Key "epoch/0"`},
		{"key of three parts", eventsPath, "{}", "edge-1/epoch/1", http.StatusBadRequest, "Idempotency-Key"},
		{"space in the epoch", eventsPath, "{}", "my epoch/1", http.StatusBadRequest, "Idempotency-Key"},
		{"too large", eventsPath, strings.Repeat(" ", largest+1), "", http.StatusRequestEntityTooLarge, "send fewer events at a time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mustRefuse(t, post(t.Context(), handler, tt.path, tt.body, "Idempotency-Key", tt.key), tt.status, tt.detail)
		})
	}
	if state, err := conn.State(t.Context()); err != nil || state.Messages != 0 {
		t.Errorf("the stream holds %d messages (%v), want none", state.Messages, err)
	}
	mustAccept(t, post(t.Context(), handler, eventsPath, strings.Repeat(" ", largest)))
}

func TestIngest_SaysToSendAgainWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	server, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	handler := newIngest(t, connect(t, server.URL()))
	server.Close()

	// The client's patience is shorter than that of Ingest, to keep the test short.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	w := post(ctx, handler, eventsPath, `{"n":1}`)
	mustRefuse(t, w, http.StatusServiceUnavailable, "send it again")
	if got, want := w.Header().Get("Retry-After"), "1"; got != want {
		t.Errorf("Retry-After = %q, want %q", got, want)
	}
}

func TestNewIngest_RefusesASourceThatIsNoToken(t *testing.T) {
	t.Parallel()
	conn, err := stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := NewIngest(conn, "edge.1"); err == nil {
		t.Error("NewIngest took a source with a dot")
	}
}
