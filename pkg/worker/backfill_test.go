package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/pkg/store"
)

// tick has one aggregation; the tests add twins of it, which must have the same
// rows in the end.
const tick = `
stream: tick
time: at
attributes:
  at:   {type: time, unit: ms, description: when}
  name: {type: string, description: who}
  size: {type: int, min: 0, description: how much}
aggregations:
  Ticks:
    description: Ticks by name.
    group_by: [name]
    select:
      n:      count()
      total:  sum(size)
      most:   max(size)
      oldest: first(size)
      newest: last(size)
      sizes:  distinct_count(size)
    every: seconds, minutes, hours, days, years
`

func newBackfillHarness(t *testing.T) *harness {
	t.Helper()
	return newHarnessOn(t, servers{definitions: fstest.MapFS{"tick.yaml": {Data: []byte(tick)}}, ackWait: time.Minute})
}

// twin applies the definitions with a further aggregation, which is a copy of
// Ticks, and returns them.
func (h *harness) twin(name string) *definition.Catalog {
	h.t.Helper()
	def := *h.catalog.Aggregation("Ticks")
	def.Name = name
	catalog := *h.catalog
	catalog.Aggregations = append(slices.Clone(catalog.Aggregations), &def)
	if err := h.db.Apply(h.t.Context(), catalog.Aggregations, store.PlanOptions{Backfill: true}); err != nil {
		h.t.Fatal(err)
	}
	return &catalog
}

// knowing is an idle worker with other definitions than the harness's.
func (h *harness) knowing(catalog *definition.Catalog, shard string) *Worker {
	h.t.Helper()
	old := h.catalog
	h.catalog = catalog
	defer func() { h.catalog = old }()
	w := h.idle(shard)
	if err := w.learnBackfills(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return w
}

// backfill runs the backfill of a twin.
func (h *harness) backfill(ctx context.Context, catalog *definition.Catalog, name string, report func(BackfillProgress)) error {
	log := zaptest.NewLogger(h.t, zaptest.Level(zap.ErrorLevel))
	return Backfill{Aggregation: name, Owner: "test", Messages: 7, Report: report, poll: 5 * time.Millisecond}.Run(ctx, catalog, h.db, h.conn, log)
}

func (h *harness) mustBackfill(catalog *definition.Catalog, name string) (last BackfillProgress) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := h.backfill(ctx, catalog, name, func(p BackfillProgress) { last = p }); err != nil {
		h.t.Fatal(err)
	}
	return last
}

