package store

import (
	"context"
	"database/sql"
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
	colLastAt   = "weir_last_time"  // event time of the newest event, µs since 1970 UTC
	colLastSeq  = "weir_last_seq"   // its stream sequence, which decides between equal times
	colFirstAt  = "weir_first_time" // the same of the oldest event
	colFirstSeq = "weir_first_seq"
	colKey      = "weir_key"  // hash of the group keys, for they may be too long for an index
	colPart     = "weir_part" // 0, 1, … where one row cannot hold a group's sums
)

// TableName returns the name, within weir_data, of the table that holds one
// level of an aggregation.
func TableName(def *aggregation.Definition, level aggregation.Granularity) string {
	return ident(def.Name) + "_" + strings.ReplaceAll(level.String(), " ", "_")
}

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

// column is one column of groups: an array in a packed table, plain in the
// tables of coarser levels.
type column struct {
	name string
	kind event.Kind // of its values; 0 where they are sketches
}

// sketched reports whether the column holds blocks of sketches, which are
// merged by joining them.
func (c column) sketched() bool { return c.kind == 0 }

func (c column) sqlType() string {
	if c.sketched() {
		return "bytea"
	}
	return sqlType(c.kind)
}

// columnsOf lists what is stored of an aggregation's groups, in table order;
// deltas are written and read in the same order.
func columnsOf(def *aggregation.Definition) []column {
	var columns []column
	for _, key := range def.Keys {
		columns = append(columns, column{ident(key.Name), key.Kind})
	}
	columns = append(columns, column{colEvents, event.Int})
	for _, m := range def.Measures {
		switch {
		case !m.Stored():
		case m.Sketched():
			columns = append(columns, column{name: ident(m.Name)})
		default:
			columns = append(columns, column{ident(m.Name), m.ArgKind})
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

// createTable returns the DDL of one level: packed rows at the finest, a row
// per group at the others. compression is what the server offers for long
// values: lz4, or storage without compression; pglz would cost more than all
// the rest of the write path.
func createTable(def *aggregation.Definition, level aggregation.Granularity, lz4 bool) string {
	option := " COMPRESSION lz4"
	if !lz4 {
		option = " STORAGE EXTERNAL"
	}
	packed := level == def.Finest()
	var b strings.Builder
	table := tableOf(def, level)
	fmt.Fprintf(&b, "CREATE TABLE %s (\n", table)
	fmt.Fprintf(&b, "\t%s timestamptz NOT NULL,\n\t%s text COLLATE \"C\" NOT NULL,\n\t%s bigint NOT NULL,\n", colBucket, colShard, colBatch)
	key := []string{colBucket, colShard, colBatch}
	if !packed {
		fmt.Fprintf(&b, "\t%s uuid NOT NULL,\n\t%s smallint NOT NULL,\n", colKey, colPart)
		key = []string{colBucket, colShard, colKey, colBatch, colPart}
	}
	for i, c := range columnsOf(def) {
		sqlType, collate, _ := strings.Cut(c.sqlType(), " COLLATE ")
		if packed {
			sqlType += "[]"
		}
		if packed || c.sketched() {
			sqlType += option
		}
		if collate != "" {
			collate = " COLLATE " + collate
		}
		fmt.Fprintf(&b, "\t%s %s%s NOT NULL,\n", pq.QuoteIdentifier(c.name), sqlType, collate)
		if packed && i > 0 {
			// All arrays of a row are parallel: unnest would pad a short one silently.
			fmt.Fprintf(&b, "\tCHECK (cardinality(%s) = cardinality(%s)),\n", pq.QuoteIdentifier(c.name), pq.QuoteIdentifier(columnsOf(def)[0].name))
		}
	}
	fmt.Fprintf(&b, "\tPRIMARY KEY (%s)\n) PARTITION BY LIST (%s);\n", strings.Join(key, ", "), colShard)
	// The rows past a watermark are the newest, and lie together.
	fmt.Fprintf(&b, "CREATE INDEX ON %s USING brin (%s) WITH (pages_per_range = 16, autosummarize = on)", table, colBatch)
	return b.String()
}

// Change is one step of a plan.
type Change struct {
	// Text says it to a person: "create table …".
	Text string
	// Creates is the aggregation that gets its tables by this step, or "".
	Creates string
	sql     []string
}

// Plan returns what [DB.Apply] would do to make the tables that the
// definitions need; nothing if all is there. A defined aggregation whose
// tables have another shape is an error: its rows would mean something else.
func (db *DB) Plan(ctx context.Context, defs []*aggregation.Definition) ([]Change, error) {
	migrated, err := db.Migrated(ctx)
	if err != nil {
		return nil, err
	}
	var changes []Change
	if !migrated {
		changes = append(changes, Change{Text: "migrate Weir's own tables (schema weir)"})
	}
	tables, err := planTables(ctx, db.sql, defs)
	return append(changes, tables...), err
}

// querier is a pool or one transaction of it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func planTables(ctx context.Context, q querier, defs []*aggregation.Definition) ([]Change, error) {
	shapes, err := readShapes(ctx, q)
	if err != nil {
		return nil, err
	}
	var changes []Change
	var lz4 bool
	err = q.QueryRowContext(ctx, `SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`).Scan(&lz4)
	if err != nil {
		return nil, fmt.Errorf("ask for lz4 support: %w", err)
	}
	for _, def := range defs {
		want := shape(def)
		have, ok := shapes[def.Name]
		switch {
		case ok && have == want:
			continue
		case ok:
			return nil, fmt.Errorf("aggregation %s is defined differently from the tables it has:\n  tables:     %s\n  definition: %s\nGive the changed aggregation a new name; the old rows stay", def.Name, have, want)
		}
		change := Change{Creates: def.Name}
		var levels []string
		for _, level := range def.Granularities {
			levels = append(levels, strings.TrimPrefix(TableName(def, level), ident(def.Name)+"_"))
			change.sql = append(change.sql, createTable(def, level, lz4))
		}
		change.Text = fmt.Sprintf("create aggregation %s (tables weir_data.%s_{%s})", def.Name, ident(def.Name), strings.Join(levels, ","))
		change.sql = append(change.sql, fmt.Sprintf(`INSERT INTO weir.aggregation (name, shape) VALUES (%s, %s)`,
			pq.QuoteLiteral(def.Name), pq.QuoteLiteral(want)))
		changes = append(changes, change)
	}
	return changes, nil
}

// Apply carries out the plan, all of it or nothing. Any number of processes
// may call it at once: an advisory lock lets one after another.
func (db *DB) Apply(ctx context.Context, defs []*aggregation.Definition) error {
	return db.apply(ctx, defs, false)
}

func (db *DB) apply(ctx context.Context, defs []*aggregation.Definition, backfill bool) error {
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	return db.InTx(ctx, func(tx *Tx) error {
		if _, err := tx.tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('weir.apply', 0))`); err != nil {
			return fmt.Errorf("wait for another apply: %w", err)
		}
		changes, err := planTables(ctx, tx.tx, defs)
		if err != nil {
			return err
		}
		if backfill {
			if changes, err = planBackfills(ctx, tx.tx, changes); err != nil {
				return err
			}
		}
		for _, change := range changes {
			for _, statement := range change.sql {
				if _, err := tx.tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("%s: %w", change.Text, err)
				}
			}
		}
		return nil
	})
}

// readShapes reads what the existing tables were made for; nothing before the
// first migration.
func readShapes(ctx context.Context, q querier) (map[string]string, error) {
	shapes := map[string]string{}
	var there bool
	if err := q.QueryRowContext(ctx, `SELECT to_regclass('weir.aggregation') IS NOT NULL`).Scan(&there); err != nil || !there {
		return shapes, err
	}
	rows, err := q.QueryContext(ctx, `SELECT name, shape FROM weir.aggregation`)
	if err != nil {
		return nil, fmt.Errorf("read the applied definitions: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, shape string
		if err := rows.Scan(&name, &shape); err != nil {
			return nil, fmt.Errorf("read the applied definitions: %w", err)
		}
		shapes[name] = shape
	}
	return shapes, rows.Err()
}

// Missing returns a sentence that says what `weir apply` has still to do, or
// "" if the tables are as the definitions need them.
func (db *DB) Missing(ctx context.Context, defs []*aggregation.Definition) (string, error) {
	changes, err := db.Plan(ctx, defs)
	if err != nil || len(changes) == 0 {
		return "", err
	}
	more := ""
	if len(changes) > 1 {
		more = fmt.Sprintf(", and %d more", len(changes)-1)
	}
	return fmt.Sprintf("Postgres is not provisioned for these definitions (%s%s): run `weir apply`", changes[0].Text, more), nil
}

// shape is what the tables of an aggregation depend on, as one line.
func shape(def *aggregation.Definition) string {
	var keys, measures, levels []string
	for _, k := range def.Keys {
		keys = append(keys, k.Name+" "+k.Kind.String())
	}
	for _, m := range def.Measures {
		if m.Shares != "" { // nothing is stored of it
			continue
		}
		text := m.Name + " " + m.Op.String()
		if m.Stored() {
			text += " " + m.ArgKind.String()
		}
		measures = append(measures, text)
	}
	for _, g := range def.Granularities {
		levels = append(levels, g.String())
	}
	return fmt.Sprintf("by (%s) select (%s) every (%s) zone %s",
		strings.Join(keys, ", "), strings.Join(measures, ", "), strings.Join(levels, ", "), def.Zone)
}
