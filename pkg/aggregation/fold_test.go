package aggregation

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// call is an event of the tests, as a plain struct that the oracle reads.
type call struct {
	api, app string
	at       int64 // microseconds
	sequence uint64
	ms       int64
	ratio    float64
	counted  bool
	dropped  bool
}

// checksum is of the events' place in the tests' stream.
func (x call) checksum() uint32 { return event.Checksum(1, x.sequence, 0) }

func schema() *event.Schema {
	s := &event.Schema{Name: "request", Attributes: []event.Attribute{
		{Name: "api", Kind: event.String},
		{Name: "app", Kind: event.String},
		{Name: "ms", Kind: event.Int},
		{Name: "ratio", Kind: event.Float},
		{Name: "counted", Kind: event.Bool},
	}}
	s.Seal()
	return s
}

func definition(finest Granularity, zone *time.Location) *Definition {
	return &Definition{
		Name: "Calls",
		Keys: []Key{{"api", event.String}, {"app", event.String}},
		Measures: []Measure{
			{Name: "n", Op: Count},
			{Name: "total", Op: Sum, Arg: "ms", ArgKind: event.Int},
			{Name: "mean", Op: Avg, Arg: "ratio", ArgKind: event.Float},
			{Name: "low", Op: Min, Arg: "ms", ArgKind: event.Int},
			{Name: "high", Op: Max, Arg: "ms", ArgKind: event.Int},
			{Name: "newest", Op: Last, Arg: "ms", ArgKind: event.Int},
			{Name: "oldest", Op: First, Arg: "ms", ArgKind: event.Int},
		},
		Granularities: []Granularity{finest, Years}, Zone: zone, MaxGroups: DefaultMaxGroups,
		Inputs: []Input{{Stream: "request", Where: 4, Keys: []int{0, 1}, Args: []int{-1, 2, 3, 2, 2, 2, 2}}},
	}
}

func columnsOf(calls []call, dict *event.Dictionary) *event.Columns {
	c := event.NewColumns(schema(), dict)
	for i, x := range calls {
		c.Times, c.Sequences = append(c.Times, x.at), append(c.Sequences, x.sequence)
		c.Messages, c.Offsets, c.Dropped = append(c.Messages, int32(i)), append(c.Offsets, 0), append(c.Dropped, x.dropped)
		c.Checksums = append(c.Checksums, x.checksum())
		for at, cell := range []event.Cell{dict.Intern(x.api), dict.Intern(x.app), event.Cell(x.ms), event.FloatCell(x.ratio), event.BoolCell(x.counted)} {
			c.Cells[at] = append(c.Cells[at], cell)
		}
	}
	return c
}

// group is what the oracle and the merged delta are compared by.
type group struct {
	n               int64
	checksum        uint32
	total           *big.Int
	ratio           float64
	low, high, last int64
	at              int64
	sequence        uint64
	first, since    int64
	firstSequence   uint64
}

func (g *group) String() string {
	return fmt.Sprintf("n=%d checksum=%08x total=%s ratio=%.6f low=%d high=%d last=%d first=%d", g.n, g.checksum, g.total, g.ratio, g.low, g.high, g.last, g.first)
}

// merge adds another group of the same key, as a reader of the tables would.
func (g *group) merge(o *group) {
	g.n += o.n
	g.checksum += o.checksum
	g.total = new(big.Int).Add(g.total, o.total)
	g.ratio += o.ratio
	g.low, g.high = min(g.low, o.low), max(g.high, o.high)
	if o.at > g.at || o.at == g.at && o.sequence >= g.sequence {
		g.last, g.at, g.sequence = o.last, o.at, o.sequence
	}
	if o.since < g.since || o.since == g.since && o.firstSequence < g.firstSequence {
		g.first, g.since, g.firstSequence = o.first, o.since, o.firstSequence
	}
}

func put(groups map[string]*group, key string, g *group) {
	if have, ok := groups[key]; ok {
		have.merge(g)
		return
	}
	groups[key] = g
}

