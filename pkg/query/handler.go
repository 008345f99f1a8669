package query

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/audit"
	"weir/pkg/definition"
	"weir/pkg/store"
)

// Server is what the HTTP API works on.
type Server struct {
	Catalog *definition.Catalog
	DB      *store.DB
	// State returns the time up to which everything stored in the stream is
	// folded. nil, or an error, leaves complete_through null: the answer is right
	// as of the last flush, but how far that reaches is not known. It is asked for
	// every answer: see [Recently].
	State func(context.Context) (time.Time, error)
	// Audit returns how things stood after the last pass of an auditor; nil: it is not
	// known here. It may take long: see [Recently].
	Audit func(context.Context) (*audit.Report, error)
	// Limits bound what a question may ask for.
	Limits Limits
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
	document  []byte // GET /openapi.json
}

func (s Server) withDefaults() *Server {
	s.Timeout = cmp.Or(s.Timeout, 30*time.Second)
	s.Follow = s.Follow.withDefaults()
	s.Limits = s.Limits.withDefaults()
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
//	GET /api/v1/                      a page of links
//	GET /openapi.json                 all of this, as OpenAPI 3.1 says it
//	GET /api/v1/catalogue             streams, aggregations and rules
//	GET /api/v1/aggregations          what can be asked for
//	GET /api/v1/aggregations/{name}   a question (see the package comment), or,
//	                                  without parameters, what can be asked for
//	POST /api/v1/questions            a question, as in [Server.Message]
//	GET /api/v1/alerts                ?rule= &scope= &state= &severity= &since= &until= &key=NAME=VALUE &limit=, newest first
//	GET /api/v1/alerts/{id}           all that is known of one, by its id or the beginning of it
//	POST /api/v1/alerts/{id}/ack      {"by", "comment"}: it is looked after
//	GET /api/v1/alerts/stream         ?rule= &scope= &severity= &key= &after=: as they come, as server-sent events
//	GET /api/v1/audit                 how the proof stands that every event is counted once
//	GET /api/v1/silences              ?state=, the one that ends first first
//	POST /api/v1/silences             {"rule", "match", "starts_at", "ends_at", "for", "by", "comment"}
//	DELETE /api/v1/silences/{id}      ends it
//	GET /api/v1/availability          ?tenant= &state=, the APIs that had calls within a day, and how they do
//	GET /api/v1/deadletters           ?state= &reason= &source= &limit=, newest first
//	GET /api/v1/deadletters/{id}
//	GET /api/v1/shards                the shards, by id
//	GET /api/v1/sources               ?source= &limit=, what publishers say of themselves
//	GET /api/v1/thresholds            ?rule=, all that are set or learned
//	PUT /api/v1/thresholds            sets one: a JSON object, see [Client.SetThreshold]
//	DELETE /api/v1/thresholds         ?rule= &case= &api= …, unsets one
//	GET /                             leads to the page of links, until the process
//	                                  around the handler has something there itself
//
// Answers to questions are JSON, CSV or NDJSON, by the parameter format or the header
// Accept. What is read from the database has [HeaderCompleteThrough].
//
// Errors are problem details (RFC 9457): 400 where the request is wrong, in a
// sentence that says what would be right, 404, 405, 503 while Postgres is away, 504
// where the answer takes too long. The API knows nobody: who may write is for a proxy
// before it to say. But no page of another site can (403), and what is written must
// say that it is JSON (415).
func NewHandler(server Server) http.Handler {
	s := server.withDefaults()
	s.document = OpenAPI()
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.pattern, s.serve(r))
	}
	return mux
}

// route is what there is at a path, by method.
type route struct {
	pattern string
	methods map[string]answering
	endless bool // it ends only with its client or with the server
}

