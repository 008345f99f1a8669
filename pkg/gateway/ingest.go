package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"weir/pkg/stream"
)

// Ingest publishes events for gateways that speak HTTP and not NATS:
//
//	POST /api/v1/events/{type}
//
// The body is a message as it would be published: one event, an array of
// them, or lines (application/x-ndjson), plain, gzip or zstd. The answer is
// 202 only after the stream has stored it, so a client that got no answer may
// send again; with the header Idempotency-Key: <epoch>/<n>, where the epoch is
// of the client's own making and n counts its messages from 1, whatever is sent
// again counts once.
type Ingest struct {
	conn   *stream.Conn
	source string
	epoch  string
	n      atomic.Uint64
}

// ingestTimeout is how long one request waits for the stream to store it.
const ingestTimeout = 10 * time.Second

// NewIngest publishes as the source, which must be a token.
func NewIngest(conn *stream.Conn, source string) (*Ingest, error) {
	if !stream.ValidToken(source) {
		return nil, fmt.Errorf("source %q is no token: 1 to 128 printable ASCII characters without space . * > /", source)
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return &Ingest{conn: conn, source: source, epoch: hex.EncodeToString(random[:])}, nil
}

// Handler returns the HTTP side.
func (g *Ingest) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/events/{type}", g.accept)
	return mux
}

func (g *Ingest) accept(w http.ResponseWriter, r *http.Request) {
	eventType := r.PathValue("type")
	if !stream.ValidToken(eventType) {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%q cannot be the type of an event", eventType))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(g.conn.MaxPayload()-headerRoom)))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is over %d bytes: send fewer events at a time", tooLarge.Limit))
		return
	}
	if err != nil || len(body) == 0 {
		refuse(w, http.StatusBadRequest, "the body is empty or was cut off")
		return
	}
	id, err := g.identity(r.Header.Get("Idempotency-Key"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), ingestTimeout)
	defer cancel()
	sequence, duplicate, err := g.conn.Publish(ctx, stream.Outgoing{
		Subject: stream.EventSubject(eventType, g.source), MsgID: id.String(),
		ContentType: r.Header.Get("Content-Type"), ContentEncoding: r.Header.Get("Content-Encoding"), Data: body,
	})
	if err != nil {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "the stream did not store the message; send it again, with the same Idempotency-Key if it had one")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]any{"sequence": sequence, "duplicate": duplicate})
}

// identity is the client's own, or the next of this process.
func (g *Ingest) identity(key string) (stream.Identity, error) {
	if key == "" {
		n := g.n.Add(1)
		return stream.Identity{Source: g.source, Epoch: g.epoch, First: n, Last: n}, nil
	}
	id, ok := stream.ParseIdentity(g.source + "/" + strings.Trim(key, `"`))
	if !ok {
		return id, fmt.Errorf("Idempotency-Key %q should be <epoch>/<n>: letters and digits, a slash, a number from 1", key)
	}
	return id, nil
}

func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
