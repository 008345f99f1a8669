package stream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	publishWait    = 50 * time.Millisecond
	publishWaitMax = 3 * time.Second
	expiryParts    = 10 // of AckTimeout: attempts that end so close to each other may end together
)

// publication is one message on its way, over all its attempts.
type publication struct {
	ctx      context.Context // of the caller of PublishAsync: the life of the message, not of a call
	out      Outgoing
	done     func(uint64, bool, error)
	since    time.Time
	attempts int
	due      time.Time // when the attempt under way is given up; guarded by publisher.mu

	reading sync.Mutex // held while nats.go reads out: an attempt can end before that does
}

// publisher matches acknowledgements to publications.
//
// It publishes to JetStream over core NATS. The client library can do that, too,
// but has a timer, a random name, a parse of JSON and half a dozen objects for every
// message. Here an attempt is a number: the stream answers to
// the inbox and that number, and one timer ends whatever is too late.
//
// Attempts end in several ways that know nothing of each other: an answer, a
// lost connection, the timer, Close. Whoever takes the attempt out of the map owns
// what follows.
type publisher struct {
	nc         *nats.Conn
	inbox      string // where answers arrive, up to the attempt's number
	retryFor   time.Duration
	ackTimeout time.Duration
	slots      chan struct{} // one per publication under way
	stopped    chan struct{} // closed by stop: no retries, nothing new
	frames     sync.Pool     // of *frame

	mu        sync.Mutex
	attempt   uint64 // number of the last one
	underway  map[uint64]*publication
	expiry    *time.Timer // of the attempts under way
	expiring  bool        // it runs: it does as long as there are any
	abandoned bool
}

func newPublisher(nc *nats.Conn, cfg Config) (*publisher, error) {
	p := &publisher{
		nc:         nc,
		inbox:      nc.NewInbox() + ".",
		retryFor:   cfg.RetryFor,
		ackTimeout: cfg.AckTimeout,
		slots:      make(chan struct{}, cfg.MaxInFlight),
		stopped:    make(chan struct{}),
		frames:     sync.Pool{New: func() any { return newFrame() }},
		underway:   make(map[uint64]*publication),
	}
	p.expiry = time.AfterFunc(cfg.AckTimeout, p.expire)
	p.expiry.Stop()
	if _, err := nc.Subscribe(p.inbox+"*", p.answered); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	go p.watch(nc.StatusChanged(nats.RECONNECTING, nats.CLOSED))
	return p, nil
}

// acquire takes a slot, waiting no longer than ctx.
func (p *publisher) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for room: %w", ctx.Err())
	case <-p.stopped:
		return ErrClosed
	}
}

// send makes one attempt.
func (p *publisher) send(pb *publication, now time.Time) {
	if !p.nc.IsConnected() {
		// nats.go would buffer the message, once per attempt, and send all copies later.
		go p.retry(pb, nats.ErrDisconnected)
		return
	}
	pb.attempts++
	number, ok := p.begin(pb, now)
	if !ok {
		go p.finish(pb, 0, false, ErrClosed)
		return
	}
	f, _ := p.frames.Get().(*frame)
	pb.reading.Lock()
	err := p.nc.PublishMsg(f.fill(pb.out, p.inbox+strconv.FormatUint(number, 36)))
	pb.reading.Unlock()
	f.empty()
	p.frames.Put(f)
	if err != nil && p.take(number) != nil {
		go p.retry(pb, err)
	}
}

// begin numbers an attempt, and sees to it that it ends; not after abandon.
func (p *publisher) begin(pb *publication, now time.Time) (number uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.abandoned {
		return 0, false
	}
	p.attempt++
	pb.due = now.Add(p.ackTimeout)
	p.underway[p.attempt] = pb
	if !p.expiring {
		p.expiring = true
		p.expiry.Reset(p.ackTimeout)
	}
	return p.attempt, true
}

