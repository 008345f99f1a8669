package aggregation

import (
	"fmt"
	"strings"
	"time"
)

// Granularity is the width of a bucket.
type Granularity uint8

// The granularities, finest first; their order is the order of the levels.
const (
	Seconds Granularity = iota + 1
	Minutes
	Hours
	Days
	Months
	Years
)

// Granularities lists all of them, finest first.
func Granularities() []Granularity {
	return []Granularity{Seconds, Minutes, Hours, Days, Months, Years}
}

// String returns the name that definitions, questions and tables use.
func (g Granularity) String() string {
	switch g {
	case Seconds:
		return "seconds"
	case Minutes:
		return "minutes"
	case Hours:
		return "hours"
	case Days:
		return "days"
	case Months:
		return "months"
	case Years:
		return "years"
	}
	return fmt.Sprintf("Granularity(%d)", uint8(g))
}

// ParseGranularity reads a name in any spelling that Siddhi accepts (sec,
// second, seconds, min, minute, … in upper or lower case).
func ParseGranularity(text string) (Granularity, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "sec", "second", "seconds":
		return Seconds, nil
	case "min", "minute", "minutes":
		return Minutes, nil
	case "h", "hour", "hours":
		return Hours, nil
	case "day", "days":
		return Days, nil
	case "month", "months":
		return Months, nil
	case "year", "years":
		return Years, nil
	}
	return 0, fmt.Errorf("%q is no granularity: use seconds, minutes, hours, days, months or years", text)
}

// Truncate returns the start of the bucket that holds t. Both are
// microseconds since 1970 UTC; days and coarser are cut in the zone, hours by
// the zone's offset at t, so that both hours of an autumn clock change stay
// apart and half-hour zones are right.
func (g Granularity) Truncate(t int64, zone *time.Location) int64 {
	switch g {
	case Seconds:
		return floor(t, int64(time.Second/time.Microsecond))
	case Minutes:
		return floor(t, int64(time.Minute/time.Microsecond))
	case Hours:
		const hour = int64(time.Hour / time.Microsecond)
		if zone == time.UTC {
			return floor(t, hour)
		}
		_, offset := time.UnixMicro(t).In(zone).Zone()
		shift := int64(offset) * int64(time.Second/time.Microsecond)
		return floor(t+shift, hour) - shift
	case Days:
		if zone == time.UTC {
			return floor(t, 24*int64(time.Hour/time.Microsecond))
		}
		y, m, d := time.UnixMicro(t).In(zone).Date()
		return startOfDay(y, m, d, zone)
	case Months:
		y, m, _ := time.UnixMicro(t).In(zone).Date()
		return startOfDay(y, m, 1, zone)
	case Years:
		y, _, _ := time.UnixMicro(t).In(zone).Date()
		return startOfDay(y, time.January, 1, zone)
	}
	panic("aggregation: " + g.String())
}

// Next returns the start of the bucket after the one that starts at start.
func (g Granularity) Next(start int64, zone *time.Location) int64 {
	switch g {
	case Seconds:
		return start + int64(time.Second/time.Microsecond)
	case Minutes:
		return start + int64(time.Minute/time.Microsecond)
	case Hours:
		return start + int64(time.Hour/time.Microsecond)
	case Days:
		y, m, d := time.UnixMicro(start).In(zone).Date()
		return startOfDay(y, m, d+1, zone)
	case Months:
		y, m, _ := time.UnixMicro(start).In(zone).Date()
		return startOfDay(y, m+1, 1, zone)
	case Years:
		y, _, _ := time.UnixMicro(start).In(zone).Date()
		return startOfDay(y+1, time.January, 1, zone)
	}
	panic("aggregation: " + g.String())
}

// Ceil returns the first bucket start at or after t.
func (g Granularity) Ceil(t int64, zone *time.Location) int64 {
	start := g.Truncate(t, zone)
	if start < t {
		return g.Next(start, zone)
	}
	return start
}

// startOfDay returns the first instant of a local day. Where clocks go forward
// at midnight that is later than 00:00, which does not exist; where they go back
// across it, it is the first of two.
func startOfDay(y int, m time.Month, d int, zone *time.Location) int64 {
	utc := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	before, after := offsetAt(utc.Add(-24*time.Hour), zone), offsetAt(utc.Add(24*time.Hour), zone)
	first := utc.Add(-max(before, after)) // the greater offset has the earlier midnight
	for _, at := range []time.Time{first, utc.Add(-min(before, after))} {
		if offsetAt(at, zone) == utc.Sub(at) {
			return at.UnixMicro()
		}
	}
	// No midnight: the day begins where the clocks went forward over it.
	begin, _ := utc.Add(-before).In(zone).ZoneBounds()
	return begin.UnixMicro()
}

func offsetAt(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// floor rounds t down to a multiple of step, also before 1970.
func floor(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}
