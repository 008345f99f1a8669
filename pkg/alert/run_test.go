package alert

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func runRule() *Rule {
	return oneCase(Rule{Type: Run, Threshold: 5, Suppress: 10 * time.Minute, KeepFiring: 10 * time.Minute})
}

// runOracle goes through each key's events once.
func runOracle(r *Rule, deeds []deed, end time.Duration) (lines []string) {
	for _, key := range []string{"a", "b"} {
		length, last, fired, open := 0, time.Duration(0), time.Duration(-1), false
		over := func(at time.Duration) {
			lines = append(lines, fmt.Sprintf("%s resolved %s %d > %g fired %s", at, key, length, r.Threshold, fired))
			open = false
		}
		for _, d := range inOrder(deeds) {
			if d.key != key {
				continue
			}
			if open && d.at-last >= r.KeepFiring {
				over(last + r.KeepFiring)
			}
			last = d.at
			if !d.hit {
				if open {
					over(d.at)
				}
				length = 0
				continue
			}
			length++
			if length%int(r.Threshold) == 0 && (fired < 0 || d.at-fired >= r.Suppress) {
				fired, open = d.at, true
				lines = append(lines, fmt.Sprintf("%s firing %s %d > %g", d.at, key, length, r.Threshold))
			}
		}
		if open && last+r.KeepFiring <= end {
			over(last + r.KeepFiring)
		}
	}
	return lines
}

func TestRun_TellsWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := runRule()
		r.Threshold = float64(rapid.IntRange(1, 5).Draw(t, "in a row"))
		r.KeepFiring = time.Duration(rapid.IntRange(1, 20).Draw(t, "keep firing for")) * time.Minute
		deeds := drawDeeds(t, 200, 5*time.Hour)
		checkOracle(t, r, deeds, 6*time.Hour, runOracle(r, deeds, 6*time.Hour))
	})
}

// outcomes are an API's events, one a second: x for those that match.
func outcomes(key string, from time.Duration, events string) (deeds []deed) {
	for i, of := range events {
		at := from + time.Duration(i)*time.Second
		deeds = append(deeds, deed{key: key, at: at, sequence: uint64(at/time.Second) + 1, hit: of == 'x'})
	}
	return deeds
}

// Defect 6 of the original: five calls of any APIs of a node in a row were told as the first one's.
func TestRun_EachAPIHasItsOwnRun(t *testing.T) {
	t.Parallel()
	k := newKeeper(runRule())
	for _, api := range []string{"a", "b", "c", "d", "e"} {
		k.add(outcomes(api, 0, "xxxx")...)
	}
	k.decide(time.Minute)
	if got := k.fired(); len(got) != 0 {
		t.Fatalf("fired %q", got)
	}
	k.add(outcomes("c", 10*time.Second, "x")...)
	k.decide(2 * time.Minute)
	if len(k.alerts) != 1 || k.alerts[0].Key["key"] != "c" || k.alerts[0].FiredAt != noon.Add(10*time.Second) {
		t.Fatalf("got %+v", k.alerts)
	}
}

func TestRun_FiresAgainWhileItGoesOn(t *testing.T) {
	t.Parallel()
	k := newKeeper(runRule())
	k.add(outcomes("api", 0, fmt.Sprintf("%s.", slices.Repeat([]byte("x"), 1208)))...)
	k.decide(time.Hour)
	if got, want := k.fired(), []string{"4s", "10m4s", "20m4s"}; !slices.Equal(got, want) {
		t.Fatalf("fired %q, want %q", got, want)
	}
	last := k.alerts[len(k.alerts)-1]
	if last.State != Resolved || last.ResolvedAt != noon.Add(1208*time.Second) || last.FiredAt != noon.Add(20*time.Minute+4*time.Second) {
		t.Fatalf("the event that does not match has not resolved it: %+v", last)
	}
}

func TestRun_IsOverWhenNothingComes(t *testing.T) {
	t.Parallel()
	k := newKeeper(runRule())
	k.add(outcomes("api", 0, "xxxxxx")...)
	k.decide(10*time.Minute + 4*time.Second)
	if len(k.alerts) != 1 {
		t.Fatalf("got %+v", k.alerts)
	}
	k.decide(11 * time.Minute)
	if last := k.alerts[1]; last.State != Resolved || last.ResolvedAt != noon.Add(10*time.Minute+5*time.Second) || last.Reason == "" {
		t.Fatalf("got %+v", last)
	}
}

