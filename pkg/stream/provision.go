package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// incarnationKey is the metadata that identifies one life of EVENTS. It is
// written once, when the stream is created, and never changed.
const incarnationKey = "weir.incarnation"

const (
	defaultPullBytes = 8 << 20 // far below the 64 MB at which a server cuts a client off
	pullOverhead     = 4096    // what the server counts beside a message's headers and body
	maxPullMessages  = 10_000
	dedupWindow      = 2 * time.Minute
	alertsMaxAge     = 30 * 24 * time.Hour
	alertsDedup      = time.Hour
)

// Provision says how the streams and the consumer should be.
type Provision struct {
	// MaxAge is how long EVENTS keeps a message, folded or not. Default 7 days;
	// negative: for good.
	MaxAge time.Duration
	// MaxBytes bounds EVENTS; when it is full, publishing waits. Default 0: only
	// the server's own limit.
	MaxBytes int64
	// MaxMessageBytes is the largest message EVENTS takes, headers included.
	// Default 4 MiB. The server's max_payload (1 MiB by default) bounds it too.
	MaxMessageBytes int32
	// Replicas is how many servers hold each message: 1 (default), 3 or 5.
	Replicas int
	// AckWait is how long a worker may hold a message before another one gets
	// it, unless Consumer.Keep keeps it. Default 5 s: that long what a killed
	// worker had in hand is missing. Less would hand out again what a worker
	// has whose machine stands still for a moment.
	AckWait time.Duration
	// MaxAckPending is how many messages all workers together may hold. A batch
	// has a 16th of it at most, and a worker four batches, so that a killed one
	// leaves the others at least three quarters. Default 400,000.
	MaxAckPending int
}

func (p Provision) withDefaults() Provision {
	switch {
	case p.MaxAge == 0:
		p.MaxAge = 7 * 24 * time.Hour
	case p.MaxAge < 0:
		p.MaxAge = 0 // for JetStream: for good
	}
	if p.MaxBytes <= 0 {
		p.MaxBytes = -1
	}
	if p.MaxMessageBytes <= 0 {
		p.MaxMessageBytes = 4 << 20
	}
	if p.Replicas <= 0 {
		p.Replicas = 1
	}
	if p.AckWait <= 0 {
		p.AckWait = 5 * time.Second
	}
	if p.MaxAckPending <= 0 {
		p.MaxAckPending = 400_000
	}
	return p
}

func (p Provision) events() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        EventsStream,
		Description: "Weir: what gateways publish",
		Subjects:    []string{allEvents},
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		// Limits, not WorkQueue: after a restore of Postgres the same messages are
		// folded again. Discard new: a full stream pushes back, it drops nothing.
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      p.MaxAge,
		MaxBytes:    p.MaxBytes,
		MaxMsgSize:  p.MaxMessageBytes,
		MaxMsgs:     -1,
		Duplicates:  dedupWindow,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
	}
}

func (p Provision) alerts() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        AlertsStream,
		Description: "Weir: alerts",
		Subjects:    []string{allAlerts},
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      alertsMaxAge,
		MaxBytes:    -1,
		MaxMsgSize:  1 << 20,
		MaxMsgs:     -1,
		Duplicates:  alertsDedup,
		AllowDirect: true,
	}
}

func (p Provision) fold() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name:        FoldConsumer,
		Durable:     FoldConsumer,
		Description: "Weir: hands every message to one worker at a time",
		// Any other start would skip messages: loss. Any other number of deliveries
		// would give up on a message: loss.
		DeliverPolicy: jetstream.DeliverAllPolicy,
		MaxDeliver:    -1,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       p.AckWait,
		MaxAckPending: p.MaxAckPending,
		// A worker that asks for more than its connection can take is cut off.
		MaxRequestBatch:    maxPullMessages,
		MaxRequestMaxBytes: max(defaultPullBytes, int(p.MaxMessageBytes)+pullOverhead),
	}
}

// Plan is what would have to be done, in order. It is made by PlanProvision.
type Plan struct {
	steps []step
}

