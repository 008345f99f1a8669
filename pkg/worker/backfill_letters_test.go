package worker

import (
	"fmt"
	"strings"
	"testing"

	"weir/pkg/definition"
	"weir/pkg/store"
)

// replayed is a harness with dead letters that were folded without the twin:
// the first two of single events, the others of whole messages, which were
// folded in part.
func replayed(t *testing.T) (h *harness, catalog, strict *definition.Catalog) {
	t.Helper()
	h, now := newMendHarness(t)
	old, mended := h.idle("w1"), h.knowing(now, "w2")
	h.publish("events.tick.gw", "gw/e/1", "", sizedTick("a", 1, -1))
	h.publish("events.tick.gw", "gw/e/2", "", sizedTick("a", 2, -2))
	h.publish("events.tick.gw", "gw/e/3", "application/x-ndjson", sizedTick("c", 5, 5)+"\nbroken\n"+sizedTick("a", 6, -6))
	h.publish("events.tick.gw", "gw/e/4", "application/x-ndjson", "broken\n"+sizedTick("b", 7, -7))
	messages := h.take(old, 4)
	for _, m := range messages[2:] {
		old.unstorable[m.Sequence] = "by the test"
	}
	h.process(old, messages...)
	h.request(store.DeadLetterFilter{})
	h.raiseAll(mended)
	strict = &definition.Catalog{Streams: h.catalog.Streams}
	h.catalog = now
	catalog = h.twin("Twin")
	strict.Aggregations = catalog.Aggregations
	for _, w := range []*Worker{old, mended} {
		if err := w.lease.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return h, catalog, strict
}

// lacked lists the dead letters of what only the twin lacks.
func (h *harness) lacked() (all []string) {
	for _, l := range h.letters() {
		if l.Aggregation == "Twin" {
			all = append(all, fmt.Sprintf("%d.%d %v %s %.45s", l.Sequence, l.Offset, l.Events, l.State, l.Reason))
		}
	}
	return all
}

// raiseInto replays what the twin lacks: then it has everything.
func (h *harness) raiseInto(catalog *definition.Catalog) {
	h.t.Helper()
	h.request(store.DeadLetterFilter{Reason: "backfill of Twin"})
	h.raiseAll(h.knowing(catalog, "w3"))
	h.wantTwin("after the replay", catalog, "Twin", 5)
}

// What was folded under other definitions than the backfill has cannot be folded
// by it: that becomes dead letters, and nothing else.
func TestBackfill_MakesLettersOfReplayedOnesThatItCannotFold(t *testing.T) {
	t.Parallel()
	h, catalog, strict := replayed(t)
	if got := h.mustBackfill(strict, "Twin"); got.Events != 1 {
		t.Errorf("folded %d events, want the one that is good", got.Events)
	}
	want := []string{
		"3.2 [] open backfill of Twin: size: -6 is below 0",
		"1.0 [] open backfill of Twin: size: -1 is below 0",
		"2.0 [] open backfill of Twin: size: -2 is below 0",
		"4.-1 [1] open backfill of Twin: none of its 2 events can be",
	}
	if got := h.lacked(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the twin lacks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	h.raiseInto(catalog)
}

// One that Postgres refuses in the twin does not keep the others from it, nor the
// backfill from its end.
func TestBackfill_IsolatesAReplayedLetterThatItsTableRefuses(t *testing.T) {
	t.Parallel()
	h, catalog, _ := replayed(t)
	h.exec(`ALTER TABLE weir_data.twin_seconds ADD CONSTRAINT refuses CHECK (1 / (CASE WHEN -2 = ANY (total) OR -7 = ANY (total) THEN 0 ELSE 1 END) = 1)`)
	if got := h.mustBackfill(catalog, "Twin"); got.Events != 3 {
		t.Errorf("folded %d events, want the other three", got.Events)
	}
	want := []string{
		"2.0 [] open backfill of Twin: Postgres cannot store it: p",
		"4.-1 [1] open backfill of Twin: Postgres cannot store it: p",
	}
	got := h.lacked()
	if len(got) != 2 || !strings.HasPrefix(got[0], want[0][:50]) || !strings.HasPrefix(got[1], want[1][:50]) {
		t.Errorf("the twin lacks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	h.exec(`ALTER TABLE weir_data.twin_seconds DROP CONSTRAINT refuses`)
	h.raiseInto(catalog)
}

// What one aggregation's backfill had to leave out is not hidden from another's.
func TestBackfill_TakesWhatOnlyAnotherAggregationLacks(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	old := h.idle("w1")
	for n := 1; n <= 6; n++ {
		h.publishTicks(fmt.Sprintf("gw/e/%d", n), n, n)
	}
	h.process(old, h.take(old, 6)...)
	if err := old.lease.Close(); err != nil {
		t.Fatal(err)
	}
	first := h.twin("Twin")
	h.exec(`ALTER TABLE weir_data.twin_seconds ADD CHECK (1 / (CASE WHEN 4 = ANY (total) THEN 0 ELSE 1 END) = 1)`)
	h.mustBackfill(first, "Twin")
	h.catalog = first
	second := h.twin("Other")
	h.mustBackfill(second, "Other")
	h.wantTwin("the second", second, "Other", 6)
}
