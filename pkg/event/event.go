// Package event turns what gateways publish into columns that can be folded.
//
// A message carries 1..N events of one stream (request, fault, throttle, …).
// [Schema] says which attributes an event of that stream has; [Decoder] reads
// a message body into [Columns], one typed column per attribute, with every
// text interned in a [Dictionary], so that the rest of the data path handles
// 64-bit cells only. An event that breaks its schema becomes a [Reject] with
// a reason; its neighbours in the message are kept.
//
// There are two readers. The exact one, on a JSON library's tokens, says what an
// event is. In front of it a scanner that knows the schema reads the common form
// at a fraction of the cost and leaves to the exact one whatever is not of that
// form; it may never accept anything, or say anything, that the exact one would
// not. Columns and dictionaries are made to be used for one batch after another:
// events like those before cost no memory.
//
// The package is pure: no clock, no I/O. What it needs to know of the outside
// (when the message was stored) is an argument.
package event

import (
	"fmt"
	"math"
	"time"
)

// Kind is the type of an attribute's values.
type Kind uint8

// The kinds, and what a [Cell] holds for each.
const (
	String Kind = iota + 1 // index into the Dictionary
	Int                    // the integer itself
	Float                  // math.Float64bits
	Bool                   // 0 or 1
	Time                   // microseconds since 1970-01-01 UTC
)

// String returns the name that definitions use.
func (k Kind) String() string {
	switch k {
	case String:
		return "string"
	case Int:
		return "int"
	case Float:
		return "float"
	case Bool:
		return "bool"
	case Time:
		return "time"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// ParseKind reads what String returns.
func ParseKind(name string) (Kind, bool) {
	for k := String; k <= Time; k++ {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}

// Numeric reports whether values of the kind can be added.
func (k Kind) Numeric() bool { return k == Int || k == Float }

// Cell is one value in 64 bits; its attribute's Kind says how to read it.
type Cell int64

// FloatCell returns the cell that holds f.
func FloatCell(f float64) Cell { return Cell(math.Float64bits(f)) }

// BoolCell returns the cell that holds b.
func BoolCell(b bool) Cell {
	if b {
		return 1
	}
	return 0
}

// Float reads a cell of kind Float.
func (c Cell) Float() float64 { return math.Float64frombits(uint64(c)) }

// Value is a constant of some kind outside a Dictionary: Text for strings,
// Cell for all others.
type Value struct {
	Text string
	Cell Cell
}

// Eval computes a derived attribute from the columns before it. It interns
// texts in c.Dict. An error rejects the event.
type Eval func(c *Columns, row int) (Cell, error)

// HiddenPrefix begins the names of attributes that stand for expressions in
// aggregations and rules: the rest is the expression. No attribute that is sent
// or derived has such a name.
const HiddenPrefix = "="

// Attribute is one column of a stream.
type Attribute struct {
	Name string
	Doc  string
	Kind Kind
	// Unit is what a time sent as a number counts: time.Second, Millisecond,
	// Microsecond or Nanosecond. Texts are read as they say.
	Unit time.Duration
	// Required rejects an event without the attribute; otherwise Default is
	// taken where it is missing or null.
	Required bool
	Default  Value
	// IfEmpty computes a text from the other attributes that are sent, where the
	// event has none or an empty one; nil leaves it.
	IfEmpty Eval
	// Min, when set, is the smallest number accepted (durations and sizes: 0).
	Min *float64
	// Derive computes the attribute; nil for those that gateways send.
	Derive Eval
}

// Schema describes the events of one stream.
type Schema struct {
	Name string
	Doc  string
	// Attributes holds those that gateways send first, then the derived ones,
	// each after all it is computed from.
	Attributes []Attribute
	// EventTime is the index of the attribute that says when the event
	// happened; -1 takes the time at which its message was stored.
	EventTime int
	// Future bounds how far an event's time may lie after the time its
	// message was stored; 0 means no bound.
	Future time.Duration
	// Past bounds how far an event's time may lie before the time its message
	// was stored; 0 means no bound.
	Past time.Duration

	index map[string]int
}

// Index returns the place of the named attribute, or -1.
func (s *Schema) Index(name string) int {
	if s.index == nil { // a schema under construction
		for i := range s.Attributes {
			if s.Attributes[i].Name == name {
				return i
			}
		}
		return -1
	}
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// Seal ends construction: it builds the name index that decoding uses. A
// sealed schema must not be changed; it may be shared by any number of
// goroutines.
func (s *Schema) Seal() {
	index := make(map[string]int, len(s.Attributes))
	for i := range s.Attributes {
		index[s.Attributes[i].Name] = i
	}
	s.index = index
}
