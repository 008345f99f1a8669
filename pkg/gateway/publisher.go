package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"weir/pkg/stream"
)

// ErrClosed is returned for events that come after Close.
var ErrClosed = errors.New("publisher is closed")

// Publisher turns events into messages and publishes them. Its methods may be
// used from several goroutines; the order of events of one type is kept within
// a message, not between messages.
//
// Every message gets a number, from 1, over all types of the epoch; source,
// epoch and number are its identity. With PublishMessage the events have the
// numbers instead. One Publisher does one or the other, never both, because
// both count in the same epoch.
//
// After the first Publish it also sends heartbeats ([event.Heartbeat]), and a
// last one at Close. With PublishMessage it sends none: another run may go on in
// the same epoch, so that neither "next" nor "closed" would be true of it, and
// the heartbeats of both would have the same identities.
type Publisher struct {
	conn  *stream.Conn
	cfg   PublisherConfig
	codec codec
	life  context.Context // of the messages: ends when Close gives up
	end   context.CancelFunc
	slots chan struct{} // one per message, from its first event to its acknowledgement
	heart *heart        // numbers what Publish makes
	free  sync.Pool     // of *[]byte: bodies of messages that are settled

	mu      sync.Mutex          // let go with unlock where a message may have been cut
	open    map[string]*message // per type, not yet cut
	cuts    []*message          // cut, to be sent by unlock
	numbers numbering
	closed  bool
	idle    chan struct{} // closed when nothing is open or under way; nil while nobody waits
	active  int           // messages open or under way
	size    int           // of the last body: the next one is likely to be as large
	stats   Stats
	failure error // the first since the last Flush
}

// numbering is what the numbers of an epoch count.
type numbering int

const (
	undecided     numbering = iota
	countMessages           // Publish
	countEvents             // PublishMessage
)

// NewPublisher makes a Publisher on a connection, which stays the caller's to
// close, after the Publisher.
func NewPublisher(conn *stream.Conn, cfg PublisherConfig) (*Publisher, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("new publisher: %w", err)
	}
	renews := cfg.Epoch == ""
	if renews {
		cfg.Epoch = newEpoch()
	}
	codec, err := newCodec(cfg.Compression)
	if err != nil {
		return nil, fmt.Errorf("new publisher: %w", err)
	}
	life, end := context.WithCancel(context.Background()) //nolint:forbidigo // messages outlive the calls that accept them: Close ends this
	cfg.BatchBytes = min(cfg.BatchBytes, conn.MaxPayload()-headerRoom)
	return &Publisher{
		conn: conn, cfg: cfg, codec: codec, life: life, end: end,
		slots: make(chan struct{}, cfg.MaxInFlight),
		heart: newHeart(conn, cfg.Source, cfg.Epoch, cfg.HeartbeatEvery, renews),
		open:  make(map[string]*message),
	}, nil
}

// Epoch is the epoch of the next message. Where none was given it is another
// one after messages were given up.
func (p *Publisher) Epoch() string { return p.heart.name() }

// Publish accepts one event, a JSON object, as part of the next message of its
// type. It waits only while MaxInFlight messages are open or under way, and
// then no longer than ctx; after an error the event is not accepted. The event
// is copied.
func (p *Publisher) Publish(ctx context.Context, eventType string, event []byte) error {
	event, err := p.check(eventType, event)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	if err := p.decide(countMessages); err != nil {
		return fmt.Errorf("publish event: %w", err)
	}
	m, err := p.roomFor(ctx, eventType, len(event))
	if err != nil {
		return fmt.Errorf("publish event: %w", err)
	}
	m.append(event)
	p.stats.Accepted++
	switch {
	case m.events >= p.cfg.BatchEvents || len(m.body) >= p.cfg.BatchBytes:
		p.cut(m)
	case m.timer == nil && p.cfg.Linger > 0:
		m.timer = time.AfterFunc(p.cfg.Linger, func() { p.lingered(m) })
	}
	return nil
}

