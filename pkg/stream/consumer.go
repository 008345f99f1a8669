package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Limits bound one batch of Consumer.Fetch.
type Limits struct {
	Messages int           // at most; default 500
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
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 2 * time.Second
	pullOverhead  = 4096 // what the server counts beside a message's headers and body
	verifyPause   = 200 * time.Millisecond
	closeTimeout  = 2 * time.Second
)

// Consumer takes messages from the consumer fold, together with all other
// processes that do: each message goes to one of them at a time. Fetch and
// Close may be called from different goroutines; they wait for each other.
type Consumer struct {
	conn        *Conn
	stream      jetstream.Stream
	consumer    jetstream.Consumer
	incarnation string
	maxBatch    int // what one pull may ask for, 0 = unbounded
	maxBytes    int
	minBytes    int // room for the largest message the stream takes

	messages chan Message  // from receive to Fetch
	troubles chan error    // from nats.go to Fetch
	closing  chan struct{} // closed by Close: what still arrives is given back

	mu       sync.Mutex
	pulling  jetstream.ConsumeContext // nil until the first Fetch
	held     *Message                 // taken from messages, but too large for the last batch
	verified uint64                   // reconnects of the connection when the incarnation was last seen to be right
	failure  error                    // why Fetch cannot go on
}

// Consumer opens the consumer fold on EVENTS. It creates nothing: what is
// missing is ErrNotProvisioned.
func (c *Conn) Consumer(ctx context.Context) (*Consumer, error) {
	reconnects := c.nc.Stats().Reconnects
	s, err := c.js.Stream(ctx, EventsStream)
	if err != nil {
		return nil, openError("stream "+EventsStream, err)
	}
	config := s.CachedInfo().Config
	incarnation := config.Metadata[incarnationKey]
	if incarnation == "" {
		return nil, fmt.Errorf("open stream %s: it has no %s in its metadata: %w", EventsStream, incarnationKey, ErrNotProvisioned)
	}
	consumer, err := s.Consumer(ctx, FoldConsumer)
	if err != nil {
		return nil, openError("consumer "+FoldConsumer, err)
	}
	limits := consumer.CachedInfo().Config
	largest := c.MaxPayload()
	if config.MaxMsgSize > 0 {
		largest = min(largest, int(config.MaxMsgSize))
	}
	return &Consumer{
		conn: c, stream: s, consumer: consumer,
		incarnation: incarnation, verified: reconnects,
		maxBatch: limits.MaxRequestBatch,
		maxBytes: limits.MaxRequestMaxBytes,
		minBytes: largest + pullOverhead,
		troubles: make(chan error, 4), // more than there are final ones
		closing:  make(chan struct{}),
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
// The first call's limits decide how much is asked of the server ahead: about
// two batches. What is held ahead counts as delivered, and is delivered again
// to somebody else after the consumer's AckWait.
func (c *Consumer) Fetch(ctx context.Context, limits Limits) ([]Message, error) {
	limits = limits.withDefaults()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return nil, c.failure
	}
	if err := c.start(limits); err != nil {
		return nil, err
	}
	batch, err := c.collect(ctx, limits)
	if err != nil {
		c.failure = err
	}
	if len(batch) > 0 {
		if err := c.verify(ctx); err != nil {
			giveBack(batch)
			return nil, err
		}
		return batch, nil
	}
	if err == nil {
		err = ctx.Err()
	}
	return nil, err
}

// start keeps messages coming: one batch waits in c.messages, another one in
// nats.go, which pulls more when half of it is through.
//
// It is Consume and not the iterator of Messages, because that one buffers no
// more than the messages it asked for, has no room for the server's notices
// beside them, and then drops messages until their AckWait is over.
func (c *Consumer) start(limits Limits) error {
	if c.pulling != nil {
		return nil
	}
	ahead := limits.Messages
	if c.maxBatch > 0 {
		ahead = min(ahead, c.maxBatch)
	}
	// A pull with less room than the next message needs would stall for ever.
	bytes := max(limits.Bytes, c.minBytes)
	if c.maxBytes > 0 {
		bytes = min(bytes, c.maxBytes)
	}
	c.messages = make(chan Message, limits.Messages)
	pulling, err := c.consumer.Consume(c.receive,
		jetstream.PullMaxMessagesWithBytesLimit(ahead, bytes),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(c.report),
	)
	if err != nil {
		return fmt.Errorf("start pulling from consumer %s: %w", FoldConsumer, err)
	}
	c.pulling = pulling
	return nil
}

// receive is called by nats.go, one message at a time; while it waits, nothing
// more is pulled.
func (c *Consumer) receive(raw jetstream.Msg) {
	d, ok := parseDelivery(raw.Reply())
	if !ok {
		c.conn.log.Warn("skipped what is no message of a stream", zap.String("subject", raw.Subject()))
		return
	}
	m := d.message(&nats.Msg{Subject: raw.Subject(), Reply: raw.Reply(), Header: raw.Headers(), Data: raw.Data()})
	m.hand = &hand{nc: c.conn.nc}
	select {
	case c.messages <- m:
	case <-c.closing:
		giveBack([]Message{m})
	}
}

// report is called by nats.go when pulling has a problem. It pulls again by
// itself unless the problem is final.
func (c *Consumer) report(_ jetstream.ConsumeContext, err error) {
	c.conn.log.Debug("pulling from NATS", zap.String("consumer", FoldConsumer), zap.Error(err))
	final := errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrBadRequest) || errors.Is(err, jetstream.ErrConnectionClosed)
	if !final && !errors.Is(err, jetstream.ErrNoHeartbeat) {
		return // a restart, a new leader: silence would follow if it lasted
	}
	if !final && len(c.troubles) > 0 {
		return // Fetch has not even seen the last one
	}
	select {
	case c.troubles <- err:
	default:
	}
}

