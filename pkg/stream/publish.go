package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Outgoing is a message to publish. Headers whose value is empty are not sent.
type Outgoing struct {
	Subject         string
	MsgID           string // becomes Nats-Msg-Id; retries use the same one
	ContentType     string
	ContentEncoding string
	Data            []byte // must not change until the message is done
}

func (o Outgoing) message() *nats.Msg {
	header := make(nats.Header, 3)
	for _, h := range [...]struct{ name, value string }{
		{jetstream.MsgIDHeader, o.MsgID},
		{headerContentType, o.ContentType},
		{headerContentEncoding, o.ContentEncoding},
	} {
		if h.value != "" {
			header[h.name] = []string{h.value}
		}
	}
	return &nats.Msg{Subject: o.Subject, Header: header, Data: o.Data}
}

// PublishAsync hands a message to NATS and returns. It waits only while
// Config.MaxInFlight messages are under way, and then no longer than ctx; an
// error means that the message was not accepted and done is never called.
//
// Otherwise done is called exactly once, from another goroutine: with the
// message's place in the stream when the stream has stored it (duplicate says
// that it had it already), or with the error that ended the attempts. done must
// not block.
//
// Lost connections, time-outs, a missing leader and a full stream are tried
// again with the same MsgID, with growing pauses, until ctx ends,
// Config.RetryFor is over or the Conn is closed. After ctx ended an attempt
// under way is still waited for, at most Config.AckTimeout. Where done reports
// an error the message may or may not be stored. Retries may change the order
// of messages.
func (c *Conn) PublishAsync(ctx context.Context, out Outgoing, done func(seq uint64, duplicate bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish to %s: %w", out.Subject, err)
	}
	select {
	case c.pub.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("publish to %s: wait for room: %w", out.Subject, ctx.Err())
	case <-c.pub.stopped:
		return fmt.Errorf("publish to %s: %w", out.Subject, ErrClosed)
	}
	c.pub.send(&publication{ctx: ctx, out: out, done: done, since: time.Now()})
	return nil
}

// Publish stores one message and returns its place in the stream after the
// server acknowledged it; duplicate says that the stream had it already. It
// tries again like PublishAsync. After an error the message may be stored.
func (c *Conn) Publish(ctx context.Context, out Outgoing) (seq uint64, duplicate bool, err error) {
	type result struct {
		seq       uint64
		duplicate bool
		err       error
	}
	results := make(chan result, 1)
	err = c.PublishAsync(ctx, out, func(seq uint64, duplicate bool, err error) {
		results <- result{seq, duplicate, err}
	})
	if err != nil {
		return 0, false, err
	}
	select {
	case r := <-results:
		return r.seq, r.duplicate, r.err
	case <-ctx.Done():
		return 0, false, fmt.Errorf("publish to %s: %w", out.Subject, ctx.Err())
	}
}

const (
	publishWait    = 50 * time.Millisecond
	publishWaitMax = 3 * time.Second
)

// publication is one message on its way, over all its attempts.
type publication struct {
	ctx      context.Context // of the caller of PublishAsync: the life of the message, not of a call
	out      Outgoing
	done     func(uint64, bool, error)
	since    time.Time
	attempts int
}

// publisher matches acknowledgements to publications.
//
// nats.go reports the end of an attempt by callback, with the *nats.Msg it was
// given; every attempt has its own, so it is the key. Some callbacks come while
// nats.go holds its lock, and some attempts end without any (a closed
// connection): therefore whoever takes the entry out of the map owns what
// follows, and errors are never handled on the callback's goroutine.
type publisher struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	retryFor time.Duration
	slots    chan struct{} // one per publication under way
	stopped  chan struct{} // closed by stop: no retries, nothing new

	mu        sync.Mutex
	underway  map[*nats.Msg]*publication
	abandoned bool
}

func newPublisher(nc *nats.Conn, cfg Config) *publisher {
	return &publisher{
		nc:       nc,
		retryFor: cfg.RetryFor,
		slots:    make(chan struct{}, cfg.MaxInFlight),
		stopped:  make(chan struct{}),
		underway: make(map[*nats.Msg]*publication),
	}
}

