package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

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
// that the stream held none when it was asked. It asks from anew each time, so
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
	config := jetstream.ConsumerConfig{
		Description:       "Weir: reads what the stream holds, beside the workers",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: historyIdle,
	}
	for _, name := range types {
		config.FilterSubjects = append(config.FilterSubjects, EventSubject(name, "*"))
	}
	consumer, err := h.stream.CreateConsumer(ctx, config)
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	defer func() {
		// The server forgets it anyway.
		_ = h.stream.DeleteConsumer(context.WithoutCancel(ctx), info.Name)
	}()
	n := min(info.NumPending, uint64(limits.Messages)) //nolint:gosec // above 0
	if n == 0 {
		return nil, nil
	}
	// A pull with less room than the next message needs would stall.
	room := max(limits.Bytes, h.conn.MaxPayload()+pullOverhead)
	batch, err := consumer.Fetch(int(n), jetstream.FetchMaxBytes(room), jetstream.FetchMaxWait(historyWait)) //nolint:gosec // at most limits.Messages
	if err != nil {
		return nil, err
	}
	var messages []Message
	for raw := range batch.Messages() {
		m, err := newMessage(raw)
		if err != nil {
			return nil, err
		}
		meta, err := raw.Metadata()
		if err != nil {
			return nil, err
		}
		if meta.Sequence.Consumer != uint64(len(messages)+1) {
			break // lost on the way: the rest is asked for anew
		}
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		return nil, errors.Join(errors.New("the server announced messages and sent none"), batch.Error(), ctx.Err())
	}
	return messages, ctx.Err()
}