// oracle is the plain definition: a map and a loop.
func oracle(calls []call, bucket func(int64) int64) map[string]*group {
	groups := map[string]*group{}
	for _, x := range calls {
		if !x.counted || x.dropped {
			continue
		}
		put(groups, fmt.Sprint(bucket(x.at), x.api, "/", x.app), &group{1, x.checksum(), big.NewInt(x.ms), x.ratio, x.ms, x.ms, x.ms, x.at, x.sequence, x.ms, x.at, x.sequence})
	}
	return groups
}

func merged(deltas ...Delta) map[string]*group {
	groups := map[string]*group{}
	for _, d := range deltas {
		for _, p := range d.Parts {
			for i := range p.Len() {
				m := func(k int) event.Cell { return p.Measures[k][i] }
				put(groups, fmt.Sprint(p.Bucket, d.Dict.Text(p.Keys[0][i]), "/", d.Dict.Text(p.Keys[1][i])), &group{
					int64(p.Events[i]), uint32(p.Checksums[i]), big.NewInt(int64(m(1))), m(2).Float(), int64(m(3)), int64(m(4)), int64(m(5)),
					int64(p.LastTime[i]), uint64(p.LastSequence[i]),
					int64(m(6)), int64(p.FirstTime[i]), uint64(p.FirstSequence[i]),
				})
			}
		}
	}
	return groups
}

func text(groups map[string]*group) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintln(&b, key, groups[key])
	}
	return b.String()
}

func drawCalls(t *rapid.T) []call {
	base := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC).UnixMicro()
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
		return call{
			api: rapid.SampledFrom([]string{"", "a", "b", "ab"}).Draw(t, "api"), app: rapid.SampledFrom([]string{"x", "", "bx"}).Draw(t, "app"),
			at:       base + rapid.Int64Range(-90, 90).Draw(t, "minute")*60_000_000 + rapid.Int64Range(0, 2_000_000).Draw(t, "micros"),
			sequence: rapid.Uint64Range(1, 5).Draw(t, "sequence"), ms: rapid.Int64Range(-10, 1000).Draw(t, "ms"),
			ratio: float64(rapid.IntRange(0, 64).Draw(t, "ratio")) / 8, counted: rapid.IntRange(0, 9).Draw(t, "counted") > 0, dropped: rapid.IntRange(0, 9).Draw(t, "dropped") == 0,
		}
	}), 0, 300).Draw(t, "calls")
}

// Folding in any split into batches gives what a loop over all events gives.
func TestFold_EqualsTheOracleForAnySplit(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		calls := drawCalls(t)
		finest := rapid.SampledFrom([]Granularity{Seconds, Minutes, Hours, Days}).Draw(t, "finest")
		zone := rapid.SampledFrom([]*time.Location{time.UTC, berlin}).Draw(t, "zone")
		// One sequence is one message, and its events stay in order.
		slices.SortStableFunc(calls, func(a, b call) int { return int(a.sequence) - int(b.sequence) })
		def := definition(finest, zone)
		var deltas []Delta
		for rest := calls; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			deltas = append(deltas, NewFolder(nil).Fold([]*Definition{def}, []*event.Columns{columnsOf(rest[:n], event.NewDictionary())}))
			rest = rest[n:]
		}
		want := text(oracle(calls, func(at int64) int64 { return finest.Truncate(at, zone) }))
		if got := text(merged(deltas...)); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// First and last values depend on the events alone, not on their order of arrival.
func TestFold_FirstAndLastAreTheSameForAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		calls := drawCalls(t)
		for i := range calls {
			calls[i].sequence = uint64(i + 1) // every event a message of its own
		}
		def := definition(Days, time.UTC)
		want := text(oracle(calls, func(at int64) int64 { return Days.Truncate(at, time.UTC) }))
		shuffled := rapid.Permutation(calls).Draw(t, "order")
		if got := text(merged(NewFolder(nil).Fold([]*Definition{def}, []*event.Columns{columnsOf(shuffled, event.NewDictionary())}))); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestFold_IntegerSumsNeverOverflow(t *testing.T) {
	t.Parallel()
	const most = 1<<53 - 1
	var calls []call
	want := new(big.Int)
	for i := range 5000 {
		calls = append(calls, call{api: "a", at: 1, sequence: uint64(i), ms: most, counted: true})
		want.Add(want, big.NewInt(most))
	}
	if want.IsInt64() {
		t.Fatal("the test must leave 64 bits")
	}
	got := merged(NewFolder(nil).Fold([]*Definition{definition(Seconds, time.UTC)}, []*event.Columns{columnsOf(calls, event.NewDictionary())}))
	for _, g := range got {
		if g.total.Cmp(want) != 0 || g.n != 5000 || g.last != most {
			t.Errorf("got %s, want total %s", g, want)
		}
	}
	if len(got) != 1 {
		t.Errorf("got %d groups, want 1", len(got))
	}
}