// routes are all of them: what is not in the list is not served.
func (s *Server) routes() []route {
	get := func(pattern string, f answering) route {
		return route{pattern: pattern, methods: map[string]answering{http.MethodGet: f}}
	}
	return []route{
		get("/{$}", func(w http.ResponseWriter, r *http.Request, _ url.Values) error {
			http.Redirect(w, r, "/api/v1/", http.StatusSeeOther)
			return nil
		}),
		get("/", func(http.ResponseWriter, *http.Request, url.Values) error {
			return &Error{http.StatusNotFound, "there is nothing here; GET /api/v1/ has a list of what there is"}
		}),
		get("/api/v1/{$}", s.index),
		get("/openapi.json", s.openAPI),
		get("/api/v1/catalogue", s.catalogue),
		get("/api/v1/aggregations", s.aggregations),
		get("/api/v1/aggregations/{name}", s.aggregation),
		{pattern: "/api/v1/questions", methods: map[string]answering{http.MethodPost: s.question}},
		get("/api/v1/alerts", s.stamped(s.alerts)),
		get("/api/v1/alerts/{id}", s.stamped(s.alert)),
		{pattern: "/api/v1/alerts/{id}/ack", methods: map[string]answering{http.MethodPost: s.ack}},
		{pattern: "/api/v1/alerts/stream", methods: map[string]answering{http.MethodGet: s.follow}, endless: true},
		{pattern: "/api/v1/silences", methods: map[string]answering{http.MethodGet: s.stamped(s.silences), http.MethodPost: s.addSilence}},
		{pattern: "/api/v1/silences/{id}", methods: map[string]answering{http.MethodDelete: s.endSilence}},
		get("/api/v1/audit", s.stamped(s.audit)),
		get("/api/v1/availability", s.stamped(s.availability)),
		get("/api/v1/deadletters", s.stamped(s.deadLetters)),
		get("/api/v1/deadletters/{id}", s.stamped(s.deadLetter)),
		get("/api/v1/shards", s.stamped(s.shards)),
		get("/api/v1/sources", s.stamped(s.sources)),
		{pattern: "/api/v1/thresholds", methods: map[string]answering{
			http.MethodGet: s.stamped(s.thresholds), http.MethodPut: s.setThreshold, http.MethodDelete: s.unsetThreshold,
		}},
	}
}

// answering answers a request whose parameters are read, or returns why not.
type answering func(w http.ResponseWriter, r *http.Request, values url.Values) error

// serve runs what there is for the request's method, with its time bounded unless it
// is endless and its parameters read, and answers with a problem where that returns an
// error. HEAD is as GET; what writes is guarded.
func (s *Server) serve(to route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if !to.endless {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.Timeout)
			defer cancel()
		}
		s.respond(to.methods, w, r.WithContext(ctx))
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
	for _, name := range []string{HeaderCompleteThrough, "Content-Disposition", "ETag", "Vary"} { // they are the answer's
		w.Header().Del(name)
	}
	w.Header().Set("Cache-Control", "no-store")
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
	var many *store.TooManyRows
	said := errors.As(err, &f) // in so many words: nothing is left to be reported
	switch {
	case said:
	case errors.As(err, &many):
		f = tooMany(many)
	case gone: // nobody waits for an answer
	case errors.Is(err, store.ErrCrowded):
		f = &Error{http.StatusServiceUnavailable, store.ErrCrowded.Error() + "; ask again later"}
	case store.TimedOut(err):
		f = &Error{http.StatusGatewayTimeout, "the answer takes too long; a shorter interval (within), a coarser granularity (per) or fewer columns take less"}
	case store.NotApplied(err):
		f = &Error{http.StatusServiceUnavailable, "the tables are not there yet: run `weir apply`"}
	case store.Unavailable(err):
		f = &Error{http.StatusServiceUnavailable, "Postgres is not available now; ask again later"}
	case store.OutOfRange(err):
		f = &Error{http.StatusBadRequest, "a number in the answer is too large for a float"}
	}
	if f.Status >= http.StatusInternalServerError && !gone && !said {
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

// MostListed is the highest limit of a list.
const MostListed = 10_000

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
