package alert

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func transitionRule() *Rule {
	return oneCase(Rule{
		Type: Transition, AtLeast: 10, Threshold: 0.2, Below: true, Forget: time.Hour, Suppress: 10 * time.Minute, Member: "user",
	})
}

// transitionOracle counts all steps before each anew.
func transitionOracle(r *Rule, deeds []deed, end time.Duration) (lines []string) {
	all := inOrder(deeds)
	told := map[string]time.Duration{}
	before := func(i int) (at int) { // the member's event before
		for at = i - 1; at >= 0 && (all[at].key != all[i].key || all[at].member != all[i].member); at-- {
		}
		if at >= 0 && all[i].at-all[at].at >= r.Forget {
			return -1
		}
		return at
	}
	for i, d := range all {
		last, events, from, steps := before(i), 1, 0.0, 0.0
		if last < 0 || d.at > end {
			continue
		}
		for j := range i {
			if all[j].key != d.key {
				continue
			}
			events++
			if p := before(j); p >= 0 && all[p].state == all[last].state {
				from++
				if all[j].state == d.state {
					steps++
				}
			}
		}
		p := 0.0
		if from > 0 {
			p = steps / from
		}
		if events <= int(r.AtLeast) || p > r.Threshold {
			continue
		}
		what := fmt.Sprintf("%s transition=from %s to %s user=%s", d.key, all[last].state, d.state, d.member)
		if at, ok := told[what]; ok && d.at-at < r.Suppress {
			continue
		}
		told[what] = d.at
		line := fmt.Sprintf("%s %s > %s", what, figure(p), figure(r.Threshold))
		lines = append(lines, fmt.Sprintf("%s firing %s", d.at, line))
		if over := d.at + r.Suppress; over <= end {
			lines = append(lines, fmt.Sprintf("%s resolved %s fired %s", over, line, d.at))
		}
	}
	return lines
}

func TestTransition_TellsWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := transitionRule()
		r.AtLeast = rapid.Int64Range(0, 20).Draw(t, "at least")
		r.Suppress = time.Duration(rapid.IntRange(1, 20).Draw(t, "suppress")) * time.Minute
		deeds := drawDeeds(t, 60, 5*time.Hour)
		checkOracle(t, r, deeds, 6*time.Hour, transitionOracle(r, deeds, 6*time.Hour))
	})
}

// walk is a member's way through states, a step a second.
func walk(key, member string, from time.Duration, states ...string) (deeds []deed) {
	for i, state := range states {
		at := from + time.Duration(i)*time.Second
		deeds = append(deeds, deed{key: key, member: member, state: state, at: at, sequence: uint64(at) + 1})
	}
	return deeds
}

func repeated(n int, states ...string) []string { return slices.Repeat(states, n) }

// Defect 4 of the original: 500 events of all applications together ended the learning, and a new
// application, whose steps nobody had seen, alerted at once.
func TestTransition_EachApplicationIsLearnedByItself(t *testing.T) {
	t.Parallel()
	r := transitionRule()
	r.AtLeast = 500
	k := newKeeper(r)
	k.add(walk("busy", "ann", 0, repeated(300, "list", "get")...)...)
	k.add(walk("fresh", "bob", time.Hour, repeated(2, "a", "b", "c", "d", "e")...)...)
	k.decide(3 * time.Hour)
	if got := k.fired("transition"); len(got) != 0 {
		t.Fatalf("fired %q", got)
	}
	// And what the busy one's users do is no measure for those of another.
	k.add(walk("fresh", "bob", 4*time.Hour, repeated(300, "get", "delete")...)...)
	k.add(walk("busy", "ann", 4*time.Hour, "list", "get", "delete")...)
	k.decide(6 * time.Hour)
	if got := k.fired("transition"); !slices.Equal(got, []string{"4h0m2s from get to delete"}) {
		t.Fatalf("fired %q", got)
	}
}

// Defect 4: a member's last state was kept by the clock of the worker, and some of them for ever.
func TestTransition_AMembersLastStateIsForgottenInEventTime(t *testing.T) {
	t.Parallel()
	k := newKeeper(transitionRule())
	k.add(walk("app", "ann", 0, repeated(20, "list", "get")...)...)
	k.add(walk("app", "ann", 61*time.Minute, "delete")...)
	k.decide(2 * time.Hour)
	if got := k.fired("transition"); len(got) != 0 {
		t.Fatalf("fired %q though its last state was forgotten", got)
	}
	k.add(walk("app", "ann", 3*time.Hour, "get", "delete")...)
	k.decide(4 * time.Hour)
	if got := k.fired("user", "transition"); !slices.Equal(got, []string{"3h0m1s ann from get to delete"}) {
		t.Fatalf("fired %q", got)
	}
}

