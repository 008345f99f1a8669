package definition

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/aggregation"
)

const day = 24 * time.Hour

// ParseDuration reads counts of units, as in "90 days" or "1 hour 30 minutes".
func ParseDuration(text string) (time.Duration, error) {
	words := strings.Fields(text)
	if len(words) == 0 || len(words)%2 != 0 {
		return 0, fmt.Errorf("%q is no duration: write it as \"5 minutes\"", text)
	}
	var total time.Duration
	for i := 0; i < len(words); i += 2 {
		count, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil || count < 0 {
			return 0, fmt.Errorf("%q is no duration: %q is no count", text, words[i])
		}
		unit := durationUnit(words[i+1])
		if unit == 0 {
			return 0, fmt.Errorf("%q is no duration: the unit %q is unknown%s", text, words[i+1],
				suggest(words[i+1], []string{"seconds", "minutes", "hours", "days", "weeks", "months", "years"}))
		}
		if count > (math.MaxInt64-int64(total))/int64(unit) {
			return 0, fmt.Errorf("%q is longer than the 292 years that a duration can hold", text)
		}
		total += time.Duration(count) * unit
	}
	return total, nil
}

// durationUnit returns the length of a unit, 0 for an unknown one. Months and
// years have the lengths that Siddhi gives them.
func durationUnit(name string) time.Duration {
	switch strings.ToLower(name) {
	case "sec", "second", "seconds":
		return time.Second
	case "min", "minute", "minutes":
		return time.Minute
	case "hour", "hours":
		return time.Hour
	case "day", "days":
		return day
	case "week", "weeks":
		return 7 * day
	case "month", "months":
		return 30 * day
	case "year", "years":
		return 365 * day
	}
	return 0
}

// minRetention is Siddhi's bound per level, which holds for its multiples too:
// shorter ones would remove rows before the next coarser bucket is over.
func minRetention(g aggregation.Granularity) (time.Duration, string) {
	switch g.Base() {
	case aggregation.Seconds:
		return 120 * time.Second, "120 seconds"
	case aggregation.Minutes:
		return 120 * time.Minute, "120 minutes"
	case aggregation.Hours:
		return 25 * time.Hour, "25 hours"
	case aggregation.Days, aggregation.Weeks:
		return 32 * day, "32 days"
	case aggregation.Months:
		return 13 * 30 * day, "13 months"
	case aggregation.Quarters, aggregation.Years: // quarters count in months
	}
	return 0, ""
}

// defaultRetention is Siddhi's, for levels of which a definition says nothing.
func defaultRetention(g aggregation.Granularity) time.Duration {
	switch g.Base() {
	case aggregation.Seconds:
		return 120 * time.Second
	case aggregation.Minutes:
		return 24 * time.Hour
	case aggregation.Hours:
		return 30 * day
	case aggregation.Days, aggregation.Weeks:
		return 365 * day
	case aggregation.Months, aggregation.Quarters, aggregation.Years:
	}
	return aggregation.Forever
}

// retention reads "all" or a duration that is long enough for the level.
func retention(g aggregation.Granularity, text string) (time.Duration, error) {
	if strings.EqualFold(text, "all") {
		return aggregation.Forever, nil
	}
	d, err := ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%w (\"all\" keeps for ever)", err)
	}
	if least, name := minRetention(g); d < least {
		return 0, fmt.Errorf("%s is too short: at least %s", text, name)
	}
	if d == 0 { // 0 would mean for ever
		return 0, fmt.Errorf("%s keeps nothing: leave the level out of every", text)
	}
	return d, nil
}

// parseEvery reads the levels to keep, finest first and at least one, from
// "first...last" or a list, in any spelling that Siddhi accepts.
func parseEvery(items []string) ([]aggregation.Granularity, error) {
	if len(items) == 1 {
		if first, last, ok := strings.Cut(items[0], "..."); ok {
			return everyRange(first, last)
		}
		items = strings.Split(items[0], ",")
	}
	var levels []aggregation.Granularity
	for _, item := range items {
		if strings.Contains(item, "...") {
			return nil, fmt.Errorf("the range %s cannot stand in a list: list its levels", strings.TrimSpace(item))
		}
		g, err := parseGranularity(item)
		if err != nil {
			return nil, err
		}
		if slices.Contains(levels, g) {
			return nil, fmt.Errorf("%s is listed twice", g)
		}
		levels = append(levels, g)
	}
	slices.Sort(levels)
	return levels, nil
}

// everyRange returns the two ends of a range and, of seconds, minutes, hours,
// days, months and years, those between.
func everyRange(first, last string) ([]aggregation.Granularity, error) {
	from, err := parseGranularity(first)
	if err != nil {
		return nil, err
	}
	to, err := parseGranularity(last)
	if err != nil {
		return nil, err
	}
	if from > to {
		return nil, fmt.Errorf("a range goes from fine to coarse: %s...%s", to, from)
	}
	levels := []aggregation.Granularity{from}
	for _, g := range aggregation.Granularities() {
		if g > from && g < to {
			levels = append(levels, g)
		}
	}
	if to > from {
		levels = append(levels, to)
	}
	return levels, nil
}

func parseGranularity(text string) (aggregation.Granularity, error) {
	g, err := aggregation.ParseGranularity(text)
	if err != nil {
		names := []string{"seconds", "minutes", "hours", "days", "weeks", "months", "quarters", "years"}
		return 0, fmt.Errorf("unknown granularity %q%s", strings.TrimSpace(text), suggest(strings.TrimSpace(text), names))
	}
	return g, nil
}
