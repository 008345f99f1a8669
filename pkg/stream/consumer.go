package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Limits bound one batch of Consumer.Fetch.
type Limits struct {
	Messages int           // at most; default 500; see Consumer.Fetch
	Bytes    int           // sum of the bodies, at most, save a single larger message; default 8 MiB
	Wait     time.Duration // for more, after the first message; default 20 ms
}

func (l Limits) withDefaults() Limits {
	if l.Messages <= 0 {
		l.Messages = 500
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultPullBytes
	}
	if l.Wait <= 0 {
		l.Wait = 20 * time.Millisecond
	}
	return l
}

const (
	verifyPause  = 200 * time.Millisecond
	closeTimeout = 2 * time.Second

	// batchShare of what all workers together may hold is the largest batch of one. A worker has up to four: one
	// that it folds, two that wait for that, one that is asked for ahead. So a killed one takes a quarter of
	// MaxAckPending with it at most, and the others go on in the rest until AckWait is over.
	batchShare = 16
)

// Consumer takes messages from the consumer fold, together with all other
// processes that do: each message goes to one of them at a time. Fetch, Keep
// and Close may be called from different goroutines; Close waits for Fetch.
type Consumer struct {
	conn        *Conn
	stream      jetstream.Stream
	consumer    jetstream.Consumer
	incarnation string
	ackWait     time.Duration
	maxBatch    int // messages of one batch, and of one pull
	maxBytes    int // of one pull, 0 = unbounded

	arrived chan *nats.Msg   // messages and notices, from the connection
	status  chan nats.Status // connected again, or closed
	hands   hands

	mu       sync.Mutex
	pull     pull
	names    names
	ahead    []*nats.Msg // taken from arrived, and too much for the last batch
	last     int         // messages of the last batch: the next one is likely to be as large
	fetches  uint64      // calls of Fetch
	verified uint64      // reconnects of the connection when the incarnation was last seen to be right
	failure  error       // why Fetch cannot go on
}

// Consumer opens the consumer fold on EVENTS. It creates nothing: what is
// missing is ErrNotProvisioned.
func (c *Conn) Consumer(ctx context.Context) (*Consumer, error) {
	reconnects := c.nc.Stats().Reconnects
	s, err := c.js.Stream(ctx, EventsStream)
	if err != nil {
		return nil, openError("stream "+EventsStream, err)
	}
	incarnation := s.CachedInfo().Config.Metadata[incarnationKey]
	if incarnation == "" {
		return nil, fmt.Errorf("open stream %s: it has no %s in its metadata: %w", EventsStream, incarnationKey, ErrNotProvisioned)
	}
	consumer, err := s.Consumer(ctx, FoldConsumer)
	if err != nil {
		return nil, openError("consumer "+FoldConsumer, err)
	}
	config := consumer.CachedInfo().Config
	batch := maxPullMessages
	if config.MaxRequestBatch > 0 {
		batch = min(batch, config.MaxRequestBatch)
	}
	if config.MaxAckPending > 0 {
		batch = min(batch, config.MaxAckPending/batchShare)
	}
	return &Consumer{
		conn: c, stream: s, consumer: consumer,
		incarnation: incarnation, verified: reconnects,
		hands:    hands{nc: c.nc},
		ackWait:  config.AckWait,
		maxBatch: max(batch, 1),
		maxBytes: config.MaxRequestMaxBytes,
	}, nil
}

func openError(what string, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("open %s: %w: %w", what, err, ErrNotProvisioned)
	}
	return fmt.Errorf("open %s: %w", what, err)
}

// Incarnation identifies this stream: 32 hexadecimal digits chosen when it was
// created. A stream of the same name made anew has another one. It makes
// Message.Sequence an identity for messages that carry none of their own.
func (c *Consumer) Incarnation() string { return c.incarnation }

