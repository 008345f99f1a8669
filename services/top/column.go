package top

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// column is one of the table of APIs.
type column struct {
	name  string
	width int // in columns of the terminal; 0: what is left
	least int // of the terminal, where it is shown
	text  func(api) string
	order func(a, b api) int // as it is sorted at first: names upwards, figures downwards
}

func columns() []column {
	figure := func(name string, width, least int, value func(api) (float64, bool), format func(float64) string) column {
		return column{
			name, width, least,
			func(a api) string {
				v, ok := value(a)
				if !ok {
					return "-"
				}
				return format(v)
			},
			func(a, b api) int {
				x, hasX := value(a)
				y, hasY := value(b)
				if hasX != hasY { // what is not known comes last
					return map[bool]int{true: -1, false: 1}[hasX]
				}
				return cmp.Compare(y, x)
			},
		}
	}
	percentile := func(name string, n int) column {
		return figure(name, 7, 0, func(a api) (float64, bool) {
			if a.percentiles[n] == nil {
				return 0, false
			}
			return *a.percentiles[n], true
		}, millis)
	}
	share := func(name string, least int, part func(api) float64) column {
		return figure(name, 7, least, func(a api) (float64, bool) { return 100 * part(a) / a.calls, a.calls > 0 }, percent)
	}
	return []column{
		{"api", 0, 0, func(a api) string { return a.name }, func(a, b api) int { return strings.Compare(a.name, b.name) }},
		{"version", 8, 0, func(a api) string { return a.version }, func(a, b api) int { return strings.Compare(a.version, b.version) }},
		figure("calls/s", 9, 0, func(a api) (float64, bool) { return a.calls / a.seconds, true }, rate),
		share("errors", 0, func(a api) float64 { return a.e5xx + a.faults }),
		share("4xx", 100, func(a api) float64 { return a.e4xx }),
		percentile("p50", 0), percentile("p95", 1), percentile("p99", 2),
		figure("throttled", 9, 0, func(a api) (float64, bool) { return a.throttled / a.seconds, true }, rate),
		figure("calls", 11, 110, func(a api) (float64, bool) { return a.calls, true }, count),
	}
}

// columnNames are the names by which one sorts.
func columnNames() []string {
	var names []string
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return names
}

// title is what stands above a column: its name with its unit.
func (c column) title() string {
	switch c.name {
	case "errors", "4xx":
		return c.name + "%"
	case "p50", "p95", "p99":
		return c.name + " ms"
	case "throttled":
		return "throttl/s"
	}
	return c.name
}

func rate(v float64) string {
	if v >= 9999.5 {
		return count(v)
	}
	return fmt.Sprintf("%.1f", v)
}

func percent(v float64) string { return fmt.Sprintf("%.1f", v) }

func millis(v float64) string {
	if v < 9.95 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// count writes a number with commas: 1,234,567.
func count(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// age writes how long ago something was: 0.3s, 12.0s, 2m5s.
func age(d time.Duration) string {
	d = max(0, d)
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
