package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	historyWait = 5 * time.Second  // for messages that the server has counted
	historyIdle = 30 * time.Second // after which the server forgets a reader that was killed
)

// History reads EVENTS from wherever one likes, as often as one likes, beside
// the consumer fold, of which it takes nothing away. What it returns is not to
// be acknowledged. It belongs to one goroutine.
type History struct {
	conn        *Conn
	stream      jetstream.Stream
	incarnation string
	names       names
}

// History opens EVENTS. It creates no stream: what is missing is
// ErrNotProvisioned.
func (c *Conn) History(ctx context.Context) (*History, error) {
	s, err := c.js.Stream(ctx, EventsStream)
	if err != nil {
		return nil, openError("stream "+EventsStream, err)
	}
	incarnation := s.CachedInfo().Config.Metadata[incarnationKey]
	if incarnation == "" {
		return nil, fmt.Errorf("open stream %s: it has no %s in its metadata: %w", EventsStream, incarnationKey, ErrNotProvisioned)
	}
	return &History{conn: c, stream: s, incarnation: incarnation}, nil
}

// Incarnation identifies this stream, as [Consumer.Incarnation] does.
func (h *History) Incarnation() string { return h.incarnation }

// Extent is what a stream holds.
type Extent struct {
	First, Last uint64    // sequences; First says nothing where there is no message
	Messages    uint64    // those that limits removed are not counted
	Since       time.Time // when the first of them was stored; zero where there is none
}

// Extent asks what the stream holds now. ErrGone means that it is not the one
// that was opened.
func (h *History) Extent(ctx context.Context) (Extent, error) {
	info, err := h.stream.Info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Extent{}, fmt.Errorf("read stream %s: %w: %w", EventsStream, err, ErrGone)
	}
	if err != nil {
		return Extent{}, fmt.Errorf("read stream %s: %w", EventsStream, err)
	}
	if found := info.Config.Metadata[incarnationKey]; found != h.incarnation {
		return Extent{}, fmt.Errorf("read stream %s: opened incarnation %s, found %q: %w", EventsStream, h.incarnation, found, ErrGone)
	}
	e := Extent{First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs}
	if e.Messages > 0 {
		e.Since = info.State.FirstTime.UTC()
	}
	return e, nil
}

// Read returns the messages of the given types from a sequence on, in order: as
// many as the limits allow (Wait is not used), and at least one if there is any. None means
// that the stream held none when it was asked, by the word of its leader; ErrLagging
// that somebody else answered. It asks from anew each time, so
// nothing that happens to a connection in between can make a gap.
func (h *History) Read(ctx context.Context, from uint64, limits Limits, types []string) ([]Message, error) {
	messages, err := h.read(ctx, max(from, 1), limits.withDefaults(), types)
	if err != nil {
		return nil, fmt.Errorf("read stream %s from message %d: %w", EventsStream, from, err)
	}
	// What was read came from the stream that was opened if it is still there.
	_, err = h.Extent(ctx)
	return messages, err
}

func (h *History) read(ctx context.Context, from uint64, limits Limits, types []string) ([]Message, error) {
	var subjects []string
	for _, name := range types {
		subjects = append(subjects, EventSubject(name, "*"))
	}
	var messages []Message
	err := h.scan(ctx, scan{from: from, subjects: subjects, messages: limits.Messages, bytes: limits.Bytes}, func(raw *nats.Msg, d delivery) {
		messages = append(messages, d.message(raw))
		h.names.identify(&messages[len(messages)-1])
	})
	return messages, err
}

// Stored is what the stream says about a message that it holds.
type Stored struct {
	Sequence uint64
	Stored   time.Time // by the clock of the server that stored it, UTC
	Subject  string
	MsgID    string // the header Nats-Msg-Id, or "": what the publisher wrote
}

// Identities returns the messages from a sequence on, in order and without
// their bodies: at most limit, and at least one if there is any. None and
// ErrLagging are as for Read. It is made for thousands at a time.
func (h *History) Identities(ctx context.Context, from uint64, limit int) ([]Stored, error) {
	var identities []Stored
	err := h.scan(ctx, scan{from: max(from, 1), messages: limit, bytes: defaultPullBytes, headersOnly: true}, func(raw *nats.Msg, d delivery) {
		identities = append(identities, Stored{Sequence: d.sequence, Stored: d.stored, Subject: raw.Subject, MsgID: raw.Header.Get(headerMsgID)})
	})
	if err != nil {
		return nil, fmt.Errorf("read identities of stream %s from message %d: %w", EventsStream, from, err)
	}
	_, err = h.Extent(ctx)
	return identities, err
}