// Fetch returns the next batch: at least one message, and then what arrives
// until one of the limits is reached. It waits for the first message as long
// as ctx lives. When ctx ends it returns what it has, or ctx's error where it
// has nothing.
//
// Restarts and losses of NATS are waited out. ErrGone means that the stream or
// the consumer is not the one that was opened; ErrClosed that Close was called.
// Both are final.
//
// No batch has more messages than a 16th of the consumer's MaxAckPending. The
// first call's limits decide how much is asked of the server ahead: one batch.
// What is held ahead counts as delivered, and is delivered again to somebody
// else after the consumer's AckWait; see Keep.
func (c *Consumer) Fetch(ctx context.Context, limits Limits) ([]Message, error) {
	limits = limits.withDefaults()
	limits.Messages = min(limits.Messages, c.maxBatch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetches++
	if c.failure == nil && c.pull.sub == nil {
		c.failure = c.start(limits)
	}
	if c.failure != nil {
		return nil, c.failure
	}
	batch, err := c.collect(ctx, limits)
	if err != nil {
		c.failure = err
	}
	if c.last = len(batch); c.last > 0 {
		if err := c.verify(ctx); err != nil {
			for _, m := range batch {
				c.giveBack(m.reply)
			}
			return nil, err
		}
		c.hands.out(batch)
		return batch, nil
	}
	if err == nil {
		err = ctx.Err()
	}
	return nil, err
}

// collect takes messages until a limit is reached or ctx ends. An error is
// final; the messages returned beside it are good.
func (c *Consumer) collect(ctx context.Context, limits Limits) ([]Message, error) {
	var batch []Message
	var over <-chan time.Time
	bytes := 0
	for len(batch) < limits.Messages && ctx.Err() == nil {
		raw, d, err := c.next(ctx, over)
		if raw == nil || err != nil {
			return batch, err
		}
		if len(batch) == 0 {
			wait := time.NewTimer(limits.Wait)
			defer wait.Stop()
			over = wait.C
			batch = make([]Message, 0, min(limits.Messages, max(1+len(c.ahead)+len(c.arrived), c.last)))
		} else if bytes+len(raw.Data) > limits.Bytes {
			c.ahead = append([]*nats.Msg{raw}, c.ahead...)
			return batch, nil
		}
		batch = append(batch, d.message(raw))
		c.names.identify(&batch[len(batch)-1])
		bytes += len(raw.Data)
	}
	return batch, nil
}

// next returns one message with what the server says about it, or none when ctx
// ends or the wait is over, or a final error.
func (c *Consumer) next(ctx context.Context, over <-chan time.Time) (raw *nats.Msg, d delivery, err error) {
	if len(c.ahead) > 0 {
		raw, c.ahead = c.ahead[0], c.ahead[1:]
		d, _ = parseDelivery(raw.Reply)
		return raw, d, nil
	}
	for {
		select {
		case raw = <-c.arrived:
		default:
			if raw, err = c.wait(ctx, over); raw == nil {
				return nil, delivery{}, err
			}
		}
		if d, ok, err := c.take(raw); ok || err != nil {
			return raw, d, err
		}
	}
}

// verify makes sure that what was just fetched came from the stream that was
// opened. Within one connection the server itself ends pulls when the consumer
// goes; behind a new connection there may be another stream of the same name,
// whose sequences mean other messages.
func (c *Consumer) verify(ctx context.Context) error {
	for {
		reconnects := c.conn.nc.Stats().Reconnects
		if reconnects == c.verified {
			return nil
		}
		err := c.check(ctx)
		switch {
		case err == nil:
			c.verified = reconnects
			continue // unless it was lost again meanwhile, this was the last round
		case errors.Is(err, ErrGone):
			c.failure = err
			return err
		}
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// check asks whether stream and consumer are still there and the same. Only
// ErrGone is an answer; any other error is a failure to ask.
func (c *Consumer) check(ctx context.Context) error {
	info, err := c.stream.Info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("check stream %s: %w: %w", EventsStream, err, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("check stream %s: %w", EventsStream, err)
	}
	if found := info.Config.Metadata[incarnationKey]; found != c.incarnation {
		return fmt.Errorf("check stream %s: opened incarnation %s, found %q: %w", EventsStream, c.incarnation, found, ErrGone)
	}
	_, err = c.consumer.Info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("check consumer %s: %w: %w", FoldConsumer, err, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("check consumer %s: %w", FoldConsumer, err)
	}
	return nil
}

// Close ends pulling and gives back what was asked for ahead but not handed
// out, so that other workers get it at once instead of after AckWait. Messages
// handed out stay the caller's to acknowledge. Cancel the context of a Fetch
// that is waiting first: Close waits for it.
func (c *Consumer) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.failure, ErrClosed) {
		return
	}
	c.failure = fmt.Errorf("fetch from consumer %s: %w", FoldConsumer, ErrClosed)
	if c.status == nil {
		return // Fetch was never called
	}
	c.conn.nc.RemoveStatusListener(c.status)
	c.letGo()
	_ = c.conn.nc.FlushTimeout(closeTimeout) // so that the server has heard it; else AckWait does the rest
}

// letGo ends pulling until the next start, and gives back what is not handed
// out. What is still on its way when the server does not answer in time comes
// again after AckWait.
func (c *Consumer) letGo() {
	c.unsubscribe()
	_ = c.conn.nc.FlushTimeout(closeTimeout) // all that the server had sent until it heard it is in arrived then
	for _, raw := range c.ahead {
		c.giveBack(raw.Reply)
	}
	c.ahead = nil
	for {
		select {
		case raw := <-c.arrived:
			if _, ok := parseDelivery(raw.Reply); ok {
				c.giveBack(raw.Reply)
			}
		default:
			return
		}
	}
}

// giveBack returns a message for delivery at once. An error means that the
// connection is gone; it is delivered again after AckWait then.
func (c *Consumer) giveBack(reply string) { _ = answer(c.conn.nc, reply, ackNak) }
