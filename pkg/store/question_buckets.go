package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"weir/pkg/aggregation"
)

// span is where the rows of an answer come from, and how their buckets become
// those a question asks for. Rows of the question's own level have its buckets.
// Of finer ones, those that start in [from, until) belong to the answer: either
// width cuts them evenly, counted from origin, or starts lists where each bucket
// starts (all times in microseconds since 1970 UTC).
type span struct {
	sources       []source
	from, until   int64
	width, origin int64
	starts        []int64
}

// source is a level of an aggregation whose rows are read: all of them, or
// those past what the next coarser level has, by shard. A shard that is not
// named has nothing there.
type source struct {
	joined bool // the aggregation is that of Question.Join
	level  aggregation.Granularity
	past   map[string]int64
}

// span finds the stored buckets of the question's interval. Where the zone's
// clock changes matter, the buckets are cut here, in Go, over the part of the
// interval in which there are rows at all.
func (q *Question) span(ctx context.Context, tx *sql.Tx) (span, error) {
	zone := q.Aggregation.Zone
	s := span{from: q.Per.Ceil(q.From, zone), until: q.Per.Ceil(q.Until, zone)}
	for _, joined := range q.sides() {
		sources, err := q.sources(ctx, tx, joined)
		if err != nil {
			return span{}, err
		}
		s.sources = append(s.sources, sources...)
	}
	if s.cutEvenly(q.Per, s.from, s.until, zone) {
		return s, nil
	}
	lo, hi, err := q.extent(ctx, tx, s)
	switch {
	case err != nil:
		return span{}, err
	case lo > hi:
		s.sources = slices.DeleteFunc(s.sources, func(source source) bool { return source.level != q.Per })
	case !s.cutEvenly(q.Per, lo, hi, zone):
		for start := q.Per.Truncate(lo, zone); start <= hi; start = q.Per.Next(start, zone) {
			s.starts = append(s.starts, start)
		}
	}
	return s, nil
}

// cutEvenly cuts by a width, if the buckets from lo to hi can be.
func (s *span) cutEvenly(per aggregation.Granularity, lo, hi int64, zone *time.Location) (ok bool) {
	if s.width, ok = per.Even(zone); !ok {
		s.width, s.origin, ok = per.EvenBetween(lo, hi, zone)
	}
	return ok
}

// sources lists the levels of one of the question's aggregations that feed it,
// from the one it asks for down to the finest.
func (q *Question) sources(ctx context.Context, tx *sql.Tx, joined bool) ([]source, error) {
	def := q.definition(joined)
	sources := []source{{joined: joined, level: q.Per}}
	for {
		level := sources[len(sources)-1].level
		parent, ok := def.Parent(level)
		if !ok {
			return sources, nil
		}
		past, err := watermarks(ctx, tx, def, level)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{joined: joined, level: parent, past: past})
	}
}

// watermarks returns, by shard, up to which batch a level has everything.
func watermarks(ctx context.Context, tx *sql.Tx, def *aggregation.Definition, level aggregation.Granularity) (map[string]int64, error) {
	rows, err := tx.QueryContext(ctx, `SELECT shard_id, batch_no FROM weir.watermark WHERE aggregation = $1 AND level = $2`, def.ID(), level.String())
	if err != nil {
		return nil, fmt.Errorf("read watermarks: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	past := map[string]int64{}
	for rows.Next() {
		var shard string
		var batch int64
		if err := rows.Scan(&shard, &batch); err != nil {
			return nil, fmt.Errorf("read watermarks: %w", err)
		}
		past[shard] = batch
	}
	return past, rows.Err()
}

// extent returns the first and the last bucket start that finer sources have
// in the span. With none, the first is greater.
func (q *Question) extent(ctx context.Context, tx *sql.Tx, s span) (lo, hi int64, err error) {
	lo, hi = math.MaxInt64, math.MinInt64
	for _, source := range s.sources {
		if source.level == q.Per {
			continue
		}
		var first, newest sql.NullTime
		err := tx.QueryRowContext(ctx,
			`SELECT min(bucket), max(bucket) FROM `+tableOf(q.definition(source.joined), source.level)+` WHERE bucket >= $1 AND bucket < $2`,
			instant(s.from), instant(s.until)).Scan(&first, &newest)
		if err != nil {
			return 0, 0, fmt.Errorf("look for the first and the last bucket: %w", err)
		}
		if first.Valid {
			lo, hi = min(lo, first.Time.UnixMicro()), max(hi, newest.Time.UnixMicro())
		}
	}
	return lo, hi, nil
}

// instant returns the time that Postgres understands as t, microseconds since
// 1970 UTC.
func instant(t int64) time.Time { return time.UnixMicro(t).UTC() }
