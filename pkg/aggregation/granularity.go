package aggregation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Granularity is the width of a bucket: so many of a unit. Its order, as a
// number, is from fine to coarse.
type Granularity uint32

// unit is what a granularity counts. It is the upper half of a Granularity,
// the count is the lower.
type unit uint32

const (
	second unit = iota + 1
	minute
	hour
	day
	week
	month
	year
)

// The granularities that have a name, finest first. Any multiple of a unit is
// a granularity too, as in "15 minutes".
const (
	Seconds  = Granularity(second<<16 | 1)
	Minutes  = Granularity(minute<<16 | 1)
	Hours    = Granularity(hour<<16 | 1)
	Days     = Granularity(day<<16 | 1)
	Weeks    = Granularity(week<<16 | 1) // from Monday
	Months   = Granularity(month<<16 | 1)
	Quarters = Granularity(month<<16 | 3)
	Years    = Granularity(year<<16 | 1)
)

// Granularities lists those that a range such as seconds...years stands for,
// finest first.
func Granularities() []Granularity {
	return []Granularity{Seconds, Minutes, Hours, Days, Months, Years}
}

func (g Granularity) unit() unit { return unit(g >> 16) }
func (g Granularity) n() int     { return int(g & 0xffff) }

// Base returns one of the unit that the granularity counts: hours for 6 hours.
func (g Granularity) Base() Granularity { return g&^0xffff | 1 }

// String returns the name that definitions and questions use.
func (g Granularity) String() string {
	if g == Quarters {
		return "quarters"
	}
	name, ok := map[unit]string{
		second: "seconds", minute: "minutes", hour: "hours", day: "days", week: "weeks", month: "months", year: "years",
	}[g.unit()]
	switch {
	case !ok:
		return fmt.Sprintf("Granularity(%#x)", uint32(g))
	case g.n() == 1:
		return name
	}
	return strconv.Itoa(g.n()) + " " + name
}

// ParseGranularity reads a name in any spelling that Siddhi accepts (sec,
// second, seconds, min, minute, … in upper or lower case), and beyond Siddhi
// weeks, quarters, and multiples such as "15 minutes".
func ParseGranularity(text string) (Granularity, error) {
	name := strings.ToLower(strings.TrimSpace(text))
	n := 1
	digits := len(name) - len(strings.TrimLeft(name, "0123456789"))
	if digits > 0 {
		var err error
		if n, err = strconv.Atoi(name[:digits]); err != nil || n < 1 || n > 999 {
			return 0, fmt.Errorf("%q is no granularity: a multiple is from 1 to 999", text)
		}
		name = strings.TrimSpace(name[digits:])
	}
	var u unit
	switch name {
	case "sec", "second", "seconds":
		u = second
	case "min", "minute", "minutes":
		u = minute
	case "h", "hour", "hours":
		u = hour
	case "day", "days":
		u = day
	case "weeks":
		u = week
	case "month", "months":
		u = month
	case "quarters":
		u, n = month, 3*n
	case "year", "years":
		u = year
	default:
		return 0, fmt.Errorf("%q is no granularity: use seconds, minutes, hours, days, weeks, months, quarters, years or a multiple such as 15 minutes", text)
	}
	return multiple(n, u), nil
}

// multiple returns n of a unit, in the coarsest unit that is as wide: 60
// minutes are hours.
func multiple(n int, u unit) Granularity {
	size := map[unit]int{second: 60, minute: 60, hour: 24, month: 12}[u]
	switch {
	case size == 0 || n%size != 0:
	case u == month:
		return multiple(n/size, year)
	default:
		return multiple(n/size, u+1)
	}
	return Granularity(uint32(u)<<16 | uint32(n))
}

const micros = int64(time.Second / time.Microsecond)

// width returns the length of a bucket of a unit below a day, in
// microseconds, and 0 for the others.
func (g Granularity) width() int64 {
	switch g.unit() {
	case second:
		return int64(g.n()) * micros
	case minute:
		return int64(g.n()) * 60 * micros
	case hour:
		return int64(g.n()) * 3600 * micros
	case day, week, month, year:
	}
	return 0
}

// dayWidth is the length of a day without a clock change, in microseconds.
const dayWidth = 86400 * micros

// Even reports whether buckets are equally long and aligned to 1970 UTC in
// the zone, and if so their width in microseconds.
func (g Granularity) Even(zone *time.Location) (width int64, ok bool) {
	width = g.width()
	switch {
	case width == 0:
		if g.unit() == day && zone == time.UTC {
			return int64(g.n()) * dayWidth, true
		}
		return 0, false
	case zone == time.UTC, g == Seconds, g == Minutes, dayWidth%width != 0:
		return width, true // a width that does not divide the day knows no zone
	}
	return 0, false
}

