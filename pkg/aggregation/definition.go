// Package aggregation folds events into time-bucketed aggregates.
//
// A [Definition] says what is counted: which streams feed it, by which group
// keys, which measures, at which granularities. [Fold] takes the decoded
// events of a batch and returns a [Delta]: what that batch adds to each
// aggregation at its finest granularity. Deltas add up in any order, over any
// number of shards; that is what lets every worker write rows of its own.
//
// The package is pure: no clock, no I/O, no goroutine.
package aggregation

import (
	"slices"
	"time"

	"weir/pkg/event"
)

// Op is what a measure computes, and so how its values merge.
type Op uint8

// The ops.
const (
	Count Op = iota + 1 // number of events
	Sum                 // sum of the argument
	Avg                 // sum of the argument / number of events
	Min                 // smallest argument
	Max                 // largest argument
	Last                // argument of the newest event (see Fold)
)

// String returns the name that definitions use.
func (o Op) String() string {
	switch o {
	case Count:
		return "count"
	case Sum:
		return "sum"
	case Avg:
		return "avg"
	case Min:
		return "min"
	case Max:
		return "max"
	case Last:
		return "last"
	}
	return "Op(?)"
}

// ParseOp reads the name of an op.
func ParseOp(name string) (Op, bool) {
	for _, op := range []Op{Count, Sum, Avg, Min, Max, Last} {
		if op.String() == name {
			return op, true
		}
	}
	return 0, false
}

// Key is one group key: a column of the answer and of the tables.
type Key struct {
	Name string
	Kind event.Kind
}

// Measure is one computed column.
type Measure struct {
	Name string
	Op   Op
	// Arg is the argument as the definition wrote it; "" for count.
	Arg string
	// ArgKind is the kind of the argument's values; what is stored for a sum,
	// min, max or last has this kind.
	ArgKind event.Kind
}

// Kind returns the kind of the measure's value in an answer.
func (m Measure) Kind() event.Kind {
	switch m.Op {
	case Count:
		return event.Int
	case Avg:
		return event.Float
	case Sum, Min, Max, Last:
	}
	return m.ArgKind
}

// Stored reports whether the measure has a column of its own; a count is the
// number of events that every group carries anyway.
func (m Measure) Stored() bool { return m.Op != Count }

// Input says how the events of one stream feed an aggregation. All numbers
// are attribute indexes in that stream's schema.
type Input struct {
	Stream string
	// Where is a bool attribute that must be true; -1 takes every event.
	Where int
	Keys  []int // by key
	Args  []int // by measure; -1 where it has no argument
}

// Forever keeps rows for ever.
const Forever time.Duration = 0

// Definition is one aggregation. It is immutable once its catalogue is built.
type Definition struct {
	Name     string
	Doc      string
	Keys     []Key
	Measures []Measure
	// Granularities holds the levels that are kept, finest first.
	Granularities []Granularity
	// Retention says how long the rows of a level are kept, by bucket start.
	// A level that is not named is kept for ever.
	Retention map[Granularity]time.Duration
	// Zone cuts hours, days, months and years.
	Zone *time.Location
	// PartitionByID gives every worker rows of its own (SHARD_ID in the
	// primary key).
	PartitionByID bool
	Inputs        []Input
}

// Finest returns the finest granularity that is kept.
func (d *Definition) Finest() Granularity { return d.Granularities[0] }

// Keeps reports whether the level is one that can be asked for.
func (d *Definition) Keeps(g Granularity) bool { return slices.Contains(d.Granularities, g) }

// KeyIndex returns the place of the named key, or -1.
func (d *Definition) KeyIndex(name string) int {
	return slices.IndexFunc(d.Keys, func(k Key) bool { return k.Name == name })
}

// MeasureIndex returns the place of the named measure, or -1.
func (d *Definition) MeasureIndex(name string) int {
	return slices.IndexFunc(d.Measures, func(m Measure) bool { return m.Name == name })
}

// HasLast reports whether a measure needs the time of the newest event.
func (d *Definition) HasLast() bool {
	return slices.ContainsFunc(d.Measures, func(m Measure) bool { return m.Op == Last })
}
