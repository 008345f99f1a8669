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
// the zone, whenever, and if so their width in microseconds.
func (g Granularity) Even(zone *time.Location) (width int64, ok bool) {
	switch {
	case g == Seconds: // offsets are whole seconds
		return micros, true
	case zone != time.UTC:
		return 0, false
	case g.unit() == day:
		return int64(g.n()) * dayWidth, true
	}
	width = g.width()
	return width, width > 0
}

// EvenBetween reports whether the buckets that hold the times from first to
// last, microseconds since 1970 UTC, are equally long although those of the
// zone are not always, and if so their width and a time they are counted from.
// That is so for those up to an hour where clocks, if they change between the
// two, do it at the end of a bucket and by whole buckets.
func (g Granularity) EvenBetween(first, last int64, zone *time.Location) (width, origin int64, ok bool) {
	if g.byClock() {
		return 0, 0, false
	}
	width, origin = g.width(), g.Truncate(first, zone)
	for start, more := origin, true; more; start, more = nextChange(start, last, zone) {
		if modulo(start-origin, width) != 0 || modulo(start+offset(start, zone), width) != 0 {
			return 0, 0, false
		}
	}
	return width, origin, true
}

// byClock reports which of two rules cuts the buckets; see Truncate.
func (g Granularity) byClock() bool {
	width := g.width()
	return width == 0 || g.unit() == hour && g.n() > 1 && dayWidth%width == 0
}

// Truncate returns the start of the bucket that holds t, which is the bucket's
// first instant. Both are microseconds since 1970 UTC.
//
// Buckets up to an hour, and multiples that do not divide the day, are counted
// from the start of 1970 by the zone's offset to UTC at t, and never reach over
// a change of that offset: one ends there, and another starts. So both hours of
// an autumn clock change stay apart.
//
// Several hours, days and what is coarser follow what clocks show: a bucket
// starts at the first instant at which clocks show its label, such as a day's
// midnight, or something later. It ends where the next one starts, and so is
// not left any more where clocks go back over its start: that a date comes
// twice belongs to the day after it. A date that is skipped has no bucket.
//
// Either way the start of a bucket is the start of one of every granularity
// that nests in its own: folding over any levels is the same.
func (g Granularity) Truncate(t int64, zone *time.Location) int64 {
	if width, ok := g.Even(zone); ok {
		return floor(t, width)
	}
	if g.byClock() {
		return firstShowing(g.label(lastShown(t, zone)), zone)
	}
	ahead := offset(t, zone)
	start := floor(t+ahead, g.width()) - ahead
	for {
		change, ok := nextChange(start, t, zone)
		if !ok {
			return start
		}
		start = change
	}
}

// Next returns the start of the bucket after the one that starts at start.
func (g Granularity) Next(start int64, zone *time.Location) int64 {
	if width, ok := g.Even(zone); ok {
		return start + width
	}
	if g.byClock() {
		return firstShowing(g.nextLabel(g.label(lastShown(start, zone))), zone)
	}
	ahead := offset(start, zone)
	next := floor(start+ahead, g.width()) - ahead + g.width()
	if change, ok := nextChange(start, next, zone); ok {
		return change
	}
	return next
}

// label returns what clocks show when the bucket starts in which they show
// wall, both in microseconds since they showed the start of 1970.
func (g Granularity) label(wall int64) int64 {
	n := int64(g.n())
	y, m, _ := time.UnixMicro(wall).UTC().Date()
	switch g.unit() {
	case day:
		return floor(wall, n*dayWidth)
	case week:
		const monday = -3 * dayWidth // 1970-01-01 was a Thursday
		return floor(wall-monday, 7*n*dayWidth) + monday
	case month:
		months := int64(y)*12 + int64(m) - 1
		return date(y, m-time.Month(modulo(months, n)))
	case year:
		return date(y-int(modulo(int64(y), n)), time.January)
	case second, minute, hour:
	}
	return floor(wall, g.width())
}

// nextLabel returns the label after a label.
func (g Granularity) nextLabel(label int64) int64 {
	y, m, _ := time.UnixMicro(label).UTC().Date()
	switch g.unit() {
	case day:
		return label + int64(g.n())*dayWidth
	case week:
		return label + 7*int64(g.n())*dayWidth
	case month:
		return date(y, m+time.Month(g.n()))
	case year:
		return date(y+g.n(), m)
	case second, minute, hour:
	}
	return label + g.width()
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
		// Those by the clock lack the cuts of the others.
		return wide%fine == 0 && (coarse.byClock() || !g.byClock())
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

// date returns the start of a month, in microseconds.
func date(y int, m time.Month) int64 {
	return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
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
