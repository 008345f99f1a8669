package alert

import (
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// timesOf is an aggregation by the keys, all texts.
func timesOf(zone *time.Location, keys ...string) *aggregation.Definition {
	def := &aggregation.Definition{
		Name: "Times", Zone: zone, Granularities: []aggregation.Granularity{aggregation.Days},
		Measures: []aggregation.Measure{{Name: "p", Op: aggregation.Quantile, Arg: "time", Percent: 95}},
	}
	for _, name := range keys {
		def.Keys = append(def.Keys, aggregation.Key{Name: name, Kind: event.String})
	}
	return def
}

// Days begin and end at midnight, also where the clock changed between.
func TestLearn_IntervalIsOfWholeDays(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		zone             *time.Location
		now, from, until string
	}{
		{time.UTC, "2026-03-08T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"},
		{time.UTC, "2026-03-08T23:59:59.999999Z", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"},
		{berlin, "2026-03-08T22:59:59Z", "2026-02-28T23:00:00Z", "2026-03-07T23:00:00Z"},
		{berlin, "2026-03-08T23:00:00Z", "2026-03-01T23:00:00Z", "2026-03-08T23:00:00Z"},
		{berlin, "2026-03-30T12:00:00Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"}, // a day of 23 hours among them
		{berlin, "2026-10-26T12:00:00Z", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"}, // one of 25
	} {
		now, err := time.Parse(time.RFC3339Nano, c.now)
		if err != nil {
			t.Fatal(err)
		}
		l := Learn{Of: timesOf(c.zone, "apiName"), Over: 7 * 24 * time.Hour}
		from, until := l.Interval(now)
		if got := time.UnixMicro(from).UTC().Format(time.RFC3339); got != c.from {
			t.Errorf("%s in %s: from %s, want %s", c.now, c.zone, got, c.from)
		}
		if got := time.UnixMicro(until).UTC().Format(time.RFC3339); got != c.until {
			t.Errorf("%s in %s: until %s, want %s", c.now, c.zone, got, c.until)
		}
	}
}

// What is learned of a key holds for it, and of what could hold for others nothing is learned.
func TestLearn_DimensionsAreThoseOfOneKey(t *testing.T) {
	t.Parallel()
	c := &Case{Key: []KeyPart{{Name: "apiMethod", Kind: event.String}, {Name: "userTenantDomain", Kind: event.String}, {Name: "other", Kind: event.Int}, {Name: "apiName", Kind: event.String}}}
	rule := &Rule{Name: "r", Type: PerEvent, Unset: true, Cases: []Case{*c}}
	l := &Learn{Of: timesOf(time.UTC, "userTenantDomain", "more", "apiName", "apiMethod")}
	keys, err := l.Keys(c)
	if want := [dimensions]int{2, -1, -1, 3, -1, 0}; err != nil || keys != want {
		t.Fatalf("got %v, %v, want %v", keys, err, want)
	}
	of, ok := l.DimensionsOf(keys, [dimensions]string{"pizza", "", "", "GET", "", "é.com"})
	if want := (Dimensions{API: "pizza", Method: "GET", Tenant: "é.com"}); !ok || of != want {
		t.Fatalf("got %+v %t, want %+v", of, ok, want)
	}
	thresholds := NewThresholds([]*Rule{rule}, []Threshold{{Rule: "r", Dimensions: of, Value: 5, Learned: true}})
	if value, ok := thresholds.For("r", "").For([]string{"GET", "é.com", "1", "pizza"}); !ok || value != 5 {
		t.Errorf("the key has the bound %g %t", value, ok)
	}
	if _, ok := thresholds.For("r", "").For([]string{"GET", "", "1", "pizza"}); ok {
		t.Error("another key has it too")
	}
	if _, ok := l.DimensionsOf(keys, [dimensions]string{"pizza", "", "", "", "", "é.com"}); ok {
		t.Error("a bound is learned for any method")
	}
	other := [dimensions]string{aggregation.OtherGroup, "", "", aggregation.OtherGroup, "", aggregation.OtherGroup}
	if _, ok := l.DimensionsOf(keys, other); !ok {
		t.Error("a name like another is taken for a group of many, which there are none of")
	}
	l.Of.MaxGroups = 10
	if _, ok := l.DimensionsOf(keys, other); ok {
		t.Error("a bound is learned of a group of many")
	}
}

// Whatever changes what is learned changes what names it.
func TestLearn_WhatNamesAllThatMatters(t *testing.T) {
	t.Parallel()
	c := Case{Key: []KeyPart{{Name: "apiName", Kind: event.String}}}
	rule := &Rule{Cases: []Case{c}}
	base := func() *Learn {
		return &Learn{Of: timesOf(time.UTC, "apiName"), Over: 24 * time.Hour, AtLeast: 5}
	}
	seen := map[string]string{}
	see := func(what string, rule *Rule, change func(l *Learn)) {
		l := base()
		change(l)
		text := l.What(rule)
		if before, ok := seen[text]; ok || strings.TrimSpace(text) == "" {
			t.Errorf("%s is named as %s: %s", what, before, text)
		}
		seen[text] = what
	}
	see("the first", rule, func(*Learn) {})
	see("another percentile", rule, func(l *Learn) { l.Of.Measures[0].Percent = 99 })
	see("of another attribute", rule, func(l *Learn) { l.Of.Measures[0].Arg = "other" })
	see("another function", rule, func(l *Learn) { l.Of.Measures[0].Op = aggregation.Max })
	see("another version", rule, func(l *Learn) { l.Of.Version = 2 })
	see("another aggregation", rule, func(l *Learn) { l.Of.Name = "Other" })
	see("of other events", rule, func(l *Learn) { l.Of.Filter = "hot" })
	see("more days", rule, func(l *Learn) { l.Over *= 2 })
	see("fewer events", rule, func(l *Learn) { l.AtLeast-- })
	see("another case", &Rule{Cases: []Case{{Name: "x", Key: c.Key}}}, func(*Learn) {})
	see("another key", &Rule{Cases: []Case{{Key: []KeyPart{{Name: "apiVersion"}}}}}, func(*Learn) {})
}
