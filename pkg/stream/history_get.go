package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNoMessage means that the stream does not hold the message, or not any more.
var ErrNoMessage = errors.New("the stream does not hold this message")

// Get returns the message at a sequence, or ErrNoMessage. Acknowledging it does
// nothing.
func (h *History) Get(ctx context.Context, sequence uint64) (Message, error) {
	stored, err := h.stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, fmt.Errorf("read message %d of stream %s: %w", sequence, EventsStream, ErrNoMessage)
	}
	if err != nil {
		return Message{}, fmt.Errorf("read message %d of stream %s: %w", sequence, EventsStream, err)
	}
	return Message{
		Subject: stored.Subject, Data: stored.Data, Sequence: stored.Sequence, Stored: stored.Time.UTC(),
		raw: storedMsg{headers: stored.Header},
	}, nil
}

// storedMsg is a message that was read, not delivered: there is nothing to
// acknowledge.
type storedMsg struct {
	jetstream.Msg

	headers nats.Header
}

func (m storedMsg) Headers() nats.Header             { return m.headers }
func (m storedMsg) Ack() error                       { return nil }
func (m storedMsg) InProgress() error                { return nil }
func (m storedMsg) NakWithDelay(time.Duration) error { return nil }
