package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"weir/pkg/event"
	"weir/pkg/stream"
)

// Ingest publishes events for gateways that speak HTTP and not NATS:
//
//	POST /api/v1/events/{type}
//
// The body is a message as it would be published: one event, an array of
// them, or lines (application/x-ndjson), plain, gzip or zstd.
//
// The answer is 202 only after the stream has stored it:
//
//	{"sequence":7,"duplicate":false,"events":3,"valid":2,"rejected":[{"offset":1,"reason":"…"}]}
//
// Of the events in the body, rejected lists the first 20 that break the
// definition of their stream. They are stored with the others, and become dead
// letters; the sender need not send them again. The bound on how far an event
// may lie in the future is judged by this machine's clock here.
//
// Everything else is a problem (RFC 9457), and then nothing was published:
//
//	400  the body is empty or cannot be cut into events; the Idempotency-Key is none; NATS refuses the message
//	404  no stream is defined for the type, or the path is none
//	405  the method is not POST
//	413  the body is too large for one message
//	422  not one of the events is valid; the member rejected is as above
//	503  the stream did not confirm it in 10 s: send it again. It may be stored all the same
//
// With the header Idempotency-Key: <epoch>/<n>, where the epoch is of the
// client's own making and n counts its messages from 1, whatever is sent again
// counts once.
type Ingest struct {
	conn    *stream.Conn
	source  string
	schemas map[string]*event.Schema
	types   string // the names of the schemas, for people

	codec codec
	slots chan struct{} // one per message that the stream has not acknowledged

	heart   *heart // numbers what comes without an Idempotency-Key
	metrics ingestMetrics

	// decoders are as many as can work at once. Who needs one waits: a small
	// body may be large once it is decompressed.
	decoders chan *event.Decoder
}

const (
	// ingestTimeout is how long one request waits for the stream to store it.
	ingestTimeout = 10 * time.Second
	// listedRejects is how many invalid events an answer lists.
	listedRejects = 20
	// maxReason bounds the text of one of them, in bytes.
	maxReason = 300
)

// NewIngest publishes what the schemas define; they must be sealed. Of cfg it takes the
// Source; MaxInFlight, beyond which requests wait; and the Compression of bodies that come plain. How events
// are cut into messages is the client's to say. The connection should try again for as long as
// it is asked to ([stream.Config] without RetryFor): an error before that is
// taken as final.
func NewIngest(conn *stream.Conn, cfg PublisherConfig, schemas []*event.Schema) (*Ingest, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	codec, err := newCodec(cfg.Compression)
	if err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	g := &Ingest{
		conn: conn, source: cfg.Source, schemas: make(map[string]*event.Schema), codec: codec, slots: make(chan struct{}, cfg.MaxInFlight),
		heart: newHeart(conn, cfg.Source, newEpoch(), heartbeatEvery, true), metrics: newIngestMetrics(cfg.Source),
	}
	var names []string
	for _, schema := range schemas {
		g.schemas[schema.Name] = schema
		names = append(names, schema.Name)
	}
	slices.Sort(names)
	g.types = strings.Join(names, ", ")
	g.decoders = make(chan *event.Decoder, runtime.GOMAXPROCS(0))
	for range cap(g.decoders) {
		g.decoders <- new(event.Decoder)
	}
	return g, nil
}

// Close sends the last heartbeat: the messages without an Idempotency-Key have
// an epoch of this process, as a [Publisher]'s have. It waits 2 s for it at most.
// No request may be under way or follow.
func (g *Ingest) Close(ctx context.Context) { g.heart.close(ctx) }

// Handler returns the HTTP side. It answers 404 to every path but its own.
func (g *Ingest) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/events/{type}", func(w http.ResponseWriter, r *http.Request) {
		answer, problem := g.take(w, r)
		if problem != nil {
			problem.write(w)
			return
		}
		writeJSON(w, "application/json", http.StatusAccepted, answer)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(http.StatusNotFound, "there is nothing here; events are taken at POST /api/v1/events/{type}").write(w)
	})
	return mux
}

// ingested is the answer to a request whose message the stream has.
type ingested struct {
	Sequence  uint64 `json:"sequence"`
	Duplicate bool   `json:"duplicate"`
	verdict
}

