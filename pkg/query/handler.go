package query

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/definition"
	"weir/pkg/store"
)

// Server is what the HTTP API works on.
type Server struct {
	Catalog *definition.Catalog
	DB      *store.DB
	// State returns the time up to which everything stored in the stream is
	// folded. nil, or an error, leaves complete_through null: the answer is right
	// as of the last flush, but how far that reaches is not known.
	State func(context.Context) (time.Time, error)
	// Timeout bounds the work for one request; 0 is 30 s.
	Timeout time.Duration
	// Done is closed when the server is asked to stop, so that streams end, which
	// never would by themselves. nil: they end with their connection only.
	Done <-chan struct{}
	// Follow bounds what following alerts takes.
	Follow FollowLimits
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// OnError is told of every error that is not the asker's, and what was asked
	// for: a path, or the subject of a message. nil drops them.
	OnError func(request string, err error)

	followers *followers
}

func (s Server) withDefaults() *Server {
	s.Timeout = cmp.Or(s.Timeout, 30*time.Second)
	s.Follow = s.Follow.withDefaults()
	if s.Now == nil {
		s.Now = time.Now
	}
	s.followers = newFollowers()
	if s.OnError == nil {
		s.OnError = func(string, error) {}
	}
	return &s
}

// NewHandler returns the HTTP API:
//
//	GET /api/v1/aggregations          what can be asked for
//	GET /api/v1/aggregations/{name}   a question (see the package comment), or,
//	                                  without parameters, what can be asked for
//	GET /api/v1/alerts                ?rule= &scope= &state= &severity= &since= &until= &key=NAME=VALUE &limit=, newest first
//	GET /api/v1/alerts/{id}           all that is known of one, by its id or the beginning of it
//	POST /api/v1/alerts/{id}/ack      {"by", "comment"}: it is looked after
//	GET /api/v1/alerts/stream         ?rule= &scope= &severity= &key= &after=: as they come, as server-sent events
//	GET /api/v1/silences              ?state=, the one that ends first first
//	POST /api/v1/silences             {"rule", "match", "starts_at", "ends_at", "by", "comment"}
//	DELETE /api/v1/silences/{id}      ends it
//	GET /api/v1/availability          ?tenant= &state=, the APIs that had calls within a day, and how they do
//	GET /api/v1/deadletters           ?state= &reason= &source= &limit=, newest first
//	GET /api/v1/deadletters/{id}
//	GET /api/v1/shards                the shards, by id
//	GET /api/v1/sources               ?source= &limit=, what publishers say of themselves
//	GET /api/v1/thresholds            ?rule=, all that are set or learned
//	PUT /api/v1/thresholds            sets one: a JSON object, see [Client.SetThreshold]
//	DELETE /api/v1/thresholds         ?rule= &case= &api= …, unsets one
//	GET /                             a page of links, also to /readyz, which
//	                                  the process around the handler answers
//
// Errors are problem details (RFC 9457): 400 where the request is wrong, in a
// sentence that says what would be right, 404, 405, 503 while Postgres is away, 504
// where the answer takes too long. The API knows nobody: who may write is for a proxy
// before it to say. But no page of another site can (403), and what is written must
// say that it is JSON (415).
func NewHandler(server Server) http.Handler {
	s := server.withDefaults()
	mux := http.NewServeMux()
	mux.Handle("/api/v1/aggregations", s.get(s.aggregations))
	mux.Handle("/api/v1/aggregations/{name}", s.get(s.aggregation))
	mux.Handle("/api/v1/alerts", s.get(s.alerts))
	mux.Handle("/api/v1/alerts/{id}", s.get(s.alert))
	mux.Handle("/api/v1/alerts/{id}/ack", s.methods(map[string]answering{http.MethodPost: s.ack}))
	mux.Handle("/api/v1/alerts/stream", s.endless(s.follow))
	mux.Handle("/api/v1/silences", s.methods(map[string]answering{http.MethodGet: s.silences, http.MethodPost: s.addSilence}))
	mux.Handle("/api/v1/silences/{id}", s.methods(map[string]answering{http.MethodDelete: s.endSilence}))
	mux.Handle("/api/v1/availability", s.get(s.availability))
	mux.Handle("/api/v1/deadletters", s.get(s.deadLetters))
	mux.Handle("/api/v1/deadletters/{id}", s.get(s.deadLetter))
	mux.Handle("/api/v1/shards", s.get(s.shards))
	mux.Handle("/api/v1/sources", s.get(s.sources))
	mux.Handle("/api/v1/thresholds", s.methods(map[string]answering{
		http.MethodGet: s.thresholds, http.MethodPut: s.setThreshold, http.MethodDelete: s.unsetThreshold,
	}))
	mux.Handle("/{$}", s.get(s.index))
	mux.Handle("/", s.get(func(http.ResponseWriter, *http.Request, url.Values) error {
		return &Error{http.StatusNotFound, "there is nothing here; GET / has a list of what there is"}
	}))
	return mux
}

// answering answers a request whose parameters are read, or returns why not.
type answering func(w http.ResponseWriter, r *http.Request, values url.Values) error

// get is methods for what can only be read.
func (s *Server) get(f answering) http.Handler {
	return s.methods(map[string]answering{http.MethodGet: f})
}

