package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// SimulatorConfig describes one simulated gateway.
type SimulatorConfig struct {
	// Source is the gateway's name: a token as in a subject. It becomes the events' host name.
	Source string
	// Rate is how many events Run publishes in a second; 0 means 100.
	Rate float64
	// Seed decides every draw: equal seeds make equal events.
	Seed uint64
	// Record keeps the counts that Expected returns. They take memory for every second of the run.
	Record bool
}

// Simulator makes the traffic of a gateway that does not exist: requests, about 0.5 % faults, and about
// 2 % throttled calls, which come in clusters as they do where one application runs into its limit. APIs and
// applications are skewed by Zipf's law; users go the rounds of their application, and stray from them once in a
// few thousand calls; response times have a heavy tail with one in a
// thousand above 5 s. Every event is labelled as generated: apiCreator (and label) "generated", properties
// {"generated":true}.
//
// Next may be used by one goroutine at a time; Expected by any.
type Simulator struct {
	config  SimulatorConfig
	random  *rand.Rand
	traffic traffic
	burst   burst

	mu       sync.Mutex
	expected map[Expect]int64
}

// Expect is what a simulator counts its events by; an aggregation that groups by context and host name
// per second must have the same numbers.
type Expect struct {
	Type       string // TypeRequest, TypeFault, TypeThrottle
	APIContext string
	Hostname   string // the source
	Second     int64  // of the event time, since 1970 UTC
}

// SimulatedEvent is one event that a simulator made.
type SimulatedEvent struct {
	Expect
	JSON []byte
}

// burst is a cluster of throttled calls: one application, and one user of it, calls one API beyond its limit.
// While it lasts, every second call of the gateway belongs to it.
type burst struct {
	wait   int // calls before the next burst
	left   int // throttled calls still to come
	call   call
	reason string
}

const (
	defaultSimulatorRate = 100
	// A burst has 40 throttled calls on average, and one begins every 1,920 calls of which it
	// takes about 80: 40 in 2,000 are 2 %.
	burstMin, burstMax = 20, 60
	burstEvery         = 1920
	// The first burst comes early, so that a short demo sees it.
	firstBurst = 200

	faultShare = 0.005
	// Of a user's calls: to go on in the round, and to leave it for one call. An order of calls is abnormal below a
	// probability of 0.2, so that the strays are, and nothing else.
	stepShare  = 0.6
	strayShare = 1.0 / 5000
)

// NewSimulator returns a simulator that has made no event yet.
func NewSimulator(config SimulatorConfig) *Simulator {
	if config.Rate == 0 {
		config.Rate = defaultSimulatorRate
	}
	random := rand.New(rand.NewPCG(config.Seed, 0))
	return &Simulator{
		config:   config,
		random:   random,
		traffic:  newTraffic(random),
		burst:    burst{wait: firstBurst},
		expected: make(map[Expect]int64),
	}
}

// Next makes the next event, with now as its time.
func (s *Simulator) Next(now time.Time) (SimulatedEvent, error) {
	eventType, c, body := TypeRequest, s.call(), any(nil)
	switch {
	case s.throttled():
		eventType, c = TypeThrottle, s.burst.call
		body = s.throttle(c, s.burst.reason, now)
	case s.chance(faultShare):
		eventType, body = TypeFault, s.fault(c, now)
	default:
		body = s.request(c, now)
		c.user.at = c.at
	}
	event, err := json.Marshal(body)
	if err != nil {
		return SimulatedEvent{}, fmt.Errorf("simulate %s event: %w", eventType, err)
	}
	return SimulatedEvent{
		Expect: Expect{Type: eventType, APIContext: c.api.context, Hostname: s.config.Source, Second: now.Unix()},
		JSON:   event,
	}, nil
}

// Run publishes events at the configured rate until ctx is cancelled, which is no error. The publisher must have
// the simulator's source, and remains the caller's to flush and close.
func (s *Simulator) Run(ctx context.Context, publisher *Publisher) error {
	// A hundredth of a second's events at once: finer pacing would cost more than the events.
	chunk := max(1, int(s.config.Rate/100))
	limiter := rate.NewLimiter(rate.Limit(s.config.Rate), chunk)
	for limiter.WaitN(ctx, chunk) == nil { // it fails for the context alone
		for range chunk {
			if err := s.publish(ctx, publisher); err != nil && ctx.Err() == nil {
				return fmt.Errorf("simulate %s: %w", s.config.Source, err)
			}
		}
	}
	return nil
}

// publish makes one event of this moment, and counts it when the publisher has accepted it.
func (s *Simulator) publish(ctx context.Context, publisher *Publisher) error {
	event, err := s.Next(time.Now())
	if err != nil {
		return err
	}
	if err := publisher.Publish(ctx, event.Type, event.JSON); err != nil {
		return err
	}
	if s.config.Record {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.expected[event.Expect]++
	}
	return nil
}

// Expected is how many events the publisher accepted so far, with Record; once it is flushed and closed, that
// is exactly what must be in the aggregates.
func (s *Simulator) Expected() map[Expect]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.expected)
}

// call draws who calls what: mostly what comes next in the round of the application, or the same once more.
func (s *Simulator) call() call {
	app := &s.traffic.applications[s.traffic.appSkew.draw(s.random)]
	c := call{app: app, user: &app.users[s.random.IntN(len(app.users))]}
	c.at = c.user.at
	if s.chance(stepShare) {
		c.at = (c.at + 1) % len(app.round)
	}
	next := app.round[c.at]
	if s.chance(strayShare) {
		next = s.traffic.draw(s.random)
	}
	c.api, c.resource = next.api, next.api.resources[next.resource]
	return c
}

// throttled reports whether the next call belongs to a burst, and begins one when its time has come.
func (s *Simulator) throttled() bool {
	if s.burst.left == 0 {
		if s.burst.wait > 0 {
			s.burst.wait--
			return false
		}
		s.burst = burst{
			wait:   s.random.IntN(2 * burstEvery),
			left:   burstMin + s.random.IntN(burstMax-burstMin+1),
			call:   s.call(),
			reason: "SUBSCRIPTION_LIMIT_EXCEEDED",
		}
		if s.chance(0.3) {
			s.burst.reason = "APPLICATION_LIMIT_EXCEEDED"
		}
	}
	if s.chance(0.5) {
		return false
	}
	s.burst.left--
	return true
}

func (s *Simulator) chance(share float64) bool { return s.random.Float64() < share }
