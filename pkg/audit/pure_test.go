package audit

import (
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/stream"
)

func limits(n int) stream.Limits { return stream.Limits{Messages: n} }

func TestGaps_AreWithoutWhatIsKnown(t *testing.T) {
	t.Parallel()
	var g gaps
	g.add(3, 3)
	g.add(4, 10)
	g.add(20, 30)
	left := g.without([]numbers{{25, 40}, {5, 6}, {1, 3}})
	if got := left.String(); got != "n=4, n=7..10, n=20..24" || left.count != 10 || g.count != 19 {
		t.Errorf("got %s, %d", got, left.count)
	}
}

func TestSpan_EndsWhereBucketsAndPeriodsDo(t *testing.T) {
	t.Parallel()
	kathmandu, err := time.LoadLocation("Asia/Kathmandu") // 5:45 ahead
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) int64 {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixMicro()
	}
	for _, c := range []struct{ level, at, from, until string }{
		{"seconds", "2024-05-17T12:07:01Z", "2024-05-17T12:00:00Z", "2024-05-17T12:15:00Z"},
		{"7 minutes", "2024-05-17T13:50:00Z", "2024-05-17T12:15:00Z", "2024-05-17T14:00:00Z"},
		{"hours", "2024-05-17T12:15:00Z", "2024-05-17T12:15:00Z", "2024-05-17T13:15:00Z"},
		{"days", "2024-05-17T12:15:00Z", "2024-05-16T18:15:00Z", "2024-05-17T18:15:00Z"},
	} {
		g := parse(t, c.level)
		cut := cutter{g: g, zone: kathmandu}
		if got, want := cut.part(floor(parse(t, "15 minutes"), time.UTC, at(c.at))), (span{at(c.from), at(c.until)}); got != want {
			t.Errorf("%s at %s: got %s, want %s", c.level, c.at, got, want)
		}
	}
}

func TestGrouped_HasCommas(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1204331870: "1,204,331,870", -1234: "-1,234"} {
		if got := Grouped(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}

func parse(t *testing.T, text string) aggregation.Granularity {
	t.Helper()
	g, err := aggregation.ParseGranularity(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
