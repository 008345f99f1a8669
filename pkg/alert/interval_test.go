package alert

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func intervalRule() *Rule {
	return oneCase(Rule{Type: Interval, AtLeast: 5, Lower: 10, Upper: 95, Window: 7 * 24 * time.Hour, Suppress: 10 * time.Minute})
}

// intervalOracle collects the intervals of the window for each event.
func intervalOracle(r *Rule, deeds []deed, end time.Duration) (lines []string) {
	fired := map[string]time.Duration{}
	all := inOrder(deeds)
	for i, d := range all {
		var times []time.Duration
		for _, of := range all[:i] {
			if of.key == d.key {
				times = append(times, of.at)
			}
		}
		var spans []float64
		for j := 1; j < len(times); j++ {
			if times[j] >= d.at-r.Window && times[j]-times[j-1] <= r.Window {
				spans = append(spans, float64((times[j] - times[j-1]).Microseconds()))
			}
		}
		if len(times) == 0 || d.at-times[len(times)-1] > r.Window || len(spans) == 0 || len(spans) < int(r.AtLeast) {
			continue
		}
		if last, ok := fired[d.key]; ok && d.at-last < r.Suppress {
			continue
		}
		slices.Sort(spans)
		at := func(p float64) float64 {
			rank := p / 100 * float64(len(spans)-1)
			low, high := spans[int(math.Floor(rank))], spans[int(math.Ceil(rank))]
			return low + (high-low)*(rank-math.Floor(rank))
		}
		span, low, high := float64((d.at - times[len(times)-1]).Microseconds()), at(r.Lower), at(r.Upper)
		if span >= low && span <= high {
			continue
		}
		bound := high
		if span < low {
			bound = low
		}
		fired[d.key] = d.at
		line := fmt.Sprintf("%s usual=%s to %s s %s > %s", d.key, figure(low/1e6), figure(high/1e6), figure(span/1e6), figure(bound/1e6))
		lines = append(lines, fmt.Sprintf("%s firing %s", d.at, line))
		if over := d.at + r.Suppress; over <= end {
			lines = append(lines, fmt.Sprintf("%s resolved %s fired %s", over, line, d.at))
		}
	}
	return lines
}

func TestInterval_TellsWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := intervalRule()
		r.AtLeast = rapid.Int64Range(0, 8).Draw(t, "at least")
		r.Window = time.Duration(rapid.IntRange(1, 10).Draw(t, "window")) * time.Hour
		deeds := drawDeeds(t, 60, 12*time.Hour)
		checkOracle(t, r, deeds, 13*time.Hour, intervalOracle(r, deeds, 13*time.Hour))
	})
}

func refreshes(from time.Duration, every time.Duration, n int) (deeds []deed) {
	for i := range n {
		at := from + time.Duration(i)*every
		deeds = append(deeds, deed{key: "client", at: at, sequence: uint64(at) + 1})
	}
	return deeds
}

func TestInterval_TellsRefreshesThatComeTooSoonOrTooLate(t *testing.T) {
	t.Parallel()
	k := newKeeper(intervalRule())
	k.add(refreshes(0, time.Hour, 10)...)
	k.add(refreshes(9*time.Hour+time.Minute, time.Hour, 10)...)
	k.add(refreshes(20*time.Hour+time.Minute, time.Hour, 1)...)
	k.decide(24 * time.Hour)
	want := []string{"9h1m0s 3600 to 3600 s", "20h1m0s 3600 to 3600 s"}
	if got := k.fired("usual"); !slices.Equal(got, want) {
		t.Fatalf("fired %q, want %q", got, want)
	}
}

func TestInterval_ALateEventDividesItsInterval(t *testing.T) {
	t.Parallel()
	k := newKeeper(intervalRule())
	k.add(refreshes(0, time.Hour, 4)...)
	k.add(refreshes(5*time.Hour, time.Hour, 4)...)
	k.decide(9 * time.Hour)
	k.add(refreshes(4*time.Hour, time.Hour, 1)...)
	k.decide(9 * time.Hour)
	v := k.global.deciders[0].decider.(*sequential).keys["client"].judge.(*interval)
	if len(v.spans) != 8 || v.spans[7] != time.Hour.Microseconds() || k.global.Late() != 1 {
		t.Fatalf("got %v", v.spans)
	}
}

func TestInterval_IntervalsOfAKeyHaveABound(t *testing.T) {
	t.Parallel()
	k := newKeeper(intervalRule())
	k.add(refreshes(0, time.Second, 5000)...)
	k.decide(2 * time.Hour)
	v := k.global.deciders[0].decider.(*sequential).keys["client"].judge.(*interval)
	if len(v.times) > mostIntervals+1 || len(v.spans) != len(v.times)-1 {
		t.Fatalf("%d times, %d intervals", len(v.times), len(v.spans))
	}
}