// send makes one attempt.
func (p *publisher) send(pb *publication) {
	if !p.nc.IsConnected() {
		// nats.go would buffer the message, once per attempt, and send all copies later.
		go p.retry(pb, nats.ErrDisconnected)
		return
	}
	pb.attempts++
	msg := pb.out.message()
	p.mu.Lock()
	if p.abandoned {
		p.mu.Unlock()
		go p.finish(pb, 0, false, ErrClosed)
		return
	}
	p.underway[msg] = pb
	p.mu.Unlock()
	if _, err := p.js.PublishMsgAsync(msg); err != nil && p.take(msg) != nil {
		go p.retry(pb, err)
	}
}

// take removes an attempt; nil means that somebody else has ended it.
func (p *publisher) take(msg *nats.Msg) *publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	pb := p.underway[msg]
	delete(p.underway, msg)
	return pb
}

// acknowledged is nats.go's callback for a stored message.
func (p *publisher) acknowledged(_ jetstream.JetStream, msg *nats.Msg, ack *jetstream.PubAck) {
	if pb := p.take(msg); pb != nil {
		p.finish(pb, ack.Sequence, ack.Duplicate, nil)
	}
}

// failed is nats.go's callback for an attempt without success. It may be
// called while nats.go holds the lock that publishing needs.
func (p *publisher) failed(_ jetstream.JetStream, msg *nats.Msg, err error) {
	if pb := p.take(msg); pb != nil {
		go p.retry(pb, err)
	}
}

// retry decides what follows a failed attempt, and waits before the next. It
// runs on a goroutine of its own.
func (p *publisher) retry(pb *publication, err error) {
	if !transient(err) {
		p.finish(pb, 0, false, err)
		return
	}
	if p.retryFor > 0 && time.Since(pb.since) > p.retryFor {
		p.finish(pb, 0, false, fmt.Errorf("gave up after %s: %w", p.retryFor, err))
		return
	}
	pause := time.NewTimer(backoff(pb.attempts, publishWait, publishWaitMax))
	defer pause.Stop()
	select {
	case <-pause.C:
		p.send(pb)
	case <-pb.ctx.Done():
		p.finish(pb, 0, false, fmt.Errorf("%w (last attempt: %w)", pb.ctx.Err(), err))
	case <-p.stopped:
		p.finish(pb, 0, false, fmt.Errorf("%w (last attempt: %w)", ErrClosed, err))
	}
}

func (p *publisher) finish(pb *publication, seq uint64, duplicate bool, err error) {
	<-p.slots
	if err != nil {
		err = fmt.Errorf("publish to %s: %w", pb.out.Subject, err)
	}
	pb.done(seq, duplicate, err)
}

// stop ends retries and refuses new messages; attempts under way go on.
func (p *publisher) stop() { close(p.stopped) }

// abandon fails what is still under way; called after the connection closed,
// when nats.go will report nothing any more.
func (p *publisher) abandon() {
	p.mu.Lock()
	p.abandoned = true
	left := p.underway
	p.underway = make(map[*nats.Msg]*publication)
	p.mu.Unlock()
	for _, pb := range left {
		p.finish(pb, 0, false, ErrClosed)
	}
}

// transient reports whether the same message may succeed later. What the
// server answers with a code from 500 on is its own trouble, a full stream and
// a missing leader among them; below that the message is at fault.
func transient(err error) bool {
	var answer *jetstream.APIError
	if errors.As(err, &answer) {
		return answer.Code >= 500
	}
	for _, permanent := range []error{
		nats.ErrMaxPayload, nats.ErrBadSubject, nats.ErrConnectionClosed, nats.ErrConnectionDraining,
		nats.ErrHeadersNotSupported, nats.ErrBadHeaderMsg, jetstream.ErrInvalidJSAck,
	} {
		if errors.Is(err, permanent) {
			return false
		}
	}
	return true
}

// backoff doubles base with every attempt up to limit, and takes a random half
// to all of it, so that publishers do not come back in step.
func backoff(attempts int, base, limit time.Duration) time.Duration {
	d := limit
	if attempts < 16 {
		d = min(limit, base<<max(attempts-1, 0))
	}
	return d/2 + rand.N(d/2+1)
}
