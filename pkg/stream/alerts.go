package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// AlertFilter selects alerts. Its zero value selects every alert from now on.
type AlertFilter struct {
	Scope string    // ScopeLocal or ScopeGlobal; "" is both
	Rule  string    // "" is every rule
	Since time.Time // stored at or after it; zero is from now on
}

// AlertMessage is one alert as it was published.
type AlertMessage struct {
	Scope    string
	Rule     string
	MsgID    string // the alert's deterministic id
	Data     []byte // JSON
	Sequence uint64
	Stored   time.Time
}

const resubscribePause = time.Second

// SubscribeAlerts calls handle for every alert the filter selects, in the order
// of the stream, one at a time, until ctx ends, which is no error. It goes on
// where it was after NATS was away. Nothing is acknowledged: whoever subscribes
// takes alerts from nobody else.
func (c *Conn) SubscribeAlerts(ctx context.Context, filter AlertFilter, handle func(AlertMessage)) error {
	s, err := c.js.Stream(ctx, AlertsStream)
	if err != nil {
		return openError("stream "+AlertsStream, err)
	}
	from := jetstream.OrderedConsumerConfig{FilterSubjects: []string{alertFilter(filter.Scope, filter.Rule)}}
	if filter.Since.IsZero() {
		// Not DeliverNew, which would skip what comes while the connection is away.
		startAt(&from, s.CachedInfo().State.LastSeq+1)
	} else {
		from.DeliverPolicy = jetstream.DeliverByStartTimePolicy
		from.OptStartTime = &filter.Since
	}
	for ctx.Err() == nil {
		err := c.follow(ctx, &from, handle)
		final := errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConnectionClosed)
		if final && ctx.Err() == nil {
			return fmt.Errorf("subscribe to alerts: %w", err)
		}
		c.log.Debug("subscription to alerts interrupted", zap.Error(err))
		select {
		case <-time.After(resubscribePause):
		case <-ctx.Done():
		}
	}
	return nil
}

// follow hands out alerts until something fails, and moves from past each one.
func (c *Conn) follow(ctx context.Context, from *jetstream.OrderedConsumerConfig, handle func(AlertMessage)) error {
	consumer, err := c.js.OrderedConsumer(ctx, AlertsStream, *from)
	if err != nil {
		return err
	}
	iterator, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer iterator.Stop()
	for {
		raw, err := iterator.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		d, ok := parseDelivery(raw.Reply())
		if !ok {
			return fmt.Errorf("a message without a place in a stream, on %s", raw.Subject())
		}
		m := d.message(&nats.Msg{Subject: raw.Subject(), Header: raw.Headers(), Data: raw.Data()})
		if scope, rule, ok := parseAlertSubject(m.Subject); ok {
			handle(AlertMessage{Scope: scope, Rule: rule, MsgID: m.MsgID(), Data: m.Data, Sequence: m.Sequence, Stored: m.Stored})
		} else {
			c.log.Warn("skipped an alert whose subject is none", zap.String("subject", m.Subject))
		}
		startAt(from, m.Sequence+1)
	}
}

func startAt(config *jetstream.OrderedConsumerConfig, sequence uint64) {
	config.DeliverPolicy = jetstream.DeliverByStartSequencePolicy
	config.OptStartSeq = sequence
	config.OptStartTime = nil
}
