package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/query"
	"weir/services/ask"
	"weir/services/terminal"
)

const (
	mostMarks   = 60 // of a sparkline
	leastMarks  = 8
	mostSeries  = 20
	mostBuckets = 100_000
	// besideMarks is the room for what stands beside the marks of a measure: " max 1234567.89" and a gap.
	besideMarks = 17
)

// sparklines draws the measures of an answer over its buckets, a line for each of its groups and a column for each
// measure, below the table. It draws nothing where out is no terminal, where there is but one bucket, or where the
// answer was cut or filtered, so that a bucket that is missing says nothing.
func sparklines(ctx context.Context, out io.Writer, asker *ask.Asker, name string, values url.Values, answer *query.Answer) error {
	width, _, ok := terminal.Size(out)
	if !ok || !slices.Contains(answer.Columns, "bucket") || values.Has("limit") || values.Has("offset") || values.Has("having") {
		return nil
	}
	described, found, err := asker.Aggregation(ctx, name)
	if err != nil || !found {
		return err
	}
	per, err := aggregation.ParseGranularity(values.Get("per"))
	if err != nil {
		return nil //nolint:nilerr // the server that has answered may know more than this program
	}
	zone, err := time.LoadLocation(described.Zone)
	if err != nil {
		return err
	}
	c := chart{per: per, zone: zone, labels: labels(described, values, answer)}
	if !c.read(answer) {
		return nil
	}
	_, _ = fmt.Fprintln(out)
	return c.write(out, width)
}

// labels are the columns of the answer that tell its groups apart.
func labels(described query.Aggregation, values url.Values, answer *query.Answer) []int {
	grouped := strings.Split(values.Get("group_by"), ",")
	if !values.Has("group_by") {
		grouped = []string{"shard_id"}
		for _, key := range described.Keys {
			grouped = append(grouped, key.Name)
		}
	}
	for i := range grouped {
		grouped[i] = strings.TrimSpace(grouped[i])
	}
	var columns []int
	for i, column := range answer.Columns {
		measure := slices.ContainsFunc(described.Measures, func(m query.Measure) bool { return m.Name == column })
		text := slices.ContainsFunc(answer.Rows, func(row []any) bool { _, ok := row[i].(string); return ok })
		if column != "bucket" && (slices.Contains(grouped, column) || text && !measure) {
			columns = append(columns, i)
		}
	}
	return columns
}

// chart is the measures of an answer as series over its buckets.
type chart struct {
	per    aggregation.Granularity
	zone   *time.Location
	labels []int // columns

	buckets []int64  // starts, from the first to the last of the answer, microseconds
	heads   []string // the names of the labels
	names   []string // and of the measures
	series  []series // in the order of the answer
	more    int      // series that are left out
}

// series is one group: for each measure its value in each bucket, NaN where there is none.
type series struct {
	labels []string
	values [][]float64
}

// read takes an answer in, and reports whether there is anything to draw.
func (c *chart) read(answer *query.Answer) bool {
	at := slices.Index(answer.Columns, "bucket")
	starts := make([]int64, len(answer.Rows))
	for i, row := range answer.Rows {
		start, ok := instant(row[at])
		if !ok {
			return false
		}
		starts[i] = start
	}
	if len(starts) == 0 {
		return false
	}
	for start := slices.Min(starts); start <= slices.Max(starts) && len(c.buckets) < mostBuckets; start = c.per.Next(start, c.zone) {
		c.buckets = append(c.buckets, start)
	}
	for _, i := range c.labels {
		c.heads = append(c.heads, answer.Columns[i])
	}
	measures := numeric(answer, append(slices.Clone(c.labels), at))
	for _, i := range measures {
		c.names = append(c.names, answer.Columns[i])
	}
	if len(c.buckets) < 2 || len(measures) == 0 {
		return false
	}
	known := map[string]int{} // labels → index of series
	for n, row := range answer.Rows {
		var texts []string
		for _, i := range c.labels {
			texts = append(texts, fmt.Sprint(row[i]))
		}
		id := strings.Join(texts, "\x00")
		index, ok := known[id]
		if !ok {
			if len(c.series) == mostSeries {
				c.more++
				index = -1
			} else {
				index = len(c.series)
				c.series = append(c.series, c.empty(texts, len(measures)))
			}
			known[id] = index
		}
		bucket, exact := slices.BinarySearch(c.buckets, starts[n])
		if index < 0 || !exact {
			continue
		}
		for m, i := range measures {
			if value, ok := number(row[i]); ok {
				c.series[index].values[m][bucket] = value
			}
		}
	}
	return true
}

