package store

import (
	"fmt"
	"strings"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// Columns of every packed table beside its keys and measures. Definitions may
// not use these names.
const (
	colBucket   = "bucket"
	colShard    = "shard_id"
	colBatch    = "batch_no"
	colEvents   = "weir_events"
	colChecksum = "weir_checksum"   // sum of the checksums of all events of the row, modulo 2^32, two's complement; in no answer
	colLastAt   = "weir_last_time"  // event time of the newest event, µs since 1970 UTC
	colLastSeq  = "weir_last_seq"   // its stream sequence, which decides between equal times
	colFirstAt  = "weir_first_time" // the same of the oldest event
	colFirstSeq = "weir_first_seq"
	colKey      = "weir_key"  // hash of the group keys, for they may be too long for an index
	colPart     = "weir_part" // 0, 1, … where one row cannot hold a group's sums, or all groups
)

// ident is how a defined name appears in SQL: lower case, so that people can
// write it in any case and without quotes.
func ident(name string) string { return strings.ToLower(name) }

// sqlType is the Postgres type of an attribute's values.
func sqlType(kind event.Kind) string {
	switch kind {
	case event.String:
		return `text COLLATE "C"`
	case event.Int:
		return "bigint"
	case event.Float:
		return "double precision"
	case event.Bool:
		return "boolean"
	case event.Time:
		return "timestamptz"
	}
	panic(fmt.Sprintf("store: no SQL type for %s", kind))
}

// column is one column of groups: an array in a packed table, but for the
// checksum, and plain in the tables of coarser levels.
type column struct {
	name string
	kind event.Kind // of its values; 0 where they are sketches
}

// sketched reports whether the column holds blocks of sketches, which are
// merged by joining them.
func (c column) sketched() bool { return c.kind == 0 }

// whole reports whether a packed row has one value for all of its groups: their
// checksums are only ever added up.
func (c column) whole() bool { return c.name == colChecksum }

// moment reports whether the column is the time or the sequence of a First or a
// Last. Packed rows have them as text[]: see textWriter.
func (c column) moment() bool {
	return c.name == colLastAt || c.name == colLastSeq || c.name == colFirstAt || c.name == colFirstSeq
}

func (c column) sqlType() string {
	switch {
	case c.sketched():
		return "bytea"
	case c.name == colChecksum:
		return "integer"
	}
	return sqlType(c.kind)
}

// columnsOf lists what is stored of an aggregation's groups, in table order;
// deltas are written and read in the same order.
func columnsOf(def *aggregation.Definition) []column {
	var columns []column
	for _, key := range def.Keys {
		columns = append(columns, keyColumn(key))
	}
	columns = append(columns, column{colEvents, event.Int}, column{colChecksum, event.Int})
	for _, m := range def.Measures {
		if m.Stored() {
			columns = append(columns, measureColumn(m))
		}
	}
	if def.HasFirst() {
		columns = append(columns, column{colFirstAt, event.Int}, column{colFirstSeq, event.Int})
	}
	if def.HasLast() {
		columns = append(columns, column{colLastAt, event.Int}, column{colLastSeq, event.Int})
	}
	return columns
}

func keyColumn(key aggregation.Key) column { return column{ident(key.Name), key.Kind} }

// measureColumn is the column of a measure that is stored.
func measureColumn(m aggregation.Measure) column {
	if m.Sketched() {
		return column{name: ident(m.Name)}
	}
	return column{ident(m.Name), m.ArgKind}
}

// storedType is the column's type in a packed table or in one with a row per
// group. Long values are compressed with lz4, or where the server lacks it not
// at all: pglz would cost more than all the rest of the write path.
func (c column) storedType(packed, lz4 bool) string {
	sqlType, collate, _ := strings.Cut(c.sqlType(), " COLLATE ")
	packed = packed && !c.whole()
	switch {
	case packed && c.moment():
		sqlType = "text[]"
	case packed:
		sqlType += "[]"
	}
	switch {
	case !packed && !c.sketched():
	case lz4:
		sqlType += " COMPRESSION lz4"
	default:
		sqlType += " STORAGE EXTERNAL"
	}
	if collate != "" {
		sqlType += " COLLATE " + collate
	}
	return sqlType
}

// createTable returns the DDL of one level: packed rows ([aggregation.Definition.Packed]),
// or a row per group. With partial, rows may lack measures: the level is
// added to others that have rows from before a measure was.
func createTable(def *aggregation.Definition, level aggregation.Granularity, lz4, partial bool) string {
	packed := def.Packed(level)
	var b strings.Builder
	table := tableOf(def, level)
	fmt.Fprintf(&b, "CREATE TABLE %s (\n", table)
	fmt.Fprintf(&b, "\t%s timestamptz NOT NULL,\n\t%s text COLLATE \"C\" NOT NULL,\n\t%s bigint NOT NULL,\n", colBucket, colShard, colBatch)
	fmt.Fprintf(&b, "\t%s integer NOT NULL DEFAULT 0,\n", colPart)
	key := []string{colBucket, colShard, colBatch, colPart}
	if !packed {
		fmt.Fprintf(&b, "\t%s uuid NOT NULL,\n", colKey)
		// By batch before by key, so that new rows come where the last ones did.
		key = []string{colBucket, colShard, colBatch, colKey, colPart}
	}
	for i, c := range columnsOf(def) {
		null := " NOT NULL"
		if partial && i > len(def.Keys)+1 { // after the keys, the number of events and their checksum
			null = ""
		}
		fmt.Fprintf(&b, "\t%s %s%s,\n", pq.QuoteIdentifier(c.name), c.storedType(packed, lz4), null)
	}
	fmt.Fprintf(&b, "\tPRIMARY KEY (%s)\n) PARTITION BY LIST (%s);\n", strings.Join(key, ", "), colShard)
	// The rows past a watermark are the newest, and lie together.
	fmt.Fprintf(&b, "CREATE INDEX ON %s USING brin (%s) WITH (pages_per_range = 16, autosummarize = on)", table, colBatch)
	return b.String()
}
