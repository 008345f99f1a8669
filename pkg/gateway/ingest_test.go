package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
	"weir/streams"
)

const (
	eventsPath = "/api/v1/events/request"
	goodEvent  = `{"apiName":"catalog","requestTimestamp":1790000000000}`
)

func newIngest(t *testing.T, conn *stream.Conn) http.Handler {
	t.Helper()
	return ingestAs(t, conn, PublisherConfig{Source: "edge-1"}).Handler()
}

func ingestAs(t *testing.T, conn *stream.Conn, cfg PublisherConfig) *Ingest {
	t.Helper()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	ingest, err := NewIngest(conn, cfg, catalog.Streams)
	if err != nil {
		t.Fatal(err)
	}
	return ingest
}

// post sends a body until ctx ends; header is alternating names and values.
func post(ctx context.Context, handler http.Handler, path, body string, header ...string) *httptest.ResponseRecorder {
	return request(ctx, handler, http.MethodPost, path, body, header...)
}

func request(ctx context.Context, handler http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// accepted is the answer to a request whose message the stream has, with n events that are all valid.
func accepted(sequence uint64, duplicate bool, n int) ingested {
	return ingested{sequence, duplicate, verdict{Events: n, Valid: n, Rejected: []rejection{}}}
}

func mustAccept(t *testing.T, w *httptest.ResponseRecorder) ingested {
	t.Helper()
	if w.Code != http.StatusAccepted {
		t.Fatalf("status %d, want 202: %s", w.Code, w.Body)
	}
	var answer ingested
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("answer %q: %v", w.Body, err)
	}
	return answer
}

// mustRefuse returns the events that the problem lists.
func mustRefuse(t *testing.T, w *httptest.ResponseRecorder, status int, detail string) []rejection {
	t.Helper()
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Errorf("answer %q: %v", w.Body, err)
	}
	if w.Code != status || p.Status != status || p.Title == "" || !strings.Contains(p.Detail, detail) {
		t.Errorf("answer %d %s, want %d with %q", w.Code, w.Body, status, detail)
	}
	if got, want := w.Header().Get("Content-Type"), "application/problem+json"; got != want {
		t.Errorf("Content-Type = %q, want %q", got, want)
	}
	return p.Rejected
}

// holds checks how many messages the stream has.
func holds(t *testing.T, conn *stream.Conn, want uint64) {
	t.Helper()
	if state, err := conn.State(t.Context()); err != nil || state.Messages != want {
		t.Errorf("the stream holds %d messages (%v), want %d", state.Messages, err, want)
	}
}

func TestIngest_AcceptsWhatTheStreamHasStored(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	lines := goodEvent + "\n" + goodEvent + "\n"
	packed := pack(t, lines)
	huge := strings.Repeat("x", 4096) // a header that would not fit beside a large body
	wants := []struct {
		body, contentType, encoding string // as sent
		storedType, storedEncoding  string
		events                      int
	}{
		{goodEvent, "application/json", "", "application/json", "", 1},
		{"[" + goodEvent + "," + goodEvent + "," + goodEvent + "]", "text/plain; x=" + huge, "identity", "application/json", "", 3},
		{lines, "Application/X-NDJSON; charset=utf-8", "", "application/x-ndjson", "", 2},
		{packed, "application/x-ndjson", "GZIP", "application/x-ndjson", "gzip", 2},
	}
	for i, want := range wants {
		w := post(t.Context(), handler, eventsPath, want.body, "Content-Type", want.contentType, "Content-Encoding", want.encoding)
		if got, want := mustAccept(t, w), accepted(uint64(i+1), false, want.events); !reflect.DeepEqual(got, want) {
			t.Errorf("answer %d: %+v, want %+v", i+1, got, want)
		}
	}

	messages := storedMessages(t, conn)
	if len(messages) != len(wants) {
		t.Fatalf("the stream holds %d messages, want %d", len(messages), len(wants))
	}
	first, _ := messages[0].Identity()
	for i, want := range wants {
		m := messages[i]
		if m.Subject != "events.request.edge-1" || m.ContentType() != want.storedType || m.ContentEncoding() != want.storedEncoding || string(m.Data) != want.body {
			t.Errorf("message %d: %s, %s, %s, %q; want events.request.edge-1, %s, %s, %q",
				i+1, m.Subject, m.ContentType(), m.ContentEncoding(), m.Data, want.storedType, want.storedEncoding, want.body)
		}
		id, ok := m.Identity()
		if n := uint64(i + 1); !ok || id != (stream.Identity{Source: "edge-1", Epoch: first.Epoch, First: n, Last: n}) {
			t.Errorf("message %d has the id %q, want edge-1/%s/%d", i+1, m.MsgID(), first.Epoch, n)
		}
	}
}

