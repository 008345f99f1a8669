package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Topologies of NATS.
const (
	R1 = "r1" // one server
	R3 = "r3" // three, and every message on all of them
)

const (
	ackWait     = 2 * time.Second // of the consumer: what a worker holds comes back after it
	dedupWindow = 2 * time.Second // of the stream: later the ledger alone knows a message that is published again
	sources     = 3
	alerters    = 2
)

// Plan is all that happens in a run, made from the seed alone: the same seed, options and version give the same plan. What
// it meets on its way is up to the machine.
type Plan struct {
	Seed     uint64        `json:"seed"`
	Topology string        `json:"topology"`
	Workers  int           `json:"workers"`
	Sources  int           `json:"sources"`
	Events   int           `json:"events"` // to be published by all sources together
	Rate     float64       `json:"rate"`   // events a second
	Length   time.Duration `json:"length_ns"`
	WarmUp   time.Duration `json:"warm_up_ns"` // without faults
	Faults   []string      `json:"faults"`     // that were drawn from
	Steps    []Step        `json:"steps"`
}

// Step is one fault. It begins at a time or at a count of published events, whichever the plan gives.
type Step struct {
	At       time.Duration `json:"at_ns,omitempty"`        // since the beginning
	AtEvents int           `json:"at_events,omitempty"`    // once so many events are acknowledged, or so late that it just has its time
	For      time.Duration `json:"for_ns"`                 // then it is healed
	Fault    string        `json:"fault"`                  // its name
	Target   string        `json:"target,omitempty"`       // process or link
	Way      string        `json:"way,omitempty"`          // of a link: up (to the server), down, both
	Delay    time.Duration `json:"delay_ns,omitempty"`     // of a slow link, for every piece
	Bytes    int64         `json:"cut_at_bytes,omitempty"` // of a link that is cut in the midst
}

// String is the step as a line for people.
func (s Step) String() string {
	when := fmt.Sprintf("at %5.1fs", s.At.Seconds())
	if s.AtEvents > 0 {
		when = fmt.Sprintf("at %d events", s.AtEvents)
	}
	parts := []string{when, fmt.Sprintf("for %4.1fs", s.For.Seconds()), s.Fault, s.Target}
	if s.Way != "" {
		parts = append(parts, s.Way)
	}
	if s.Delay > 0 {
		parts = append(parts, s.Delay.String())
	}
	if s.Bytes > 0 {
		parts = append(parts, fmt.Sprintf("at byte %d", s.Bytes))
	}
	return strings.TrimSpace(strings.Join(parts, "  "))
}

// String is the plan for people, a line per step.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan: seed %d, %s, %d workers, %d sources, %d events at %.0f/s, %s of which %s are a warm-up, %d faults\n",
		p.Seed, p.Topology, p.Workers, p.Sources, p.Events, p.Rate, p.Length, p.WarmUp, len(p.Steps))
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	return b.String()
}

// NewPlan draws the plan.
func NewPlan(cfg Config) (Plan, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Plan{}, err
	}
	p := Plan{
		Seed: cfg.Seed, Topology: cfg.Topology, Workers: cfg.Workers, Sources: sources,
		Rate: cfg.Rate, Events: cfg.Events, Length: cfg.Length, WarmUp: min(5*time.Second, cfg.Length/6),
	}
	var err error
	if p.Faults, err = selectFaults(cfg); err != nil {
		return Plan{}, err
	}
	r := rand.New(rand.NewPCG(cfg.Seed, 1))
	d := &draw{plan: &p, random: r, kinds: kindsOf(p.Faults)}
	for at := p.WarmUp; at+4*time.Second <= p.Length && len(d.kinds) > 0; {
		at += d.window(at)
	}
	return p, nil
}

// draw draws the windows of a plan: a deck of all faults is dealt out, so that each comes before one comes again.
type draw struct {
	plan   *Plan
	random *rand.Rand
	kinds  []kind
	deck   []kind
	calm   int // windows since the last calm one
}

// window draws up to four faults that go on at once, on different things, and returns the window's length.
func (d *draw) window(at time.Duration) time.Duration {
	length := min(d.between(5, 9), d.plan.Length-at)
	number := 1 + d.random.IntN(4)
	if len(d.kinds) <= 2 {
		length, number = min(d.between(3, 5), d.plan.Length-at), 1 // every few seconds
	} else if d.calm++; d.calm >= 3 && d.random.IntN(2) == 0 {
		d.calm = 0
		return length
	}
	taken := map[string]bool{}
	for range number {
		k := d.deal()
		s := k.draw(d, k)
		thing := k.thing(s.Target)
		for tries := 0; taken[thing] && tries < 3; tries++ { // two faults cannot have the same thing at once
			d.deck = append(d.deck, k) // this one comes later
			k = d.deal()
			s = k.draw(d, k)
			thing = k.thing(s.Target)
		}
		if taken[thing] {
			d.deck = append(d.deck, k)
			continue
		}
		s.Fault, taken[thing] = k.name, true
		begin := at + time.Duration(d.random.Int64N(int64(length/4)))
		s.For = min(s.For, max(time.Second, at+length-begin-500*time.Millisecond))
		if s.At = begin; d.random.IntN(3) == 0 {
			s.At, s.AtEvents = 0, max(1, int(begin.Seconds()*d.plan.Rate))
		}
		d.plan.Steps = append(d.plan.Steps, s)
	}
	return length
}

func (d *draw) deal() kind {
	if len(d.deck) == 0 {
		d.deck = slices.Clone(d.kinds)
		d.random.Shuffle(len(d.deck), func(i, j int) { d.deck[i], d.deck[j] = d.deck[j], d.deck[i] })
	}
	k := d.deck[0]
	d.deck = d.deck[1:]
	return k
}

// between is a time between two numbers of seconds.
func (d *draw) between(least, most float64) time.Duration {
	return time.Duration((least + d.random.Float64()*(most-least)) * float64(time.Second)).Round(10 * time.Millisecond)
}

func (d *draw) worker() string  { return fmt.Sprintf("w%d", 1+d.random.IntN(d.plan.Workers)) }
func (d *draw) alerter() string { return fmt.Sprintf("a%d", 1+d.random.IntN(alerters)) }
func (d *draw) source() string  { return fmt.Sprintf("gw-%d", 1+d.random.IntN(sources)) }

func (d *draw) node() string {
	if d.plan.Topology == R3 {
		return fmt.Sprintf("n%d", 1+d.random.IntN(3))
	}
	return "n1"
}

// link is one of the links: of a worker, an alerter or a source to NATS, of a worker or an alerter to Postgres, between two NATS servers.
func (d *draw) link() string {
	most := 4
	if d.plan.Topology == R3 {
		most = 5
	}
	switch d.random.IntN(most) {
	case 0:
		return d.worker() + "-nats"
	case 1:
		return d.worker() + "-postgres"
	case 2:
		return d.source() + "-nats"
	case 3:
		return d.alerter() + []string{"-nats", "-postgres"}[d.random.IntN(2)]
	}
	return []string{"n1-n2", "n1-n3", "n2-n3"}[d.random.IntN(3)]
}

func (d *draw) way() string { return []string{"both", "up", "down"}[d.random.IntN(3)] }