func TestTable_GrowsAndFindsEveryGroup(t *testing.T) {
	t.Parallel()
	var calls []call
	for i := range 20_000 {
		calls = append(calls, call{api: fmt.Sprint("api", i%10_000), at: int64(i%3) * 1_000_000, sequence: uint64(i), counted: true})
	}
	delta := NewFolder(nil).Fold([]*Definition{definition(Seconds, time.UTC)}, []*event.Columns{columnsOf(calls, event.NewDictionary())})
	want := oracle(calls, func(at int64) int64 { return Seconds.Truncate(at, time.UTC) })
	if got := merged(delta); text(got) != text(want) || len(delta.Parts) != 3 {
		t.Errorf("%d groups in %d parts, want %d in 3", len(got), len(delta.Parts), len(want))
	}
}

func TestGranularity_CutsInTheZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, at, granularity, start, next string }{
		{"UTC", "1969-12-31T23:59:59.5Z", "seconds", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"},
		{"UTC", "2024-02-29T12:00:00Z", "months", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"},
		{"Asia/Kolkata", "2026-11-22T10:15:00Z", "hours", "2026-11-22T09:30:00Z", "2026-11-22T10:30:00Z"},
		{"Asia/Kolkata", "2026-11-22T20:00:00Z", "days", "2026-11-22T18:30:00Z", "2026-11-23T18:30:00Z"},
		{"Europe/Berlin", "2026-10-25T00:30:00Z", "hours", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},    // 02:30 summer time
		{"Europe/Berlin", "2026-10-25T01:30:00Z", "hours", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},    // 02:30 winter time
		{"Europe/Berlin", "2026-10-25T12:00:00Z", "days", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},     // 25 hours
		{"Europe/Berlin", "2026-03-29T12:00:00Z", "days", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},     // 23 hours
		{"America/Sao_Paulo", "2018-11-04T12:00:00Z", "days", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}, // no midnight: it begins at 01:00
		{"America/Sao_Paulo", "2018-11-03T12:00:00Z", "days", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"},
		{"America/Havana", "2018-11-04T12:00:00Z", "days", "2018-11-04T04:00:00Z", "2018-11-05T05:00:00Z"},   // midnight twice: the first
		{"America/Santiago", "2019-04-07T12:00:00Z", "days", "2019-04-07T04:00:00Z", "2019-04-08T04:00:00Z"}, // back at midnight to 23:00
		{"Pacific/Apia", "2011-12-31T00:00:00Z", "days", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},     // 30 December did not exist
		// Where clocks change by less than an hour, the hour ends there.
		{"Asia/Kathmandu", "1985-12-31T18:20:00Z", "hours", "1985-12-31T17:30:00Z", "1985-12-31T18:30:00Z"},
		{"Asia/Kathmandu", "1985-12-31T18:40:00Z", "hours", "1985-12-31T18:30:00Z", "1985-12-31T19:15:00Z"}, // from 00:15 on
		{"Asia/Kathmandu", "1985-12-31T18:40:00Z", "days", "1985-12-31T18:30:00Z", "1986-01-01T18:15:00Z"},
		{"Australia/Lord_Howe", "2025-10-04T15:45:00Z", "hours", "2025-10-04T15:30:00Z", "2025-10-04T16:00:00Z"}, // 02:30 to 03:00
		// No change: the end of a year in UTC, to which Go cuts rules of zones.
		{"Australia/Adelaide", "2050-01-01T00:10:00Z", "hours", "2049-12-31T23:30:00Z", "2050-01-01T00:30:00Z"},
		// Back from 00:01 to 23:01: what follows is of the day that had begun.
		{"America/St_Johns", "2010-11-07T02:30:30Z", "hours", "2010-11-07T02:30:00Z", "2010-11-07T02:31:00Z"},
		{"America/St_Johns", "2010-11-07T03:00:00Z", "hours", "2010-11-07T02:31:00Z", "2010-11-07T03:30:00Z"},
		{"America/St_Johns", "2010-11-07T03:00:00Z", "days", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"America/St_Johns", "2010-11-07T02:00:00Z", "days", "2010-11-06T02:30:00Z", "2010-11-07T02:30:00Z"},
		{"Europe/Berlin", "2026-10-25T12:00:00Z", "6 hours", "2026-10-25T11:00:00Z", "2026-10-25T17:00:00Z"},
		{"Europe/Berlin", "2026-10-25T02:00:00Z", "6 hours", "2026-10-24T22:00:00Z", "2026-10-25T05:00:00Z"}, // 7 hours
		{"Europe/Berlin", "2026-10-25T01:05:00Z", "7 minutes", "2026-10-25T01:05:00Z", "2026-10-25T01:12:00Z"},
		{"Africa/Monrovia", "1960-01-01T12:00:00Z", "minutes", "1960-01-01T11:59:30Z", "1960-01-01T12:00:30Z"}, // 44:30 behind UTC
		{"Pacific/Kwajalein", "1969-10-01T02:00:00Z", "days", "1969-09-29T13:00:00Z", "1969-10-01T12:00:00Z"},  // 30 September came twice
		{"America/New_York", "2026-01-01T02:00:00Z", "years", "2025-01-01T05:00:00Z", "2026-01-01T05:00:00Z"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		g, err := ParseGranularity(c.granularity)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339Nano, c.at)
		if err != nil {
			t.Fatal(err)
		}
		show := func(t int64) string { return time.UnixMicro(t).UTC().Format(time.RFC3339Nano) }
		start := g.Truncate(at.UnixMicro(), zone)
		if got := show(start); got != c.start {
			t.Errorf("%s of %s in %s: starts %s, want %s", c.granularity, c.at, c.zone, got, c.start)
		}
		if got := show(g.Next(start, zone)); got != c.next {
			t.Errorf("%s of %s in %s: next %s, want %s", c.granularity, c.at, c.zone, got, c.next)
		}
		if g.Ceil(start, zone) != start || start > math.MinInt64+1 && g.Ceil(start+1, zone) != g.Next(start, zone) {
			t.Errorf("%s of %s in %s: Ceil is wrong", c.granularity, c.at, c.zone)
		}
	}
}

func BenchmarkFold_Caps(b *testing.B) {
	var calls []call
	for i := range 20_000 {
		calls = append(calls, call{api: fmt.Sprint("api", i%97), app: fmt.Sprint("app", i%13), at: int64(i) * 50, sequence: uint64(i), ms: int64(i % 777), counted: true})
	}
	columns := []*event.Columns{columnsOf(calls, event.NewDictionary())}
	def := definition(Seconds, time.UTC)
	for _, c := range []struct {
		name  string
		cap   int
		guard func() *Guard
	}{
		{"no cap", 0, func() *Guard { return nil }},
		{"groups known", DefaultMaxGroups, sync.OnceValue(NewGuard)},
		{"groups new", DefaultMaxGroups, NewGuard},
		{"half beyond the cap", 97 * 13 / 2, sync.OnceValue(NewGuard)},
	} {
		b.Run(c.name, func(b *testing.B) {
			def.MaxGroups = c.cap
			b.ReportAllocs()
			folder := NewFolder(nil)
			for b.Loop() {
				if guard := c.guard(); guard != nil {
					folder.guard = guard
				}
				folder.Fold([]*Definition{def}, columns)
				folder.guard.Commit()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(calls)), "ns/event")
		})
	}
}