type step struct {
	line  string
	apply func(context.Context) error // nil: nothing to do
}

// Lines say what the plan does, one line per stream and consumer, for people.
func (p Plan) Lines() []string {
	lines := make([]string, len(p.steps))
	for i, s := range p.steps {
		lines[i] = s.line
	}
	return lines
}

// Apply does what Lines say. It stops at the first error; to plan and apply
// again continues.
func (p Plan) Apply(ctx context.Context) error {
	for _, s := range p.steps {
		if s.apply == nil {
			continue
		}
		if err := s.apply(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.line, err)
		}
	}
	return nil
}

// PlanProvision compares what is there with what should be. It changes
// nothing. Streams are never deleted or made anew: a difference that JetStream
// cannot change in place is an error that names it.
func (c *Conn) PlanProvision(ctx context.Context, p Provision) (Plan, error) {
	p = p.withDefaults()
	var plan Plan
	for _, want := range []jetstream.StreamConfig{p.events(), p.alerts()} {
		s, err := c.planStream(ctx, want)
		if err != nil {
			return Plan{}, fmt.Errorf("plan stream %s: %w", want.Name, err)
		}
		plan.steps = append(plan.steps, s)
	}
	s, err := c.planConsumer(ctx, p.fold())
	if err != nil {
		return Plan{}, fmt.Errorf("plan consumer %s: %w", FoldConsumer, err)
	}
	plan.steps = append(plan.steps, s)
	return plan, nil
}

// Provision plans and applies, and returns the plan that was applied.
func (c *Conn) Provision(ctx context.Context, p Provision) (Plan, error) {
	plan, err := c.PlanProvision(ctx, p)
	if err != nil {
		return Plan{}, err
	}
	return plan, plan.Apply(ctx)
}

func (c *Conn) planStream(ctx context.Context, want jetstream.StreamConfig) (step, error) {
	what := "stream " + want.Name
	existing, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return step{
			line: "create " + what + " (" + describeStream(want) + ")",
			apply: func(ctx context.Context) error {
				if want.Name == EventsStream {
					want.Metadata = map[string]string{incarnationKey: newIncarnation()}
				}
				_, err := c.js.CreateStream(ctx, want)
				return err
			},
		}, nil
	}
	if err != nil {
		return step{}, err
	}
	have := existing.CachedInfo().Config
	next, changes, err := mergeStream(have, want)
	if err != nil {
		return step{}, err
	}
	if want.Name == EventsStream && have.Metadata[incarnationKey] == "" {
		next.Metadata = maps.Clone(have.Metadata)
		if next.Metadata == nil {
			next.Metadata = make(map[string]string)
		}
		next.Metadata[incarnationKey] = newIncarnation()
		changes = append(changes, "new "+incarnationKey)
	}
	return updateStep(what, changes, func(ctx context.Context) error {
		_, err := c.js.UpdateStream(ctx, next)
		return err
	}), nil
}

func (c *Conn) planConsumer(ctx context.Context, want jetstream.ConsumerConfig) (step, error) {
	what := "consumer " + want.Name + " on " + EventsStream
	existing, err := c.js.Consumer(ctx, EventsStream, want.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return step{
			line: "create " + what + " (" + describeConsumer(want) + ")",
			apply: func(ctx context.Context) error {
				_, err := c.js.CreateConsumer(ctx, EventsStream, want)
				return err
			},
		}, nil
	}
	if err != nil {
		return step{}, err
	}
	next, changes, err := mergeConsumer(existing.CachedInfo().Config, want)
	if err != nil {
		return step{}, err
	}
	return updateStep(what, changes, func(ctx context.Context) error {
		_, err := c.js.UpdateConsumer(ctx, EventsStream, next)
		return err
	}), nil
}

func updateStep(what string, changes []string, apply func(context.Context) error) step {
	if len(changes) == 0 {
		return step{line: "unchanged " + what}
	}
	return step{line: "update " + what + " (" + strings.Join(changes, ", ") + ")", apply: apply}
}

func newIncarnation() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, as of Go 1.24
	return hex.EncodeToString(random[:])
}
