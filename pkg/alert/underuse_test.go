package alert

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const aDay = 24 * time.Hour

func underuseRule() *Rule {
	return oneCase(Rule{Type: Underuse, AtLeast: 5, Lower: 5, Window: 30 * aDay, Step: aDay, Suppress: 10 * time.Minute})
}

// days are a key's events: so many each day, from a day on, in its middle.
func days(key string, from int, counts ...int) (deeds []deed) {
	for i, n := range counts {
		for j := range n {
			deeds = append(deeds, deed{key: key, at: time.Duration(from+i)*aDay + time.Duration(j)*time.Second})
		}
	}
	return deeds
}

// underuseOracle counts all days anew at the end of each.
func underuseOracle(r *Rule, deeds []deed, end time.Duration) (lines []string) {
	midnight := func(day int) time.Duration { return time.Duration(day)*aDay - 12*time.Hour } // noon is 0
	for _, key := range []string{"a", "b"} {
		first, firing, fired, bound := -1, false, time.Duration(0), 0.0
		count := func(day int) (n int64) {
			for _, d := range deeds {
				if d.key == key && d.at >= midnight(day) && d.at < midnight(day+1) {
					n++
				}
			}
			return n
		}
		for day := 0; midnight(day+1) <= end; day++ {
			if first < 0 && count(day) > 0 {
				first = day
			}
			if first < 0 {
				continue
			}
			var window []int64
			for d := max(first, day+1-int(r.Window/aDay)); d <= day; d++ {
				window = append(window, count(d))
			}
			judged := window[max(0, len(window)-int(r.AtLeast)):]
			most, gone := slices.Max(judged), slices.Max(window) == 0
			if !firing && len(window) >= 2*int(r.AtLeast) {
				learned := slices.Sorted(slices.Values(window[:len(window)-int(r.AtLeast)]))
				bound = percentile(learned, r.Lower)
			}
			holds := len(window) >= 2*int(r.AtLeast) && !gone && float64(most) < bound
			line := fmt.Sprintf("%s %d > %s", key, most, figure(bound))
			switch {
			case holds && !firing:
				firing, fired = true, midnight(day+1)
				lines = append(lines, fmt.Sprintf("%s firing %s", fired, line))
			case !holds && firing:
				firing = false
				lines = append(lines, fmt.Sprintf("%s resolved %s fired %s", midnight(day+1), line, fired))
			}
			if gone {
				first = -1
			}
		}
	}
	return lines
}

func TestUnderuse_TellsWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := underuseRule()
		r.AtLeast = rapid.Int64Range(1, 4).Draw(t, "at least")
		r.Window = time.Duration(rapid.IntRange(int(2*r.AtLeast), 10).Draw(t, "window")) * aDay
		r.Lower = float64(rapid.SampledFrom([]int{5, 50}).Draw(t, "lower"))
		var deeds []deed
		for _, key := range []string{"a", "b"} {
			usual := rapid.IntRange(0, 8).Draw(t, "usual")
			for day := range 25 {
				if rapid.IntRange(0, 5).Draw(t, "changes") == 0 {
					usual = rapid.IntRange(0, 8).Draw(t, "usual")
				}
				deeds = append(deeds, days(key, day, usual)...)
			}
		}
		checkOracle(t, r, deeds, 40*aDay, underuseOracle(r, deeds, 40*aDay))
	})
}

func TestUnderuse_FiresAfterFiveDaysBelowWhatIsUsualUntilADayReachesIt(t *testing.T) {
	t.Parallel()
	k := newKeeper(underuseRule())
	k.add(days("app", 0, slices.Concat(slices.Repeat([]int{100}, 20), slices.Repeat([]int{40}, 4))...)...)
	k.decide(24 * aDay)
	if len(k.alerts) != 0 {
		t.Fatalf("after four days: %+v", k.alerts)
	}
	k.add(days("app", 24, slices.Concat(slices.Repeat([]int{40}, 10), []int{100})...)...)
	k.decide(36 * aDay)
	want := []string{"588h0m0s firing app 40 > 100", "828h0m0s resolved app 100 > 100 fired 588h0m0s"}
	if got := k.told(); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestUnderuse_DaysWithoutEventsCountAndAKeyThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	k := newKeeper(underuseRule())
	k.add(days("app", 0, slices.Repeat([]int{10}, 20)...)...)
	k.decide(200 * aDay)
	if len(k.alerts) != 2 || k.alerts[0].FiredAt != noon.Add(25*aDay-aDay/2) || k.alerts[1].Reason != forgotten {
		t.Fatalf("got %+v", k.alerts)
	}
	if got := k.global.Keys(); got != 0 {
		t.Fatalf("%d keys are remembered", got)
	}
}

func TestUnderuse_LateEventsCountForTheirDay(t *testing.T) {
	t.Parallel()
	k := newKeeper(underuseRule())
	k.add(days("app", 0, slices.Repeat([]int{10}, 20)...)...)
	k.add(days("app", 20, 1, 1)...)
	k.decide(22 * aDay)
	k.add(days("app", 20, 9)...)
	k.add(days("app", 22, 1, 1, 1)...)
	k.decide(25 * aDay)
	if late := k.global.Late(); late != 9 || len(k.alerts) != 0 {
		t.Fatalf("%d late, %+v", late, k.alerts)
	}
}
