package report

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
	"unicode"

	"weir/pkg/query"
	"weir/services/version"
)

// writeCSV writes a line for each row; there are no totals in it, which would count as lines.
func (m *Month) writeCSV(out io.Writer) error {
	answer := query.Answer{Columns: []string{
		"month", "tenant", "api", "version", "application_id", "application", "owner",
		"requests", "codes_4xx", "codes_5xx", "faults", "throttled",
	}}
	for _, r := range m.Rows {
		answer.Rows = append(answer.Rows, []any{
			m.Start.Format("2006-01"), r.Tenant, r.API, r.Version, r.ApplicationID, r.Application, r.Owner,
			r.Requests, r.Codes4xx, r.Codes5xx, r.Faults, r.Throttled,
		})
	}
	return answer.WriteCSV(out)
}

// writeText writes the report for people without a browser.
func (m *Month) writeText(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "API usage, %s (%s)\n", m.Name(), m.Start.Location())
	if caveat := m.Caveat(); caveat != "" {
		_, _ = fmt.Fprintln(out, caveat)
	}
	if len(m.Rows) == 0 {
		_, _ = fmt.Fprintln(out, m.Nothing())
		return nil
	}
	lines := [][]string{{"tenant", "api", "version", "application", "owner", "requests", "4xx", "5xx", "faults", "throttled", "errors %"}}
	figures := func(f Figures) []string {
		return []string{grouped(f.Requests), grouped(f.Codes4xx), grouped(f.Codes5xx), grouped(f.Faults), grouped(f.Throttled), percent(f.ErrorShare())}
	}
	for _, r := range m.Rows {
		lines = append(lines, append([]string{r.Tenant, r.API, r.Version, r.Application, r.Owner}, figures(r.Figures)...))
	}
	lines = append(lines, append([]string{"total", "", "", "", ""}, figures(m.Totals())...))
	_, _ = fmt.Fprintln(out)
	return query.WriteAligned(out, lines, []bool{false, false, false, false, false, true, true, true, true, true, true})
}

// Nothing is what a report without rows says.
func (m *Month) Nothing() string {
	text := "No call of " + m.Name() + " is counted."
	if m.Kept != "" && m.Kept != "forever" {
		if kept, err := time.ParseDuration(m.Kept); err == nil && m.Made.Sub(m.Start) > kept {
			text += " Months are kept for " + grouped(int64(kept.Hours()/24)) + " days."
		}
	}
	return text
}

//go:embed report.html
var page string

// bar is a day of the chart, in units of the drawing.
type bar struct {
	X, Y, Width, Height float64
	Title               string
	Label               string // under it; "" for most
}

const (
	chartWidth  = 720
	chartHeight = 120
)

// bars are the days as a chart, and the calls at its top.
func (m *Month) bars() (bars []bar, top int64) {
	for _, d := range m.Days {
		top = max(top, d.Requests)
	}
	if top == 0 {
		return nil, 0
	}
	slot := float64(chartWidth) / 31
	for i, d := range m.Days {
		height := chartHeight * float64(d.Requests) / float64(top)
		b := bar{
			X: float64(i)*slot + 1, Y: chartHeight - height, Width: slot - 2, Height: height,
			Title: d.Start.Format(time.DateOnly) + ": " + grouped(d.Requests),
		}
		if day := d.Start.Day(); day == 1 || day%5 == 0 {
			b.Label = fmt.Sprint(day)
		}
		bars = append(bars, b)
	}
	return bars, top
}

// writeHTML writes the report as one page.
func (m *Month) writeHTML(out io.Writer) error {
	parsed, err := template.New("report").Funcs(template.FuncMap{
		"n": grouped, "pct": percent, "text": printable,
		"dict": func(title string, rows []Ranked) map[string][]Ranked { return map[string][]Ranked{title: rows} },
		"half": func(x, width float64) float64 { return x + width/2 },
	}).Parse(page)
	if err != nil {
		return err
	}
	bars, top := m.bars()
	return parsed.Execute(out, struct {
		*Month

		Total   Figures
		Bars    []bar
		Top     int64
		Version string
	}{m, m.Totals(), bars, top, version.String()})
}

// grouped writes a number with commas: 1,234,567.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func percent(v float64) string { return fmt.Sprintf("%.2f", v) }

// printable replaces what does not print, as characters that turn the direction of writing.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}
