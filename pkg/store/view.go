package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// Names of columns in views. Definitions have none with "weir_".
const (
	sketchPrefix = "weir_sketch_" // of a measure's sketch
	colNewest    = "weir_newest"  // inside: where a row's newest event stands in the order of events
	colOldest    = "weir_oldest"
)

// inViews is a view as SQL names it.
func inViews(name string) string { return "weir_view." + pq.QuoteIdentifier(name) }

// createView returns the statements that make the view of a level, or make it
// anew: rights on it are kept. A view that others have built upon cannot always
// be made anew; Postgres then says which. The hash is another for other
// statements, and recorded by them.
//
// The view has one row per bucket and group keys, merged over shards, batches
// and levels as a [Question] merges them, and of the same rows: those of the
// level, and what it lacks from its parent past its watermark, and so on down
// to the finest.
func createView(def *aggregation.Definition, level aggregation.Granularity, current bool) (statements, hash string) {
	var b strings.Builder
	name, of := def.View(level, current), def.Name
	if !current {
		of = def.Versioned()
	}
	fmt.Fprintf(&b, "SELECT weir.replace_view(%s, %s);\n", pq.QuoteLiteral(name), pq.QuoteLiteral(viewQuery(def, level)))
	doc := strings.TrimSpace(def.Doc + "\n" + of + " per " + level.String() + ".")
	fmt.Fprintf(&b, "COMMENT ON VIEW %s IS %s;\n", inViews(name), pq.QuoteLiteral(doc))
	for _, c := range viewColumns(def, level) {
		fmt.Fprintf(&b, "COMMENT ON COLUMN %s.%s IS %s;\n", inViews(name), pq.QuoteIdentifier(c.name), pq.QuoteLiteral(c.doc))
	}
	sum := sha256.Sum256([]byte(b.String()))
	hash = hex.EncodeToString(sum[:])
	fmt.Fprintf(&b, "INSERT INTO weir.view VALUES (%s, '%s') ON CONFLICT (name) DO UPDATE SET hash = excluded.hash", pq.QuoteLiteral(name), hash)
	return b.String(), hash
}

// dropView returns the statements that remove a view; the tables that it reads
// cannot be dropped before.
func dropView(name string) string {
	return fmt.Sprintf("DROP VIEW IF EXISTS %s;\nDELETE FROM weir.view WHERE name = %s", inViews(name), pq.QuoteLiteral(name))
}

// viewColumn is one column of a view.
type viewColumn struct {
	name, sql, doc string
}

func viewQuery(def *aggregation.Definition, level aggregation.Granularity) string {
	var b strings.Builder
	b.WriteString("SELECT ")
	for i, c := range viewColumns(def, level) {
		if i > 0 {
			b.WriteString(",\n\t")
		}
		fmt.Fprintf(&b, "%s AS %s", c.sql, pq.QuoteIdentifier(c.name))
	}
	fmt.Fprintf(&b, "\nFROM (\n%s\n) r\nGROUP BY r.bucket", viewSources(def, level))
	for _, k := range def.Keys {
		b.WriteString(", r." + pq.QuoteIdentifier(ident(k.Name)))
	}
	return b.String()
}

// viewColumns lists a view's columns. Each is computed from rows of any level:
// a measure merges those that have a value of it, for rows may be older than
// the measure.
func viewColumns(def *aggregation.Definition, level aggregation.Granularity) []viewColumn {
	columns := []viewColumn{{colBucket, "r.bucket", fmt.Sprintf("Start of the bucket (%s, cut in %s).", level, def.Zone)}}
	for _, k := range def.Keys {
		columns = append(columns, viewColumn{ident(k.Name), "r." + pq.QuoteIdentifier(ident(k.Name)), "Group key " + k.Name + "."})
	}
	columns = append(columns, viewColumn{colEvents, "sum(r." + colEvents + ")::bigint", "Number of events."})
	for i, m := range def.Measures {
		columns = append(columns, viewColumn{ident(m.Name), viewMeasure(def, i), measureDoc(m)})
		if m.Sketched() && m.Stored() {
			name := ident(m.Name)
			columns = append(columns, viewColumn{
				sketchPrefix + name, joined(name),
				"Sketch of " + m.Arg + ", for values over several rows: string_agg joins sketches.",
			})
		}
	}
	return columns
}

func measureDoc(m aggregation.Measure) string {
	if m.Arg == "" {
		return m.Function() + "."
	}
	return fmt.Sprintf("%s(%s).", m.Function(), m.Arg)
}

