// Package alert decides, from folded events, what subscribers must be told.
//
// A [Rule] is data: which events matter, by which key, beyond which bound. There are two
// evaluations of it. [Local] looks at one worker's share of the traffic, as the original
// system did: at once, and only at what that worker has seen. Its decisions are kept apart
// from its state until the flush transaction that carries them is committed, so that a
// flush that is rolled back leaves no trace.
//
// Global alerts are decided over all traffic, by whoever has a partition of the keys. A
// [Collector] reduces each batch to its [Evidence], which is committed with the batch;
// [Global] takes in the evidence of all shards and decides in event time, once all that
// came before is there. What it decides is a function of the events and of nothing else: not of
// how many workers there are, nor of the order in which they commit.
//
// The package is pure: time is the events' own.
package alert

import (
	"time"

	"weir/pkg/event"
)

// Type says how a rule is decided.
type Type uint8

// The types. The first two can be local too.
const (
	PerEvent   Type = iota + 1 // one event decides: its value is beyond the bound
	Counted                    // the number of events of a key within a window is
	Measured                   // a value computed of a window's measures is
	Absent                     // no event of a key that is known, for as long as the window
	Changed                    // a window's value, as a share of that of the same window before, is
	Unseen                     // a key that is known well enough does something for the first time
	Transition                 // a step that a Markov chain of the key's steps finds improbable
	Run                        // so many events of a key in a row match
	Interval                   // the time between two events of a key is unlike those before
	Underuse                   // a key's days have unusually few events
)

// types are the names of the types in definitions.
func types() map[Type]string {
	return map[Type]string{
		PerEvent: "event", Counted: "count", Measured: "threshold", Absent: "absence", Changed: "change",
		Unseen: "unseen", Transition: "transition", Run: "run", Interval: "interval", Underuse: "underuse",
	}
}

// String returns the name that definitions use.
func (t Type) String() string {
	if name, ok := types()[t]; ok {
		return name
	}
	return "Type(?)"
}

// ParseType reads the name of a type.
func ParseType(name string) (Type, bool) {
	for t, known := range types() {
		if known == name {
			return t, true
		}
	}
	return 0, false
}

// Scope says whose traffic an alert was decided on.
type Scope string

// The scopes.
const (
	ScopeLocal  Scope = "local"  // one worker's share
	ScopeGlobal Scope = "global" // all of it
)

// Rule is one alert rule. It is immutable once its catalogue is built. All times are event time.
type Rule struct {
	Name   string // kebab-case, a token of the alert's subject
	Doc    string
	Type   Type
	Local  bool // each worker decides over its share, at once
	Global bool // the evaluator decides over all

	Severity int // 1 severe, 2 moderate, 3 mild, as in WSO2
	Labels   map[string]string
	// Stream and Value are of the local evaluation: whose events, and the
	// attribute that a per-event rule compares; -1 for counted.
	Stream string
	Value  int

	// Threshold is the bound, which must be exceeded, or, where Below, not be reached.
	Threshold float64
	Below     bool
	// Unset: there is no bound but where one is set at run time.
	Unset bool
	// AtLeast is how many events a window must have for its value to be judged;
	// of unseen and transition, how many a key must have had for it to be known.
	AtLeast int64
	// Window is the sliding window, and Step the resolution in which it slides.
	Window, Step time.Duration
	// Before is how much earlier the window lies that a change is measured against.
	Before time.Duration
	// For is how long the condition must hold before the alert fires, and KeepFiring how
	// long it must not before that is resolved.
	For, KeepFiring time.Duration
	// Suppress is how long after an alert the same key stays quiet.
	Suppress time.Duration
	// Forget is after how long without events a key is no longer known.
	Forget time.Duration
	// Lower and Upper are percentiles between which what is learned of a key lies.
	Lower, Upper float64
	// Learn, if there is one, says how bounds of keys are learned of the past.
	Learn *Learn
	// Member is the name under which alerts show what is unseen, or whose steps are followed.
	Member string
	// Cases are the rule's variants; a simple rule has one, named "".
	Cases []Case
}

// Case is one variant of a rule: which events, counted by which key.
type Case struct {
	Name string
	// Own is the rule with this case's figures in place of the rule's; nil where it has none.
	Own *Rule
	// Where is, for the local evaluation, a bool attribute that must be true; -1 takes every event.
	Where int
	Key   []KeyPart
	// Message is the text of the alert; {name} stands for a key part or a detail,
	// {value}, {threshold} and {window} for the rule's figures.
	Message string

	// Inputs are what the global evaluation takes in.
	Inputs  []Input
	Details []string // names of what alerts show beside the key
	// Merges are how the values of a step's events become one, by value.
	Merges []Merge
	// Compute is the value that is compared, of the number of events in a window and their
	// merged values; false where there is none. nil is the number of events.
	Compute func(n float64, values []float64) (float64, bool)
	// Stakeholder says whom the case concerns.
	Stakeholder StakeholderOf
}

// Input says what of the events of one stream is evidence for a case. All numbers are
// attribute indexes in that stream's schema, -1 where there is none.
type Input struct {
	Stream  string
	Where   int   // a bool that must be true
	Keys    []int // by key part
	Details []int // by detail
	Values  []int // by merge
	Member  int   // a text: what may be unseen, or whose steps are followed
	States  []int // texts: what a step leads to is them together, with a space between
	Hit     int   // a bool: whether the event counts for a run
}

// by is the rule with the figures that a case has.
func (r *Rule) by(c *Case) *Rule {
	if c.Own != nil {
		return c.Own
	}
	return r
}

// KeyPart is one attribute of an alert's key.
type KeyPart struct {
	Name      string
	Kind      event.Kind
	Attribute int
}

// Merge says how the values of several events become one.
type Merge uint8

// The merges.
const (
	Sum Merge = iota
	Min
	Max
)

// StakeholderOf says by which key parts or details a stakeholder is found; no Role: there is none.
type StakeholderOf struct {
	Role         Role
	User, Tenant string
}