func TestIngest_StoresAnIdempotencyKeyOnce(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	for i, key := range []string{"epoch-1/7", "epoch-1/7", `"epoch-1/7"`} {
		got := mustAccept(t, post(t.Context(), handler, eventsPath, goodEvent, "Idempotency-Key", key))
		if want := accepted(1, i > 0, 1); !reflect.DeepEqual(got, want) {
			t.Errorf("answer %d: %+v, want %+v", i+1, got, want)
		}
	}
	messages := storedMessages(t, conn)
	if len(messages) != 1 || messages[0].MsgID() != "edge-1/epoch-1/7" {
		t.Errorf("the stream holds %d messages, want one, edge-1/epoch-1/7", len(messages))
	}
}

func TestIngest_TellsWhatWillBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	future := fmt.Sprintf(`{"requestTimestamp":%d}`, time.Now().Add(48*time.Hour).UnixMilli())
	body := strings.Join([]string{goodEvent, "junk", goodEvent, `{"responseTime":-1}`, future}, "\n")
	got := mustAccept(t, post(t.Context(), handler, eventsPath, body, "Content-Type", "application/x-ndjson"))
	if got.Sequence != 1 || got.Events != 5 || got.Valid != 2 || len(got.Rejected) != 3 {
		t.Fatalf("answer %+v, want sequence 1, 5 events, 2 of them valid", got)
	}
	for i, want := range []rejection{{1, "broken JSON"}, {3, "responseTime: -1 is below 0"}, {4, "lies more than 24h0m0s after"}} {
		if r := got.Rejected[i]; r.Offset != want.Offset || !strings.Contains(r.Reason, want.Reason) {
			t.Errorf("rejected %+v, want %+v", r, want)
		}
	}

	many := goodEvent + strings.Repeat(`{"responseTime":"`+strings.Repeat("é", 500)+`"}`, 50)
	got = mustAccept(t, post(t.Context(), handler, eventsPath, many))
	if got.Events != 51 || got.Valid != 1 || len(got.Rejected) != listedRejects {
		t.Errorf("of 51 events %d are valid, %d listed; want 1 and %d", got.Valid, len(got.Rejected), listedRejects)
	}
	for _, r := range got.Rejected {
		if len(r.Reason) > maxReason+len("…") {
			t.Errorf("a reason has %d bytes", len(r.Reason))
		}
	}
	holds(t, conn, 2)
}

func TestIngest_PublishesNothingWithoutAValidEvent(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := newIngest(t, conn)
	for _, body := range []string{"5", `["a",null]`, `{"responseTime":-1}`, strings.Repeat(`{"responseTime":-1}`, 30)} {
		rejected := mustRefuse(t, post(t.Context(), handler, eventsPath, body), http.StatusUnprocessableEntity, "is valid for the stream request; the first: ")
		if len(rejected) == 0 || len(rejected) > listedRejects || rejected[0].Offset != 0 || rejected[0].Reason == "" {
			t.Errorf("%s: rejected %+v", body, rejected)
		}
	}
	mustRefuse(t, post(t.Context(), handler, eventsPath, "junk\n", "Content-Type", "application/x-ndjson"), http.StatusUnprocessableEntity, "broken JSON")
	holds(t, conn, 0)
	mustAccept(t, post(t.Context(), handler, eventsPath, goodEvent))
	if id, _ := storedMessages(t, conn)[0].Identity(); id.First != 1 {
		t.Errorf("what was refused has taken numbers: the first message has %d", id.First)
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
		header     []string
		status     int
		detail     string
	}{
		{"no token as type", "/api/v1/events/a.b", "{}", nil, http.StatusBadRequest, `"a.b" cannot be the type of an event`},
		{"unknown type", "/api/v1/events/requests", "{}", nil, http.StatusNotFound, `type "requests"; there are fault, request, throttle`},
		{"unknown path", "/api/v1/event", "{}", nil, http.StatusNotFound, "POST /api/v1/events/{type}"},
		{"empty body", eventsPath, "", nil, http.StatusBadRequest, "empty"},
		{"empty array", eventsPath, "[]", nil, http.StatusBadRequest, "no event in it"},
		{"only lines", eventsPath, "\n\n", []string{"Content-Type", "application/x-ndjson"}, http.StatusBadRequest, "empty body"},
		{"no JSON", eventsPath, "junk", nil, http.StatusBadRequest, "cannot be read as events: "},
		{"JSON cut off", eventsPath, "[" + goodEvent, nil, http.StatusBadRequest, "cannot be read as events: "},
		{"no gzip", eventsPath, goodEvent, []string{"Content-Encoding", "gzip"}, http.StatusBadRequest, "gzip: invalid header"},
		{"unknown encoding", eventsPath, goodEvent, []string{"Content-Encoding", "br"}, http.StatusBadRequest, `Content-Encoding "br" is none of gzip, zstd`},
		{"key without a number", eventsPath, goodEvent, []string{"Idempotency-Key", "epoch"}, http.StatusBadRequest, `Idempotency-Key "epoch" should be <epoch>/<n>`},
		{"number 0", eventsPath, goodEvent, []string{"Idempotency-Key", "epoch/0"}, http.StatusBadRequest, `Idempotency-Key "epoch/0"`},
		{"range", eventsPath, goodEvent, []string{"Idempotency-Key", "epoch/1-5"}, http.StatusBadRequest, `Idempotency-Key "epoch/1-5"`},
		{"range of one", eventsPath, goodEvent, []string{"Idempotency-Key", "epoch/5-5"}, http.StatusBadRequest, `Idempotency-Key "epoch/5-5"`},
		{"key of three parts", eventsPath, goodEvent, []string{"Idempotency-Key", "edge-1/epoch/1"}, http.StatusBadRequest, "Idempotency-Key"},
		{"space in the epoch", eventsPath, goodEvent, []string{"Idempotency-Key", "my epoch/1"}, http.StatusBadRequest, "Idempotency-Key"},
		{"too large", eventsPath, strings.Repeat(" ", largest+1), nil, http.StatusRequestEntityTooLarge, "send fewer events at a time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mustRefuse(t, post(t.Context(), handler, tt.path, tt.body, tt.header...), tt.status, tt.detail)
		})
	}
	w := request(t.Context(), handler, http.MethodGet, eventsPath, "")
	mustRefuse(t, w, http.StatusMethodNotAllowed, "POST")
	if got := w.Header().Get("Allow"); got != http.MethodPost {
		t.Errorf("Allow = %q, want POST", got)
	}
	holds(t, conn, 0)
	mustAccept(t, post(t.Context(), handler, eventsPath, goodEvent+strings.Repeat(" ", largest-len(goodEvent))))
}

