package worker

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// Definitions before and after somebody has mended them: sizes below 0 are
// good after, and there is a stream of tocks.
const (
	mendedTick = `
stream: tick
time: at
attributes:
  at:   {type: time, unit: ms, description: when}
  name: {type: string, description: who}
  size: {type: int, description: how much}
`
	tock = `
stream: tock
time: at
attributes:
  at:   {type: time, unit: ms, description: when}
  name: {type: string, description: who}
aggregations:
  Tocks:
    description: Tocks by name.
    group_by: [name]
    select: {n: count()}
    every: seconds, minutes, hours, days, years
`
)

// newMendHarness returns a provisioned harness with what was defined before, and
// what is defined now and applied.
func newMendHarness(t *testing.T) (h *harness, now *definition.Catalog) {
	t.Helper()
	files := fstest.MapFS{"tick.yaml": {Data: []byte(mendedTick + tick[strings.Index(tick, "aggregations:"):])}, "tock.yaml": {Data: []byte(tock)}}
	now, err := definition.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	h = newBackfillHarness(t)
	if err := h.db.Apply(t.Context(), now.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	return h, now
}

// raiseAll replays until nothing is left to be.
func (h *harness) raiseAll(w *Worker) {
	h.t.Helper()
	for {
		n, err := w.replay(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if n == 0 && ask[int](h, `SELECT count(*) FROM weir.dead_letter WHERE state = 'replay'`) == 0 {
			return
		}
	}
}

func (h *harness) request(filter store.DeadLetterFilter) []int64 {
	h.t.Helper()
	ids, err := h.db.ReplayDeadLetters(h.t.Context(), filter)
	if err != nil {
		h.t.Fatal(err)
	}
	return ids
}

// letters lists all dead letters, oldest first.
func (h *harness) letters() []store.DeadLetter {
	h.t.Helper()
	letters, err := h.db.DeadLetters(h.t.Context(), store.DeadLetterFilter{Limit: 100_000})
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Reverse(letters)
	return letters
}

// names is how many events an aggregation has of each name, at one level.
func (h *harness) names(def *aggregation.Definition, per aggregation.Granularity) map[string]int64 {
	h.t.Helper()
	q := &store.Question{Aggregation: def, Per: per, Until: math.MaxInt64 / 4, Limit: -1, Group: []store.Field{{Role: store.KeyField}}}
	q.Select = []store.Expr{
		{Op: store.OpField, Kind: event.String, Field: store.Field{Role: store.KeyField}},
		{Op: store.OpField, Kind: event.Int, Field: store.Field{Role: store.MeasureField}},
	}
	names := map[string]int64{}
	err := h.db.Ask(h.t.Context(), q, func(values []any) error {
		names[fmt.Sprint(values[0])] += values[1].(int64)
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

// sizedTick is an event of its own name, at a time that is the name's too.
func sizedTick(name string, at, size int) string {
	return fmt.Sprintf(`{"at":%d,"name":%q,"size":%d}`, 1715947200000+1000*at, name, size)
}

// A replayed event counts as it would have at first: "first" and "last" too,
// which go by event time and then by place in the stream.
func TestRaise_GivesWhatGoodDefinitionsWouldHaveGiven(t *testing.T) {
	t.Parallel()
	publish := func(h *harness) (messages int) {
		h.publish("events.tick.gw", "gw/e/1", "application/json", "["+sizedTick("a", 5, 1)+","+sizedTick("a", 4, -2)+","+sizedTick("a", 6, 3)+"]")
		h.publish("events.tick.gw", "gw/e/2", "", sizedTick("a", 5, -4))
		h.publish("events.tick.gw", "", "application/x-ndjson", sizedTick("a", 4000, -5)+"\n\n"+sizedTick("b", 1, 6)+"\n"+sizedTick("b", 2, -7))
		h.publish("events.tick.gw", "gw/r/1-2", "", sizedTick("a", 5, -8)+sizedTick("b", 1, 9))
		h.publish("events.tick.gw", "gw/e/3", "", sizedTick("b", 2, 10))
		h.publish("events.tick.gw", "gw/e/4", "", "{\n"+sizedTick("c", 9, -11)[1:]) // more than a line
		return 6
	}
	good, now := newMendHarness(t)
	w := good.knowing(now, "w1")
	good.process(w, good.take(w, publish(good))...)

	h, now := newMendHarness(t)
	old, mended := h.idle("w1"), h.knowing(now, "w2")
	h.process(old, h.take(old, publish(h))...)
	if ids := h.request(store.DeadLetterFilter{Reason: "below 0"}); len(ids) != 6 {
		t.Fatalf("asked for %v, want all six", ids)
	}
	h.raiseAll(old)
	for _, l := range h.letters() {
		if l.State != store.DeadLetterOpen || l.Replays != 1 || !l.SettledAt.IsZero() {
			t.Errorf("with the definitions of before: %+v, want it open", l)
		}
	}
	h.request(store.DeadLetterFilter{})
	h.raiseAll(mended)
	for _, l := range h.letters() {
		if l.State != store.DeadLetterFolded || l.Replays != 2 || l.SettledAt.IsZero() {
			t.Errorf("with those of now: %+v, want it folded", l)
		}
	}
	def := now.Aggregation("Ticks")
	for _, per := range def.Granularities {
		if got, want := h.answer(def, per), good.answer(def, per); got != want {
			t.Errorf("per %s: got\n%s\nwant\n%s", per, got, want)
		}
	}
	want := good.totals()
	want.DeadLetters = 6
	if got := h.totals(); got != want {
		t.Errorf("control totals: got %+v, want %+v", got, want)
	}
	if ids := h.request(store.DeadLetterFilter{}); len(ids) != 0 {
		t.Errorf("folded letters %v are replayed again", ids)
	}
}

// A letter of a whole message is folded for what of it is good now; the rest
// are letters of their own.
func TestRaise_SplitsAMessageOfWhichSomeIsStillBad(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old, mended := h.idle("w1"), h.knowing(now, "w2")
	good := `{"at":1715947200000,"name":"good"}`
	h.publish("events.tock.gw", "gw/e/1", "application/x-ndjson", good+"\nbroken\n"+good)
	h.publish("events.tock.gw", "gw/e/2", "", `{"name":"timeless"}`)
	h.publish("events.tock.gw", "gw/e/3", "", `[{"name":"timeless"},7]`)
	h.publish("events.tock.gw", "gw/e/4", "", `[]`)
	h.publish("events.never.gw", "gw/e/5", "", good)
	h.process(old, h.take(old, 5)...)
	h.request(store.DeadLetterFilter{})
	h.raiseAll(mended)
	var got []string
	for _, l := range h.letters() {
		got = append(got, fmt.Sprintf("%d.%d %s from %d: %.40s", l.Sequence, l.Offset, l.State, l.SplitFrom, l.Reason))
	}
	want := []string{
		`1.-1 folded from 0: unknown type: no stream is defined for t`,
		`2.-1 open from 0: at is missing`,
		`3.-1 open from 0: none of its 2 events can be folded, the `,
		`4.-1 open from 0: undecodable body: no event in it`,
		`5.-1 open from 0: unknown type: no stream is defined for t`,
		`1.1 open from 1: broken JSON`,
	}
	for i := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], strings.TrimSuffix(want[i], "body: no event in it")) {
			t.Errorf("got %q, want %q", got, want)
			break
		}
	}
	if got, want := h.names(now.Aggregation("Tocks"), aggregation.Days), (map[string]int64{"good": 2}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := h.totals(), (store.Totals{Messages: 5, Events: 2, DeadLetters: 6}); got != want {
		t.Errorf("control totals: got %+v, want %+v", got, want)
	}
}

// Two workers have the same letters in hand, as when one stood still for long.
func TestRaise_FoldsOnceWhoeverHasTheLetterInHand(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old, a, b := h.idle("w1"), h.knowing(now, "w2"), h.knowing(now, "w3")
	const n = 40
	for i := range n {
		h.publish("events.tick.gw", fmt.Sprintf("gw/e/%d", i+1), "", sizedTick("a", i, -i-1))
	}
	h.process(old, h.take(old, n)...)
	h.request(store.DeadLetterFilter{})
	taken, err := h.db.TakeDeadLetters(t.Context())
	if err != nil || len(taken) != n {
		t.Fatalf("took %d, %v", len(taken), err)
	}
	if again, err := h.db.TakeDeadLetters(t.Context()); err != nil || len(again) != 0 {
		t.Fatalf("took %d once more, %v", len(again), err)
	}
	var group errgroup.Group
	for w, letters := range map[*Worker][]store.DeadLetter{a: taken[:30], b: taken[10:]} {
		group.Go(func() error { _, err := w.raise(t.Context(), letters); return err })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	h.raiseAll(a) // what the loser has given back
	if got := h.folded("Ticks"); got != n {
		t.Errorf("%d events are folded, want %d", got, n)
	}
	if got := h.totals(); got.Events != n || got.DeadLetters != n || got.Messages != n {
		t.Errorf("control totals %+v", got)
	}
}

func TestRaise_LeavesWhatIsDroppedMeanwhile(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old, w := h.idle("w1"), h.knowing(now, "w2")
	for i := range 3 {
		h.publish("events.tick.gw", fmt.Sprintf("gw/e/%d", i+1), "", sizedTick("a", i, -i-1))
	}
	h.process(old, h.take(old, 3)...)
	h.request(store.DeadLetterFilter{})
	taken, err := h.db.TakeDeadLetters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := h.db.DropDeadLetters(t.Context(), store.DeadLetterFilter{IDs: []int64{taken[1].ID}}); err != nil || len(ids) != 1 {
		t.Fatalf("dropped %v, %v", ids, err)
	}
	if _, err := w.raise(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	if got := h.folded("Ticks"); got != 0 {
		t.Fatalf("%d events are folded by a transaction that found a letter dropped", got)
	}
	h.raiseAll(w)
	if got := h.folded("Ticks"); got != 2 {
		t.Errorf("%d events are folded, want the other two", got)
	}
	l := h.letters()[1]
	if l.State != store.DeadLetterDropped || len(l.Payload) != 0 || l.Size == 0 || l.SettledAt.IsZero() {
		t.Errorf("the dropped one is %+v", l)
	}
}

// One that Postgres refuses does not keep the others from being folded.
func TestRaise_IsolatesWhatPostgresRefuses(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old, w := h.idle("w1"), h.knowing(now, "w2")
	for i := range 5 {
		h.publish("events.tick.gw", fmt.Sprintf("gw/e/%d", i+1), "", sizedTick("a", i, -i-1))
	}
	h.process(old, h.take(old, 5)...)
	if _, err := h.sql.ExecContext(t.Context(), `ALTER TABLE weir_data.ticks_seconds ADD CHECK (1 / (CASE WHEN -4 = ANY (total) THEN 0 ELSE 1 END) = 1)`); err != nil {
		t.Fatal(err)
	}
	h.request(store.DeadLetterFilter{})
	h.raiseAll(w)
	if got := h.folded("Ticks"); got != 4 {
		t.Errorf("%d events are folded, want the other 4", got)
	}
	if l := h.letters()[3]; l.State != store.DeadLetterOpen || !strings.Contains(l.Reason, "Postgres cannot store it") {
		t.Errorf("the bad one is %+v", l)
	}
}

// Of a payload that is too large for its table the rest is read from the stream,
// as long as that has it.
func TestRaise_ReadsWhatWasCutOffFromTheStream(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old, w := h.idle("w1"), h.knowing(now, "w2")
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	_, _ = fmt.Fprintf(zip, `[%s,{"at":1715947200000,"size":-2,"comment":%q,"name":"large"},%s]`, sizedTick("a", 1, 1), strings.Repeat("x", 2<<20), sizedTick("a", 1, -1))
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		_, _, err := h.conn.Publish(t.Context(), stream.Outgoing{Subject: "events.tick.gw", MsgID: fmt.Sprintf("gw/e/%d", n+1), ContentEncoding: "gzip", Data: body.Bytes()})
		if err != nil {
			t.Fatal(err)
		}
		h.process(old, h.take(old, 1)...)
		if n == 0 {
			h.emptyStream()
		}
	}
	h.request(store.DeadLetterFilter{})
	h.raiseAll(w)
	h.request(store.DeadLetterFilter{})
	h.raiseAll(w) // whose sentence does not grow
	var got []string
	for _, l := range h.letters() {
		got = append(got, fmt.Sprintf("%d.%d %s", l.Sequence, l.Offset, l.State))
		if l.State == store.DeadLetterOpen && (strings.Count(l.Reason, "the stream does not hold message 1 any more") != 1 || !strings.Contains(l.Reason, "-2 is below 0")) {
			t.Errorf("the reason is %q", l.Reason)
		}
	}
	if want := "[1.1 open 1.2 folded 2.1 folded 2.2 folded]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if got := h.names(now.Aggregation("Ticks"), aggregation.Seconds); got["large"] != 1 || got["a"] != 4 {
		t.Errorf("got %v", got)
	}
}

// Replayed events raise no alerts: who gets one is to act now.
func TestRaise_RaisesNoOldAlarms(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publish("events.request.gw", "gw/e/1", "", call(1, `,"responseTime":1000000`))
	message := h.take(w, 1)
	w.unstorable[message[0].Sequence] = "by the test"
	h.process(w, message...)
	delete(w.unstorable, message[0].Sequence)
	h.request(store.DeadLetterFilter{})
	h.raiseAll(w)
	h.wantCalls("after the replay", 1)
	if n := ask[int](h, `SELECT count(*) FROM weir.alert`); n != 0 {
		t.Errorf("%d alerts, want none", n)
	}
	h.publish("events.request.gw", "gw/e/2", "", call(2, `,"responseTime":1000000`))
	h.process(w, h.take(w, 1)...)
	if n := ask[int](h, `SELECT count(*) FROM weir.alert`); n != 1 {
		t.Errorf("%d alerts by an event of now, want 1: the test proves nothing otherwise", n)
	}
}

// An aggregation that is added later has what was replayed before it, and what
// is replayed while it is being backfilled, each once.
func TestRaise_IsBackfilledOnce(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old, mended := h.idle("w1"), h.knowing(now, "w2")
	h.publish("events.tick.gw", "gw/e/1", "", "["+sizedTick("a", 1, 1)+","+sizedTick("a", 2, -2)+`,{"name":"timeless"}]`)
	h.publish("events.tick.gw", "gw/e/2", "", sizedTick("a", 3, -3)+sizedTick("b", 4, 4))
	h.publish("events.tick.gw", "gw/e/3", "application/x-ndjson", sizedTick("c", 5, 5)+"\nbroken")
	messages := h.take(old, 3)
	old.unstorable[messages[2].Sequence] = "by the test" // a letter of a whole message
	h.process(old, messages...)
	letters := h.letters()
	h.request(store.DeadLetterFilter{IDs: []int64{letters[0].ID, letters[3].ID}})
	h.raiseAll(mended)
	h.catalog = now
	catalog := h.twin("Twin")
	knowing := h.knowing(catalog, "w3")
	h.request(store.DeadLetterFilter{IDs: []int64{letters[2].ID}})
	h.raiseAll(knowing)
	for _, w := range []*Worker{old, mended} {
		if err := w.lease.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h.mustBackfill(catalog, "Twin")
	h.wantTwin("after the backfill", catalog, "Twin", 5)
}

// lastSequence is that of the newest message.
func (h *harness) lastSequence() uint64 {
	h.t.Helper()
	s, err := h.conn.State(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return s.LastSequence
}

// emptyStream lets all messages become too old for the stream.
func (h *harness) emptyStream() {
	h.t.Helper()
	conn, err := nats.Connect(h.servers.nats)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		h.t.Fatal(err)
	}
	events, err := js.Stream(h.t.Context(), stream.EventsStream)
	if err != nil {
		h.t.Fatal(err)
	}
	before := events.CachedInfo().Config
	short := before
	short.MaxAge, short.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := js.UpdateStream(h.t.Context(), short); err != nil {
		h.t.Fatal(err)
	}
	h.until("the stream is empty", func() (bool, error) {
		info, err := events.Info(h.t.Context())
		return err == nil && info.State.Msgs == 0, err
	})
	if _, err := js.UpdateStream(h.t.Context(), before); err != nil {
		h.t.Fatal(err)
	}
}

// expire lets half a minute pass for what workers have taken.
func (h *harness) expire() {
	h.t.Helper()
	for _, table := range []string{"weir.dead_letter", "weir.repair"} {
		if _, err := h.sql.ExecContext(h.t.Context(), `UPDATE `+table+` SET taken_at = taken_at - interval '31 seconds'`); err != nil {
			h.t.Fatal(err)
		}
	}
}
