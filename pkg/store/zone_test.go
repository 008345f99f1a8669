package store

import (
	"fmt"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

// Where clocks change by less than a bucket, or at an odd minute, or a date is
// skipped: whatever levels are between, flushed or not, at every level the
// answer is that of a loop over all events, and the view says the same.
func TestOddZones_AnswersDoNotDependOnTheLevelsBetween(t *testing.T) {
	t.Parallel()
	changes := map[string]time.Time{
		"Asia/Kathmandu":      time.Date(1985, 12, 31, 18, 30, 0, 0, time.UTC),
		"America/St_Johns":    time.Date(2010, 11, 7, 2, 31, 0, 0, time.UTC),
		"Australia/Lord_Howe": time.Date(2025, 10, 4, 15, 30, 0, 0, time.UTC),
		"Pacific/Apia":        time.Date(2011, 12, 30, 10, 0, 0, 0, time.UTC),
	}
	minutes, hours, days := aggregation.Minutes, aggregation.Hours, aggregation.Days
	chains := [][]aggregation.Granularity{
		{minutes, days},
		{hours, days, aggregation.Months},
		{mustGranularity(t, "10 minutes"), hours, mustGranularity(t, "6 hours"), days},
		{aggregation.Seconds, minutes, hours, days, aggregation.Weeks},
	}
	var defs []*aggregation.Definition
	for name := range changes {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, chain := range chains {
			def := cascadeDef(fmt.Sprintf("Calls%d_%s", i, name[len(name)-3:]), zone)
			def.Granularities = chain
			defs = append(defs, def)
		}
	}
	db := migrated(t, defs...)
	lease := mustLease(t, db, "a", defs...)
	for _, def := range defs {
		s := &shardState{lease: lease}
		var early, late []tried
		for i := range 24 * 60 / 5 {
			e := tried{api: "x", at: changes[def.Zone.String()].Add(time.Duration(5*i-12*60) * time.Minute).UnixMicro(), ms: int64(i), size: 1, sequence: uint64(i)}
			if i%3 == 0 {
				early = append(early, e)
			} else {
				late = append(late, e)
			}
		}
		check := func(when string, events []tried) {
			for _, per := range def.Granularities {
				want := expect(def, per, events)
				if got := answer(t, db, def, per); got != want {
					t.Errorf("%s of %v in %s, %s: got\n%s\nwant\n%s", per, def.Granularities, def.Zone, when, got, want)
				}
				if got := viewed(t, db, def, per); got != want {
					t.Errorf("the view per %s of %v in %s, %s: got\n%s\nwant\n%s", per, def.Granularities, def.Zone, when, got, want)
				}
			}
		}
		s.flush(t, db, def, early, nil, false)
		check("before a flush", early)
		s.flush(t, db, def, nil, []aggregation.Granularity{hours}, false)
		check("with hours flushed", early)
		all := append(early, late...)
		s.flush(t, db, def, late, nil, false)
		check("with more than was flushed", all)
		s.flush(t, db, def, nil, def.Granularities, false)
		check("with all flushed", all)
	}
}

// Part of an answer: a bucket is in it if its first instant is.
func TestOddZones_AnIntervalTakesTheBucketsThatStartInIt(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Australia/Lord_Howe")
	if err != nil {
		t.Fatal(err)
	}
	def := cascadeDef("Calls", zone)
	def.Granularities = []aggregation.Granularity{aggregation.Minutes, aggregation.Hours}
	db := migrated(t, def)
	s := &shardState{lease: mustLease(t, db, "a", def)}
	change := time.Date(2025, 10, 4, 15, 30, 0, 0, time.UTC) // half an hour ahead
	var events []tried
	for i := range 240 {
		events = append(events, tried{api: "x", at: change.Add(time.Duration(i-120) * time.Minute).UnixMicro(), sequence: uint64(i)})
	}
	s.flush(t, db, def, events, nil, false)
	for range 2 {
		q := everything(def, aggregation.Hours)
		q.From, q.Until = change.UnixMicro(), change.Add(30*time.Minute).UnixMicro()
		var got []string
		if err := db.Ask(t.Context(), q, func(v []any) error {
			got = append(got, fmt.Sprint(v[0].(time.Time).UTC().Format(time.TimeOnly), " ", v[3]))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != "[15:30:00 30]" {
			t.Errorf("got %v, want the 30 events of the half hour that starts at the change", got)
		}
		s.flush(t, db, def, nil, def.Granularities, false)
	}
}

func mustGranularity(t *testing.T, text string) aggregation.Granularity {
	t.Helper()
	g, err := aggregation.ParseGranularity(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
