// Package alert decides, from folded events, what subscribers must be told.
//
// A [Rule] is data: which events matter, by which key, beyond which bound.
// [Local] evaluates the rules over one worker's share of the traffic, as the
// original system did: at once, and only on what that worker has seen. Its
// decisions are kept apart from its state until the flush transaction that
// carries them is committed, so that a flush that is rolled back leaves no
// trace. The package is pure: time is the events' own.
package alert

import (
	"time"

	"weir/pkg/event"
)

// Class says how a rule is decided.
type Class uint8

// The classes.
const (
	PerEvent Class = iota + 1 // one event decides: its value is above the threshold
	Counted                   // more than Threshold matching events of a key within Window
)

// String returns the name that definitions use.
func (c Class) String() string {
	switch c {
	case PerEvent:
		return "event"
	case Counted:
		return "counted"
	}
	return "Class(?)"
}

// Scope says whose traffic an alert was decided on.
type Scope string

// The scopes.
const (
	ScopeLocal  Scope = "local"  // one worker's share
	ScopeGlobal Scope = "global" // all of it
)

// Rule is one alert rule. It is immutable once its catalogue is built.
type Rule struct {
	Name     string // kebab-case, a token of the alert's subject
	Doc      string
	Class    Class
	Stream   string
	Severity int // 1 severe, 2 moderate, 3 mild, as in WSO2
	// Value is the attribute that a per-event rule compares; -1 for counted.
	Value int
	// Threshold is the bound that must be exceeded: of the value (per event),
	// or of the number of events in the window (counted). One that is set for a
	// key stands in its place, see [Thresholds].
	Threshold float64
	// Unset says that the rule has no threshold of its own: it is decided only for
	// keys for which one is set.
	Unset bool
	// Window is the sliding window of a counted rule, in event time.
	Window time.Duration
	// Suppress is how long after an alert the same key stays quiet, in event
	// time.
	Suppress time.Duration
	// Cases are the rule's variants; a simple rule has one, named "".
	Cases []Case
}

// Case is one variant of a rule: which events, counted by which key.
type Case struct {
	Name string
	// Where is a bool attribute that must be true; -1 takes every event.
	Where int
	Key   []KeyPart
	// Message is the text of the alert; {name} stands for a key part,
	// {value}, {threshold} and {window} for the rule's figures.
	Message string
}

// KeyPart is one attribute of an alert's key.
type KeyPart struct {
	Name      string
	Kind      event.Kind
	Attribute int
}