// PublishJSON is Publish of v as encoding/json writes it.
func (p *Publisher) PublishJSON(ctx context.Context, eventType string, v any) error {
	event, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("publish event: %w", err)
	}
	return p.Publish(ctx, eventType, event)
}

// PublishMessage publishes exactly these events, numbers first, first+1, … of
// the epoch, as one message. An event's identity is then its number, however
// the events are cut into messages: whoever publishes the same events again
// under the same epoch changes nothing. At most 65,536 events.
func (p *Publisher) PublishMessage(ctx context.Context, eventType string, events [][]byte, first uint64) error {
	if len(events) == 0 || len(events) > stream.MaxRange {
		return fmt.Errorf("publish message: %d events, should be 1 to %d", len(events), stream.MaxRange)
	}
	last := first + uint64(len(events)) - 1
	if first == 0 || first > stream.MaxNumber || last > stream.MaxNumber {
		return fmt.Errorf("publish message: event numbers %d to %d are not within 1 to %d", first, last, uint64(stream.MaxNumber))
	}
	size := len(events)
	for _, event := range events {
		size += len(event)
	}
	m := &message{eventType: eventType, epoch: p.cfg.Epoch, first: first, last: last, body: make([]byte, 0, size)}
	for i, event := range events {
		event, err := p.check(eventType, event)
		if err != nil {
			return fmt.Errorf("event number %d: %w", first+uint64(i), err)
		}
		m.append(event)
	}
	if limit := p.conn.MaxPayload() - headerRoom; p.codec.name == "" && len(m.body) > limit {
		return fmt.Errorf("publish message: %d bytes in %d events, at most %d fit into a message", len(m.body), m.events, limit)
	}
	p.mu.Lock()
	defer p.unlock()
	if err := p.decide(countEvents); err != nil {
		return fmt.Errorf("publish message: %w", err)
	}
	if err := p.acquire(ctx); err != nil {
		return fmt.Errorf("publish message: %w", err)
	}
	p.stats.Accepted += uint64(m.events)
	p.cuts = append(p.cuts, m)
	return nil
}

// decide settles with the first event what this epoch's numbers count.
func (p *Publisher) decide(numbers numbering) error {
	if p.numbers == undecided {
		p.numbers = numbers
	}
	if p.numbers != numbers {
		return errors.New("a publisher takes either Publish or PublishMessage, not both: they number the same epoch")
	}
	return nil
}

// roomFor returns the open message of the type, with room for size bytes more.
// It is called with p.mu held, and gives it up while it waits.
func (p *Publisher) roomFor(ctx context.Context, eventType string, size int) (*message, error) {
	for {
		if p.closed {
			return nil, ErrClosed
		}
		if m := p.open[eventType]; m != nil {
			if len(m.body)+size+1 <= p.cfg.BatchBytes {
				return m, nil
			}
			p.cut(m)
		}
		if len(p.open) == cap(p.slots) {
			p.cutAll() // they hold every slot, and nothing else would set one free
		}
		if err := p.acquire(ctx); err != nil {
			return nil, err
		}
		if p.open[eventType] != nil {
			p.release() // somebody else opened it meanwhile
			continue
		}
		m := &message{eventType: eventType, body: p.newBody(max(p.size, size+1))}
		p.open[eventType] = m
		return m, nil
	}
}

// newBody returns an empty body, most often with room for size bytes.
func (p *Publisher) newBody(size int) []byte {
	if body, ok := p.free.Get().(*[]byte); ok {
		return (*body)[:0]
	}
	return make([]byte, 0, size)
}

// acquire takes a slot for one message. It is called with p.mu held, and gives
// it up while it waits.
func (p *Publisher) acquire(ctx context.Context) error {
	if p.closed {
		return ErrClosed
	}
	select {
	case p.slots <- struct{}{}:
		p.active++
		return nil
	default:
	}
	p.unlock()
	var err error
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		err = fmt.Errorf("wait for room: %w", ctx.Err())
	case <-p.life.Done():
		err = ErrClosed
	}
	p.mu.Lock()
	if err != nil {
		return err
	}
	p.active++
	if p.closed {
		p.release()
		return ErrClosed
	}
	return nil
}