// collect takes messages until a limit is reached or ctx ends. An error is
// final; the messages returned beside it are good.
func (c *Consumer) collect(ctx context.Context, limits Limits) ([]Message, error) {
	var batch []Message
	var over <-chan time.Time
	bytes := 0
	for len(batch) < limits.Messages && ctx.Err() == nil {
		m, ok, err := c.next(ctx, over)
		if !ok || err != nil {
			return batch, err
		}
		if len(batch) == 0 {
			wait := time.NewTimer(limits.Wait)
			defer wait.Stop()
			over = wait.C
		} else if bytes+m.size() > limits.Bytes {
			c.held = &m
			return batch, nil
		}
		batch = append(batch, m)
		bytes += m.size()
	}
	return batch, nil
}

// next returns one message, or is not ok when ctx ends or the wait is over, or
// returns a final error.
func (c *Consumer) next(ctx context.Context, over <-chan time.Time) (m Message, ok bool, err error) {
	if c.held != nil {
		m, c.held = *c.held, nil
		return m, true, nil
	}
	for {
		select {
		case m := <-c.messages:
			return m, true, nil
		case err := <-c.troubles:
			if err := c.judge(ctx, err); err != nil {
				return Message{}, false, err
			}
		case <-over:
			return Message{}, false, nil
		case <-ctx.Done():
			return Message{}, false, nil
		}
	}
}

// judge returns an error when pulling cannot go on.
func (c *Consumer) judge(ctx context.Context, trouble error) error {
	switch {
	case errors.Is(trouble, jetstream.ErrNoHeartbeat):
		// The server is away, or the pull request was lost with it; nats.go has sent
		// a new one. A consumer that is gone says nothing either, so ask.
		if err := c.check(ctx); errors.Is(err, ErrGone) {
			return err
		}
		return nil
	case errors.Is(trouble, jetstream.ErrConnectionClosed):
		return fmt.Errorf("pull from consumer %s: connection %w", FoldConsumer, ErrClosed)
	case errors.Is(trouble, jetstream.ErrConsumerDeleted):
		return fmt.Errorf("pull from consumer %s: %w: %w", FoldConsumer, trouble, ErrGone)
	}
	return fmt.Errorf("pull from consumer %s: %w", FoldConsumer, trouble)
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
	select {
	case <-c.closing:
		return
	default:
	}
	close(c.closing)
	c.failure = fmt.Errorf("fetch from consumer %s: %w", FoldConsumer, ErrClosed)
	if c.held != nil {
		giveBack([]Message{*c.held})
		c.held = nil
	}
	if c.pulling == nil {
		return
	}
	c.pulling.Drain() // receive gives back what is on its way
	select {
	case <-c.pulling.Closed():
	case <-time.After(closeTimeout): // AckWait does the rest
	}
	for {
		select {
		case m := <-c.messages:
			giveBack([]Message{m})
		default:
			_ = c.conn.nc.FlushTimeout(closeTimeout)
			return
		}
	}
}

// giveBack returns messages for delivery at once. An error means that the
// connection is gone; they are delivered again after AckWait then.
func giveBack(messages []Message) {
	for _, m := range messages {
		_ = m.Nak(0)
	}
}