// Get returns the message at a sequence, or ErrNoMessage.
func (h *History) Get(ctx context.Context, sequence uint64) (Message, error) {
	m, err := h.conn.storedMessage(ctx, messageRequest{Sequence: sequence})
	if err != nil {
		return Message{}, fmt.Errorf("read message %d of stream %s: %w", sequence, EventsStream, err)
	}
	return m, nil
}

// scan says which messages are to be read.
type scan struct {
	from        uint64
	subjects    []string // none: all
	messages    int      // at most
	bytes       int      // at most, save a single larger message
	headersOnly bool
}

const (
	lagTries = 20
	lagPause = 100 * time.Millisecond
)

// scan calls each for the messages that the stream holds, in order, without
// gaps, and at least once if there is any. A replica that lags is asked again for
// a while; so is the stream where a message came just then.
func (h *History) scan(ctx context.Context, s scan, each func(*nats.Msg, delivery)) error {
	for try := 1; ; try++ {
		err := h.scanOnce(ctx, s, each)
		if !errors.Is(err, ErrLagging) || try == lagTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lagPause):
		}
	}
}

func (h *History) scanOnce(ctx context.Context, s scan, each func(*nats.Msg, delivery)) error {
	consumer, err := h.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description:       "Weir: reads what the stream holds, beside the workers",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       s.from,
		FilterSubjects:    s.subjects,
		HeadersOnly:       s.headersOnly,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: historyIdle,
	})
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	defer func() {
		// The server forgets it anyway.
		_ = h.stream.DeleteConsumer(context.WithoutCancel(ctx), info.Name)
	}()
	n := int(min(info.NumPending, uint64(s.messages))) //nolint:gosec // at most s.messages, which is not below 0
	if n == 0 {
		return h.confirmNone(ctx, s)
	}
	read, err := h.pull(ctx, info.Name, pullRequest{Batch: n, MaxBytes: s.bytes, NoWait: true}, each)
	if read == 0 && err == nil { // the first message is larger than the limit
		read, err = h.pull(ctx, info.Name, pullRequest{Batch: 1, NoWait: true}, each)
	}
	if read > 0 || err != nil {
		return err
	}
	return errors.New("the server announced messages and sent none")
}

// ErrLagging means that a replica of the stream was asked that does not have all
// messages yet: try again.
var ErrLagging = errors.New("a replica that answered lags behind the stream")

// confirmNone returns nil if the stream's leader, too, has none of these
// messages. A consumer lives on any of the replicas, and one that was away knows of no
// messages that came meanwhile.
func (h *History) confirmNone(ctx context.Context, s scan) error {
	subjects := s.subjects
	if len(subjects) == 0 {
		subjects = []string{allEvents}
	}
	for _, subject := range subjects {
		_, err := h.conn.storedMessage(ctx, messageRequest{Sequence: s.from, Next: subject})
		switch {
		case err == nil:
			return ErrLagging
		case !errors.Is(err, ErrNoMessage):
			return err
		}
	}
	return nil
}

// pull asks the consumer for messages once, and takes what comes until the
// server says that it is all. What is lost on the way ends it too.
func (h *History) pull(ctx context.Context, consumer string, request pullRequest, each func(*nats.Msg, delivery)) (read int, err error) {
	arrived := make(chan *nats.Msg, request.Batch+1) // and one notice
	inbox := h.conn.nc.NewInbox()
	sub, err := h.conn.nc.ChanSubscribe(inbox, arrived)
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // an error: the connection is closed
	if err := h.conn.requestMessages(consumer, inbox, request); err != nil {
		return 0, err
	}
	silence := time.NewTimer(historyWait)
	defer silence.Stop()
	for read < request.Batch {
		select {
		case raw := <-arrived:
			d, ok := parseDelivery(raw.Reply)
			if !ok {
				return read, h.heed(noticeOf(raw))
			}
			if d.number != uint64(read+1) { //nolint:gosec // not below 0
				return read, nil // lost on the way: the rest is asked for anew
			}
			each(raw, d)
			read++
		case <-silence.C:
			if read > 0 {
				return read, nil
			}
			return 0, fmt.Errorf("the server announced messages and sent none within %s", historyWait)
		case <-ctx.Done():
			return read, ctx.Err()
		}
	}
	return read, nil
}

// heed is an error unless the notice only says that no more messages come.
func (h *History) heed(n notice) error {
	switch n.meaning() {
	case completed, ended, tooLarge:
		return nil
	default:
		return fmt.Errorf("NATS answers %q", n)
	}
}