// viewMeasure returns the final value of measure i over the rows of a group.
func viewMeasure(def *aggregation.Definition, i int) string {
	m := def.Measures[i]
	column := "r." + pq.QuoteIdentifier(ident(m.Name))
	switch m.Op {
	case aggregation.Count:
		return "sum(r." + colEvents + ")::bigint"
	case aggregation.Sum:
		return "sum(" + column + ")"
	case aggregation.Avg:
		return ratio("sum("+column+")", "(sum(r."+colEvents+") FILTER (WHERE "+column+" IS NOT NULL))")
	case aggregation.Min:
		return least("min", column, m.ArgKind)
	case aggregation.Max:
		return least("max", column, m.ArgKind)
	case aggregation.Last:
		return extremeRow("max", "r."+colNewest, column, m.ArgKind)
	case aggregation.First:
		return extremeRow("min", "r."+colOldest, column, m.ArgKind)
	case aggregation.Distinct:
		return "weir_view.distinct_count(" + joined(ident(m.Name)) + ")"
	case aggregation.Deviation:
		return "weir_view.stddev(" + joined(ident(m.Name)) + ")"
	case aggregation.Quantile:
		of := ident(def.Measures[def.Column(i)].Name)
		return fmt.Sprintf("weir_view.quantile(%s, %v)", joined(of), m.Percent)
	}
	panic("store: measure without op")
}

func joined(name string) string { return "string_agg(r." + pq.QuoteIdentifier(name) + ", ''::bytea)" }

// extremeRow returns the value that a column has in the row with the least or
// the greatest moment, of those that have one. The value goes as text, which
// must not depend on how the reader's session writes it.
func extremeRow(function, moment, column string, kind event.Kind) string {
	text, back := column+"::text", "::"+sqlType(kind)
	switch kind {
	case event.String:
		text, back = column, ""
	case event.Time:
		text = "to_char(" + column + " AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
		back = "::timestamp AT TIME ZONE 'UTC'"
	case event.Int, event.Float, event.Bool:
	}
	return fmt.Sprintf("(%s(ARRAY[%s, %s]) FILTER (WHERE %s IS NOT NULL))[2]%s", function, moment, text, column, back)
}

// viewSources selects the stored rows that feed a level. Those of finer levels
// are asked for shard by shard, past the watermark. OFFSET 0 keeps Postgres from
// joining whole tables instead, and from cutting buckets more than once a row.
// That no batch is past the shard's last is always so; it tells Postgres how few
// rows to expect.
func viewSources(def *aggregation.Definition, level aggregation.Granularity) string {
	sources := []string{fmt.Sprintf("\tSELECT %s\n\tFROM (SELECT bucket, %s FROM %s) p",
		sourceColumns(def), groupList(def, shownOf(def), level), tableOf(def, level))}
	for from := level; ; {
		parent, ok := def.Parent(from)
		if !ok {
			return strings.Join(sources, "\n\tUNION ALL\n")
		}
		sources = append(sources, fmt.Sprintf(`	SELECT %s
	FROM weir.shard s
	LEFT JOIN weir.watermark w ON w.shard_id = s.shard_id AND w.aggregation = %s AND w.level = %s
	CROSS JOIN LATERAL (
		SELECT bucket, %s FROM (
			SELECT %s AS bucket, %s FROM %s t
			WHERE t.shard_id = s.shard_id AND t.batch_no > coalesce(w.batch_no, `+noBatchSQL+`) AND t.batch_no <= s.last_batch OFFSET 0
		) t
	) p`, sourceColumns(def), pq.QuoteLiteral(def.ID()), pq.QuoteLiteral(from.String()),
			groupList(def, shownOf(def), parent), bucketOf(def, level), storedColumns(def), tableOf(def, parent)))
		from = parent
	}
}

// shownOf lists the columns that views are made of.
func shownOf(def *aggregation.Definition) []column {
	return slices.DeleteFunc(columnsOf(def), func(c column) bool { return c.name == colChecksum })
}

// storedColumns lists the columns of a table as they are stored.
func storedColumns(def *aggregation.Definition) string {
	var list []string
	for _, c := range shownOf(def) {
		list = append(list, "t."+pq.QuoteIdentifier(c.name))
	}
	return strings.Join(list, ", ")
}

// sourceColumns lists what is merged: all but the moments as stored.
func sourceColumns(def *aggregation.Definition) string {
	list := "p.bucket"
	for _, c := range shownOf(def) {
		switch c.name {
		case colFirstAt, colFirstSeq, colLastAt, colLastSeq:
		default:
			list += ", p." + pq.QuoteIdentifier(c.name)
		}
	}
	if def.HasLast() {
		list += ", " + shownMoment(colLastAt, colLastSeq) + " AS " + colNewest
	}
	if def.HasFirst() {
		list += ", " + shownMoment(colFirstAt, colFirstSeq) + " AS " + colOldest
	}
	return list
}

// bucketOf returns the start of the level's bucket that a finer one falls into.
func bucketOf(def *aggregation.Definition, level aggregation.Granularity) string {
	if width, ok := level.Even(def.Zone); ok {
		return fmt.Sprintf("date_bin('%d microseconds', t.bucket, 'epoch')", width)
	}
	n, unit, multiple := strings.Cut(level.String(), " ")
	if !multiple {
		n, unit = "1", level.String()
	}
	return fmt.Sprintf("weir_view.bucket_start(t.bucket, %s, %s, %s)", pq.QuoteLiteral(unit), n, pq.QuoteLiteral(def.Zone.String()))
}
