package store

import (
	"fmt"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// rowField returns a column's value in one row; a measure's in one natural row.
func (st *statement) rowField(f Field) string {
	switch f.Role {
	case BucketField:
		return "r.bucket"
	case ShardField:
		return "r.shard_id"
	case KeyField:
		return fmt.Sprintf("r.k%d", f.Index)
	case MeasureField:
	}
	stored := st.question.stored(f)
	column, n := "r."+stored.column("m"), "r."+prefixed(f.Joined, "n")
	switch m := st.question.measure(f); m.Op { //nolint:exhaustive // all others are as stored
	case aggregation.Count:
		return n
	case aggregation.Sum:
		return st.orNothing("0", n, column)
	case aggregation.Avg:
		return ratio(column, "r."+f.column("e"))
	case aggregation.First, aggregation.Last:
		return valueOf(column, m.ArgKind)
	case aggregation.Distinct:
		return st.orNothing("0", n, "weir_view.distinct_count("+column+")")
	case aggregation.Quantile:
		return fmt.Sprintf("weir_view.quantile(%s, %v)", column, m.Percent)
	case aggregation.Deviation:
		return "weir_view.stddev(" + column + ")"
	}
	return column
}

// groupField returns a column's one value for a group.
func (st *statement) groupField(f Field, kind event.Kind) string {
	switch {
	case st.question.grouped(f):
		return st.rowField(f)
	case f.Role != MeasureField:
		return lastOf(st.rowField(f), kind)
	}
	return st.measureField(f)
}

// measureField returns a measure's value for a group.
func (st *statement) measureField(f Field) string {
	f = st.question.stored(f)
	n, stored := "sum(r."+prefixed(f.Joined, "n")+")", st.question.direct()
	switch m := st.question.measure(f); m.Op { //nolint:exhaustive // all others are as merged
	case aggregation.Count:
		return n
	case aggregation.Sum:
		return st.orNothing("0", n, st.merged(f, stored))
	case aggregation.Avg:
		return ratio(st.merged(f, stored), averaged(f, stored))
	case aggregation.First, aggregation.Last:
		return valueOf(st.merged(f, stored), m.ArgKind)
	case aggregation.Distinct:
		return st.orNothing("''::bytea", n, st.merged(f, stored))
	}
	return st.merged(f, stored)
}

// orNothing returns the value or, where the aggregation has no events, which
// only happens in a join, nothing: that is not the same as not known.
func (st *statement) orNothing(nothing, n, value string) string {
	if st.question.Join == nil {
		return value
	}
	return fmt.Sprintf("CASE WHEN %s = 0 THEN %s ELSE %s END", n, nothing, value)
}

func ratio(a, b string) string { return fmt.Sprintf("(%s::float8 / %s::float8)", a, b) }

// merged returns what is stored of a measure, which has a column of its own,
// over several rows, stored or natural: nothing where no row has it. The oldest
// and newest values come as arrays: see valueOf.
func (st *statement) merged(f Field, stored bool) string {
	column := "r." + f.column("m")
	switch m := st.question.measure(f); m.Op {
	case aggregation.Count, aggregation.Sum, aggregation.Avg:
		return "sum(" + column + ")"
	case aggregation.Min:
		return least("min", column, m.ArgKind)
	case aggregation.Max:
		return least("max", column, m.ArgKind)
	case aggregation.Last:
		if stored {
			return newest("r.age", column)
		}
		return "max(" + column + ")"
	case aggregation.First:
		if stored {
			return oldest("r.oldest", column)
		}
		return "min(" + column + ")"
	case aggregation.Distinct, aggregation.Quantile, aggregation.Deviation:
		return "string_agg(" + column + ", ''::bytea)"
	}
	panic("store: measure without op")
}

// averaged returns the number of events that an average is over, of several
// rows: those of the rows that have it.
func averaged(f Field, stored bool) string {
	if stored {
		return fmt.Sprintf("sum(r.%s) FILTER (WHERE r.%s IS NOT NULL)", prefixed(f.Joined, "n"), f.column("m"))
	}
	return "sum(r." + f.column("e") + ")"
}

// least returns the extreme value of a column. Postgres has no min and max of
// booleans.
func least(function, column string, kind event.Kind) string {
	if kind == event.Bool {
		return map[string]string{"min": "bool_and", "max": "bool_or"}[function] + "(" + column + ")"
	}
	return function + "(" + column + ")"
}

// newest returns the age and the text of the newest value of several rows. The
// greatest array is that with the greatest age; it needs no sorting and no
// memory, and among equal ages the value itself decides.
func newest(age, value string) string {
	return fmt.Sprintf("max(ARRAY[%s, %s::text]) FILTER (WHERE %[2]s IS NOT NULL)", age, value)
}

// oldest is newest of the oldest value.
func oldest(age, value string) string {
	return fmt.Sprintf("min(ARRAY[%s, %s::text]) FILTER (WHERE %[2]s IS NOT NULL)", age, value)
}

// valueOf returns the value in what newest and oldest return.
func valueOf(array string, kind event.Kind) string {
	return fmt.Sprintf("(%s)[2]::%s", array, castType(kind))
}

// lastOf returns the value that an expression over rows has in the newest of
// them that has one. Rows from before an aggregation kept the times of its
// newest events go by their bucket.
func lastOf(value string, kind event.Kind) string {
	return valueOf(newest("coalesce(r.age, "+bucketAge("r.bucket")+")", value), kind)
}
