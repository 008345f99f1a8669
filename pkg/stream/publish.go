package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
// under way is still waited for, at most Config.AckTimeout, save one that is
// stuck in a write to the connection. Where done reports
// an error the message may or may not be stored. Retries may change the order
// of messages.
func (c *Conn) PublishAsync(ctx context.Context, out Outgoing, done func(seq uint64, duplicate bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish to %s: %w", out.Subject, err)
	}
	if err := c.pub.acquire(ctx); err != nil {
		return fmt.Errorf("publish to %s: %w", out.Subject, err)
	}
	now := time.Now()
	c.pub.send(&publication{ctx: ctx, out: out, done: done, since: now}, now)
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