// limitMessages makes NATS refuse larger messages for good.
func limitMessages(t *testing.T, url string, size int32) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxMsgSize = size
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

func TestIngest_DoesNotSayToSendAgainWhatIsRefusedForGood(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	conn := connect(t, url)
	limitMessages(t, url, 100)
	w := post(t.Context(), newIngest(t, conn), eventsPath, "["+goodEvent+","+goodEvent+"]")
	mustRefuse(t, w, http.StatusBadRequest, "would refuse it again")
	if w.Header().Get("Retry-After") != "" || strings.Contains(w.Body.String(), "send it again") {
		t.Errorf("answer %s, Retry-After %q", w.Body, w.Header().Get("Retry-After"))
	}
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
	w := post(ctx, handler, eventsPath, goodEvent)
	mustRefuse(t, w, http.StatusServiceUnavailable, "send it again")
	if got, want := w.Header().Get("Retry-After"), "1"; got != want {
		t.Errorf("Retry-After = %q, want %q", got, want)
	}
}

func TestIngest_CompressesWhatComesPlain(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	handler := ingestAs(t, conn, PublisherConfig{Source: "edge-1", Compression: "zstd"}).Handler()
	lines := strings.Repeat(goodEvent+"\n", 50)
	mustAccept(t, post(t.Context(), handler, eventsPath, lines, "Content-Type", "application/x-ndjson"))
	packed := pack(t, lines)
	mustAccept(t, post(t.Context(), handler, eventsPath, packed, "Content-Type", "application/x-ndjson", "Content-Encoding", "gzip"))

	messages := storedMessages(t, conn)
	if len(messages) != 2 {
		t.Fatalf("the stream holds %d messages, want 2", len(messages))
	}
	plain, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	got, err := plain.DecodeAll(messages[0].Data, nil)
	if err != nil || string(got) != lines || messages[0].ContentEncoding() != "zstd" || len(messages[0].Data) > len(lines)/5 {
		t.Errorf("of a plain body the stream has %d bytes, encoded %q: %v", len(messages[0].Data), messages[0].ContentEncoding(), err)
	}
	if string(messages[1].Data) != packed || messages[1].ContentEncoding() != "gzip" {
		t.Errorf("a body that came compressed was changed: it is encoded %q", messages[1].ContentEncoding())
	}
}

func TestIngest_LetsRequestsWaitWhileSoManyAreUnderWay(t *testing.T) {
	t.Parallel()
	ingest := ingestAs(t, replayStream(t), PublisherConfig{Source: "edge-1", MaxInFlight: 2})
	for range 2 { // two messages that the stream does not acknowledge
		ingest.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	mustRefuse(t, post(ctx, ingest.Handler(), eventsPath, goodEvent), http.StatusServiceUnavailable, "send it again")
	<-ingest.slots
	for range 3 { // each frees what it took
		mustAccept(t, post(t.Context(), ingest.Handler(), eventsPath, goodEvent))
	}
}

func TestNewIngest_RefusesASourceThatIsNoToken(t *testing.T) {
	t.Parallel()
	conn, err := stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := NewIngest(conn, PublisherConfig{Source: "edge.1"}, nil); err == nil {
		t.Error("NewIngest took a source with a dot")
	}
}
