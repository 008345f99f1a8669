package alert

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// Attributes of the tests' stream.
const (
	attrAPI = iota
	attrApp
	attrMillis
	attrRatio
	attrA
	attrB
)

func callSchema() *event.Schema {
	s := &event.Schema{Name: "call", EventTime: -1, Attributes: []event.Attribute{
		{Name: "api", Kind: event.String},
		{Name: "app", Kind: event.Int},
		{Name: "millis", Kind: event.Int},
		{Name: "ratio", Kind: event.Float},
		{Name: "isA", Kind: event.Bool},
		{Name: "isB", Kind: event.Bool},
	}}
	s.Seal()
	return s
}

// call is one event of the tests' stream; at is in time since noon.
type call struct {
	at      time.Duration
	api     string
	app     int64
	millis  int64
	ratio   float64
	a, b    bool
	dropped bool
}

var noon = time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC)

func columns(calls ...call) []*event.Columns {
	c := event.NewColumns(callSchema(), event.NewDictionary())
	for i, e := range calls {
		c.Times = append(c.Times, noon.Add(e.at).UnixMicro())
		c.Sequences = append(c.Sequences, uint64(i+1))
		c.Messages = append(c.Messages, 0)
		c.Offsets = append(c.Offsets, int32(i))
		c.Dropped = append(c.Dropped, e.dropped)
		for at, cell := range []event.Cell{
			c.Dict.Intern(e.api), event.Cell(e.app), event.Cell(e.millis),
			event.FloatCell(e.ratio), event.BoolCell(e.a), event.BoolCell(e.b),
		} {
			c.Cells[at] = append(c.Cells[at], cell)
		}
	}
	return []*event.Columns{c}
}

func slowRule() *Rule {
	return &Rule{
		Name: "slow", Type: PerEvent, Local: true, Stream: "call", Severity: 2, Value: attrMillis, Threshold: 5000, Suppress: 10 * time.Minute,
		Cases: []Case{{Where: -1, Key: []KeyPart{{"api", event.String, attrAPI}}, Message: "{api} took {value} ms, over {threshold}"}},
	}
}

func crossingRule() *Rule {
	key := []KeyPart{{"api", event.String, attrAPI}, {"app", event.Int, attrApp}}
	return &Rule{
		Name: "crossing", Type: Counted, Local: true, Stream: "call", Severity: 3, Value: -1, Threshold: 10, Window: time.Hour, Suppress: 10 * time.Minute,
		Cases: []Case{
			{Name: "first", Where: attrA, Key: key, Message: "{app} on {api}: {value} within {window}, over {threshold}"},
			{Name: "second", Where: attrB, Key: key[1:], Message: "second"},
		},
	}
}

// fired evaluates and commits one batch and returns the event times of its
// alerts, since noon.
func fired(l *Local, calls ...call) []time.Duration {
	alerts := l.Evaluate(columns(calls...))
	l.Commit()
	var at []time.Duration
	for _, a := range alerts {
		at = append(at, a.FiredAt.Sub(noon))
	}
	return at
}

func slow(at time.Duration, api string) call { return call{at: at, api: api, millis: 5001} }

func wantTimes(t *testing.T, what string, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: alerts at %v, want %v", what, got, want)
	}
}

func TestPerEvent_FiresAboveTheThresholdOnly(t *testing.T) {
	t.Parallel()
	for millis, want := range map[int64]int{-1: 0, 4999: 0, 5000: 0, 5001: 1} {
		if got := fired(NewLocal([]*Rule{slowRule()}, "s"), call{api: "x", millis: millis}); len(got) != want {
			t.Errorf("%d ms: got %d alerts, want %d", millis, len(got), want)
		}
	}
	rule := slowRule()
	rule.Value, rule.Threshold = attrRatio, 0.5
	for ratio, want := range map[float64]int{0.5: 0, 0.5000001: 1} {
		if got := fired(NewLocal([]*Rule{rule}, "s"), call{api: "x", ratio: ratio}); len(got) != want {
			t.Errorf("ratio %v: got %d alerts, want %d", ratio, len(got), want)
		}
	}
}

