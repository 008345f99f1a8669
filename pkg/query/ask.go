package query

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"weir/pkg/store"
)

// aggregation answers a question in an address.
func (s *Server) aggregation(w http.ResponseWriter, r *http.Request, values url.Values) error {
	name := r.PathValue("name")
	if len(values) == 0 {
		def, err := find(s.Catalog, name)
		if err != nil {
			return wrong(err)
		}
		return s.lasting(w, r, encode(describe(def)))
	}
	as, err := takeFormat(r, values)
	if err != nil {
		return err
	}
	question, err := Parse(s.Catalog, name, values)
	if err != nil {
		return err
	}
	return s.ask(w, r, question, as)
}

// question answers one that is sent: the JSON object that [Server.Message] reads.
func (s *Server) question(w http.ResponseWriter, r *http.Request, values url.Values) error {
	as, err := takeFormat(r, values)
	if err == nil {
		err = only(values)
	}
	if err != nil {
		return err
	}
	body, err := receive(w, r)
	if err != nil {
		return err
	}
	question, err := s.parseMessage(body)
	if err != nil {
		return err
	}
	return s.ask(w, r, question, as)
}

// ask answers a question, or says that the answer has not changed since.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, question *Question, as format) error {
	question, err := s.limited(r.Context(), question)
	if err != nil {
		return err
	}
	// Asked before the snapshot is taken: what was complete then is in it.
	through := s.stamp(w, r)
	w.Header().Add("Vary", "Accept")
	same, err := s.unchanged(w, r, question, as, through)
	if err != nil || same {
		return err
	}
	return s.send(w, r, question, as, through)
}

// send sends the answer to a question while it is read from the database.
func (s *Server) send(w http.ResponseWriter, r *http.Request, question *Question, as format, through time.Time) error {
	w.Header().Set("Content-Type", as.contentType())
	if as != formatJSON {
		w.Header().Set("Content-Disposition", `attachment; filename="`+question.fileName(as)+`"`)
	}
	out := &reply{w: w}
	buffer := bufio.NewWriterSize(out, 64<<10)
	err := s.answer(r.Context(), question, through, as.to(buffer))
	if err == nil {
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

// answer writes the answer to a question.
func (s *Server) answer(ctx context.Context, question *Question, through time.Time, to writer) error {
	if err := to.begin(question.Columns); err != nil {
		return err
	}
	if err := question.Each(ctx, s.DB, to.row); err != nil {
		return err
	}
	return to.finish(through)
}

// fileName is under what name an answer is to be kept.
func (q *Question) fileName(as format) string {
	day := func(micros int64) string { return time.UnixMicro(micros).UTC().Format("20060102T150405Z") }
	name := fmt.Sprintf("%s-per-%s-%s-%s.%s", q.plan.Aggregation.ID(), q.plan.Per, day(q.plan.From), day(q.plan.Until), as)
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, name)
}

// HeaderCompleteThrough says, of an answer, the time (RFC 3339, UTC) up to which every
// event that the stream had stored was folded when the answer was begun. It is left
// out where that is not known, and of errors, which have no data.
const HeaderCompleteThrough = "Weir-Complete-Through"

// stateTimeout is how long an answer waits to learn how far the stream is folded.
const stateTimeout = 2 * time.Second

// stamp sets HeaderCompleteThrough and returns it. It comes before anything is read.
func (s *Server) stamp(w http.ResponseWriter, r *http.Request) time.Time {
	through := s.completeThrough(r.Context(), r.URL.Path)
	if !through.IsZero() {
		w.Header().Set(HeaderCompleteThrough, through.UTC().Format(time.RFC3339Nano))
	}
	return through
}

// stamped answers with the header set.
func (s *Server) stamped(f answering) answering {
	return func(w http.ResponseWriter, r *http.Request, values url.Values) error {
		s.stamp(w, r)
		return f(w, r, values)
	}
}

func (s *Server) completeThrough(ctx context.Context, request string) time.Time {
	if s.State == nil {
		return time.Time{}
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	through, err := s.State(ctx)
	if err != nil {
		s.OnError(request, fmt.Errorf("ask how far the stream is folded: %w", err))
		return time.Time{}
	}
	return through
}

// reply remembers whether anything was sent.
type reply struct {
	w       io.Writer
	started bool
}

func (r *reply) Write(p []byte) (int, error) {
	r.started = true
	return r.w.Write(p)
}
