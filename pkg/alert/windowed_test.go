package alert

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func countRule() *Rule {
	return oneCase(Rule{Type: Counted, Threshold: 2, Window: time.Minute, Step: 10 * time.Second, Suppress: 5 * time.Minute})
}

// countOracle goes through the steps of each key, and adds up the window anew at the end of each.
func countOracle(r *Rule, deeds []deed, end time.Duration) (lines []string) {
	keys := map[string]bool{}
	for _, d := range deeds {
		keys[d.key] = true
	}
	for key := range keys {
		fired, firing := time.Duration(-1), false
		for at := r.Step; at <= end; at += r.Step {
			n, fresh := 0, false
			for _, d := range deeds {
				if ends := d.at.Truncate(r.Step) + r.Step; d.key == key && ends <= at && ends > at-r.Window {
					n, fresh = n+1, fresh || ends == at
				}
			}
			switch more := float64(n) > r.Threshold; {
			case more && (!firing || fresh) && (fired < 0 || at-fired >= r.Suppress):
				fired, firing = at, true
				lines = append(lines, fmt.Sprintf("%s firing %s %d > %g", at, key, n, r.Threshold))
			case !more && firing:
				firing = false
				lines = append(lines, fmt.Sprintf("%s resolved %s %d > %g fired %s", at, key, n, r.Threshold, fired))
			}
		}
	}
	return lines
}

func TestCounted_TellsWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := countRule()
		r.Threshold = float64(rapid.IntRange(0, 4).Draw(t, "more than"))
		r.Suppress = time.Duration(rapid.IntRange(0, 30).Draw(t, "suppress")) * r.Step
		deeds := drawDeeds(t, 200, 3*time.Hour)
		checkOracle(t, r, deeds, 4*time.Hour, countOracle(r, deeds, 4*time.Hour))
	})
}

// A batch may bring what happened after the time up to which everything is known, before another brings what happened
// earlier: nothing is decided up to there, nothing is late, also where an evaluator takes over in between.
func TestCounted_NothingIsDecidedAheadOfWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, takeOver := range map[string]bool{"by one evaluator": false, "by another, which takes over": true} {
		k := newKeeper(countRule())
		k.add(deed{key: "a", at: 3 * time.Hour})
		if takeOver {
			k.takeOver(t)
		}
		k.add(deed{key: "a", at: time.Second}, deed{key: "a", at: 2 * time.Second}, deed{key: "a", at: 3 * time.Second})
		if got := k.decide(time.Minute); len(got) != 1 || got[0].State != Firing {
			t.Errorf("%s: got %v, want one alert that fires, and does not end in what is not known yet", name, k.told())
		}
		k.add(deed{key: "a", at: 61 * time.Second}, deed{key: "a", at: 62 * time.Second}, deed{key: "a", at: 63 * time.Second})
		k.decide(4 * time.Hour)
		if got := k.told(); len(got) != 2 || got[0] != "10s firing a 3 > 2" || got[1] != "2m10s resolved a 0 > 2 fired 10s" {
			t.Errorf("%s: got %q", name, got)
		}
		if late := k.global.Late(); late != 0 {
			t.Errorf("%s: %d events are late", name, late)
		}
	}
}
