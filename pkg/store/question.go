package store

import (
	"slices"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// Question is what package query understood, in terms of an aggregation's
// natural rows. A natural row is one bucket of the granularity Per with one
// value of every group key, merged over batches and shards.
//
// An answer has one row per value of Group. In Select, Having and Order a
// bare column is one value for the whole group: a column in Group is that
// value; a measure is merged from its parts (an average is never an average
// of averages); any other column shows its newest value. Inside an aggregate
// function, and in Where, a column is its value in one natural row. A sketched
// measure does not stand in Group.
//
// A question may be about two aggregations: see [Join].
//
// A measure that was added to an aggregation has no value in rows that are
// older. Whatever merges rows leaves out those without a value, an average also
// their number of events; where no row has one, the measure is absent.
//
// Who makes a Question has checked the kinds: DB.Ask trusts them, and puts
// nothing but placeholders where a Question has text or numbers.
type Question struct {
	Aggregation *aggregation.Definition
	// Join is the second aggregation; nil for none.
	Join *Join
	Per  aggregation.Granularity
	// From and Until select the natural rows whose bucket starts in
	// [From, Until), microseconds since 1970 UTC.
	From, Until int64
	// PerShard keeps the natural rows of different shards apart.
	PerShard bool

	Where  *Expr // of kind Bool, without functions; nil takes every natural row
	Group  []Field
	Select []Expr
	Having *Expr // of kind Bool; nil takes every group
	Order  []Order
	Limit  int // most rows; negative for no limit
	Offset int
	// Most is how many rows may come of it where SQL has no limit to keep to: what has
	// more is refused as [TooManyRows] before the first one. 0 is any number.
	Most int
	// Patient lets it take as long as its context does, for what nobody waits for.
	Patient bool
}

// Join makes a question one about two aggregations. A natural row then is one
// bucket with one value of every key that both have, and holds the measures of
// both. Where one of the two has nothing there, its counts and sums are 0 and
// its other measures absent.
type Join struct {
	// With is the second aggregation. It keeps Per and cuts its buckets by the
	// same zone.
	With *aggregation.Definition
	// Keys are those that both have: by number of a key of the first, the number
	// of the same key of the second. A question mentions no others.
	Keys map[int]int
	// NeedFirst and NeedSecond leave out the rows of the answer for which the
	// first or the second aggregation has no events.
	NeedFirst, NeedSecond bool
}

// Role says which part of a row a Field is.
type Role uint8

// The roles.
const (
	BucketField  Role = iota + 1 // start of the bucket, a Time
	ShardField                   // shard_id, a String; needs PerShard
	KeyField                     // group key number Index of Question.Aggregation
	MeasureField                 // measure number Index
)

// Field is one column of a natural row.
type Field struct {
	Role  Role
	Index int
	// Joined says of a measure that it is one of Question.Join.With.
	Joined bool
}

// Order is one term of the order of rows. Absent values come last.
type Order struct {
	By         Expr
	Descending bool
}

// Op is what an Expr computes.
type Op uint8

// The ops. Their operands are Expr.Args.
const (
	OpField    Op = iota + 1 // Expr.Field
	OpConstant               // Expr.Value
	OpAnd
	OpOr
	OpNot
	OpEqual // of two values of one kind, or two numbers; so are the next five
	OpNotEqual
	OpLess
	OpLessEqual
	OpGreater
	OpGreaterEqual
	OpIn // the first operand is one of the others
	OpContains
	OpStartsWith
	OpEndsWith
	OpAdd // of two numbers; so are the next three
	OpSubtract
	OpMultiply
	OpDivide // a Float, absent where the divisor is 0
	OpNegate
	OpSum // over natural rows; so are the next five
	OpMin
	OpMax
	OpAvg
	OpCount // number of natural rows, without operand
	OpLast  // value in the newest natural row
)

// Expr is an expression over natural rows.
type Expr struct {
	Op   Op
	Kind event.Kind // of its value
	Args []Expr
	// Field is the column of OpField.
	Field Field
	// Value is the constant of OpConstant: a string, int64, float64, bool or
	// time.Time, as Kind says.
	Value any
}

// Aggregates reports whether the op is a function over natural rows.
func (o Op) Aggregates() bool { return o >= OpSum }

// Walk calls visit for the expression and all its parts. inside tells whether
// the part is the operand of an aggregate function. A nil expression has none.
func (e *Expr) Walk(visit func(e *Expr, inside bool)) { e.walk(visit, false) }

func (e *Expr) walk(visit func(e *Expr, inside bool), inside bool) {
	if e == nil {
		return
	}
	visit(e, inside)
	for i := range e.Args {
		e.Args[i].walk(visit, inside || e.Op.Aggregates())
	}
}

// overGroups lists the expressions that are evaluated per group.
func (q *Question) overGroups() []*Expr {
	var all []*Expr
	for i := range q.Select {
		all = append(all, &q.Select[i])
	}
	if q.Having != nil {
		all = append(all, q.Having)
	}
	for i := range q.Order {
		all = append(all, &q.Order[i].By)
	}
	return all
}

// grouped reports whether the field is one of those grouped by.
func (q *Question) grouped(f Field) bool { return slices.Contains(q.Group, f) }

// measure returns the field's measure; the field must be one.
func (q *Question) measure(f Field) aggregation.Measure {
	return q.definition(f.Joined).Measures[f.Index]
}

// definition returns the first aggregation or the joined one.
func (q *Question) definition(joined bool) *aggregation.Definition {
	if joined {
		return q.Join.With
	}
	return q.Aggregation
}

// sides lists the values of Field.Joined that a field of the question can have.
func (q *Question) sides() []bool {
	if q.Join == nil {
		return []bool{false}
	}
	return []bool{false, true}
}

// keys lists the keys that tell natural rows apart.
func (q *Question) keys() []int {
	var keys []int
	for i := range q.Aggregation.Keys {
		if q.Join != nil {
			if _, ok := q.Join.Keys[i]; !ok {
				continue
			}
		}
		keys = append(keys, i)
	}
	return keys
}

// key returns what an aggregation of the question calls the key number i.
func (q *Question) key(i int, joined bool) aggregation.Key {
	if joined {
		return q.Join.With.Keys[q.Join.Keys[i]]
	}
	return q.Aggregation.Keys[i]
}

// direct reports whether the groups can be made from stored rows in one step.
// They cannot where something depends on how the natural rows are cut: their
// number, the value of a measure in one of them, a sum of their averages.
func (q *Question) direct() bool {
	direct := true
	perRow := func(f Field) {
		direct = direct && f.Role != MeasureField
	}
	q.Where.Walk(func(e *Expr, _ bool) {
		if e.Op == OpField {
			perRow(e.Field)
		}
	})
	for _, f := range q.Group {
		perRow(f)
	}
	for _, e := range q.overGroups() {
		e.Walk(func(e *Expr, _ bool) {
			if e.Op.Aggregates() {
				direct = direct && q.merges(e)
			}
		})
	}
	return direct
}

// merges reports whether the function gives over stored rows what it gives
// over natural rows.
func (q *Question) merges(e *Expr) bool {
	if len(e.Args) != 1 || e.Args[0].Op != OpField {
		return false
	}
	f := e.Args[0].Field
	if f.Role != MeasureField {
		return e.Op == OpLast || f.Role != BucketField && (e.Op == OpMin || e.Op == OpMax)
	}
	switch q.measure(f).Op {
	case aggregation.Count, aggregation.Sum:
		return e.Op == OpSum
	case aggregation.Min:
		return e.Op == OpMin
	case aggregation.Max:
		return e.Op == OpMax
	case aggregation.Last:
		return e.Op == OpLast
	case aggregation.Avg, aggregation.First:
	case aggregation.Distinct, aggregation.Quantile, aggregation.Deviation:
	}
	return false
}

// parts is which columns of the stored rows a question needs.
type parts struct {
	keys        []int   // ascending
	measures    []Field // that have a column of their own, in the order of their places
	shard       bool
	age, oldest bool
}

// parts collects the columns that the question mentions, itself or through
// the natural rows it is about.
func (q *Question) parts() parts {
	p := parts{shard: q.PerShard}
	add := func(f Field) {
		switch f.Role {
		case KeyField:
			p.keys = append(p.keys, f.Index)
		case MeasureField:
			p.age = p.age || q.measure(f).Op == aggregation.Last
			p.oldest = p.oldest || q.measure(f).Op == aggregation.First
			if f = q.stored(f); q.measure(f).Stored() {
				p.measures = append(p.measures, f)
			}
		case BucketField, ShardField:
		}
	}
	for _, f := range q.Group {
		add(f)
	}
	q.Where.Walk(func(e *Expr, _ bool) {
		if e.Op == OpField {
			add(e.Field)
		}
	})
	for _, e := range q.overGroups() {
		e.Walk(func(e *Expr, inside bool) {
			p.age = p.age || e.Op == OpLast
			if e.Op == OpField {
				add(e.Field)
				p.age = p.age || !inside && !q.grouped(e.Field) && e.Field.Role != MeasureField
			}
		})
	}
	if !q.direct() {
		p.keys = q.keys()
	}
	slices.Sort(p.keys)
	p.keys = slices.Compact(p.keys)
	slices.SortFunc(p.measures, func(a, b Field) int { return strings.Compare(a.column("m"), b.column("m")) })
	p.measures = slices.Compact(p.measures)
	return p
}

// stored returns the field of the measure that holds what this one is computed
// from.
func (q *Question) stored(f Field) Field {
	f.Index = q.definition(f.Joined).Column(f.Index)
	return f
}