// release gives a slot back. It is called with p.mu held.
func (p *Publisher) release() {
	<-p.slots
	p.active--
	if p.active == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// lingered cuts a message whose first event has waited long enough.
func (p *Publisher) lingered(m *message) {
	p.mu.Lock()
	defer p.unlock()
	if p.open[m.eventType] == m {
		p.cut(m)
	}
}

// cut closes an open message and numbers it; unlock sends it. It is called with
// p.mu held.
func (p *Publisher) cut(m *message) {
	delete(p.open, m.eventType)
	if m.timer != nil {
		m.timer.Stop()
	}
	m.epoch, m.first = p.heart.take()
	m.last = m.first
	p.size = len(m.body)
	p.cuts = append(p.cuts, m)
}

func (p *Publisher) cutAll() {
	for _, m := range p.open {
		p.cut(m)
	}
}

// unlock lets p.mu go and sends what was cut while it was held. Sending can
// wait for acknowledgements, which need p.mu to be counted.
func (p *Publisher) unlock() {
	cuts := p.cuts
	p.cuts = nil
	p.stats.Messages += uint64(len(cuts))
	p.mu.Unlock()
	for _, m := range cuts {
		p.send(m)
	}
}

// send hands a message that holds a slot to the connection. Where several
// publishers fill the connection's own room ([stream.Config] MaxInFlight), it
// waits there.
func (p *Publisher) send(m *message) {
	id := stream.Identity{Source: p.cfg.Source, Epoch: m.epoch, First: m.first, Last: m.last}
	err := p.conn.PublishAsync(p.life, stream.Outgoing{
		Subject:         stream.EventSubject(m.eventType, p.cfg.Source),
		MsgID:           id.String(),
		ContentType:     contentType,
		ContentEncoding: p.codec.name,
		Data:            p.codec.encode(m.body),
	}, func(_ uint64, duplicate bool, err error) { p.settle(m, duplicate, err) })
	if err != nil {
		p.settle(m, false, err)
	}
}

// settle ends a message: acknowledged, or failed.
func (p *Publisher) settle(m *message, duplicate bool, err error) {
	if err == nil && p.cfg.OnAck != nil {
		p.cfg.OnAck(m.eventType, m.events)
	}
	if cap(m.body) <= 2*p.cfg.BatchBytes {
		p.free.Put(&m.body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.numbers == countMessages {
		p.heart.settle(m.epoch, m.first, uint64(m.events), err)
	}
	p.stats.settle(m, duplicate, err)
	if err != nil && p.failure == nil {
		p.failure = err
	}
	p.release()
}

// Flush cuts the open messages and waits until everything that was accepted is
// acknowledged or has failed, or ctx ends; what others publish meanwhile is
// waited for too. It reports the first failure since the last Flush; events of
// a failed message may or may not be in the stream.
func (p *Publisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	p.cutAll()
	idle := p.becomesIdle()
	p.unlock()
	select {
	case <-idle:
	case <-ctx.Done():
		s := p.Stats()
		return fmt.Errorf("flush: %d of %d events not acknowledged: %w", s.Accepted-s.Acknowledged, s.Accepted, ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failure
	p.failure = nil
	if err != nil {
		return fmt.Errorf("flush: %d events failed so far; first since the last flush: %w", p.stats.Failed, err)
	}
	return nil
}

// becomesIdle is closed when nothing is open or under way. It is called with
// p.mu held.
func (p *Publisher) becomesIdle() <-chan struct{} {
	if p.active == 0 {
		now := make(chan struct{})
		close(now)
		return now
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	return p.idle
}

// Close refuses further events, flushes, and gives up what is not acknowledged
// when ctx ends; the error tells. The last heartbeat takes 2 s at most, and is no
// matter of the error. The connection stays open.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.Flush(ctx)
	p.end()
	p.heart.close(ctx)
	return err
}

// Stats is what the Publisher has done so far.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
