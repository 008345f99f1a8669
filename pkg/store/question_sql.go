package store

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// The SQL of a question has one shape, whatever is asked:
//
//	SELECT … FROM (rows) r WHERE … GROUP BY … HAVING … ORDER BY …
//
// rows are stored rows, one per group and batch, or natural rows, which are
// stored rows merged. Both have the same columns, so all else is the same
// over both:
//
//	bucket, shard_id
//	k0, k1, …   group keys
//	n           number of events
//	m0, m1, …   measures as stored: sum, min, max, oldest or newest value, or
//	            sketches, which are merged by joining them (see finishing)
//	age         text that sorts as the rows' newest events do
//	oldest      the same of their oldest events
//
// Texts compare byte by byte: the tables' columns have the collation C.
type statement struct {
	question *Question
	parts    parts
	sql      strings.Builder
	args     []any
}

// statement writes the question as SQL. The kinds of the columns it returns
// are those of q.Select.
func (q *Question) statement(s span) (text string, args []any) {
	st := &statement{question: q, parts: q.parts()}
	st.printf("SELECT ")
	for i := range q.Select {
		st.comma(i)
		st.printf("%s AS c%d", st.group(&q.Select[i]), i)
	}
	st.printf("\nFROM (")
	if q.direct() {
		st.stored(s)
	} else {
		st.natural(s)
	}
	st.printf(") r\n")
	if q.Where != nil {
		st.printf("WHERE %s\n", st.row(q.Where))
	}
	st.groupBy()
	st.orderBy()
	if q.Limit >= 0 {
		st.printf("LIMIT %s ", st.arg(q.Limit, "bigint"))
	}
	if q.Offset > 0 {
		st.printf("OFFSET %s", st.arg(q.Offset, "bigint"))
	}
	return st.sql.String(), st.args
}

// stored selects the stored rows that feed the question: those of the level it
// asks for, and what that level lacks, from its parent past its watermark, and
// so on down to the finest. Which tables, and which part of them, is decided
// here and nowhere else.
func (st *statement) stored(s span) {
	def := st.question.Aggregation
	for i, source := range s.sources {
		if i > 0 {
			st.printf("\n\tUNION ALL ")
		}
		packed := source.level == def.Finest()
		st.printf("SELECT %s AS bucket", st.bucket(s, source.level))
		if st.parts.shard {
			st.printf(", shard_id")
		}
		for _, i := range slices.Sorted(maps.Keys(st.parts.keys)) {
			st.printf(", %s AS k%d", groupColumn(ident(def.Keys[i].Name), packed), i)
		}
		st.printf(", %s AS n", groupColumn(colEvents, packed))
		for _, i := range slices.Sorted(maps.Keys(st.parts.measures)) {
			if m := def.Measures[i]; m.Stored() {
				st.printf(", %s AS m%d", groupColumn(ident(m.Name), packed), i)
			}
		}
		if st.parts.age {
			st.printf(", %s AS age", age(def, packed))
		}
		if st.parts.oldest {
			st.printf(", %s AS oldest", moment(colFirstAt, colFirstSeq, packed))
		}
		from := s.from
		if source.level == st.question.Per && s.starts != nil {
			from = s.starts[0] // its rows carry the label, which may lie before the edge
		}
		st.printf("\n\tFROM %s WHERE bucket >= %s AND bucket < %s", tableOf(def, source.level),
			st.arg(instant(from), "timestamptz"), st.arg(instant(s.until), "timestamptz"))
		st.past(source.past)
	}
}

// past limits the rows to those past the watermark of their shard.
func (st *statement) past(watermarks map[string]int64) {
	if len(watermarks) == 0 {
		return
	}
	shards := slices.Sorted(maps.Keys(watermarks))
	st.printf(" AND (shard_id <> ALL (%s)", st.arg(pq.Array(shards), "text[]"))
	for _, shard := range shards {
		st.printf(" OR shard_id = %s AND batch_no > %s", st.arg(shard, "text"), st.arg(watermarks[shard], "bigint"))
	}
	st.printf(")")
}

// age returns a text whose order is that of the events: by time, then by
// place in the stream. Both are shifted to 19 digits each, for the years 1 to
// 9999. Where an aggregation keeps no newest event the bucket has to do.
func age(def *aggregation.Definition, packed bool) string {
	if !def.HasLast() {
		return `(extract(epoch FROM bucket)::bigint + 2000000000000000000)::text COLLATE "C"`
	}
	return moment(colLastAt, colLastSeq, packed)
}

// moment is age of the event whose time and sequence two columns hold.
func moment(at, sequence string, packed bool) string {
	return fmt.Sprintf(`((%s + 2000000000000000000)::text || (%s + 1000000000000000000)::text) COLLATE "C"`,
		groupColumn(at, packed), groupColumn(sequence, packed))
}

// tableOf returns the table of a level as SQL names it.
func tableOf(def *aggregation.Definition, level aggregation.Granularity) string {
	return "weir_data." + pq.QuoteIdentifier(TableName(def, level))
}

// bucket returns the start of the bucket that a stored row of a level falls
// into.
func (st *statement) bucket(s span, level aggregation.Granularity) string {
	switch {
	case level == st.question.Per:
		return "bucket"
	case s.width > 0:
		return fmt.Sprintf("date_bin('%d microseconds', bucket, 'epoch')", s.width)
	case s.edges != nil:
		return fmt.Sprintf("(%s)[width_bucket(bucket, %s)]",
			st.arg(instants(s.starts), "timestamptz[]"), st.arg(instants(s.edges), "timestamptz[]"))
	}
	return "bucket"
}