func TestTransition_TheFirstEventThatIsJudgedIsTheOneAfterAtLeast(t *testing.T) {
	t.Parallel()
	r := transitionRule()
	for _, events := range []int{10, 11} {
		k := newKeeper(r)
		k.add(walk("app", "ann", 0, append(repeated(events-1, "list"), "delete")...)...)
		k.decide(time.Hour)
		if got, want := len(k.fired()), events-10; got != want {
			t.Errorf("event %d: %d alerts, want %d", events, got, want)
		}
	}
}

func TestTransition_ImprobableStepsAreLearnedToo(t *testing.T) {
	t.Parallel()
	r := transitionRule()
	r.Suppress = 0
	k := newKeeper(r)
	k.add(walk("app", "ann", 0, repeated(10, "a", "b")...)...)
	k.add(walk("app", "ann", 20*time.Second, repeated(10, "a", "c")...)...)
	k.decide(time.Hour)
	// from a: 10 times b, then n times c: told while n/(10+n) is 0.2 or less, n = 0, 1, 2.
	// From c nothing was known when it went back to a for the first time.
	want := []string{"21s from a to c", "22s from c to a", "23s from a to c", "25s from a to c"}
	if got := k.fired("transition"); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestTransition_LateEventsAreCountedAndNotLearned(t *testing.T) {
	t.Parallel()
	k := newKeeper(transitionRule())
	k.add(walk("app", "ann", time.Minute, repeated(20, "list", "get")...)...)
	k.decide(time.Hour)
	k.add(walk("app", "bob", 0, "list", "delete", "list")...)
	k.decide(2 * time.Hour)
	if late, fired := k.global.Late(), k.fired(); late != 3 || len(fired) != 0 {
		t.Fatalf("%d late, %q fired", late, fired)
	}
	k.add(walk("app", "ann", 100*time.Minute, "list", "delete")...)
	k.decide(3 * time.Hour)
	if got := k.alerts; len(got) != 2 || got[0].Value != 0 {
		t.Fatalf("what came late has been learned: %+v", got)
	}
}

func TestTransition_StatesAndMembersOfAKeyHaveABound(t *testing.T) {
	t.Parallel()
	k := newKeeper(transitionRule())
	for batch := range 6 {
		var deeds []deed
		for i := range 5000 {
			n := batch*5000 + i
			deeds = append(deeds, deed{key: "app", member: fmt.Sprint(n / 2), state: fmt.Sprint("s", n), at: time.Duration(n) * time.Millisecond, sequence: uint64(n + 1)})
		}
		k.add(deeds...)
		k.add(walk("app", "ann", time.Duration(batch*5000)*time.Millisecond, "a", "b", "a", "b")...)
		k.decide(time.Duration((batch+1)*5000-1) * time.Millisecond)
	}
	c := k.global.deciders[0].decider.(*sequential).keys["app"].judge.(*transition)
	if len(c.counts) > mostSteps || len(c.members) > mostMembers+1024 || len(c.states) > 2*mostSteps+mostMembers+1024 {
		t.Fatalf("%d steps, %d members, %d states", len(c.counts), len(c.members), len(c.states))
	}
	if c.counts[moved(c.number["a"], c.number["b"])] == nil {
		t.Fatal("what is frequent is forgotten")
	}
	if k.global.Crowded() == 0 {
		t.Fatal("what was forgotten is not counted")
	}
	for from, total := range c.totals {
		for s, n := range c.counts {
			if int(s.from()) == from {
				total -= *n
			}
		}
		if total != 0 {
			t.Fatalf("the steps from %s are not those that are counted", c.states[from])
		}
	}
}

func TestTransition_AThresholdOfAKeyStandsInPlaceOfTheRules(t *testing.T) {
	t.Parallel()
	r := transitionRule()
	r.Cases[0].Key = []KeyPart{{Name: "applicationId"}}
	k := newKeeper(r)
	k.global.SetThresholds(NewThresholds([]*Rule{r}, []Threshold{{Rule: "rule", Dimensions: Dimensions{Application: "strict"}, Value: 0.6}}))
	for _, app := range []string{"strict", "other"} {
		k.add(walk(app, "ann", 0, repeated(10, "a", "b", "a", "c")...)...)
	}
	k.decide(time.Hour)
	for i := range k.alerts {
		if k.alerts[i].Key["applicationId"] != "strict" {
			t.Fatalf("got %+v", k.alerts[i])
		}
	}
	if len(k.alerts) == 0 {
		t.Fatal("nothing is told")
	}
}
