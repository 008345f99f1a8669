package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// State is how far the workers are, read at one moment.
type State struct {
	Incarnation string // of EVENTS, as Consumer.Incarnation

	FirstSequence uint64 // of the oldest message in EVENTS; one above LastSequence where there is none
	LastSequence  uint64 // of the newest message that EVENTS ever had
	Messages      uint64 // held by EVENTS
	Bytes         uint64 // held by EVENTS
	Pending       uint64 // never delivered yet
	AckPending    int    // delivered, not acknowledged
	Redelivered   int    // of AckPending: delivered more than once

	// AckFloor: every message up to this sequence is acknowledged, or is gone
	// from the stream by its limits. It falls back, as the consumer's state may.
	AckFloor  uint64
	Delivered uint64 // the highest sequence that was ever delivered

	// Behind is how many sequences EVENTS is ahead of the consumer's
	// acknowledgements: 0 proves that all that was stored before State was asked
	// is acknowledged. Pending and AckPending can both be 0 a moment too early,
	// because the server counts a new message for the consumer only after it has
	// told the publisher.
	Behind uint64

	// CompleteThrough: every message stored at or before this time is
	// acknowledged, which workers do after their commit, or is gone from the
	// stream by its limits. It is by the server's clock, and never ahead of fact:
	// a message that arrives while State asks makes it earlier, not wrong. It can
	// fall back when NATS loses acknowledgements in a crash; it is then true still.
	//
	// It rests on the server's clock not being set back. On a replicated stream a
	// message gets its time before it can be seen, on another server's clock
	// perhaps: an idle stream is then taken as complete only up to 10 s ago, which
	// must cover replication and the difference between the clocks.
	CompleteThrough time.Time
}

const replicationMargin = 10 * time.Second

// State asks the server two or three things; do not call it per batch.
func (c *Conn) State(ctx context.Context) (State, error) {
	consumer, err := c.js.Consumer(ctx, EventsStream, FoldConsumer)
	if err != nil {
		return State{}, openError("consumer "+FoldConsumer, err)
	}
	// Asked after the consumer, so that it holds whatever was stored by then.
	s, err := c.js.Stream(ctx, EventsStream)
	if err != nil {
		return State{}, openError("stream "+EventsStream, err)
	}
	acked, stored := consumer.CachedInfo(), s.CachedInfo()
	through, err := c.completeThrough(ctx, acked, stored)
	if err != nil {
		return State{}, err
	}
	return State{
		Incarnation:     stored.Config.Metadata[incarnationKey],
		FirstSequence:   stored.State.FirstSeq,
		AckFloor:        floorOf(acked),
		Delivered:       acked.Delivered.Stream,
		LastSequence:    stored.State.LastSeq,
		Messages:        stored.State.Msgs,
		Bytes:           stored.State.Bytes,
		Pending:         acked.NumPending,
		AckPending:      acked.NumAckPending,
		Redelivered:     acked.NumRedelivered,
		Behind:          behind(acked, stored),
		CompleteThrough: through,
	}, nil
}

// completeThrough derives the time from what the consumer said first and the
// stream said after it.
//
// The consumer's answer carries the server's time T and the sequence F up to
// which everything is acknowledged. A message is given its time and its
// sequence under one lock, which the stream's later answer takes too: every
// message stored at or before T is among its sequences up to L. So when F
// reaches L, all of them are acknowledged. Otherwise the first message after F
// is the first that may not be, and everything before its time is.
func (c *Conn) completeThrough(ctx context.Context, acked *jetstream.ConsumerInfo, stored *jetstream.StreamInfo) (time.Time, error) {
	floor := floorOf(acked)
	asked := acked.TimeStamp
	if stored.Config.Replicas > 1 {
		asked = asked.Add(-replicationMargin)
	}
	state := stored.State
	if behind(acked, stored) == 0 {
		return asked, nil
	}
	if state.FirstSeq > floor {
		return earlier(asked, justBefore(state.FirstTime)), nil
	}
	// The message after the floor may have been deleted: take the next there is.
	first, err := c.storedMessage(ctx, messageRequest{Sequence: floor + 1, Next: allEvents})
	if errors.Is(err, ErrNoMessage) {
		// A replica that lags answered, or limits removed it just now.
		return time.Time{}, fmt.Errorf("read message %d of stream %s, ask again: %w", floor+1, EventsStream, err)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read message %d of stream %s: %w", floor+1, EventsStream, err)
	}
	return earlier(asked, justBefore(first.Stored)), nil
}

// floorOf is the sequence up to which everything is acknowledged.
func floorOf(acked *jetstream.ConsumerInfo) uint64 {
	if acked.NumAckPending == 0 {
		return max(acked.AckFloor.Stream, acked.Delivered.Stream)
	}
	return acked.AckFloor.Stream
}

func behind(acked *jetstream.ConsumerInfo, stored *jetstream.StreamInfo) uint64 {
	floor := floorOf(acked)
	if floor >= stored.State.LastSeq || stored.State.Msgs == 0 {
		return 0
	}
	return stored.State.LastSeq - floor
}

func justBefore(t time.Time) time.Time { return t.Add(-time.Nanosecond) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