func TestPerEvent_AlertSaysWhatHappened(t *testing.T) {
	t.Parallel()
	got := NewLocal([]*Rule{slowRule()}, "w1").Evaluate(columns(call{at: time.Second, api: "{threshold} é", millis: 6000}))
	if len(got) != 1 || len(got[0].ID) != 32 {
		t.Fatalf("got %+v, want one alert with an id of 32 digits", got)
	}
	want := Alert{
		ID: got[0].ID, Rule: "slow", Scope: ScopeLocal, State: Firing, Severity: 2, Key: map[string]string{"api": "{threshold} é"},
		Message: "{threshold} é took 6000 ms, over 5000", Value: 6000, Threshold: 5000, FiredAt: noon.Add(time.Second), ShardID: "w1",
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
}

func TestSuppression_IsByEventTimeInBothDirectionsAndPerKey(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{slowRule()}, "s")
	wantTimes(t, "first", fired(l, slow(0, "x")), 0)
	wantTimes(t, "shortly after", fired(l, slow(10*time.Minute-time.Microsecond, "x")))
	wantTimes(t, "another key", fired(l, slow(time.Minute, "y")), time.Minute)
	wantTimes(t, "late, shortly before", fired(l, slow(-10*time.Minute+time.Microsecond, "x")))
	wantTimes(t, "after the time", fired(l, slow(10*time.Minute, "x")), 10*time.Minute)
	wantTimes(t, "in one batch", fired(l, slow(30*time.Minute, "x"), slow(31*time.Minute, "x"), slow(40*time.Minute, "x")),
		30*time.Minute, 40*time.Minute)
}

func TestSuppression_HoldsWhenLateEventsComeInBetween(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{slowRule()}, "s")
	wantTimes(t, "now", fired(l, slow(0, "x")), 0)
	wantTimes(t, "an hour late", fired(l, slow(-time.Hour, "x")), -time.Hour)
	for i := range 20 {
		at := time.Duration(i) * time.Second
		wantTimes(t, "both again", fired(l, slow(at, "x"), slow(at-time.Hour, "x")))
	}
}

func crossings(n int, from, every time.Duration) []call {
	calls := make([]call, n)
	for i := range calls {
		calls[i] = call{at: from + time.Duration(i)*every, api: "x", app: 7, a: true}
	}
	return calls
}

func TestCounted_TheEventAfterTheThresholdFires(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{crossingRule()}, "s")
	wantTimes(t, "ten", fired(l, crossings(10, 0, time.Second)...))
	alerts := l.Evaluate(columns(call{at: time.Minute, api: "x", app: 7, a: true}))
	if len(alerts) != 1 || alerts[0].Case != "first" || alerts[0].Value != 11 || alerts[0].Message != "7 on x: 11 within 1h, over 10" {
		t.Errorf("the eleventh: got %+v", alerts)
	}
}

func TestCounted_WindowSlidesInEventTime(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{crossingRule()}, "s")
	wantTimes(t, "11 over 70 minutes", fired(l, crossings(11, 0, 7*time.Minute)...))
	l = NewLocal([]*Rule{crossingRule()}, "s")
	wantTimes(t, "11 over 55 minutes", fired(l, crossings(11, 0, 5*time.Minute+30*time.Second)...), 55*time.Minute)
	l = NewLocal([]*Rule{crossingRule()}, "s")
	wantTimes(t, "100 in one second, suppressed", fired(l, crossings(100, 0, time.Millisecond)...), 10*time.Millisecond)
	wantTimes(t, "still above, after the suppression", fired(l, crossings(1, 11*time.Minute, 0)...), 11*time.Minute)
	wantTimes(t, "window empty again", fired(l, crossings(10, 3*time.Hour, time.Second)...))
}

func TestCounted_LateEventsCountInTheirOwnTime(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{crossingRule()}, "s")
	wantTimes(t, "ten, at the half hour", fired(l, crossings(10, 30*time.Minute, time.Second)...))
	wantTimes(t, "half an hour late: before the ten", fired(l, crossings(1, 0, 0)...))
	wantTimes(t, "the window holds the late one too", fired(l, crossings(1, 31*time.Minute, 0)...), 31*time.Minute)
	l = NewLocal([]*Rule{crossingRule()}, "s")
	wantTimes(t, "ten", fired(l, crossings(10, 0, time.Second)...))
	wantTimes(t, "hours late does not count now", fired(l, crossings(1, -3*time.Hour, 0)...))
	wantTimes(t, "the ten are still known", fired(l, crossings(1, time.Minute, 0)...), time.Minute)
}

