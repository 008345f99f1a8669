package definition_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/event"
)

func TestLoad_ReadsEveryMeasure(t *testing.T) {
	t.Parallel()
	const text = `stream: s
attributes: {name: string, price: float, volume: int, hot: bool, at: time}
aggregations:
  A:
    every: hours
    select:
      oldest:    first(name)
      names:     distinct_count(name)
      times:     distinctCount(at)
      hots:      distinct_count( hot )
      median:    p50(price)
      p95:       p95(price)
      most:      percentile(price, 99.9)
      other:     p99.9(volume)
      worth:     percentile(price * max(volume, 1), 25)
      spread:    stddev(volume)
      spread2:   stdDev(price)
      since:     min(at)
      until:     max(at)
`
	catalog, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	def := catalog.Aggregation("A")
	want := []struct {
		name, function, shares string
		kind, arg              event.Kind
	}{
		{"oldest", "first", "", event.String, event.String},
		{"names", "distinct_count", "", event.Int, event.String},
		{"times", "distinct_count", "", event.Int, event.Time},
		{"hots", "distinct_count", "", event.Int, event.Bool},
		{"median", "p50", "", event.Float, event.Float},
		{"p95", "p95", "median", event.Float, event.Float},
		{"most", "p99.9", "median", event.Float, event.Float},
		{"other", "p99.9", "", event.Float, event.Int},
		{"worth", "p25", "", event.Float, event.Float},
		{"spread", "stddev", "", event.Float, event.Int},
		{"spread2", "stddev", "", event.Float, event.Float},
		{"since", "min", "", event.Time, event.Time},
		{"until", "max", "", event.Time, event.Time},
	}
	if len(def.Measures) != len(want) {
		t.Fatalf("got %d measures, want %d", len(def.Measures), len(want))
	}
	for i, w := range want {
		m := def.Measures[i]
		if m.Name != w.name || m.Function() != w.function || m.Shares != w.shares || m.Kind() != w.kind || m.ArgKind != w.arg {
			t.Errorf("got %+v (%s), want %+v", m, m.Function(), w)
		}
		if sketched := m.Op == aggregation.Distinct || m.Op == aggregation.Quantile || m.Op == aggregation.Deviation; m.Sketched() != sketched {
			t.Errorf("%s: sketched %t, want %t", m.Name, m.Sketched(), sketched)
		}
	}
}

func TestLoad_TakesAtMost64Measures(t *testing.T) {
	t.Parallel()
	text := "stream: s\nattributes: {volume: int}\naggregations:\n  A:\n    every: hours\n    select:\n"
	for n := range aggregation.MaxMeasures {
		text += fmt.Sprintf("      m%d: sum(volume)\n", n)
	}
	if _, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}}); err != nil {
		t.Errorf("%d measures: %v", aggregation.MaxMeasures, err)
	}
	_, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(text + "      more: sum(volume)\n")}})
	if err == nil || !strings.Contains(err.Error(), "a.yaml:71") || !strings.Contains(err.Error(), "at most 64 measures") {
		t.Errorf("one more: got %v", err)
	}
}
