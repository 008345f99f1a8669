package audit

import (
	"math"
	"slices"
	"time"

	"weir/pkg/aggregation"
)

// period is the width of a control total, in microseconds: a quarter of an
// hour. Clocks are ahead of UTC by whole ones, so that every bucket of an hour
// or more begins with one.
const period = int64(15 * time.Minute / time.Microsecond)

// Before and after all time.
const (
	always = math.MinInt64
	never  = math.MaxInt64
)

// span is a time of events, in microseconds since 1970 UTC: from the first
// instant to the one after the last.
type span struct{ from, until int64 }

// instant writes a time for Postgres.
func instant(t int64) string {
	switch t {
	case always:
		return "-infinity"
	case never:
		return "infinity"
	}
	return time.UnixMicro(t).UTC().Format(time.RFC3339Nano)
}

// borderSteps is how many buckets are looked at for a border.
const borderSteps = 2000

// floor is the last instant up to t at which both a bucket and a period begin:
// what was counted before it and after it never shares a row. In times when a
// zone's clocks were ahead by seconds there is none, and it is the start of
// time.
func floor(g aggregation.Granularity, zone *time.Location, t int64) int64 {
	if t == always || t == never {
		return t
	}
	for range borderSteps {
		t = g.Truncate(t, zone)
		if modulo(t) == 0 {
			return t
		}
		t--
	}
	return always
}

// ceil is the first such instant from t on.
func ceil(g aggregation.Granularity, zone *time.Location, t int64) int64 {
	if t == always || t == never {
		return t
	}
	t = g.Ceil(t, zone)
	for range borderSteps {
		if modulo(t) == 0 {
			return t
		}
		t = g.Next(t, zone)
	}
	return never
}

func modulo(t int64) int64 {
	m := t % period
	if m < 0 {
		m += period
	}
	return m
}

// widen makes the spans end where buckets do, and joins those that then touch.
func widen(spans []span, g aggregation.Granularity, zone *time.Location) []span {
	wide := make([]span, len(spans))
	for i, s := range spans {
		wide[i] = span{floor(g, zone, s.from), ceil(g, zone, s.until)}
	}
	return union(wide)
}

// union sorts spans and joins those that touch.
func union(spans []span) (joined []span) {
	slices.SortFunc(spans, func(a, b span) int {
		if a.from < b.from {
			return -1
		}
		if a.from > b.from {
			return 1
		}
		return 0
	})
	for _, s := range spans {
		if n := len(joined); n > 0 && s.from <= joined[n-1].until {
			joined[n-1].until = max(joined[n-1].until, s.until)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// cutter tells which buckets share a border-to-border part of time.
type cutter struct {
	g    aggregation.Granularity
	zone *time.Location
	last span
}

// part returns the part that a period lies in.
func (c *cutter) part(t int64) span {
	if c.last.from <= t && t < c.last.until {
		return c.last
	}
	c.last = span{floor(c.g, c.zone, t), ceil(c.g, c.zone, t+period)}
	return c.last
}