func TestCounted_CasesAndKeysCountApart(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{crossingRule()}, "s")
	for i := range 10 {
		at := time.Duration(i) * time.Second
		wantTimes(t, "up to ten each", fired(l,
			call{at: at, api: "x", app: 1, a: true}, call{at: at, api: "x", app: 2, a: true},
			call{at: at, api: "y", app: 1, a: true}, call{at: at, api: "x", app: 1, b: true}, call{at: at, api: "z", app: 9}))
	}
	var got []string
	for _, a := range l.Evaluate(columns(
		call{at: time.Minute, api: "y", app: 1, a: true}, call{at: time.Minute, api: "y", app: 1, b: true}, call{at: time.Minute, api: "z", app: 9})) {
		got = append(got, fmt.Sprint(a.Case, a.Key))
	}
	want := []string{"first" + fmt.Sprint(map[string]string{"api": "y", "app": "1"}), "second" + fmt.Sprint(map[string]string{"app": "1"})}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEvaluate_WithoutCommitLeavesNoTrace(t *testing.T) {
	t.Parallel()
	rules := []*Rule{slowRule(), crossingRule()}
	batch := columns(append(crossings(11, 0, time.Second), slow(0, "x"))...)
	l := NewLocal(rules, "s")
	first := l.Evaluate(batch)
	for range 3 {
		if again := l.Evaluate(batch); len(first) != 2 || !reflect.DeepEqual(first, again) {
			t.Fatalf("got %+v, then %+v; want the same two alerts", first, again)
		}
	}
	if got := l.Evaluate(columns(crossings(1, time.Minute, 0)...)); len(got) != 0 {
		t.Errorf("an eleventh after ten that were not committed: got %+v", got)
	}
	if len(l.tracks) != 0 || l.newest != 0 {
		t.Errorf("state after no commit: %d keys, newest %d", len(l.tracks), l.newest)
	}
	l.Evaluate(batch)
	l.Commit()
	if got := l.Evaluate(batch); len(got) != 0 {
		t.Errorf("after the commit: got %+v, want suppression", got)
	}
}

func TestEvaluate_CommitKeepsOnlyTheLastEvaluation(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{crossingRule()}, "s")
	l.Evaluate(columns(crossings(10, 0, time.Second)...))
	l.Evaluate(columns(crossings(3, 0, time.Second)...)) // seven of the ten were refused
	l.Commit()
	wantTimes(t, "three and seven", fired(l, crossings(7, time.Minute, time.Second)...))
	wantTimes(t, "and one", fired(l, crossings(1, 2*time.Minute, 0)...), 2*time.Minute)
}

func TestEvaluate_PassesOverDroppedEventsAndOtherStreams(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{slowRule(), crossingRule()}, "s")
	calls := append(crossings(11, 0, time.Second), slow(0, "x"))
	for i := range calls {
		calls[i].dropped = true
	}
	wantTimes(t, "dropped", fired(l, calls...))
	other := columns(slow(0, "x"))
	other[0].Schema.Name = "other"
	if got := l.Evaluate(other); len(got) != 0 {
		t.Errorf("another stream: got %+v", got)
	}
}

func TestAlert_IDTellsDecisionsApart(t *testing.T) {
	t.Parallel()
	id := func(shard string, rule *Rule, c call) string {
		alerts := NewLocal([]*Rule{rule}, shard).Evaluate(columns(c))
		if len(alerts) != 1 {
			t.Fatalf("got %d alerts, want 1", len(alerts))
		}
		return alerts[0].ID
	}
	base := id("s", slowRule(), slow(0, "x"))
	if again := id("s", slowRule(), call{api: "x", millis: 7000}); again != base {
		t.Errorf("the same rule, shard, key and time: ids %s and %s", base, again)
	}
	renamed := slowRule()
	renamed.Name = "slower"
	seen := map[string]string{base: "base"}
	for what, other := range map[string]string{
		"shard": id("t", slowRule(), slow(0, "x")), "key": id("s", slowRule(), slow(0, "y")),
		"time": id("s", slowRule(), slow(time.Microsecond, "x")), "rule": id("s", renamed, slow(0, "x")),
	} {
		if former, ok := seen[other]; ok {
			t.Errorf("another %s has the id of %s", what, former)
		}
		seen[other] = what
	}
}