func (c *chart) empty(texts []string, measures int) series {
	s := series{labels: texts, values: make([][]float64, measures)}
	for m := range s.values {
		s.values[m] = slices.Repeat([]float64{math.NaN()}, len(c.buckets))
	}
	return s
}

// numeric are the columns that have numbers, and nothing else but nulls, save the given ones.
func numeric(answer *query.Answer, but []int) []int {
	var columns []int
	for i := range answer.Columns {
		some, all := false, true
		for _, row := range answer.Rows {
			_, ok := number(row[i])
			some, all = some || ok, all && (ok || row[i] == nil)
		}
		if some && all && !slices.Contains(but, i) {
			columns = append(columns, i)
		}
	}
	return columns
}

// write draws what fits into a width.
func (c *chart) write(out io.Writer, width int) error {
	header := slices.Clone(c.heads)
	lines := [][]string{}
	for _, s := range c.series {
		lines = append(lines, slices.Clone(s.labels))
	}
	room := width
	for l := range c.labels {
		widest := terminal.Width(c.heads[l])
		for _, line := range lines {
			widest = max(widest, terminal.Width(line[l]))
		}
		room -= widest + 2
	}
	shown := max(1, min(len(c.names), room/(leastMarks+besideMarks)))
	marks := max(leastMarks, min(mostMarks, room/shown-besideMarks))
	each := (len(c.buckets) + marks - 1) / marks // buckets of a mark
	for m, name := range c.names[:shown] {
		header = append(header, name)
		for i := range lines {
			lines[i] = append(lines[i], draw(c.series[i].values[m], each))
		}
	}
	moment := func(at int64) string { return time.UnixMicro(at).In(c.zone).Format(time.RFC3339) }
	title := fmt.Sprintf("per %s, %s to %s", c.per, moment(c.buckets[0]), moment(c.buckets[len(c.buckets)-1]))
	if each > 1 {
		title += fmt.Sprintf("; a mark is the most of %d", each)
	}
	_, _ = fmt.Fprintln(out, title)
	if err := query.WriteAligned(out, append([][]string{header}, lines...), make([]bool, len(header))); err != nil {
		return err
	}
	if left := len(c.names) - shown; left > 0 {
		_, _ = fmt.Fprintf(out, "and %d more measures, for which there is no room: --select chooses\n", left)
	}
	if c.more > 0 {
		_, _ = fmt.Fprintf(out, "and %d more groups\n", c.more)
	}
	return nil
}

// draw is values as marks from 0 to their maximum, a mark for so many values, with the maximum beside them. Where
// there is no value there is no mark.
func draw(values []float64, each int) string {
	low, high := 0.0, 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			low, high = math.Min(low, v), math.Max(high, v)
		}
	}
	steps := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for part := range slices.Chunk(values, each) {
		most := math.NaN()
		for _, v := range part {
			if math.IsNaN(most) || v > most {
				most = v
			}
		}
		switch {
		case math.IsNaN(most):
			b.WriteByte(' ')
		case high == low:
			b.WriteRune(steps[0])
		default:
			b.WriteRune(steps[int(math.Round((most-low)/(high-low)*float64(len(steps)-1)))])
		}
	}
	return b.String() + " max " + strconv.FormatFloat(high, 'g', 6, 64)
}

// instant is a bucket as an answer writes it, in microseconds.
func instant(cell any) (int64, bool) {
	if text, ok := cell.(string); ok {
		at, err := time.Parse(time.RFC3339Nano, text)
		return at.UnixMicro(), err == nil
	}
	millis, ok := number(cell)
	return int64(millis) * 1000, ok
}

func number(cell any) (float64, bool) {
	switch v := cell.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case fmt.Stringer: // *big.Int
		f, err := strconv.ParseFloat(v.String(), 64)
		return f, err == nil
	}
	return 0, false
}
