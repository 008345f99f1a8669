// Package aggregation folds events into time-bucketed aggregates.
//
// A [Definition] says what is counted: which streams feed it, by which group
// keys, which measures, at which granularities. A [Folder] takes the decoded
// events of a batch and returns a [Delta]: what that batch adds to each
// aggregation at its finest granularity. Deltas add up in any order, over any
// number of shards; that is what lets every worker write rows of its own. A
// [Cascade] adds them up for the coarser granularities.
//
// There are two ways for events into groups. A folding takes a batch as columns,
// block by block, and trusts hashes that it checks afterwards; what it finds
// that it cannot do, which is rare, a table does event by event. The same tables
// hold the coarser levels.
//
// The package is pure: no clock, no I/O, no goroutine.
package aggregation

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/event"
)

// Op is what a measure computes, and so how its values merge.
type Op uint8

// The ops.
const (
	Count     Op = iota + 1 // number of events
	Sum                     // sum of the argument
	Avg                     // sum of the argument / number of events
	Min                     // smallest argument
	Max                     // largest argument
	Last                    // argument of the newest event (see [Folder.Fold])
	First                   // argument of the oldest event, in the same order
	Distinct                // number of different arguments: exact up to 512, within 2 % beyond
	Quantile                // the argument that Measure.Percent of all do not exceed, within 1 %
	Deviation               // population standard deviation of the argument, as Siddhi's stdDev
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
	case First:
		return "first"
	case Distinct:
		return "distinct_count"
	case Quantile:
		return "percentile"
	case Deviation:
		return "stddev"
	}
	return "Op(?)"
}

// Ops lists all ops.
func Ops() []Op {
	return []Op{Count, Sum, Avg, Min, Max, First, Last, Distinct, Quantile, Deviation}
}

// ParseOp reads the name of an op; distinctCount and stdDev are Siddhi's
// spellings.
func ParseOp(name string) (Op, bool) {
	switch name {
	case "distinctCount":
		return Distinct, true
	case "stdDev":
		return Deviation, true
	}
	for _, op := range Ops() {
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
	// min, max, first or last has this kind.
	ArgKind event.Kind
	// Percent says which quantile: 50 is the median, 99.9 what one of a
	// thousand values exceeds. It is above 0 and below 100.
	Percent float64
	// Shares names the measure whose column this one reads: quantiles of one
	// argument are all computed from the same sketch. "" has its own.
	Shares string
}

// Kind returns the kind of the measure's value in an answer.
func (m Measure) Kind() event.Kind {
	switch m.Op {
	case Count, Distinct:
		return event.Int
	case Avg, Quantile, Deviation:
		return event.Float
	case Sum, Min, Max, First, Last:
	}
	return m.ArgKind
}

// Stored reports whether the measure has a column of its own; a count is the
// number of events that every group carries anyway.
func (m Measure) Stored() bool { return m.Op != Count && m.Shares == "" }

// Sketched reports whether what is stored is no value but a sketch, from which
// [Measure.Finish] computes the value.
func (m Measure) Sketched() bool {
	return m.Op == Distinct || m.Op == Quantile || m.Op == Deviation
}

// MaxMeasures is how many measures an aggregation may have: one bit each.
const MaxMeasures = 64

// MissingBit is the bit that measure i has in [Part].Missing.
func MissingBit(i int) event.Cell { return event.Cell(uint64(1) << i) }

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
	Name string
	// Filter is the condition on events as the definition wrote it; "" takes all.
	Filter string
	// Version tells definitions of one name apart that cannot share tables; 0
	// and 1 are the first.
	Version  int
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
	// PartitionByID makes shard_id a column of the answers. Rows are stored by
	// shard in any case, so it can be switched on for rows that are there.
	PartitionByID bool
	// MaxGroups caps the groups of a bucket in each shard; those beyond it are
	// folded into [OtherGroup]. 0 is no cap. It needs a key that is a text.
	MaxGroups int
	Inputs    []Input
}

// ID names the definition among all that have tables: the name, from the
// second version on with the version, as in Calls@2.
func (d *Definition) ID() string {
	if d.Version <= 1 {
		return d.Name
	}
	return d.Versioned()
}

// Versioned names the definition among all versions: as [Definition.ID], but the
// first one has its version too, as in Calls@1.
func (d *Definition) Versioned() string {
	return d.Name + "@" + strconv.Itoa(max(1, d.Version))
}

// Table returns the name that a level's table has in the database, within
// weir_data: lower case, so that people can write it in any case and without
// quotes.
func (d *Definition) Table(level Granularity) string { return relation(d.ID(), level) }

// View returns the name that a level's view has, within weir_view: calls_days is
// always that of the version that is current, others have their version in it,
// as calls@1_days.
func (d *Definition) View(level Granularity, current bool) string {
	if current {
		return relation(d.Name, level)
	}
	return relation(d.Versioned(), level)
}

func relation(name string, level Granularity) string {
	return strings.ToLower(name) + "_" + strings.ReplaceAll(level.String(), " ", "_")
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

// Packed reports whether a level is stored as packed rows, which hold many groups
// of a bucket each, and not as a row per group: where buckets are shorter than a
// day, so that their groups are written often and read seldom, and at the finest
// level.
func (d *Definition) Packed(level Granularity) bool {
	return level < Days || level == d.Finest()
}

// Weight is how many packed groups cost about as much to write as one group of
// the level does.
func (d *Definition) Weight(level Granularity) int {
	if d.Packed(level) {
		return 1
	}
	return 8
}

// Column returns the place of the measure that holds what measure i is
// computed from: its own, unless it shares another's.
func (d *Definition) Column(i int) int {
	if of := d.Measures[i].Shares; of != "" {
		return d.MeasureIndex(of)
	}
	return i
}

// HasLast reports whether a measure needs the time of the newest event.
func (d *Definition) HasLast() bool { return d.has(Last) }

// HasFirst reports whether a measure needs the time of the oldest event.
func (d *Definition) HasFirst() bool { return d.has(First) }

func (d *Definition) has(op Op) bool {
	return slices.ContainsFunc(d.Measures, func(m Measure) bool { return m.Op == op })
}