// answer is everything an aggregation says at one level.
func (h *harness) answer(def *aggregation.Definition, per aggregation.Granularity) string {
	h.t.Helper()
	q := &store.Question{Aggregation: def, Per: per, Until: math.MaxInt64 / 4, Limit: -1, Group: []store.Field{{Role: store.BucketField}, {Role: store.KeyField}}}
	q.Select = []store.Expr{
		{Op: store.OpField, Kind: event.Time, Field: store.Field{Role: store.BucketField}},
		{Op: store.OpField, Kind: event.String, Field: store.Field{Role: store.KeyField}},
	}
	for i := range def.Measures {
		q.Select = append(q.Select, store.Expr{Op: store.OpField, Kind: event.Int, Field: store.Field{Role: store.MeasureField, Index: i}})
	}
	var lines []string
	err := h.db.Ask(h.t.Context(), q, func(values []any) error {
		lines = append(lines, fmt.Sprint(values...))
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// wantTwin checks that the twin is as the aggregation that was there from the
// beginning, at every level, and that this one has so many events: those of the
// stream, each once.
func (h *harness) wantTwin(what string, catalog *definition.Catalog, name string, events int64) {
	h.t.Helper()
	original, twin := catalog.Aggregation("Ticks"), catalog.Aggregation(name)
	if got := h.folded("Ticks"); got != events {
		h.t.Errorf("%s: %d events are folded, want %d", what, got, events)
	}
	want := h.history("tick", "at").String()
	for _, def := range []*aggregation.Definition{original, twin} {
		if got := h.wantConserved(what, def).String(); got != want {
			h.t.Errorf("%s: %s has\n%s\nthe stream\n%s", what, def.Name, got, want)
		}
	}
	for _, per := range original.Granularities {
		if got, want := h.answer(twin, per), h.answer(original, per); got != want {
			h.t.Errorf("%s: per %s: the twin has\n%s\nwant\n%s", what, per, got, want)
		}
	}
}

// ticks is a body with the events numbered from … to.
func ticks(from, to int) string {
	var b strings.Builder
	for n := from; n <= to; n++ {
		at := time.Date(2024, 5, 17, 23, 0, 0, 0, time.UTC).Add(time.Duration(n*n%7919) * time.Second)
		fmt.Fprintf(&b, `{"at":%d,"name":"n%d","size":%d}`+"\n", at.UnixMilli(), n%3, n)
	}
	return b.String()
}

func (h *harness) publishTicks(msgID string, from, to int) {
	h.t.Helper()
	h.publish("events.tick.gw", msgID, "application/x-ndjson", ticks(from, to))
}

// publishMix stores messages of every kind: with identities, one of them twice,
// foreign ones, ranges that overlap, and what cannot be folded. It returns how
// many, and how many events they hold, each counted once.
func (h *harness) publishMix(epoch string) (messages, events int) {
	h.t.Helper()
	h.publishTicks("gw/"+epoch+"/1", 1, 1)
	h.publishTicks("gw/"+epoch+"/2", 2, 4)
	h.publishTicks("gw/"+epoch+"/1-1", 1, 1) // the first once more, for all but the stream
	h.publishTicks("", 5, 7)
	h.publishTicks("", 5, 5)
	h.publishTicks("gw/r"+epoch+"/4094-4098", 94, 98) // over the boundary of a ledger page
	h.publishTicks("gw/r"+epoch+"/4097-4100", 97, 100)
	h.publish("events.tick.gw", "gw/"+epoch+"/3", "", `{"at":1715947200000,"name":"bad","size":-1}`)
	h.publish("events.nosuch.gw", "gw/"+epoch+"/4", "", `{}`)
	return 9, 15
}

func TestBackfill_GivesAnAddedAggregationWhatWasFoldedBefore(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	old := h.idle("w1")
	messages, events := h.publishMix("e")
	h.process(old, h.take(old, messages)...)
	totals := h.totals()
	catalog := h.twin("Twin")
	if err := old.lease.Close(); err != nil {
		t.Fatal(err)
	}
	got := h.mustBackfill(catalog, "Twin")
	h.wantTwin("after the backfill", catalog, "Twin", int64(events))
	if got.Events != int64(events) || got.Known != 0 || got.Left != 0 || got.Extent.Messages != uint64(messages) || got.Since.IsZero() || got.Messages != int64(messages-1) {
		t.Errorf("progress %+v, want %d events", got, events)
	}
	if h.totals() != totals {
		t.Errorf("control totals: got %+v, want %+v as before", h.totals(), totals)
	}
	if n := ask[int64](h, `SELECT count(*) FROM weir.dead_letter`); n != totals.DeadLetters {
		t.Errorf("%d dead letters, want %d as before", n, totals.DeadLetters)
	}
	if err := h.backfill(t.Context(), catalog, "Twin", nil); err == nil || !strings.Contains(err.Error(), "not being backfilled") {
		t.Errorf("once more: got %v", err)
	}
	if h.incompleteOf(catalog, store.BackfillShard) != 0 {
		t.Error("its coarser levels are not complete")
	}
}

// incompleteOf is incomplete for other definitions than the harness's.
func (h *harness) incompleteOf(catalog *definition.Catalog, shard string) int {
	h.t.Helper()
	cascade, _, err := h.db.LoadCascade(h.t.Context(), shard, catalog.Aggregations[1:], nil, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if cascade.Empty() {
		return 0
	}
	return max(1, cascade.Groups()) // some may be left behind
}

func TestBackfill_WaitsForAWorkerThatDoesNotKnowTheAggregation(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	old := h.idle("w1")
	h.publishTicks("gw/e/1", 1, 3)
	h.publishTicks("", 4, 5)
	first := h.take(old, 2)
	h.process(old, first[0])
	catalog := h.twin("Twin")
	fresh := h.knowing(catalog, "w2")
	waiting := make(chan []string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- h.backfill(t.Context(), catalog, "Twin", func(p BackfillProgress) {
			select {
			case waiting <- p.WaitingFor:
			default:
			}
		})
	}()
	h.until("the backfill names the worker it waits for", func() (bool, error) { return fmt.Sprint(<-waiting) == "[w1 (test)]", nil })
	h.process(old, first...) // the old one folds what the backfill found unfolded
	h.process(fresh, first...)
	h.publishTicks("gw/e/3", 6, 8)
	late := h.take(old, 1)
	h.process(old, late...)
	h.process(fresh, late...)
	select {
	case err := <-ended:
		t.Fatalf("the backfill ended beside a worker without the aggregation: %v", err)
	default:
	}
	h.publishTicks("gw/e/4", 9, 9) // is left to the one who knows
	if err := old.lease.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.end(ended); err != nil {
		t.Fatal(err)
	}
	last := h.take(old, 1)
	if _, err := old.process(t.Context(), last); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a worker that lost its lease folds on after the backfill: %v", err)
	}
	h.process(fresh, last...)
	h.wantTwin("after both", catalog, "Twin", 9)
}

func TestBackfill_LeavesWhatIsNotFoldedToWorkersThatKnow(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	old := h.idle("w1")
	for n := 1; n <= 6; n++ {
		h.publishTicks(fmt.Sprintf("gw/e/%d", n), n, n)
	}
	messages := h.take(old, 6)
	h.process(old, messages[:4]...)
	if err := old.lease.Close(); err != nil {
		t.Fatal(err)
	}
	catalog := h.twin("Twin")
	fresh := h.knowing(catalog, "w2")
	h.process(fresh, messages[2:5]...) // of these it folds the last
	if got := h.mustBackfill(catalog, "Twin"); got.Events != 4 || got.Known != 1 || got.Left != 1 {
		t.Errorf("progress %+v, want 4 events, 1 known, 1 left", got)
	}
	h.process(fresh, messages...)
	h.wantTwin("after the rest", catalog, "Twin", 6)

	// Nobody needs the scope any more, and a worker that still claims in it is as
	// good without.
	if n := ask[int](h, `SELECT count(*) FROM weir.ledger_page WHERE scope = 'Twin'`); n == 0 {
		t.Error("the scope was empty before the test ends")
	}
	if _, err := h.db.CompactLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](h, `SELECT count(*) FROM weir.ledger_page WHERE scope = 'Twin'`); n != 0 {
		t.Errorf("%d pages of a complete backfill are kept", n)
	}
	h.process(fresh, messages...)
	h.publishTicks("gw/e/7", 7, 7)
	h.process(fresh, h.take(old, 1)...)
	h.wantTwin("after compaction", catalog, "Twin", 7)
}

// What was left to workers who know may be folded by one who came late and does
// not: the backfill notices, and goes back.
func TestBackfill_GoesBackWhenAWorkerWithoutTheAggregationComes(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	for n := 1; n <= 3; n++ {
		h.publishTicks(fmt.Sprintf("gw/e/%d", n), n, n)
	}
	catalog := h.twin("Twin")
	came := false
	err := h.backfill(t.Context(), catalog, "Twin", func(p BackfillProgress) {
		if p.Left == 0 || came {
			return
		}
		came = true
		late := h.idle("late")
		h.process(late, h.take(late, 3)...)
		if err := late.lease.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil || !came {
		t.Fatalf("came %v, %v", came, err)
	}
	h.wantTwin("after the backfill", catalog, "Twin", 3)
}

// A dead letter stays one, also where the event could be folded today.
func TestBackfill_DoesNotRaiseDeadLetters(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	old := h.idle("w1")
	h.publishTicks("gw/e/1", 1, 2)
	h.publishTicks("", 3, 3)
	h.publishTicks("gw/e/3", 4, 4)
	messages := h.take(old, 3)
	old.unstorable[messages[0].Sequence], old.unstorable[messages[1].Sequence] = "by the test", "by the test"
	h.process(old, messages...)
	if err := old.lease.Close(); err != nil {
		t.Fatal(err)
	}
	catalog := h.twin("Twin")
	h.mustBackfill(catalog, "Twin")
	h.wantTwin("after the backfill", catalog, "Twin", 1)
}

func TestBackfill_MakesADeadLetterOfWhatItsTableRefuses(t *testing.T) {
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
	catalog := h.twin("Twin")
	if _, err := h.sql.ExecContext(t.Context(), `ALTER TABLE weir_data.twin_seconds ADD CHECK (1 / (CASE WHEN 4 = ANY (total) THEN 0 ELSE 1 END) = 1)`); err != nil {
		t.Fatal(err)
	}
	if got := h.mustBackfill(catalog, "Twin"); got.Events != 5 {
		t.Errorf("folded %d events, want the other 5", got.Events)
	}
	if got := ask[string](h, `SELECT string_agg(sequence || ' ' || reason, ',') FROM weir.dead_letter`); !strings.HasPrefix(got, "4 backfill of Twin: Postgres cannot store it") || strings.Contains(got, ",") {
		t.Errorf("dead letters: %s", got)
	}
}

func TestBackfill_RunsOnceAtATime(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	catalog := h.twin("Twin")
	lease, err := h.db.LeaseShard(t.Context(), store.BackfillShard, "the first", 0, catalog.Aggregations)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.backfill(t.Context(), catalog, "Twin", nil); err == nil || !strings.Contains(err.Error(), "the first runs a backfill now") {
		t.Errorf("got %v", err)
	}
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
	h.mustBackfill(catalog, "Twin")
}
