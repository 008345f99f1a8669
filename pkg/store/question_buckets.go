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
// width cuts them evenly, counted from origin, or edges and starts say where
// each bucket begins and what its start is called (all times in microseconds
// since 1970 UTC).
type span struct {
	sources       []source
	from, until   int64
	width, origin int64
	edges, starts []int64
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
	var s span
	for _, joined := range q.sides() {
		sources, err := q.sources(ctx, tx, joined)
		if err != nil {
			return span{}, err
		}
		s.sources = append(s.sources, sources...)
	}
	if width, ok := q.Per.Even(zone); ok {
		s.width, s.from, s.until = width, q.Per.Ceil(q.From, zone), q.Per.Ceil(q.Until, zone)
		return s, nil
	}
	// The bucket that holds the end is in the answer if it starts before the end;
	// with a clock change, so may be the bucket after it.
	last := q.Per.Next(q.Per.Next(q.Per.Truncate(q.Until, zone), zone), zone)
	lo, hi, err := q.extent(ctx, tx, s.sources, last)
	if err != nil {
		return span{}, err
	}
	if lo <= hi {
		s.cut(q, lo, hi, last)
	}
	if s.from >= s.until {
		s.sources = slices.DeleteFunc(s.sources, func(source source) bool { return source.level != q.Per })
	}
	return s, nil
}

// cut says how the finer rows, which start between lo and hi, are cut, and
// which of them start before last and belong to the answer.
func (s *span) cut(q *Question, lo, hi, last int64) {
	zone := q.Aggregation.Zone
	if width, origin, ok := q.Per.EvenBetween(lo, hi, zone); ok {
		ceil := func(t int64) int64 { return t + ((origin-t)%width+width)%width }
		s.width, s.origin, s.from, s.until = width, origin, ceil(q.From), min(ceil(q.Until), last)
		return
	}
	edges, starts, end := cut(q.Per, zone, lo, hi)
	for len(starts) > 0 && starts[0] < q.From {
		edges, starts = edges[1:], starts[1:]
	}
	for n := len(starts) - 1; n >= 0 && starts[n] >= q.Until; n-- {
		edges, starts, end = edges[:n], starts[:n], edges[n]
	}
	if len(edges) > 0 {
		s.from, s.until, s.edges, s.starts = edges[0], end, edges, starts
	}
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
// from the start of the question's interval, for a stored bucket starts no
// earlier than the bucket it is folded into, and before last. With none, the
// first is greater.
func (q *Question) extent(ctx context.Context, tx *sql.Tx, sources []source, last int64) (lo, hi int64, err error) {
	lo, hi = math.MaxInt64, math.MinInt64
	for _, source := range sources {
		if source.level == q.Per {
			continue
		}
		var first, newest sql.NullTime
		err := tx.QueryRowContext(ctx,
			`SELECT min(bucket), max(bucket) FROM `+tableOf(q.definition(source.joined), source.level)+` WHERE bucket >= $1 AND bucket < $2`,
			instant(q.From), instant(last)).Scan(&first, &newest)
		if err != nil {
			return 0, 0, fmt.Errorf("look for the first and the last bucket: %w", err)
		}
		if first.Valid {
			lo, hi = min(lo, first.Time.UnixMicro()), max(hi, newest.Time.UnixMicro())
		}
	}
	return lo, hi, nil
}

// cut lists the buckets from the one that holds first to the one that holds
// last: where each begins, what its start is called, and where the last ends.
// The two differ where a clock change is not a whole bucket long: what comes
// after it belongs to a bucket whose start lies before it.
func cut(g aggregation.Granularity, zone *time.Location, first, last int64) (edges, starts []int64, end int64) {
	for edge := g.Truncate(first, zone); edge <= last; edge = end {
		start := g.Truncate(edge, zone)
		edges, starts = append(edges, edge), append(starts, start)
		end = g.Next(start, zone)
	}
	return edges, starts, end
}

// instant returns the time that Postgres understands as t, microseconds since
// 1970 UTC.
func instant(t int64) time.Time { return time.UnixMicro(t).UTC() }
