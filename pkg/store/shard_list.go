package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// Shard is the state of one shard.
type Shard struct {
	ShardID   string
	Owner     string // who leased it last
	Live      bool   // somebody holds it now
	LastBatch int64
	FlushedAt time.Time // zero: never
	RetiredAt time.Time // zero: it may be written
	MovedTo   string    // where its rows are, while its empty tables are still there; or ""
	Totals
}

// State says in a word what a shard does.
func (s Shard) State() string {
	switch {
	case s.Live:
		return "live"
	case s.MovedTo != "":
		return "moved"
	case !s.RetiredAt.IsZero():
		return "retired"
	}
	return "idle"
}

// liveShard is the condition that somebody holds the lease of a row's shard_id.
const liveShard = `hashtextextended('weir.shard.' || shard_id, 0) IN (
	SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
	WHERE locktype = 'advisory' AND granted AND objsubid = 1
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`

// Shards lists all shards, by id.
func (db *DB) Shards(ctx context.Context) ([]Shard, error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT shard_id, owner, `+liveShard+`, last_batch, flushed_at, retired_at, coalesce(moved_to, ''), messages, events, dead_letters, other_events, claims
		FROM weir.shard ORDER BY shard_id`)
	if err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var shards []Shard
	for rows.Next() {
		var s Shard
		var flushed, retired sql.NullTime
		err := rows.Scan(&s.ShardID, &s.Owner, &s.Live, &s.LastBatch, &flushed, &retired, &s.MovedTo, &s.Messages, &s.Events, &s.DeadLetters, &s.OtherEvents, &s.Claims)
		if err != nil {
			return nil, fmt.Errorf("list shards: %w", err)
		}
		s.FlushedAt, s.RetiredAt = flushed.Time, retired.Time
		shards = append(shards, s)
	}
	return shards, rows.Err()
}

// Behind returns, by shard, how many coarser levels of the aggregations do not
// have its last batch yet, and how many coarser levels there are. That of a live
// shard is what comes with its next flushes; answers do not depend on it.
func (db *DB) Behind(ctx context.Context, defs []*aggregation.Definition) (behind map[string]int, levels int, err error) {
	names, coarser := coarserLevels(defs)
	rows, err := db.sql.QueryContext(ctx, `
		SELECT s.shard_id, count(*) FROM weir.shard s
		CROSS JOIN unnest($1::text[], $2::text[]) AS l (aggregation, level)
		LEFT JOIN weir.watermark w ON w.shard_id = s.shard_id AND w.aggregation = l.aggregation AND w.level = l.level
		WHERE s.last_batch > coalesce(w.batch_no, 0)
		GROUP BY s.shard_id`, pq.Array(names), pq.Array(coarser))
	if err != nil {
		return nil, 0, fmt.Errorf("look for levels that are behind: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	behind = map[string]int{}
	for rows.Next() {
		var shard string
		var n int
		if err := rows.Scan(&shard, &n); err != nil {
			return nil, 0, fmt.Errorf("look for levels that are behind: %w", err)
		}
		behind[shard] = n
	}
	return behind, len(names), rows.Err()
}

// coarserLevels lists all levels of the aggregations but their finest.
func coarserLevels(defs []*aggregation.Definition) (names, levels []string) {
	for _, def := range defs {
		for _, level := range def.Granularities[1:] {
			names, levels = append(names, def.ID()), append(levels, level.String())
		}
	}
	return names, levels
}

// ErrNoShard means that there is no shard of that id.
type ErrNoShard struct {
	ShardID string
	Known   []string // the shards there are
}

func (e ErrNoShard) Error() string { return fmt.Sprintf("there is no shard %q", e.ShardID) }

// shard returns one shard, or an ErrNoShard.
func (db *DB) shard(ctx context.Context, shardID string) (Shard, error) {
	shards, err := db.Shards(ctx)
	if err != nil {
		return Shard{}, err
	}
	at := slices.IndexFunc(shards, func(s Shard) bool { return s.ShardID == shardID })
	if at >= 0 {
		return shards[at], nil
	}
	e := ErrNoShard{ShardID: shardID}
	for _, s := range shards {
		e.Known = append(e.Known, s.ShardID)
	}
	return Shard{}, e
}
