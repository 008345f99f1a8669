package store

import (
	"context"
	"fmt"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// merge compacts some buckets, in their order. The new rows get the number
// through: no row of their keys has it any more, no coarser level will read
// them, and the next compaction passes them over.
func (c *compaction) merge(ctx context.Context, tx *Tx, t touched) error {
	// Where a table has no statistics yet, to look up each crowded key by itself
	// could be taken for cheap.
	if _, err := tx.tx.ExecContext(ctx, `SET LOCAL enable_nestloop = off`); err != nil {
		return err
	}
	switch {
	case t.groups <= c.most:
		_, err := c.mergeRows(ctx, tx, t.buckets, "true", 0)
		return err
	case c.def.Packed(c.level):
		return c.mergeRuns(ctx, tx, t.buckets)
	}
	return c.mergeParts(ctx, tx, t.buckets)
}

// mergeRuns compacts a bucket of packed rows that has too many groups to be merged
// at a time: it merges rows one after the other that have few enough together.
// Nobody else changes what is there up to through: only shards that are moved do,
// and not beside a compaction.
func (c *compaction) mergeRuns(ctx context.Context, tx *Tx, bucket []string) error {
	rows, err := tx.tx.QueryContext(ctx, `
		SELECT batch_no, weir_part, cardinality(`+colEvents+`) FROM `+tableOf(c.def, c.level)+`
		WHERE shard_id = $1 AND bucket = $2 AND batch_no <= $3 ORDER BY batch_no, weir_part`, c.shardID, bucket[0], c.through)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	type place struct{ batch, part int64 }
	var runs [][2]place // the first and the last row of each
	groups, free := 0, int64(0)
	for rows.Next() {
		var at place
		var n int
		if err := rows.Scan(&at.batch, &at.part, &n); err != nil {
			return err
		}
		if groups += n; len(runs) == 0 || groups > c.most {
			runs, groups = append(runs, [2]place{at, at}), n
		}
		runs[len(runs)-1][1] = at
		free = max(free, at.part+1)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, run := range runs {
		of := fmt.Sprintf("(batch_no, weir_part) >= (%d, %d) AND (batch_no, weir_part) <= (%d, %d)", run[0].batch, run[0].part, run[1].batch, run[1].part)
		written, err := c.mergeRows(ctx, tx, bucket, of, int(free)) // no row has that part, whatever its batch
		if err != nil {
			return err
		}
		free += int64(written/packedGroups + 1)
	}
	return nil
}

// mergeParts compacts a bucket of plain rows of which too many are to be merged:
// it takes about equal parts of all keys, which are hashes.
func (c *compaction) mergeParts(ctx context.Context, tx *Tx, bucket []string) error {
	var crowded int
	err := tx.tx.QueryRowContext(ctx, `
		SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM `+tableOf(c.def, c.level)+`
		WHERE shard_id = $1 AND bucket = $2 AND batch_no <= $3 GROUP BY weir_key HAVING count(*) > 1 OR min(batch_no) < 0) AS k`,
		c.shardID, bucket[0], c.through).Scan(&crowded)
	if err != nil {
		return err
	}
	const hashes = 1 << 32
	parts := 1 + crowded/c.most
	for i := range parts {
		of := fmt.Sprintf("weir_key BETWEEN '%08x-0000-0000-0000-000000000000' AND '%08x-ffff-ffff-ffff-ffffffffffff'", hashes*i/parts, hashes*(i+1)/parts-1)
		if _, err := c.mergeRows(ctx, tx, bucket, of, 0); err != nil {
			return err
		}
	}
	return nil
}

// mergeRows merges those rows of some buckets that have the same key, if they are
// of the part that a condition says, into rows whose parts are numbered from one
// on. It returns how many groups it wrote; errRoom if there is no room for them
// at a time, and others could be fewer.
func (c *compaction) mergeRows(ctx context.Context, tx *Tx, buckets []string, of string, firstPart int) (written int, err error) {
	key := colBucket
	if !c.def.Packed(c.level) {
		key += ", " + colKey
	}
	merger, groups := aggregation.NewMerger(c.def, c.level), int64(0)
	add := func(delta aggregation.Delta) error {
		if c.most > 1 && merger.Held() > c.db.mergeRoom {
			return errRoom
		}
		groups += int64(delta.Groups())
		return merger.Add(delta)
	}
	const which = `shard_id = $1 AND bucket = ANY ($2::timestamptz[]) AND bucket BETWEEN $3 AND $4 AND batch_no <= $5`
	var reader groupReader
	err = reader.read(ctx, tx.tx, c.def, c.level, add, fmt.Sprintf(`
		WITH crowded AS (
			SELECT %[1]s FROM %[2]s WHERE %[3]s AND %[5]s GROUP BY %[1]s HAVING count(*) > 1 OR min(batch_no) < 0
		), gone AS (
			DELETE FROM %[2]s WHERE %[3]s AND %[5]s AND (%[1]s) IN (SELECT %[1]s FROM crowded) RETURNING *
		)
		SELECT %[4]s FROM gone ORDER BY bucket, batch_no, weir_part`, key, tableOf(c.def, c.level), which, storedList(c.def), of),
		c.shardID, pq.Array(buckets), buckets[0], buckets[len(buckets)-1], c.through)
	if err != nil {
		return 0, err
	}
	c.groups += groups
	merged := merger.Delta()
	return merged.Groups(), tx.writeDelta(ctx, c.shardID, c.through, firstPart, merged)
}
