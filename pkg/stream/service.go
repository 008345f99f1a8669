package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"
)

// Service answers requests over NATS. The tools of NATS find it by its name
// (`nats micro`, package micro). Any number of processes may serve one name:
// each request goes to one of them.
type Service struct {
	Name        string // letters, digits, - and _; also the queue group
	Version     string // semantic, as 1.2.3
	Description string
	Endpoints   []Endpoint
	// Parallel is how many requests are answered at once; others wait their
	// turn. Default 8.
	Parallel int
	// Timeout is how long one answer may take. Default 30 s.
	Timeout time.Duration
}

// Endpoint is one kind of request.
type Endpoint struct {
	Name    string // letters, digits, - and _
	Subject string
	// Answer returns the answer to a request. An error that is a *[Refusal] is
	// sent as it is; any other is logged, and the asker told no details.
	Answer func(ctx context.Context, request []byte) ([]byte, error)
}

// Refusal is an error that whoever asked is told.
type Refusal struct {
	Code   int    // as of HTTP
	Detail string // a sentence
	Body   []byte // of the answer; may be empty
}

func (r *Refusal) Error() string { return r.Detail }

const (
	serviceParallel = 8
	serviceTimeout  = 30 * time.Second
	serviceDrain    = 10 * time.Second // to finish what is in hand at the end
)

// ErrNobodyAnswers says that there is no service at the subject.
var ErrNobodyAnswers = errors.New("nobody answers")

// serving is a Service at work.
type serving struct {
	Service

	conn *Conn
	ctx  context.Context //nolint:containedctx // that of all answers; it outlives the one Serve was given
	ends chan struct{}   // closed when no request is taken on any more
	free chan struct{}   // holds one element per answer that is being worked on

	answered, refused, took atomic.Int64 // took in microseconds
}

// Serve answers requests until ctx ends, and then those in hand. It returns
// ErrClosed if the connection is closed before.
func (c *Conn) Serve(ctx context.Context, service Service) error {
	service.Parallel = cmp.Or(service.Parallel, serviceParallel)
	service.Timeout = cmp.Or(service.Timeout, serviceTimeout)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := &serving{Service: service, conn: c, ctx: life, ends: make(chan struct{}), free: make(chan struct{}, service.Parallel)}
	running, err := micro.AddService(c.nc, micro.Config{
		Name: service.Name, Version: service.Version, Description: service.Description, QueueGroup: service.Name,
		StatsHandler: s.stats,
	})
	if err != nil {
		return fmt.Errorf("serve %s over NATS: %w", service.Name, err)
	}
	for _, e := range service.Endpoints {
		if err := running.AddEndpoint(e.Name, micro.HandlerFunc(s.handler(e)), micro.WithEndpointSubject(e.Subject)); err != nil {
			_ = running.Stop() // the first error tells
			return fmt.Errorf("serve %s over NATS at %s: %w", service.Name, e.Subject, err)
		}
	}
	select {
	case <-ctx.Done():
	case <-c.closed:
		return fmt.Errorf("serve %s over NATS: %w", service.Name, ErrClosed)
	}
	if err := s.end(running); err != nil {
		return fmt.Errorf("end serving %s over NATS: %w", service.Name, err)
	}
	return nil
}

// end has NATS send requests to other replicas, and waits for the answers to
// those that are here.
func (s *serving) end(running micro.Service) error {
	drain, cancel := context.WithTimeout(s.ctx, serviceDrain)
	defer cancel()
	err := running.Stop()
	if err == nil {
		err = s.conn.nc.FlushWithContext(drain)
	}
	close(s.ends) // the few that wait for a place are told to ask again
	for range s.Parallel {
		select {
		case s.free <- struct{}{}:
		case <-drain.Done(): // whoever is still served has had their time
		}
	}
	if errors.Is(err, nats.ErrConnectionClosed) || drain.Err() != nil {
		return nil // nobody to be answered, or no NATS
	}
	return err
}

// stats are in the answer to `nats micro stats`, whose own times are only those
// of taking a request on.
func (s *serving) stats(*micro.Endpoint) any {
	n := s.answered.Load() + s.refused.Load()
	return map[string]int64{
		"answered": s.answered.Load(), "refused": s.refused.Load(), "average_microseconds": s.took.Load() / max(n, 1),
	}
}

// handler takes requests on, each when one of the places is free.
func (s *serving) handler(e Endpoint) func(micro.Request) {
	return func(r micro.Request) {
		select {
		case s.free <- struct{}{}:
		case <-s.ends:
			s.reply(r.Reply(), nil, &Refusal{Code: 503, Detail: "this replica is ending; ask again"})
			return
		}
		go func() {
			defer func() { <-s.free }()
			started := time.Now()
			body, err := s.answer(e, r.Data())
			s.took.Add(time.Since(started).Microseconds())
			s.reply(r.Reply(), body, err)
		}()
	}
}

func (s *serving) answer(e Endpoint, request []byte) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.Timeout)
	defer cancel()
	defer func() {
		if cause := recover(); cause != nil { // of one request: the others go on
			err = fmt.Errorf("panic: %v", cause)
			s.conn.log.Error("answering a request panicked", zap.Any("cause", cause), zap.Stack("stack"))
		}
	}()
	return e.Answer(ctx, request)
}

// reply sends an answer, or an error in the headers of package micro.
func (s *serving) reply(to string, body []byte, err error) {
	answer := &nats.Msg{Subject: to, Data: body}
	if err != nil {
		s.refused.Add(1)
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			s.conn.log.Error("request failed", zap.String("service", s.Name), zap.Error(err))
			refusal = &Refusal{Code: 500, Detail: "something went wrong here; the log of the server says what"}
		}
		answer.Data = refusal.Body
		answer.Header = nats.Header{
			micro.ErrorHeader: []string{refusal.Detail}, micro.ErrorCodeHeader: []string{strconv.Itoa(refusal.Code)},
		}
	} else {
		s.answered.Add(1)
	}
	if to == "" {
		return // nobody waits for it
	}
	if err := s.conn.nc.PublishMsg(answer); err != nil {
		s.conn.log.Warn("an answer could not be sent", zap.String("service", s.Name), zap.Error(err))
	}
}

// Request asks a service and waits for its answer until ctx ends. An error that
// the service gave is a *[Refusal]; where there is no service it is
// [ErrNobodyAnswers].
func (c *Conn) Request(ctx context.Context, subject string, request []byte) ([]byte, error) {
	answer, err := c.nc.RequestWithContext(ctx, subject, request)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("ask %s over NATS: %w", subject, ErrNobodyAnswers)
	case err != nil:
		return nil, fmt.Errorf("ask %s over NATS: %w", subject, err)
	}
	if detail := answer.Header.Get(micro.ErrorHeader); detail != "" {
		code, _ := strconv.Atoi(answer.Header.Get(micro.ErrorCodeHeader)) // 0 of a service that has other codes
		return nil, &Refusal{Code: code, Detail: detail, Body: answer.Data}
	}
	return answer.Data, nil
}
