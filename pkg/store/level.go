package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/failpoint"
)

// noBatch is what a level without a watermark has: nothing. It is below the
// numbers of rows that came from another shard, which are negative.
const noBatch = math.MinInt64 + 1

const noBatchSQL = "-9223372036854775807"

// WriteLevels gives coarser levels what they lack of the shard, and moves their
// watermarks: they then have everything up to the batch, or what the flush of a
// tail says.
func (tx *Tx) WriteLevels(ctx context.Context, shardID string, batch int64, flush *aggregation.Flush) error {
	if len(flush.Levels) == 0 {
		return tx.db.failpoints.Hit(failpoint.LevelsWritten)
	}
	if flush.Tail {
		batch = flush.Upto
	}
	if err := tx.writeDelta(ctx, shardID, batch, 0, flush.Delta); err != nil {
		return err
	}
	n := len(flush.Levels)
	names, levels := make([]string, n), make([]string, n)
	for i, l := range flush.Levels {
		names[i], levels[i] = l.Definition.ID(), l.Level.String()
	}
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.watermark (shard_id, batch_no, aggregation, level)
		SELECT $1, $2, * FROM unnest($3::text[], $4::text[])
		ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no`,
		shardID, batch, pq.Array(names), pq.Array(levels))
	if err != nil {
		return fmt.Errorf("move watermarks: %w", err)
	}
	return tx.db.failpoints.Hit(failpoint.LevelsWritten)
}

// Abandoned lists the shards that have had no flush for a while, by Postgres's
// clock, and where coarser levels of these aggregations lack something. That is
// also where an aggregation was never written, until the shard is rolled up
// once.
func (db *DB) Abandoned(ctx context.Context, after time.Duration, defs []*aggregation.Definition) ([]string, error) {
	defs, err := present(ctx, db.sql, defs)
	if err != nil {
		return nil, err
	}
	names, levels := coarserLevels(defs)
	rows, err := db.sql.QueryContext(ctx, `
		SELECT s.shard_id FROM weir.shard s
		WHERE s.flushed_at < now() - $1 * interval '1 second' AND EXISTS (
			SELECT FROM unnest($2::text[], $3::text[]) AS l (aggregation, level)
			LEFT JOIN weir.watermark w ON w.shard_id = s.shard_id AND w.aggregation = l.aggregation AND w.level = l.level
			WHERE w.batch_no IS NULL OR w.batch_no < s.last_batch)
		ORDER BY s.shard_id`, after.Seconds(), pq.Array(names), pq.Array(levels))
	if err != nil {
		return nil, fmt.Errorf("look for abandoned shards: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var shards []string
	for rows.Next() {
		var shard string
		if err := rows.Scan(&shard); err != nil {
			return nil, fmt.Errorf("look for abandoned shards: %w", err)
		}
		shards = append(shards, shard)
	}
	return shards, rows.Err()
}

// groupList lists columns of a level's table by their names, one value per group.
func groupList(def *aggregation.Definition, columns []column, level aggregation.Granularity) string {
	var list []string
	for _, c := range columns {
		list = append(list, groupColumn(def, c, level)+" AS "+pq.QuoteIdentifier(c.name))
	}
	return strings.Join(list, ", ")
}

// groupColumn returns a column of a level's table with one value per group.
func groupColumn(def *aggregation.Definition, c column, level aggregation.Granularity) string {
	name := pq.QuoteIdentifier(c.name)
	switch {
	case !def.Packed(level):
		return name
	case c.moment():
		return "unnest(weir_view.numbers(" + name + "))"
	case c.kind != event.String:
		return "unnest(" + name + ")"
	}
	args := name
	if !slices.ContainsFunc(def.Keys, func(k aggregation.Key) bool { return ident(k.Name) == c.name }) {
		for _, k := range def.Keys {
			if k.Kind == event.String { // which the column may hang on
				args += ", " + pq.QuoteIdentifier(ident(k.Name)) + "[1]"
			}
		}
	}
	return "unnest(weir_view.texts(" + args + "))"
}