// EvenBetween reports whether the buckets that hold the times from first to
// last, microseconds since 1970 UTC, are equally long although those of the
// zone are not always, and if so their width and a time they are counted from.
// That is so for hours where no clock change between the two is but for hours.
func (g Granularity) EvenBetween(first, last int64, zone *time.Location) (width, origin int64, ok bool) {
	width = g.width()
	if width == 0 || g.unit() == hour && g.n() > 1 {
		return 0, 0, false
	}
	origin = g.Truncate(first, zone)
	for t := time.UnixMicro(first).In(zone); ; {
		_, change := t.ZoneBounds()
		if change.IsZero() || change.UnixMicro() > last {
			return width, origin, true
		}
		if modulo(g.Truncate(change.UnixMicro(), zone)-origin, width) != 0 {
			return 0, 0, false
		}
		t = change
	}
}

// Truncate returns the start of the bucket that holds t. Both are
// microseconds since 1970 UTC. Buckets are cut by local time, with two
// exceptions: seconds and minutes, which are the same everywhere, and
// multiples that do not divide the day, which count from 1970 UTC. Up to an
// hour they are cut by the zone's offset at t, so that both hours of an autumn
// clock change stay apart and half-hour zones are right.
func (g Granularity) Truncate(t int64, zone *time.Location) int64 {
	if width, ok := g.Even(zone); ok {
		return floor(t, width)
	}
	local := time.UnixMicro(t).In(zone)
	y, m, d := local.Date()
	n := g.n()
	switch g.unit() {
	case hour:
		if n > 1 {
			h := local.Hour()
			return startOf(y, m, d, h-h%n, zone)
		}
		fallthrough
	case second, minute:
		_, offset := local.Zone()
		shift := int64(offset) * micros
		return floor(t+shift, g.width()) - shift
	case day:
		return startOf(y, m, d-int(modulo(dayNumber(y, m, d), int64(n))), 0, zone)
	case week:
		monday := modulo(dayNumber(y, m, d)+3, 7*int64(n)) // 1970-01-01 was a Thursday
		return startOf(y, m, d-int(monday), 0, zone)
	case month:
		months := int64(y)*12 + int64(m) - 1
		return startOf(y, m-time.Month(modulo(months, int64(n))), 1, 0, zone)
	case year:
		return startOf(y-int(modulo(int64(y), int64(n))), time.January, 1, 0, zone)
	}
	panic("aggregation: " + g.String())
}

// Next returns the start of the bucket after the one that starts at start.
func (g Granularity) Next(start int64, zone *time.Location) int64 {
	if width, ok := g.Even(zone); ok {
		return start + width
	}
	local := time.UnixMicro(start).In(zone)
	y, m, d := local.Date()
	n := g.n()
	switch g.unit() {
	case hour:
		if n > 1 {
			h := local.Hour()
			return startOf(y, m, d, h-h%n+n, zone)
		}
		fallthrough
	case second, minute:
		return start + g.width()
	case day:
		return startOf(y, m, d+n, 0, zone)
	case week:
		return startOf(y, m, d+7*n, 0, zone)
	case month:
		return startOf(y, m+time.Month(n), 1, 0, zone)
	case year:
		return startOf(y+n, m, 1, 0, zone)
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

// Nests reports whether every bucket of coarse is made of whole buckets of g,
// so that it can be folded from them.
func (g Granularity) Nests(coarse Granularity) bool {
	if g >= coarse {
		return false
	}
	fine, wide := g.width(), coarse.width()
	switch {
	case fine > 0 && wide > 0:
		// Aligned to the same start: both to local midnight, or one to everything.
		return wide%fine == 0 && (dayWidth%wide == 0 || dayWidth%fine != 0 || g == Seconds || g == Minutes)
	case fine > 0:
		return dayWidth%fine == 0
	}
	a, b := g.n(), coarse.n()
	switch g.unit() {
	case day:
		return a == 1 || coarse.unit() == day && b%a == 0
	case week:
		return coarse.unit() == week && b%a == 0
	case month:
		return coarse.unit() == month && b%a == 0 || coarse.unit() == year && 12*b%a == 0 && 12%a == 0
	case year:
		return b%a == 0
	case second, minute, hour:
	}
	return false
}

// startOf returns the first instant of a local hour. Where clocks go forward
// over it that is later than the hour says, for the hour does not exist; where
// they go back over it, it is the first of two.
func startOf(y int, m time.Month, d, h int, zone *time.Location) int64 {
	utc := time.Date(y, m, d, h, 0, 0, 0, time.UTC)
	before, after := offsetAt(utc.Add(-24*time.Hour), zone), offsetAt(utc.Add(24*time.Hour), zone)
	first := utc.Add(-max(before, after)) // the greater offset has the earlier hour
	for _, at := range []time.Time{first, utc.Add(-min(before, after))} {
		if offsetAt(at, zone) == utc.Sub(at) {
			return at.UnixMicro()
		}
	}
	// No such hour: begin where the clocks went forward over it.
	begin, _ := utc.Add(-before).In(zone).ZoneBounds()
	return begin.UnixMicro()
}

func offsetAt(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// dayNumber counts days since 1970-01-01.
func dayNumber(y int, m time.Month, d int) int64 {
	return floor(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).UnixMicro(), dayWidth) / dayWidth
}

// floor rounds t down to a multiple of step, also before 1970.
func floor(t, step int64) int64 { return t - modulo(t, step) }

// modulo is the remainder that is never negative.
func modulo(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return r
}