func instants(times []int64) pq.StringArray {
	texts := make(pq.StringArray, len(times))
	for i, t := range times {
		texts[i] = instant(t).Format(time.RFC3339Nano)
	}
	return texts
}

// natural merges stored rows into natural rows.
func (st *statement) natural(s span) {
	def := st.question.Aggregation
	by := []string{"r.bucket"}
	if st.parts.shard {
		by = append(by, "r.shard_id")
	}
	for i := range def.Keys {
		by = append(by, fmt.Sprintf("r.k%d", i))
	}
	st.printf("SELECT %s, sum(r.n) AS n", strings.Join(by, ", "))
	for _, i := range slices.Sorted(maps.Keys(st.parts.measures)) {
		if def.Measures[i].Stored() {
			st.printf(", %s AS m%d", st.merged(i), i)
		}
	}
	if st.parts.age {
		st.printf(", max(r.age) AS age")
	}
	if st.parts.oldest {
		st.printf(", min(r.oldest) AS oldest")
	}
	st.printf("\n\tFROM (")
	st.stored(s)
	st.printf(") r\n\tGROUP BY %s", strings.Join(by, ", "))
}

// merged returns the stored part of measure i, which has a column of its own,
// over several rows.
func (st *statement) merged(i int) string {
	column := fmt.Sprintf("r.m%d", i)
	switch m := st.question.Aggregation.Measures[i]; m.Op {
	case aggregation.Count, aggregation.Sum, aggregation.Avg:
		return "sum(" + column + ")"
	case aggregation.Min:
		return least("min", column, m.ArgKind)
	case aggregation.Max:
		return least("max", column, m.ArgKind)
	case aggregation.Last:
		return newest(column, m.ArgKind)
	case aggregation.First:
		return oldest(column, m.ArgKind)
	case aggregation.Distinct, aggregation.Quantile, aggregation.Deviation:
		return "string_agg(" + column + ", ''::bytea)"
	}
	panic("store: measure without op")
}

// least returns the extreme value of a column. Postgres has no min and max of
// booleans.
func least(function, column string, kind event.Kind) string {
	if kind == event.Bool {
		return map[string]string{"min": "bool_and", "max": "bool_or"}[function] + "(" + column + ")"
	}
	return function + "(" + column + ")"
}

// newest returns the value that a column has in the newest row. The greatest
// array is that with the greatest age; it needs no sorting and no memory, and
// among equal ages the value itself decides.
func newest(column string, kind event.Kind) string {
	return fmt.Sprintf("(max(ARRAY[r.age, %s::text]))[2]::%s", column, castType(kind))
}

// oldest returns the value that a column has in the oldest row.
func oldest(column string, kind event.Kind) string {
	return fmt.Sprintf("(min(ARRAY[r.oldest, %s::text]))[2]::%s", column, castType(kind))
}

func (st *statement) groupBy() {
	q := st.question
	by := make([]string, len(q.Group))
	for i, f := range q.Group {
		by[i] = st.rowField(f)
	}
	if len(by) == 0 {
		by = []string{"()"}
	}
	// One row over nothing is no row.
	st.printf("GROUP BY %s HAVING count(*) > 0", strings.Join(by, ", "))
	if q.Having != nil {
		st.printf(" AND %s", st.group(q.Having))
	}
	st.printf("\n")
}

func (st *statement) orderBy() {
	for i := range st.question.Order {
		if i == 0 {
			st.printf("ORDER BY ")
		}
		st.comma(i)
		o := &st.question.Order[i]
		direction := "ASC"
		if o.Descending {
			direction = "DESC"
		}
		st.printf("%s %s NULLS LAST", st.group(&o.By), direction)
	}
	st.printf("\n")
}

// rowField returns a column's value in one natural row.
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
	switch st.question.measure(f).Op { //nolint:exhaustive // all others are as stored
	case aggregation.Count:
		return "r.n"
	case aggregation.Avg:
		return ratio(fmt.Sprintf("r.m%d", f.Index), "r.n")
	}
	return fmt.Sprintf("r.m%d", f.Index)
}

// groupField returns a column's one value for a group.
func (st *statement) groupField(f Field, kind event.Kind) string {
	switch {
	case st.question.grouped(f):
		return st.rowField(f)
	case f.Role != MeasureField:
		return newest(st.rowField(f), kind)
	}
	switch st.question.measure(f).Op { //nolint:exhaustive // all others are as stored
	case aggregation.Count:
		return "sum(r.n)"
	case aggregation.Avg:
		return ratio(st.merged(f.Index), "sum(r.n)")
	}
	return st.merged(st.question.Aggregation.Column(f.Index))
}

func ratio(a, b string) string { return fmt.Sprintf("(%s::float8 / %s::float8)", a, b) }

// arg adds an argument and returns its placeholder.
func (st *statement) arg(value any, sqlType string) string {
	st.args = append(st.args, value)
	return "$" + strconv.Itoa(len(st.args)) + "::" + sqlType
}

func (st *statement) printf(format string, args ...any) { fmt.Fprintf(&st.sql, format, args...) }

func (st *statement) comma(i int) {
	if i > 0 {
		st.printf(", ")
	}
}