// methods runs what there is for the request's method, with its time bounded and
// its parameters read, and answers with a problem where that returns an error. HEAD
// is as GET; what writes is guarded.
func (s *Server) methods(all map[string]answering) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
		defer cancel()
		s.respond(all, w, r.WithContext(ctx))
	})
}

// endless is get for what ends only with its client or with the server.
func (s *Server) endless(f answering) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.respond(map[string]answering{http.MethodGet: f}, w, r)
	})
}

func (s *Server) respond(all map[string]answering, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := dispatch(all, w, r); err != nil {
		s.problem(w, r, err)
	}
}

func dispatch(all map[string]answering, w http.ResponseWriter, r *http.Request) error {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	f := all[r.Method]
	if read {
		f = all[http.MethodGet]
	}
	if f == nil {
		return notAllowed(all, w, r)
	}
	if !read {
		if err := guard(r); err != nil {
			return err
		}
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &Error{http.StatusBadRequest, fmt.Sprintf("the parameters are not readable: %v; write %% as %%25, & as %%26, + as %%2B, ; as %%3B", err)}
	}
	return f(w, r, values)
}

func notAllowed(all map[string]answering, w http.ResponseWriter, r *http.Request) error {
	allowed := slices.Sorted(maps.Keys(all))
	if all[http.MethodGet] != nil {
		allowed = append(allowed, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	detail := "there are: " + strings.Join(allowed, ", ")
	if len(all) == 1 && all[http.MethodGet] != nil {
		detail = "it is read with GET"
	}
	return &Error{http.StatusMethodNotAllowed, clip(r.Method) + " is not possible here; " + detail}
}

// problem answers with an error.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	f := s.explain(r.Context(), r.URL.Path, err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.Status)
	s.write(w, r, f.problem())
}

// explain says in a sentence what an error means to who asked; it reports those
// that are not the asker's. The context is that of the request: where it was
// canceled, Postgres says only that it was told to stop.
func (s *Server) explain(ctx context.Context, request string, err error) *Error {
	gone := errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled) && store.TimedOut(err)
	f := &Error{http.StatusInternalServerError, "something went wrong here; the log of the server says what"}
	switch {
	case errors.As(err, &f):
	case gone: // nobody waits for an answer
	case store.TimedOut(err):
		f = &Error{http.StatusGatewayTimeout, "the answer takes too long; a shorter interval (within), a coarser granularity (per) or fewer columns take less"}
	case store.NotApplied(err):
		f = &Error{http.StatusServiceUnavailable, "the tables are not there yet: run `weir apply`"}
	case store.Unavailable(err):
		f = &Error{http.StatusServiceUnavailable, "Postgres is not available now; ask again later"}
	case store.OutOfRange(err):
		f = &Error{http.StatusBadRequest, "a number in the answer is too large for a float"}
	}
	if f.Status >= http.StatusInternalServerError && !gone {
		s.OnError(request, err)
	}
	return f
}

// write sends a value as JSON.
func (s *Server) write(w http.ResponseWriter, r *http.Request, value any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil && r.Context().Err() == nil {
		s.OnError(r.URL.Path, fmt.Errorf("send an answer: %w", err))
	}
}

func (s *Server) json(w http.ResponseWriter, r *http.Request, value any) error {
	w.Header().Set("Content-Type", "application/json")
	s.write(w, r, value)
	return nil
}

// aggregation answers a question.
func (s *Server) aggregation(w http.ResponseWriter, r *http.Request, values url.Values) error {
	name := r.PathValue("name")
	if len(values) == 0 {
		def, err := find(s.Catalog, name)
		if err != nil {
			return wrong(err)
		}
		return s.json(w, r, describe(def))
	}
	question, err := Parse(s.Catalog, name, values)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := &reply{w: w}
	buffer := bufio.NewWriterSize(out, 64<<10)
	if err = s.answer(r.Context(), r.URL.Path, question, buffer); err == nil {
		err = buffer.Flush()
	}
	if err == nil || !out.started {
		return err
	}
	// Part of the answer is sent: only breaking it off tells that it is not whole.
	if r.Context().Err() == nil || store.TimedOut(err) {
		s.OnError(r.URL.Path, err)
	}
	panic(http.ErrAbortHandler)
}

// answer writes the answer to a question as JSON.
func (s *Server) answer(ctx context.Context, request string, question *Question, w io.Writer) error {
	// Asked before the snapshot is taken: what was complete then is in it.
	through := s.completeThrough(ctx, request)
	e := &encoder{w: w}
	e.begin(question.Columns)
	if err := question.Each(ctx, s.DB, e.row); err != nil {
		return err
	}
	return e.end(through)
}

func (s *Server) completeThrough(ctx context.Context, request string) time.Time {
	if s.State == nil {
		return time.Time{}
	}
	through, err := s.State(ctx)
	if err != nil {
		s.OnError(request, fmt.Errorf("ask how far the stream is folded: %w", err))
		return time.Time{}
	}
	return through
}

// reply remembers whether anything was sent.
type reply struct {
	w       http.ResponseWriter
	started bool
}

func (r *reply) Write(p []byte) (int, error) {
	r.started = true
	return r.w.Write(p)
}

// count reads a parameter that is a number of things to list.
func count(values url.Values, missing, most int) (int, error) {
	text := values.Get("limit")
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, wrong(fmt.Errorf("limit: %q is not possible; it is a number from 1 to %d", text, most))
	}
	return n, nil
}
