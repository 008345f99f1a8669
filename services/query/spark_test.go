package query

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/query"
)

func TestDraw_MarksFromZeroToTheMaximumAndLeavesGaps(t *testing.T) {
	t.Parallel()
	gap := math.NaN()
	for _, tt := range []struct {
		values []float64
		each   int
		want   string
	}{
		{[]float64{0, 1, 2, 3, 4, 5, 6, 7}, 1, "▁▂▃▄▅▆▇█ max 7"},
		{[]float64{7, gap, 3.5, gap}, 1, "█ ▅  max 7"},
		{[]float64{0, 0}, 1, "▁▁ max 0"},
		{[]float64{1, 7, gap, gap, gap, 2, 0}, 2, "█ ▃▁ max 7"},
		{[]float64{-7, 0}, 1, "▁█ max 0"},
	} {
		if got := draw(tt.values, tt.each); got != tt.want {
			t.Errorf("%v by %d: got %q, want %q", tt.values, tt.each, got, tt.want)
		}
	}
}

func TestChart_HasALineForEachGroupAndAColumnForEachMeasure(t *testing.T) {
	t.Parallel()
	answer := &query.Answer{Columns: []string{"calls", "bucket", "code", "api", "ms"}}
	at := func(hour int) string {
		return time.Date(2026, 3, 29, hour, 0, 0, 0, time.UTC).Format(time.RFC3339)
	}
	answer.Rows = [][]any{
		{json.Number("7"), at(3), json.Number("200"), "calc", json.Number("1.5")}, // not in the order of time
		{json.Number("1"), at(0), json.Number("200"), "calc", json.Number("3")},
		{json.Number("2"), at(1), json.Number("404"), "calc", nil},
	}
	c := chart{per: aggregation.Hours, zone: time.UTC, labels: []int{2, 3}}
	var out strings.Builder
	if !c.read(answer) || c.write(&out, 80) != nil {
		t.Fatal("nothing is drawn")
	}
	const want = `per hours, 2026-03-29T00:00:00Z to 2026-03-29T03:00:00Z
code  api   calls       ms
200   calc  ▂  █ max 7  █  ▅ max 3
404   calc   █   max 2       max 0
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestChart_FitsTheScreen(t *testing.T) {
	t.Parallel()
	answer := &query.Answer{Columns: []string{"bucket", "api", "a", "b", "c", "d", "e", "f"}}
	for minute := range 1000 {
		row := []any{fmt.Sprint(time.UnixMicro(0).Add(time.Duration(minute) * time.Minute).UTC().Format(time.RFC3339)), fmt.Sprintf("api-%d", minute%30)}
		for range 6 {
			row = append(row, json.Number("12345.678"))
		}
		answer.Rows = append(answer.Rows, row)
	}
	for _, width := range []int{40, 80, 160} {
		c := chart{per: aggregation.Minutes, zone: time.UTC, labels: []int{1}}
		var out strings.Builder
		if !c.read(answer) || c.write(&out, width) != nil {
			t.Fatal("nothing is drawn")
		}
		for _, line := range strings.Split(out.String(), "\n")[1:] {
			if n := len([]rune(line)); n > width && !strings.HasPrefix(line, "and ") {
				t.Errorf("%d characters on %d: %s", n, width, line)
			}
		}
		if !strings.Contains(out.String(), "and 10 more groups") {
			t.Errorf("groups are left out in silence:\n%s", out.String())
		}
	}
}

func TestChart_DrawsNothingOfOneBucketOrWithoutNumbers(t *testing.T) {
	t.Parallel()
	for _, rows := range [][][]any{
		nil,
		{{"2026-03-29T00:00:00Z", json.Number("1")}},
		{{"2026-03-29T00:00:00Z", "x"}, {"2026-03-29T01:00:00Z", "y"}},
		{{nil, json.Number("1")}, {"yesterday", json.Number("1")}},
	} {
		c := chart{per: aggregation.Hours, zone: time.UTC}
		if c.read(&query.Answer{Columns: []string{"bucket", "n"}, Rows: rows}) {
			t.Errorf("%v is drawn", rows)
		}
	}
}
