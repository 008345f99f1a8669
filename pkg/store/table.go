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
	colBucket  = "bucket"
	colShard   = "shard_id"
	colBatch   = "batch_no"
	colEvents  = "weir_events"
	colLastAt  = "weir_last_time" // event time of the newest event, µs since 1970 UTC
	colLastSeq = "weir_last_seq"  // its stream sequence, which decides between equal times
)

// TableName returns the name, within weir_data, of the table that holds one
// level of an aggregation.
func TableName(def *aggregation.Definition, level aggregation.Granularity) string {
	return ident(def.Name) + "_" + level.String()
}

// ident is how a defined name appears in SQL: lower case, so that people can
// write it in any case and without quotes.
func ident(name string) string { return strings.ToLower(name) }

// storedLevels are the levels that have a table. The coarser ones are folded
// from the finest when asked for.
func storedLevels(def *aggregation.Definition) []aggregation.Granularity {
	return []aggregation.Granularity{def.Finest()}
}

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

// packedColumn is one array column of a packed table.
type packedColumn struct {
	name string
	kind event.Kind
}

// packedColumns lists the arrays of an aggregation's packed row, in table
// order; the delta is written in the same order.
func packedColumns(def *aggregation.Definition) []packedColumn {
	var columns []packedColumn
	for _, key := range def.Keys {
		columns = append(columns, packedColumn{ident(key.Name), key.Kind})
	}
	columns = append(columns, packedColumn{colEvents, event.Int})
	for _, m := range def.Measures {
		if m.Stored() {
			columns = append(columns, packedColumn{ident(m.Name), m.ArgKind})
		}
	}
	if def.HasLast() {
		columns = append(columns, packedColumn{colLastAt, event.Int}, packedColumn{colLastSeq, event.Int})
	}
	return columns
}

// createTable returns the DDL of one packed level. compression is what the
// server offers for long values: lz4, or storage without compression; pglz
// would cost more than all the rest of the write path.
func createTable(def *aggregation.Definition, level aggregation.Granularity, lz4 bool) string {
	option := " COMPRESSION lz4"
	if !lz4 {
		option = " STORAGE EXTERNAL"
	}
	var b strings.Builder
	table := pq.QuoteIdentifier(TableName(def, level))
	fmt.Fprintf(&b, "CREATE TABLE weir_data.%s (\n", table)
	fmt.Fprintf(&b, "\t%s timestamptz NOT NULL,\n\t%s text COLLATE \"C\" NOT NULL,\n\t%s bigint NOT NULL,\n", colBucket, colShard, colBatch)
	var sizes []string
	for _, c := range packedColumns(def) {
		base, collate, _ := strings.Cut(sqlType(c.kind), " COLLATE ")
		if collate != "" {
			collate = " COLLATE " + collate
		}
		fmt.Fprintf(&b, "\t%s %s[]%s%s NOT NULL,\n", pq.QuoteIdentifier(c.name), base, option, collate)
		sizes = append(sizes, "cardinality("+pq.QuoteIdentifier(c.name)+")")
	}
	// All arrays of a row are parallel: unnest would pad a short one silently.
	for _, size := range sizes[1:] {
		fmt.Fprintf(&b, "\tCHECK (%s = %s),\n", size, sizes[0])
	}
	fmt.Fprintf(&b, "\tPRIMARY KEY (%s, %s, %s)\n) PARTITION BY LIST (%s)", colBucket, colShard, colBatch, colShard)
	return b.String()
}

// Change is one step of a plan.
type Change struct {
	// Text says it to a person: "create table …".
	Text string
	sql  []string
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
		change := Change{Text: "create aggregation " + def.Name}
		for _, level := range storedLevels(def) {
			change.Text += " (table weir_data." + TableName(def, level) + ")"
			change.sql = append(change.sql, createTable(def, level, lz4))
		}
		change.sql = append(change.sql, fmt.Sprintf(`INSERT INTO weir.aggregation (name, shape) VALUES (%s, %s)`,
			pq.QuoteLiteral(def.Name), pq.QuoteLiteral(want)))
		changes = append(changes, change)
	}
	return changes, nil
}

// Apply carries out the plan, all of it or nothing. Any number of processes
// may call it at once: an advisory lock lets one after another.
func (db *DB) Apply(ctx context.Context, defs []*aggregation.Definition) error {
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
	return fmt.Sprintf("Postgres is not provisioned for these definitions (%s, and %d more): run `weir apply`",
		changes[0].Text, len(changes)-1), nil
}

// shape is what the tables of an aggregation depend on, as one line.
func shape(def *aggregation.Definition) string {
	var keys, measures, levels []string
	for _, k := range def.Keys {
		keys = append(keys, k.Name+" "+k.Kind.String())
	}
	for _, m := range def.Measures {
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