func TestRun_LateEventsAreDecidedAtTheirPlace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		first, late []deed
		want        []string
	}{
		{
			"one that matches completes a run",
			outcomes("api", 0, "xx.xx")[3:],
			outcomes("api", 0, "xxx"),
			[]string{"4s firing api 5 > 5"},
		},
		{
			"one that does not match divides a run",
			outcomes("api", 0, "xxxxx"),
			[]deed{{key: "api", at: 1500 * time.Millisecond, sequence: 99}},
			[]string{"4s firing api 5 > 5", "4s resolved api 5 > 5 fired 4s"},
		},
		{
			"one that matches moves the alert, which keeps the time that it was told by",
			slices.Concat(outcomes("api", 0, "xxxxx"), outcomes("api", 6*time.Second, ".")),
			[]deed{{key: "api", at: 1500 * time.Millisecond, sequence: 99, hit: true}},
			[]string{"4s firing api 5 > 5", "6s resolved api 5 > 5 fired 4s", "6s resolved api 6 > 5 fired 4s"},
		},
		{
			"one that changes nothing tells nothing",
			outcomes("api", 0, "xxxxx"),
			[]deed{{key: "api", at: -time.Second, sequence: 99}},
			[]string{"4s firing api 5 > 5"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(runRule())
			k.add(test.first...)
			k.decide(time.Minute)
			k.takeOver(t)
			k.add(test.late...)
			k.decide(2 * time.Minute)
			if got := k.told(); !slices.Equal(got, test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			if late := k.global.Late(); late != 0 {
				t.Fatalf("%d late", late)
			}
		})
	}
}

// Whatever comes late: what the events in order would have told, is told; and no alert stays open that they would
// not have left open. (One that a late event ended cannot be opened again by the next.)
func TestRun_LateEventsLeaveNothingOpenThatTheirOrderWouldNotHave(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := runRule()
		r.Threshold = float64(rapid.IntRange(1, 4).Draw(t, "in a row"))
		deeds := drawDeeds(t, mostLog, time.Hour)
		k := newKeeper(r)
		for i, d := range rapid.Permutation(deeds).Draw(t, "arrival") {
			k.add(d)
			k.decide(time.Hour + time.Duration(i)*time.Second)
			if rapid.IntRange(0, 4).Draw(t, "taken over") == 0 {
				k.takeOver(t)
			}
		}
		want := newKeeper(r)
		want.add(deeds...)
		want.decide(time.Hour + time.Duration(len(deeds))*time.Second)
		for _, key := range k.open() {
			if !slices.Contains(want.open(), key) {
				t.Fatalf("%s is open, the events in order leave open %q", key, want.open())
			}
		}
		for i := range want.alerts {
			key := want.alerts[i].Key["key"]
			if !slices.ContainsFunc(k.alerts, func(a Alert) bool { return a.State == Firing && a.Key["key"] == key }) {
				t.Fatalf("nothing was told of %s", key)
			}
		}
		if late := k.global.Late(); late != 0 {
			t.Fatalf("%d late", late)
		}
	})
}

// open are the keys with an alert that is not resolved.
func (k *keeper) open() (keys []string) {
	over := map[string]bool{}
	for i := range k.alerts {
		over[k.alerts[i].FiringID] = true
	}
	newest := map[string]Alert{}
	for _, a := range k.alerts {
		if a.State == Firing && !a.FiredAt.Before(newest[a.Key["key"]].FiredAt) {
			newest[a.Key["key"]] = a
		}
	}
	for key, a := range newest {
		if !over[a.ID] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestRun_WhatIsOlderThanTheLogIsLate(t *testing.T) {
	t.Parallel()
	k := newKeeper(runRule())
	k.add(outcomes("api", time.Hour, string(slices.Repeat([]byte("."), 1000)))...)
	k.decide(2 * time.Hour)
	k.add(outcomes("api", 0, "xxxxx")...)
	k.decide(3 * time.Hour)
	u := k.global.deciders[0].decider.(*sequential).keys["api"].judge.(*run)
	if late := k.global.Late(); late != 5 || len(k.alerts) != 0 || len(u.log) > 2*mostLog {
		t.Fatalf("%d late, %d alerts, %d in the log", late, len(k.alerts), len(u.log))
	}
}

func TestRun_AThresholdOfAKeyHoldsFromThenOn(t *testing.T) {
	t.Parallel()
	r := runRule()
	r.Cases[0].Key = []KeyPart{{Name: "apiName"}}
	k := newKeeper(r)
	k.add(outcomes("calm", 0, "xxxx")...)
	k.add(outcomes("other", 0, "xxxx")...)
	k.decide(time.Minute)
	k.global.SetThresholds(NewThresholds([]*Rule{r}, []Threshold{{Rule: "rule", Dimensions: Dimensions{API: "calm"}, Value: 3}}))
	k.add(outcomes("calm", 2*time.Minute, "x.xxx")...)
	k.add(outcomes("other", 2*time.Minute, ".xxx")...)
	k.decide(3 * time.Minute)
	if len(k.alerts) != 1 || k.alerts[0].Key["apiName"] != "calm" || k.alerts[0].FiredAt != noon.Add(2*time.Minute+4*time.Second) || k.alerts[0].Threshold != 3 {
		t.Fatalf("got %+v", k.alerts)
	}
}
