package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

const (
	// levelGroups is about how many groups of coarser levels one flush writes, by
	// [aggregation.Definition.Weight]: all of a large shard at once would keep the
	// events behind them waiting, and take the memory of all.
	levelGroups = 1 << 17
	// someBatches is among how many batch numbers a tail is looked for at first.
	someBatches = 1024
)

// LoadCascade reads what the coarser levels of a shard lack: the rows of each
// level's parent past the level's watermark; and the number of the shard's last
// batch, in the same snapshot: the cascade is good for the flush of the next
// number and no other. Levels that lack much, and those for which there is no room
// in so many bytes of memory, are left behind, which [DB.PrepareLevels] sees to;
// 0 bytes is no limit. Call it under the shard's lease,
// before the first flush and after one whose outcome is not known. The guard is
// the shard's; nil is one that has seen nothing. Aggregations that were dropped
// are left out.
func (db *DB) LoadCascade(ctx context.Context, shardID string, defs []*aggregation.Definition, guard *aggregation.Guard, memory int) (cascade *aggregation.Cascade, last int64, err error) {
	if defs, err = present(ctx, db.sql, defs); err != nil {
		return nil, 0, err
	}
	if memory == 0 {
		memory = math.MaxInt
	}
	cascade = aggregation.NewCascade(defs, guard)
	// Only the holder of the lease moves the shard's watermarks, so Purge cannot
	// take what is read here.
	err = db.inSnapshot(ctx, nil, func(tx *sql.Tx) error {
		t := tail{tx: tx, shard: shardID, into: cascade, most: db.levelGroups, among: int64(db.someBatches)}
		if t.marks, err = readMarks(ctx, tx, shardID); err != nil {
			return err
		}
		last = t.marks.last
		for _, def := range defs {
			for _, level := range def.Granularities[1:] {
				l := aggregation.FlushedLevel{Definition: def, Level: level}
				if _, all, err := t.read(ctx, l); err != nil {
					return err
				} else if !all {
					cascade.Leave(l)
				}
				cascade.Shrink(memory)
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("load what the coarser levels of shard %s lack: %w", shardID, err)
	}
	return cascade, last, nil
}

// PrepareLevels returns what some coarser levels of a shard that are due have to
// be given: a part of what one of them lacks that is behind, which is read for it,
// or else what the cascade holds for the others. Nothing is changed but the part
// that the cascade has of a tail. Call it under the shard's lease.
func (db *DB) PrepareLevels(ctx context.Context, shardID string, cascade *aggregation.Cascade, due func(aggregation.FlushedLevel) bool) (*aggregation.Flush, error) {
	level, ok := cascade.Behind(due)
	if !ok {
		return cascade.PrepareSome(due, db.levelGroups), nil
	}
	cascade.BeginTail(level)
	var upto int64
	var all bool
	err := db.inSnapshot(ctx, nil, func(tx *sql.Tx) (err error) {
		t := tail{tx: tx, shard: shardID, into: cascade, most: db.levelGroups, among: int64(db.someBatches)}
		if t.marks, err = readMarks(ctx, tx, shardID); err == nil {
			upto, all, err = t.read(ctx, level)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what shard %s lacks: %w", shardID, err)
	}
	return cascade.PrepareTail(level, upto, all), nil
}

// marks is how far a shard is: its last batch, and the batch up to which each
// level is complete.
type marks struct {
	last   int64
	levels map[[2]string]int64 // by aggregation and level
}

func readMarks(ctx context.Context, q querier, shardID string) (m marks, err error) {
	var names, levels pq.StringArray
	var batches pq.Int64Array
	err = q.QueryRowContext(ctx, `
		SELECT (SELECT coalesce(max(last_batch), 0) FROM weir.shard WHERE shard_id = $1),
			coalesce(array_agg(aggregation), '{}'), coalesce(array_agg(level), '{}'), coalesce(array_agg(batch_no), '{}')
		FROM weir.watermark WHERE shard_id = $1`, shardID).Scan(&m.last, &names, &levels, &batches)
	if err != nil {
		return marks{}, fmt.Errorf("read watermarks: %w", err)
	}
	m.levels = make(map[[2]string]int64, len(names))
	for i := range names {
		m.levels[[2]string{names[i], levels[i]}] = batches[i]
	}
	return m, nil
}

// of returns up to which batch a level is complete.
func (m *marks) of(def *aggregation.Definition, level aggregation.Granularity) int64 {
	if level == def.Finest() {
		return m.last
	}
	if batch, ok := m.levels[[2]string{def.ID(), level.String()}]; ok {
		return batch
	}
	return noBatch
}

// tail reads the rows of the parents of levels that these lack.
type tail struct {
	tx     *sql.Tx // a snapshot
	marks  marks   // in it
	reader groupReader
	shard  string
	into   *aggregation.Cascade
	most   int   // groups, about
	among  int64 // batches, at first

	of     aggregation.FlushedLevel
	parent aggregation.Granularity
	groups int // read
}

// read reads what a level lacks, batch after batch, until those
// were about as many groups as one flush may have, and returns up to which batch the level is complete with that. All: which is all
// that its parent has.
func (t *tail) read(ctx context.Context, of aggregation.FlushedLevel) (upto int64, all bool, err error) {
	t.of, t.groups = of, 0
	t.parent, _ = of.Definition.Parent(of.Level)
	upto, all, err = t.readSome(ctx, t.marks.of(of.Definition, of.Level), t.marks.of(of.Definition, t.parent))
	if err != nil {
		return 0, false, fmt.Errorf("%s per %s: %w", of.Definition.ID(), of.Level, err)
	}
	return upto, all, nil
}

func (t *tail) readSome(ctx context.Context, from, whole int64) (upto int64, all bool, err error) {
	for from < whole {
		batches, until, err := t.batches(ctx, from, whole)
		if err != nil {
			return 0, false, err
		}
		for done := 0; done < len(batches); from = batches[done-1] {
			if t.groups >= t.most {
				return from, false, nil
			}
			some := 1
			if t.groups > 0 { // as many as have the rest of the groups, if they have as many each
				some = min(max(some, (t.most-t.groups)*done/t.groups), len(batches)-done)
			}
			done += some
			if err := t.add(ctx, from, batches[done-1]); err != nil {
				return 0, false, err
			}
		}
		from = until
	}
	return from, true, nil
}

// batches lists the next batches after one that the parent has rows of, and
// returns up to which they are all. It looks no further than it has to, because
// plain rows are many.
func (t *tail) batches(ctx context.Context, after, whole int64) (batches []int64, until int64, err error) {
	table := tableOf(t.of.Definition, t.parent)
	if after == noBatch {
		first := fmt.Sprintf(`SELECT coalesce(min(batch_no), $2) - 1 FROM %s WHERE shard_id = $1`, table)
		if err := t.tx.QueryRowContext(ctx, first, t.shard, whole+1).Scan(&after); err != nil {
			return nil, 0, fmt.Errorf("look for the first batch: %w", err)
		}
	}
	until = min(after, whole)
	list := fmt.Sprintf(`SELECT array(SELECT batch_no FROM %s WHERE shard_id = $1 AND batch_no > $2 AND batch_no <= $3 GROUP BY batch_no ORDER BY batch_no)`, table)
	for among := t.among; len(batches) == 0 && after < whole; among *= 2 {
		until = min(after+among, whole)
		if err := t.tx.QueryRowContext(ctx, list, t.shard, after, until).Scan((*pq.Int64Array)(&batches)); err != nil {
			return nil, 0, fmt.Errorf("list batches: %w", err)
		}
		after = until
	}
	return batches, until, nil
}

// add gives the cascade the rows of some batches.
func (t *tail) add(ctx context.Context, after, upto int64) error {
	order := "" // of many plain rows none, for Postgres would have to sort them
	if t.of.Definition.Packed(t.parent) {
		order = "ORDER BY bucket, batch_no, weir_part"
	}
	use := func(rows aggregation.Delta) error {
		t.groups += rows.Groups() * t.of.Definition.Weight(t.of.Level)
		return t.into.AddTail(t.of.Level, rows)
	}
	return t.reader.read(ctx, t.tx, t.of.Definition, t.parent, use, fmt.Sprintf(`
		SELECT %s FROM %s WHERE shard_id = $1 AND batch_no > $2 AND batch_no <= $3 %s`,
		storedList(t.of.Definition), tableOf(t.of.Definition, t.parent), order), t.shard, after, upto)
}
