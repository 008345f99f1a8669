package worker

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/aggregation"
)

// Over batches, with the cascade loaded anew in between, an aggregation keeps
// to its cap at every level, and no event is missing from the totals.
func TestGuard_CapsGroupsOfAllLevelsOverBatches(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	capped := h.catalog.Aggregation("ApiResPathPerApp")
	capped.MaxGroups = 5
	const perBatch, batches = 20, 3
	for n := range perBatch * batches {
		h.publish("events.request.g", fmt.Sprintf("g/e/%d", n+1), "", call(n/6, fmt.Sprintf(`,"apiResourceTemplate":"/orders/%d"`, n)))
	}
	w := h.idle("w1")
	logs, seen := observer.New(zap.WarnLevel)
	w.log = zap.New(logs)
	w.cfg.Cadence = func(aggregation.Granularity) time.Duration { return 0 }
	for range batches {
		h.process(w, h.take(w, perBatch)...)
		w.cascade = nil
	}
	if err := w.rollUp(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	for level, want := range map[string]string{
		"seconds": "10 buckets, at most 6 groups, 60 events, 10 of others",
		"minutes": "1 buckets, at most 6 groups, 60 events, 55 of others",
		"days":    "1 buckets, at most 6 groups, 60 events, 55 of others",
		"years":   "1 buckets, at most 6 groups, 60 events, 55 of others",
	} {
		groups := `SELECT bucket, apiresourcetemplate AS name, weir_events AS n FROM weir_data.apirespathperapp_` + level
		if level == "seconds" || level == "minutes" {
			groups = `SELECT bucket, unnest(weir_view.texts(apiresourcetemplate)) AS name, unnest(weir_events) AS n FROM weir_data.apirespathperapp_` + level
		}
		got := ask[string](h, `SELECT count(*) || ' buckets, at most ' || max(groups) || ' groups, ' || sum(n) || ' events, ' || sum(others) || ' of others' FROM (
			SELECT count(DISTINCT name) AS groups, sum(n) AS n, coalesce(sum(n) FILTER (WHERE name = '__other__'), 0) AS others FROM (`+groups+`) AS g GROUP BY bucket) AS b`)
		if got != want {
			t.Errorf("per %s: got %s, want %s", level, got, want)
		}
	}
	if got := h.totals().OtherEvents; got != 55 {
		t.Errorf("%d events are counted as others, want 55", got)
	}
	if n := seen.Len(); n != 1 {
		t.Errorf("%d warnings, want 1 a minute", n)
	}
}

func TestGuard_WarnsOncePerBucketAndOnceAMinute(t *testing.T) {
	t.Parallel()
	logs, seen := observer.New(zap.WarnLevel)
	log, other := zap.New(logs), otherLog{}
	def := &aggregation.Definition{Name: "A", MaxGroups: 5}
	day, month := aggregation.Other{Definition: def, Level: aggregation.Days, Events: 7}, aggregation.Other{Definition: def, Level: aggregation.Months, Events: 1}
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	other.note(now, log, day, month)                    // day
	other.note(now.Add(59*time.Second), log, month)     // too soon
	other.note(now.Add(time.Minute), log, day, month)   // month: the day has been told
	other.note(now.Add(3*time.Minute), log, day, month) // both have
	other.note(now.Add(4*time.Minute), log, aggregation.Other{Definition: def, Level: aggregation.Days, Bucket: 1, Events: 2})
	var got []string
	for _, entry := range seen.All() {
		fields := entry.ContextMap()
		got = append(got, fmt.Sprint(fields["level"], " ", fields["events_since_last_warning"]))
	}
	if want := "[days 7 months 10 days 10]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
