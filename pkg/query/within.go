package query

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const withinExample = "for example within=2026-11-22 00:00:00,2026-11-23 00:00:00 or within=2026-11-** **:**:**"

// parseWithin reads an interval; both ends are microseconds since 1970 UTC,
// the second excluded.
func parseWithin(text string) (from, until int64, err error) {
	ends := strings.Split(strings.TrimSpace(text), ",")
	switch {
	case ends[0] == "" && len(ends) == 1:
		return 0, 0, errors.New("within is missing: give the interval as START,END, " + withinExample)
	case len(ends) == 1:
		return parsePattern(text)
	case len(ends) > 2:
		return 0, 0, fmt.Errorf("within: an interval has two ends, START,END, not %d; %s", len(ends), withinExample)
	}
	start, err := parseInstant(ends[0])
	if err != nil {
		return 0, 0, fmt.Errorf("within: %w", err)
	}
	end, err := parseInstant(ends[1])
	if err != nil {
		return 0, 0, fmt.Errorf("within: %w", err)
	}
	if !start.Before(end) {
		return 0, 0, fmt.Errorf("within: the interval starts at %s, which is not before its end %s; the first end must be the earlier one",
			start.UTC().Format(time.RFC3339Nano), end.UTC().Format(time.RFC3339Nano))
	}
	return start.UnixMicro(), end.UnixMicro(), nil
}

// The bounds of the years 1 to 9999, beyond which times cannot be written.
const (
	minMillis = -62135596800000
	maxMillis = 253402300800000
)

// parseInstant reads a point in time: epoch milliseconds or text, in UTC
// without offset. A blank before the hours of an offset counts as +, because
// that is what is left of a + in a URL.
func parseInstant(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < minMillis || n > maxMillis {
			return time.Time{}, fmt.Errorf("%s is out of range: a number is milliseconds since 1970-01-01 UTC", text)
		}
		return time.UnixMilli(n), nil
	}
	form := regexp.MustCompile(`(?i)^(\d{4}-\d\d-\d\d)(?:[t ](\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?)?(?:\s*(z)|\s*([+-]\d\d:\d\d)|\s(\d\d:\d\d))?$`)
	m := form.FindStringSubmatch(text)
	if m == nil || m[2] == "" && m[6] != "" {
		return time.Time{}, fmt.Errorf("%q is no time; write 2026-11-22T10:00:00Z, 2026-11-22 10:00:00 +05:30 (UTC without offset), or milliseconds since 1970", text)
	}
	clock, seconds, zone := m[2], m[3], strings.ToUpper(m[4])+m[5]
	if clock == "" {
		clock = "00:00"
	}
	if seconds == "" {
		seconds = ":00"
	}
	if m[6] != "" {
		zone = "+" + m[6]
	}
	if zone == "" {
		zone = "Z"
	}
	t, err := time.Parse(time.RFC3339Nano, m[1]+"T"+clock+seconds+zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: the calendar or the clock has no such day, hour or offset", text)
	}
	return t, nil
}

// parsePattern reads the one-value form: a time whose last parts are wildcards,
// with or without offset, stands for all of what is left open.
func parsePattern(text string) (from, until int64, err error) {
	text = strings.TrimSpace(text)
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return 0, 0, fmt.Errorf("within: a single value must be a text with wildcards, not the number %s; give START,END, %s", text, withinExample)
	}
	part := `(\d\d|\*\*)`
	form := regexp.MustCompile(`(?i)^(\d{4})-` + part + `-` + part + `[t ]` + part + `:` + part + `:` + part + `(?:\s*(z)|\s*([+-]\d\d:\d\d)|\s(\d\d:\d\d))?$`)
	m := form.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("within: %q is neither START,END nor a time with wildcards; %s", text, withinExample)
	}
	parts := []string{m[1], "01", "01", "00", "00", "00"}
	exact := 1 // number of leading parts that are given
	for exact < 6 && m[exact+1] != "**" {
		parts[exact] = m[exact+1]
		exact++
	}
	for i := exact; i < 6; i++ {
		if m[i+1] != "**" {
			return 0, 0, fmt.Errorf("within: in %q a number follows a wildcard; wildcards come last, %s", text, withinExample)
		}
	}
	zone := m[7] + m[8]
	if m[9] != "" {
		zone = "+" + m[9]
	}
	start, err := parseInstant(fmt.Sprintf("%s-%s-%sT%s:%s:%s%s", parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], zone))
	if err != nil {
		return 0, 0, fmt.Errorf("within: %w", err)
	}
	return start.UnixMicro(), patternEnd(start, exact).UnixMicro(), nil
}

// patternEnd returns the end of the year, month, …, second that starts at
// start, by the clock of start's offset.
func patternEnd(start time.Time, exact int) time.Time {
	switch exact {
	case 1:
		return start.AddDate(1, 0, 0)
	case 2:
		return start.AddDate(0, 1, 0)
	case 3:
		return start.AddDate(0, 0, 1)
	}
	return start.Add(time.Duration(math.Pow(60, float64(6-exact))) * time.Second)
}
