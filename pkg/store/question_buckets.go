package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"weir/pkg/aggregation"
)

// span is how the buckets of the stored level become those a question asks
// for: stored buckets that start in [from, until) belong to the answer.
// Either width cuts them evenly since 1970 UTC, or edges and starts say where
// each bucket begins and what its start is called (times in microseconds
// since 1970 UTC). With neither, stored buckets are the answer's buckets.
type span struct {
	from, until   int64
	width         string
	edges, starts []int64
}

// span finds the stored buckets of the question's interval. Where the zone's
// clock changes matter, the buckets are cut here, in Go, over the part of the
// interval in which there are rows at all.
func (q *Question) span(ctx context.Context, tx *sql.Tx) (span, error) {
	def := q.Aggregation
	if q.Per == def.Finest() {
		return span{from: q.From, until: q.Until}, nil
	}
	if width := evenWidth(q.Per, def.Zone); width != "" {
		return span{from: q.Per.Ceil(q.From, def.Zone), until: q.Per.Ceil(q.Until, def.Zone), width: width}, nil
	}
	// A stored bucket starts no earlier than the bucket it is folded into.
	last := q.Per.Next(q.Per.Truncate(q.Until, def.Zone), def.Zone)
	var lo, hi sql.NullTime
	err := tx.QueryRowContext(ctx,
		`SELECT min(bucket), max(bucket) FROM `+tableOf(def, def.Finest())+` WHERE bucket >= $1 AND bucket < $2`,
		instant(q.From), instant(last)).Scan(&lo, &hi)
	if err != nil {
		return span{}, fmt.Errorf("look for the first and the last bucket: %w", err)
	}
	if !lo.Valid {
		return span{}, nil
	}
	edges, starts, end := cut(q.Per, def.Zone, lo.Time.UnixMicro(), hi.Time.UnixMicro())
	for len(starts) > 0 && starts[0] < q.From {
		edges, starts = edges[1:], starts[1:]
	}
	for n := len(starts) - 1; n >= 0 && starts[n] >= q.Until; n-- {
		edges, starts, end = edges[:n], starts[:n], edges[n]
	}
	if len(edges) == 0 {
		return span{}, nil
	}
	return span{from: edges[0], until: end, edges: edges, starts: starts}, nil
}

// empty reports that no stored bucket can be in the answer.
func (s span) empty() bool { return s.from >= s.until }

// evenWidth returns the width of buckets that are equally long and aligned to
// 1970 UTC, as Postgres writes it; "" for all others.
func evenWidth(g aggregation.Granularity, zone *time.Location) string {
	switch {
	case g == aggregation.Seconds:
		return "1 second"
	case g == aggregation.Minutes:
		return "1 minute"
	case g == aggregation.Hours && zone == time.UTC:
		return "1 hour"
	case g == aggregation.Days && zone == time.UTC:
		return "1 day"
	}
	return ""
}

// cut lists the buckets from the one that holds first to the one that holds
// last: where each begins, what its start is called, and where the last ends.
// The two differ where a clock change is not a whole bucket long: what comes
// after it belongs to a bucket whose start lies before it.
func cut(g aggregation.Granularity, zone *time.Location, first, last int64) (edges, starts []int64, end int64) {
	const hour = int64(time.Hour / time.Microsecond)
	for edge := g.Truncate(first, zone); edge <= last; edge = end {
		start := g.Truncate(edge, zone)
		edges, starts = append(edges, edge), append(starts, start)
		if end = g.Next(start, zone); end <= edge {
			end = edge + hour // the bucket's midnight does not exist on that day
		}
	}
	return edges, starts, end
}

// instant returns the time that Postgres understands as t, microseconds since
// 1970 UTC.
func instant(t int64) time.Time { return time.UnixMicro(t).UTC() }