func TestAlert_KeyTextIsBoundedButItsIDIsNot(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1<<20)
	alerts := NewLocal([]*Rule{slowRule()}, "s").Evaluate(columns(slow(0, long+"1"), slow(0, long+"2")))
	if len(alerts) != 2 || alerts[0].ID == alerts[1].ID {
		t.Fatalf("got %d alerts, want two with different ids", len(alerts))
	}
	for _, a := range alerts {
		if n := len(a.Message) + len(a.Key["api"]); n > 4096 || !utf8.ValidString(a.Message) || !utf8.ValidString(a.Key["api"]) {
			t.Errorf("alert of %d bytes, valid %v", n, utf8.ValidString(a.Message))
		}
	}
}

func TestCommit_ForgetsOnlyKeysThatNoLongerMatter(t *testing.T) {
	t.Parallel()
	l := NewLocal([]*Rule{slowRule(), crossingRule()}, "s")
	wantTimes(t, "ten", fired(l, crossings(10, 0, time.Second)...))
	wantTimes(t, "slow", fired(l, slow(50*time.Minute, "x")), 50*time.Minute)
	old := make([]call, 12_000)
	for i := range old {
		old[i] = call{at: -48 * time.Hour, api: fmt.Sprint("old", i), app: 1, a: true}
	}
	wantTimes(t, "old keys", fired(l, old...))
	if len(l.tracks) > 10 {
		t.Errorf("%d keys are remembered, most of them two days old", len(l.tracks))
	}
	wantTimes(t, "an eleventh", fired(l, crossings(1, 55*time.Minute, 0)...), 55*time.Minute)
	wantTimes(t, "slow again", fired(l, slow(51*time.Minute, "x")))
}

func TestFormatWindow_IsShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 24 * time.Hour: "24h", 10 * time.Minute: "10m", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s", 10 * time.Second: "10s",
	} {
		if got := formatWindow(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

// However a batch is cut, the same alerts are raised, as long as the order of
// events is the same.
func TestEvaluate_AlertsDoNotDependOnHowBatchesAreCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
			return call{
				at:     time.Duration(rapid.IntRange(-7200, 7200).Draw(t, "at")) * time.Second,
				api:    rapid.SampledFrom([]string{"x", "y"}).Draw(t, "api"),
				app:    rapid.Int64Range(1, 2).Draw(t, "app"),
				millis: rapid.Int64Range(4990, 5010).Draw(t, "millis"),
				a:      rapid.Bool().Draw(t, "a"), b: rapid.Bool().Draw(t, "b"),
				dropped: rapid.IntRange(0, 9).Draw(t, "dropped") == 0,
			}
		}), 1, 120).Draw(t, "calls")
		crossing := crossingRule()
		crossing.Threshold = 3
		rules := []*Rule{slowRule(), crossing}
		ids := func(alerts []Alert) (all []string) {
			for _, a := range alerts {
				all = append(all, fmt.Sprint(a.ID, a.Value, a.Message))
			}
			slices.Sort(all)
			return all
		}
		whole := ids(NewLocal(rules, "s").Evaluate(columns(calls...)))
		cut := NewLocal(rules, "s")
		var parts []Alert
		for rest := calls; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			if rapid.Bool().Draw(t, "rolled back first") {
				cut.Evaluate(columns(rest[:rapid.IntRange(1, n).Draw(t, "tried")]...))
			}
			parts = append(parts, cut.Evaluate(columns(rest[:n]...))...)
			cut.Commit()
			rest = rest[n:]
		}
		if got := ids(parts); !slices.Equal(got, whole) {
			t.Fatalf("cut: %v\nwhole: %v", got, whole)
		}
	})
}
