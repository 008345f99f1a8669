package top

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"weir/pkg/query"
	"weir/services/terminal"
)

// view is what is shown, and how. Its methods draw; they ask nobody and keep no time.
type view struct {
	url     string
	sample  *sample // nil: none yet
	problem string  // of the newest look, "" where there was none

	sort   int // column
	turned bool
	filter string
	typing bool // the filter
	paused bool
	scroll int
	help   bool
}

// apis are those that the filter leaves, in order.
func (v *view) apis() []api {
	var left []api
	wanted := strings.ToLower(v.filter)
	for _, a := range v.sample.apis {
		if strings.Contains(strings.ToLower(a.name+" "+a.version), wanted) {
			left = append(left, a)
		}
	}
	byName, byVersion, by := columns()[0], columns()[1], columns()[v.sort]
	slices.SortStableFunc(left, func(a, b api) int {
		order := by.order(a, b)
		if v.turned {
			order = -order
		}
		if order == 0 {
			order = byName.order(a, b)
		}
		if order == 0 {
			order = byVersion.order(a, b)
		}
		return order
	})
	return left
}

// headlines say what is shown, and how far it can be trusted.
func (v *view) headlines(now time.Time) []string {
	s := v.sample
	var total api
	for _, a := range s.apis {
		total.calls += a.calls
		total.e5xx += a.e5xx
		total.faults += a.faults
		total.throttled += a.throttled
	}
	seconds := s.end.Sub(s.start).Seconds()
	errors := 0.0
	if total.calls > 0 {
		errors = 100 * (total.e5xx + total.faults) / total.calls
	}
	live, events := 0, 0.0
	for _, shard := range s.shards {
		events += shard.rate
		if shard.State == "live" {
			live++
		}
	}
	through := "how far the stream is counted is not known"
	if !s.through.IsZero() {
		through = fmt.Sprintf("complete through %s, lag %s", s.through.UTC().Format("15:04:05"), age(now.Sub(s.through)))
	}
	return []string{
		fmt.Sprintf("weir top  %s UTC, %s  %s", now.UTC().Format("15:04:05"), through, v.url),
		fmt.Sprintf("%s calls/s  %s%% errors  %s throttled/s  %s APIs, of %s up to %s",
			rate(total.calls/seconds), percent(errors), rate(total.throttled/seconds), count(float64(len(s.apis))), s.end.Sub(s.start), s.end.UTC().Format("15:04:05")),
		fmt.Sprintf("%d of %d shards live  %s events/s", live, len(s.shards), rate(events)),
	}
}

// print writes all of it as plain text.
func (v *view) print(out io.Writer, now time.Time) error {
	for _, line := range v.headlines(now) {
		_, _ = fmt.Fprintln(out, printable(line))
	}
	_, _ = fmt.Fprintln(out)
	all := columns()
	lines, right := [][]string{nil}, make([]bool, len(all))
	for i, c := range all {
		lines[0] = append(lines[0], c.title())
		right[i] = i > 1
	}
	for _, a := range v.apis() {
		var line []string
		for _, c := range all {
			line = append(line, c.text(a))
		}
		lines = append(lines, line)
	}
	if err := query.WriteAligned(out, lines, right); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	lines = [][]string{shardTitles()}
	for _, s := range v.sample.shards {
		lines = append(lines, s.cells(now))
	}
	return query.WriteAligned(out, lines, []bool{false, false, true, true, true, true})
}

func shardTitles() []string {
	return []string{"shard", "state", "events/s", "events", "last flush", "levels behind"}
}

func (s shard) cells(now time.Time) []string {
	flush := "never"
	if s.LastFlush != nil {
		flush = age(now.Sub(*s.LastFlush))
	}
	return []string{s.ShardID, s.State, rate(s.rate), count(float64(s.Events)), flush, fmt.Sprintf("%d of %d", s.Behind, s.Levels)}
}

const (
	reverse = "\x1b[7m"
	bold    = "\x1b[1m"
	plain   = "\x1b[0m"
)