// take brings one request to the stream.
func (g *Ingest) take(w http.ResponseWriter, r *http.Request) (*ingested, *problem) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, refuse(http.StatusMethodNotAllowed, r.Method+" is not possible here; events are sent with POST")
	}
	eventType := r.PathValue("type")
	if !stream.ValidToken(eventType) {
		return nil, refuse(http.StatusBadRequest, clip(eventType)+" cannot be the type of an event")
	}
	schema := g.schemas[eventType]
	if schema == nil {
		return nil, refuse(http.StatusNotFound, fmt.Sprintf("no stream is defined for events of type %q; there are %s", eventType, g.types))
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(g.conn.MaxPayload()-headerRoom)))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is over %d bytes: send fewer events at a time", tooLarge.Limit))
	}
	if err != nil || len(data) == 0 {
		return nil, refuse(http.StatusBadRequest, "the body is empty or was cut off")
	}
	body := event.Body{Data: data, ContentType: bodyType(r), Encoding: bodyEncoding(r)}
	verdict, problem := g.judge(r.Context(), body, schema)
	if problem != nil {
		return nil, problem
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return g.publishNumbered(r.Context(), eventType, body, verdict)
	}
	id, err := g.identity(key)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	return g.publish(r.Context(), id, eventType, body, verdict)
}

// bodyType is the media type that is published: one of two, so that headers
// stay small whatever the client sends.
func bodyType(r *http.Request) string {
	if strings.Contains(strings.ToLower(r.Header.Get("Content-Type")), "ndjson") {
		return contentType
	}
	return "application/json"
}

func bodyEncoding(r *http.Request) string {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	if encoding == "identity" {
		return ""
	}
	return encoding
}

// publish returns when the stream has the message, or an answer to why not.
func (g *Ingest) publish(ctx context.Context, id stream.Identity, eventType string, body event.Body, verdict verdict) (done *ingested, p *problem) {
	defer func() { g.metrics.count(done, p) }()
	ctx, cancel := context.WithTimeout(ctx, ingestTimeout)
	defer cancel()
	if body.Encoding == "" {
		body.Data, body.Encoding = g.codec.encode(body.Data), g.codec.name
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return nil, tryAgain()
	}
	sequence, duplicate, err := g.conn.Publish(ctx, stream.Outgoing{
		Subject: stream.EventSubject(eventType, g.source), MsgID: id.String(),
		ContentType: body.ContentType, ContentEncoding: body.Encoding, Data: body.Data,
	})
	switch {
	case err == nil:
		return &ingested{sequence, duplicate, verdict}, nil
	case ctx.Err() != nil, errors.Is(err, stream.ErrClosed):
		return nil, tryAgain()
	}
	// Whatever may pass is tried again until ctx ends: this will not.
	return nil, refuse(http.StatusBadRequest, fmt.Sprintf("NATS refuses the message, and would refuse it again: %v", err))
}

func tryAgain() *problem {
	p := refuse(http.StatusServiceUnavailable, "the stream did not store the message; send it again, with the same Idempotency-Key if it had one")
	p.retry = true
	return p
}

// publishNumbered is publish as the next message of this process.
func (g *Ingest) publishNumbered(ctx context.Context, eventType string, body event.Body, verdict verdict) (*ingested, *problem) {
	epoch, n := g.heart.take()
	done, problem := g.publish(ctx, stream.Identity{Source: g.source, Epoch: epoch, First: n, Last: n}, eventType, body, verdict)
	var err error
	if problem != nil {
		err = errNotStored
	}
	g.heart.settle(epoch, n, uint64(verdict.Events), err) //nolint:gosec // a count
	return done, problem
}

// errNotStored stands for a problem that the client was told of.
var errNotStored = errors.New("not stored")

// identity is the client's own.
func (g *Ingest) identity(key string) (stream.Identity, error) {
	given := g.source + "/" + strings.Trim(key, `"`)
	id, ok := stream.ParseIdentity(given)
	// A range, even of one number, would be another way to count: by event and not by message.
	if !ok || id.First != id.Last || id.String() != given {
		return id, fmt.Errorf("Idempotency-Key %s should be <epoch>/<n>: 1 to 64 characters of A-Z a-z 0-9 _ . -, a slash, a number from 1", clip(key))
	}
	return id, nil
}
