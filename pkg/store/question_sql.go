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
// stored rows merged. Their columns:
//
//	bucket, shard_id
//	k0, k1, …   group keys
//	n           number of events
//	m0, m1, …   measures as stored: sum, min, max, oldest or newest value, or
//	            sketches, which are merged by joining them (see finishing); of
//	            natural rows, the oldest and newest values are arrays: see moment
//	e0, e1, …   of natural rows only: the events an average is over
//	age         text that sorts as the rows' newest events do
//	oldest      the same of their oldest events
//
// In a join the second aggregation's rows are stored rows as well, one UNION
// ALL further. Its columns are jn, jm0, … and je0, …; a stored row has 0 and
// NULL in those of the other aggregation, which merging leaves out.
//
// Texts compare byte by byte: the tables' columns have the collation C.
type statement struct {
	question *Question
	parts    parts
	sql      strings.Builder
	args     []any
}

// column names the column of a measure: letter and number, after a j if the
// measure is the joined aggregation's.
func (f Field) column(letter string) string {
	return prefixed(f.Joined, letter) + strconv.Itoa(f.Index)
}

// prefixed names a column that each aggregation has.
func prefixed(joined bool, letter string) string {
	if joined {
		return "j" + letter
	}
	return letter
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
	if q.counted() {
		st.printf(", count(*) OVER () AS total")
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
	for i, source := range s.sources {
		if i > 0 {
			st.printf("\n\tUNION ALL ")
		}
		st.source(s, source)
	}
}

func (st *statement) source(s span, source source) {
	q := st.question
	def := q.definition(source.joined)
	level := source.level
	st.printf("SELECT %s AS bucket", st.bucket(s, source.level))
	if st.parts.shard {
		st.printf(", shard_id")
	}
	for _, i := range st.parts.keys {
		st.printf(", %s AS k%d", groupColumn(def, keyColumn(q.key(i, source.joined)), level), i)
	}
	for _, joined := range q.sides() {
		n := "0::bigint"
		if joined == source.joined {
			n = groupColumn(def, column{colEvents, event.Int}, level)
		}
		st.printf(", %s AS %s", n, prefixed(joined, "n"))
	}
	for _, f := range st.parts.measures {
		m := q.measure(f)
		value := "NULL::" + storedType(m)
		if f.Joined == source.joined {
			value = groupColumn(def, measureColumn(m), level)
		}
		st.printf(", %s AS %s", value, f.column("m"))
	}
	if st.parts.age {
		st.printf(", %s AS age", age(def, level))
	}
	if st.parts.oldest {
		oldest := `NULL::text COLLATE "C"`
		if def.HasFirst() {
			oldest = moment(def, colFirstAt, colFirstSeq, level)
		}
		st.printf(", %s AS oldest", oldest)
	}
	from, until := s.from, s.until
	if source.level == q.Per {
		from, until = q.From, q.Until
	}
	st.printf("\n\tFROM %s WHERE bucket >= %s AND bucket < %s", tableOf(def, source.level),
		st.arg(instant(from), "timestamptz"), st.arg(instant(until), "timestamptz"))
	st.past(source.past)
}

// storedType is the type of a measure's column.
func storedType(m aggregation.Measure) string {
	if m.Sketched() {
		return "bytea"
	}
	return sqlType(m.ArgKind)
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
func age(def *aggregation.Definition, level aggregation.Granularity) string {
	if !def.HasLast() {
		return bucketAge("bucket")
	}
	return moment(def, colLastAt, colLastSeq, level)
}

func bucketAge(bucket string) string {
	return fmt.Sprintf(`((extract(epoch FROM %s) * 1000000)::bigint + 2000000000000000000)::text COLLATE "C"`, bucket)
}

// moment is age of the event whose time and sequence two columns hold.
func moment(def *aggregation.Definition, at, sequence string, level aggregation.Granularity) string {
	return shownMoment(groupColumn(def, column{at, event.Int}, level), groupColumn(def, column{sequence, event.Int}, level))
}

// shownMoment is moment of columns with one value per group.
func shownMoment(at, sequence string) string {
	return fmt.Sprintf(`((%s + 2000000000000000000)::text || (%s + 1000000000000000000)::text) COLLATE "C"`, at, sequence)
}

// tableOf returns the table of a level as SQL names it.
func tableOf(def *aggregation.Definition, level aggregation.Granularity) string {
	return "weir_data." + pq.QuoteIdentifier(def.Table(level))
}

// bucket returns the start of the bucket that a stored row of a level falls
// into.
func (st *statement) bucket(s span, level aggregation.Granularity) string {
	switch {
	case level == st.question.Per:
		return "bucket"
	case s.width > 0:
		return fmt.Sprintf("date_bin('%d microseconds', bucket, %s)", s.width, st.arg(instant(s.origin), "timestamptz"))
	case s.starts != nil:
		starts := st.arg(instants(s.starts), "timestamptz[]")
		return fmt.Sprintf("(%s)[width_bucket(bucket, %s)]", starts, starts)
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
	by := []string{"r.bucket"}
	if st.parts.shard {
		by = append(by, "r.shard_id")
	}
	for _, i := range st.parts.keys {
		by = append(by, fmt.Sprintf("r.k%d", i))
	}
	st.printf("SELECT %s", strings.Join(by, ", "))
	for _, joined := range st.question.sides() {
		n := prefixed(joined, "n")
		st.printf(", sum(r.%s) AS %[1]s", n)
	}
	for _, f := range st.parts.measures {
		st.printf(", %s AS %s", st.merged(f, true), f.column("m"))
		if st.question.measure(f).Op == aggregation.Avg {
			st.printf(", %s AS %s", averaged(f, true), f.column("e"))
		}
	}
	if st.parts.age {
		st.printf(", max(r.age) AS age")
	}
	st.printf("\n\tFROM (")
	st.stored(s)
	st.printf(") r\n\tGROUP BY %s", strings.Join(by, ", "))
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
	if q.Join != nil && q.Join.NeedFirst {
		st.printf(" AND sum(r.n) > 0")
	}
	if q.Join != nil && q.Join.NeedSecond {
		st.printf(" AND sum(r.jn) > 0")
	}
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
