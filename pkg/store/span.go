package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"weir/pkg/aggregation"
)

// Levels finer than hours that are not kept for ever are partitioned by time,
// so that what is too old can be dropped. A partition is for one span. Rows of
// a time that has none, such as late events and replayed logs, are in the
// shard's default partition, and are deleted.

// spanAhead is how long before it begins a span gets its partition: longer than
// a worker waits between calls of AddSpans.
const spanAhead = 30 * time.Minute

// spanHours is the length of the spans of a level, in hours: 0 where it is not
// partitioned by time.
func spanHours(def *aggregation.Definition, level aggregation.Granularity) int {
	const day = 24 * time.Hour
	switch keep := def.Retention[level]; {
	case level >= aggregation.Hours || keep == aggregation.Forever:
		return 0
	case keep < day:
		return 1
	case keep < 30*day:
		return 24
	}
	return 30 * 24
}

// AddSpans gives the shard partitions for the rows of now and of the next half
// hour, by Postgres's clock. What it cannot have soon, because others read or
// write, it leaves for the next call; rows find their place meanwhile. Aggregations
// that were dropped have none.
func (db *DB) AddSpans(ctx context.Context, shardID string, defs []*aggregation.Definition) error {
	defs, err := present(ctx, db.sql, defs)
	if err != nil {
		return err
	}
	return addSpans(ctx, db.sql.ExecContext, shardID, defs)
}

// addSpans goes table by table, each in a transaction of its own: none of them
// is locked while another is waited for.
func addSpans(ctx context.Context, exec func(context.Context, string, ...any) (sql.Result, error), shardID string, defs []*aggregation.Definition) error {
	for _, def := range defs {
		for _, level := range def.Granularities {
			hours := spanHours(def, level)
			if hours == 0 {
				continue
			}
			_, err := exec(ctx, `SELECT weir.add_span($1, $2, $3, at) FROM unnest(ARRAY[now(), now() + $4 * interval '1 second']) AS at`,
				def.Table(level), shardID, hours, spanAhead.Seconds())
			if err != nil {
				return fmt.Errorf("add partitions by time to %s per %s: %w", def.ID(), level, err)
			}
		}
	}
	return nil
}

// holdSpans keeps the partitions by time of the aggregations from being dropped
// until the transaction ends. It must come before the transaction's first query,
// which fixes what it sees: a partition that is dropped is gone also for those
// who see a time before that, when a coarser level still lacked its rows.
func holdSpans(ctx context.Context, tx *sql.Tx, defs []*aggregation.Definition) error {
	var tables []string
	for _, def := range defs {
		for _, level := range def.Granularities {
			if level < aggregation.Hours {
				tables = append(tables, tableOf(def, level))
			}
		}
	}
	if len(tables) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `LOCK TABLE `+strings.Join(tables, ", ")+` IN ACCESS SHARE MODE`); err != nil {
		return fmt.Errorf("hold its tables: %w", err)
	}
	return nil
}

// stretch is a time, from the first instant to the one after the last.
type stretch struct {
	from, until time.Time
	span        bool // there is a partition for exactly this
}

// spans lists the partitions by time that a shard has at a level, oldest first.
func (db *DB) spans(ctx context.Context, def *aggregation.Definition, level aggregation.Granularity, shardID string) ([]stretch, error) {
	if level >= aggregation.Hours {
		return nil, nil
	}
	rows, err := db.sql.QueryContext(ctx, `
		SELECT (regexp_match(bounds, 'FROM \(''([^'']+)'))[1]::timestamptz AS begins, (regexp_match(bounds, 'TO \(''([^'']+)'))[1]::timestamptz
		FROM weir.shard s
		JOIN pg_inherits i ON i.inhparent = to_regclass(format('weir_data.%I', $1 || '_s' || s.number))
		JOIN pg_class c ON c.oid = i.inhrelid
		CROSS JOIN pg_get_expr(c.relpartbound, c.oid) AS bounds
		WHERE s.shard_id = $2 AND bounds <> 'DEFAULT'
		ORDER BY begins`, def.Table(level), shardID)
	if err != nil {
		return nil, fmt.Errorf("list partitions by time: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var spans []stretch
	for rows.Next() {
		s := stretch{span: true}
		if err := rows.Scan(&s.from, &s.until); err != nil {
			return nil, fmt.Errorf("list partitions by time: %w", err)
		}
		spans = append(spans, s)
	}
	return spans, rows.Err()
}

// stretches divides the time before an instant into spans that are over by
// then and what is between them. A span that is not over is left out: it goes
// as a whole later.
func stretches(spans []stretch, before time.Time) (all []stretch) {
	var from time.Time // the year 1: no event is older
	for _, s := range spans {
		if !s.from.Before(before) {
			break
		}
		if from.Before(s.from) {
			all = append(all, stretch{from: from, until: s.from})
		}
		if !s.until.After(before) {
			all = append(all, s)
		}
		from = s.until
	}
	if from.Before(before) {
		all = append(all, stretch{from: from, until: before})
	}
	return all
}