// take removes an attempt; nil means that somebody else has ended it.
func (p *publisher) take(number uint64) *publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	pb := p.underway[number]
	delete(p.underway, number)
	return pb
}

// answered takes what the stream answers to an attempt, on a goroutine of nats.go.
func (p *publisher) answered(raw *nats.Msg) {
	number, err := strconv.ParseUint(strings.TrimPrefix(raw.Subject, p.inbox), 36, 64)
	if err != nil {
		return // nobody was asked for this
	}
	pb := p.take(number)
	if pb == nil {
		return // too late
	}
	sequence, duplicate, err := stored(raw)
	if err != nil {
		go p.retry(pb, err)
		return
	}
	p.finish(pb, sequence, duplicate, nil)
}

// expire ends the attempts that have waited for AckTimeout.
func (p *publisher) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var next time.Time
	for number, pb := range p.underway {
		if !pb.due.After(now) {
			delete(p.underway, number)
			go p.retry(pb, jetstream.ErrAsyncPublishTimeout)
		} else if next.IsZero() || pb.due.Before(next) {
			next = pb.due
		}
	}
	if p.expiring = !next.IsZero(); p.expiring {
		p.expiry.Reset(max(next.Sub(now), p.ackTimeout/expiryParts))
	}
}

// watch ends all attempts whenever the connection is lost, until it is closed:
// no answer to them would come.
func (p *publisher) watch(status <-chan nats.Status) {
	for s := range status {
		if s == nats.CLOSED {
			return
		}
		for _, pb := range p.takeAll(false) {
			go p.retry(pb, nats.ErrDisconnected)
		}
	}
}

// takeAll removes all attempts; if they are the last ones, there will be no others.
func (p *publisher) takeAll(last bool) map[uint64]*publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.underway
	p.underway = make(map[uint64]*publication)
	p.abandoned = p.abandoned || last
	return all
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
		p.send(pb, time.Now())
	case <-pb.ctx.Done():
		p.finish(pb, 0, false, fmt.Errorf("%w (last attempt: %w)", pb.ctx.Err(), err))
	case <-p.stopped:
		p.finish(pb, 0, false, fmt.Errorf("%w (last attempt: %w)", ErrClosed, err))
	}
}

func (p *publisher) finish(pb *publication, seq uint64, duplicate bool, err error) {
	pb.reading.Lock() // with done, Data is the caller's again
	defer pb.reading.Unlock()
	<-p.slots
	if err != nil {
		err = fmt.Errorf("publish to %s: %w", pb.out.Subject, err)
	}
	pb.done(seq, duplicate, err)
}

// stop ends retries and refuses new messages; attempts under way go on.
func (p *publisher) stop() { close(p.stopped) }

// abandon fails what is still under way; called after the connection closed,
// when nothing will be answered any more.
func (p *publisher) abandon() {
	for _, pb := range p.takeAll(true) {
		p.finish(pb, 0, false, ErrClosed)
	}
}

// frame is a message as nats.go takes it, and copies it: so one serves many messages.
type frame struct {
	msg    nats.Msg
	values [3][1]string // of the headers
}

func newFrame() *frame { return &frame{msg: nats.Msg{Header: make(nats.Header, 3)}} }

// fill returns the message, until empty.
func (f *frame) fill(out Outgoing, reply string) *nats.Msg {
	f.msg.Subject, f.msg.Reply, f.msg.Data = out.Subject, reply, out.Data
	for i, h := range [...]struct{ name, value string }{
		{headerMsgID, out.MsgID},
		{headerContentType, out.ContentType},
		{headerContentEncoding, out.ContentEncoding},
	} {
		if f.values[i][0] = h.value; h.value != "" {
			f.msg.Header[h.name] = f.values[i][:]
		} else {
			delete(f.msg.Header, h.name)
		}
	}
	return &f.msg
}

// empty lets go of what fill was given.
func (f *frame) empty() {
	f.msg.Data = nil
	f.values = [3][1]string{}
}