// frame is the screen as lines of the given width, as many as it is high.
func (v *view) frame(width, height int, now time.Time) []string {
	if v.help {
		return v.helpFrame(width, height)
	}
	if v.sample == nil {
		text := "asking " + v.url + " …"
		if v.problem != "" {
			text = v.problem
		}
		return fill([]string{line("weir top", width), "", line(text, width)}, width, height, v.footer(width))
	}
	var lines []string
	for _, text := range v.headlines(now) {
		lines = append(lines, line(text, width))
	}
	shards := v.shardLines(width, height, now)
	lines = append(lines, "")
	rows := v.apis()
	room := max(1, height-len(lines)-len(shards)-2) // the titles, and the footer
	v.scroll = max(0, min(v.scroll, len(rows)-room))
	lines = append(lines, v.apiLines(rows[v.scroll:min(len(rows), v.scroll+room)], width)...)
	if len(rows) == 0 {
		text := "no calls in this time"
		if v.filter != "" {
			text = "no API with " + v.filter
		}
		lines = append(lines, line(text, width))
	}
	for len(lines)+len(shards)+1 < height {
		lines = append(lines, "")
	}
	return fill(append(lines, shards...), width, height, v.footer(width))
}

// apiLines are the table of APIs with its titles; the column that it is sorted by stands out.
func (v *view) apiLines(rows []api, width int) []string {
	var shown []column
	sorted, rest := 0, width
	for i, c := range columns() {
		if width < c.least {
			continue
		}
		if i == v.sort {
			sorted = len(shown)
		}
		shown = append(shown, c)
		rest -= c.width + 1
	}
	longest := 16
	for _, a := range v.sample.apis {
		longest = max(longest, terminal.Width(a.name))
	}
	shown[0].width = max(8, min(rest, longest))
	cells := make([]string, len(shown))
	for i, c := range shown {
		cells[i] = terminal.Fit(c.title(), c.width, i > 1)
		if i == sorted {
			cells[i] = bold + strings.ToUpper(cells[i]) + plain + reverse
		}
	}
	lines := []string{reverse + strings.Join(cells, " ") + plain}
	for _, a := range rows {
		for i, c := range shown {
			cells[i] = terminal.Fit(printable(c.text(a)), c.width, i > 1)
		}
		lines = append(lines, line(strings.Join(cells, " "), width))
	}
	return lines
}

// shardLines are the table of shards, in a third of the screen at most: first those that fold most.
func (v *view) shardLines(width, height int, now time.Time) []string {
	shards := slices.Clone(v.sample.shards)
	most := max(1, height/3-3)
	more := max(0, len(shards)-most)
	if more > 0 {
		slices.SortStableFunc(shards, func(a, b shard) int { return int(b.rate - a.rate) })
		shards = shards[:most]
	}
	widths := []int{20, 8, 10, 15, 11, 14}
	row := func(cells []string) string {
		for i := range cells {
			cells[i] = terminal.Fit(printable(cells[i]), widths[i], i > 1)
		}
		return strings.Join(cells, " ")
	}
	widths[0] = min(20, max(6, width-63))
	lines := []string{"", reverse + terminal.Fit(row(shardTitles()), width, false) + plain}
	for _, s := range shards {
		lines = append(lines, line(row(s.cells(now)), width))
	}
	if more > 0 {
		lines = append(lines, line(fmt.Sprintf("and %d more shards", more), width))
	}
	return lines
}

func (v *view) footer(width int) string {
	text := "q quit  ←→ sort  r reverse  / filter  ↑↓ scroll  p pause  ? help"
	switch {
	case v.typing:
		text = "filter: " + v.filter + "_   Enter keeps, Escape drops"
	case v.problem != "":
		text = "! " + v.problem
	case v.paused:
		text = "PAUSED, p goes on   " + text
	case v.filter != "":
		text = "filter: " + v.filter + "   " + text
	}
	return line(text, width)
}

func (v *view) helpFrame(width, height int) []string {
	var lines []string
	for _, text := range []string{
		"weir top", "",
		"  ← →  s     the column to sort by: the next one, the one before",
		"  r          the other way round",
		"  ↑ ↓        scroll; also PgUp, PgDn, Home, k and j",
		"  /          show only APIs with a text in their name or version",
		"  p          pause",
		"  q          end; also Ctrl-C", "",
		"  errors%    response codes from 500 on, and faults in the gateway",
		"  lag        how long ago everything in the stream was counted",
		"  last flush how long ago a shard has stored something", "",
		"any key goes back",
	} {
		lines = append(lines, line(text, width))
	}
	return fill(lines, width, height, "")
}

// fill makes lines a screen, with the footer as its last line.
func fill(lines []string, _, height int, footer string) []string {
	for len(lines) < height {
		lines = append(lines, "")
	}
	lines = lines[:height]
	lines[height-1] = footer
	return lines
}

// line is a text that is cut where the screen ends.
func line(text string, width int) string {
	return strings.TrimRight(terminal.Fit(printable(text), width, false), " ")
}

// printable keeps what events say from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}
