package definition_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
)

// twoStreams has an aggregation that both feed, with a filter of its own.
const twoStreams = `
aggregations:
  A:
    from: [s, t]
    where: volume > 0
    group_by: [symbol, hot]
    select: {n: count(), total: sum(volume), mean: avg(price), least: min(price), most: max(price)}
    every: minutes
  Plain: {group_by: [symbol], select: {n: count()}, every: minutes}
`

const otherStream = "stream: t\nattributes: {price: float, symbol: string, volume: int, hot: bool}\n"

// rule loads one rule, written on one line without its braces.
func rule(t testing.TB, text string) (*definition.Catalog, *alert.Rule) {
	t.Helper()
	_, base, _ := readBroken(t)
	catalog, err := definition.Load(fstest.MapFS{
		"a.yaml": {Data: []byte(base + twoStreams + "rules:\n  r: {severity: 1, " + text + "}\n")},
		"b.yaml": {Data: []byte(otherStream)},
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	run(t, catalog)
	return catalog, catalog.Rules[0]
}

func TestLoad_RulesHaveTheFiguresOfTheirTypeAndDefaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{
			"type: event, value: price, above: 5, message: m",
			"event, severity 1, local, global, threshold 5, window 1s, step 1s, keep firing for 10m0s, suppress 10m0s",
		},
		{
			"type: event, value: price, below: 5, suppress: 1 minute, message: m",
			"event, severity 1, global, threshold 5, below, window 1s, step 1s, keep firing for 1m0s, suppress 1m0s",
		},
		{
			"type: event, value: price, above: unset, scope: local, message: m",
			"event, severity 1, local, threshold unset, window 1s, step 1s, keep firing for 10m0s, suppress 10m0s",
		},
		{
			"type: event, value: price, above: -1.5, keep_firing_for: 3 minutes, scope: global, message: m",
			"event, severity 1, global, threshold -1.5, window 1s, step 1s, keep firing for 3m0s, suppress 10m0s",
		},
		{
			"type: count, more_than: 0, window: 1 minute, scope: both, message: m",
			"count, severity 1, local, global, threshold 0, window 1m0s, step 1s, suppress 10m0s",
		},
		{
			"type: count, more_than: 7, window: 90 seconds, message: m",
			"count, severity 1, global, threshold 7, window 1m30s, step 1s, suppress 10m0s",
		},
		{
			"type: count, more_than: 7, window: 1 hour, for: 1 minute, suppress: 0 seconds, forget: 2 hours, message: m",
			"count, severity 1, global, threshold 7, window 1h0m0s, step 10s, for 1m0s",
		},
		{
			"type: count, fewer_than: 7, window: 5 minutes, message: m",
			"count, severity 1, global, threshold 7, below, window 5m0s, step 5s, suppress 10m0s, forget 24h0m0s",
		},
		{
			"type: count, fewer_than: unset, window: 1 day, for: 1 day, message: m",
			"count, severity 1, global, threshold unset, below, window 24h0m0s, step 1m0s, for 24h0m0s, suppress 10m0s, forget 96h0m0s",
		},
		{
			"type: count, aggregation: A, more_than: 7, window: 1 hour, message: m",
			"count, severity 1, global, threshold 7, window 1h0m0s, step 10s, suppress 10m0s",
		},
		{
			"type: threshold, aggregation: A, value: mean, above: 7, window: 30 days, at_least: 3, message: m",
			"threshold, severity 1, global, threshold 7, at least 3, window 720h0m0s, step 10m0s, suppress 10m0s",
		},
		{
			"type: threshold, aggregation: A, value: mean, below: 7, window: 90 days, keep_firing_for: 1 hour, message: m",
			"threshold, severity 1, global, threshold 7, below, window 2160h0m0s, step 1h0m0s, keep firing for 1h0m0s, suppress 10m0s, forget 4320h0m0s",
		},
		{
			"type: ratio, aggregation: A, part: total, of: n, above: 0.5, window: 2 minutes, message: m",
			"threshold, severity 1, global, threshold 0.5, window 2m0s, step 2s, suppress 10m0s",
		},
		{
			"type: absence, window: 10 minutes, message: m",
			"absence, severity 1, global, threshold 0, window 10m0s, step 10s, suppress 10m0s, forget 24h0m0s",
		},
		{
			"type: absence, aggregation: A, window: 20 hours, forget: 21 hours, message: m",
			"absence, severity 1, global, threshold 0, window 20h0m0s, step 10s, suppress 10m0s, forget 21h0m0s",
		},
		{
			"type: change, aggregation: A, value: n, above: 2, window: 1 hour, message: m",
			"change, severity 1, global, threshold 2, window 1h0m0s, step 15m0s, before 168h0m0s, suppress 10m0s",
		},
		{
			"type: change, aggregation: A, value: n, below: 0.5, window: 1 hour, before: 1 day, at_least: 10, message: m",
			"change, severity 1, global, threshold 0.5, below, at least 10, window 1h0m0s, step 15m0s, before 24h0m0s, suppress 10m0s",
		},
		{
			"type: unseen, member: name, key: [symbol], message: m",
			"unseen, severity 1, global, threshold 0, at least 100, member name, step 1s, suppress 10m0s, forget 720h0m0s",
		},
		{
			"type: unseen, member: lower(name), at_least: 0, forget: 7 days, message: m",
			"unseen, severity 1, global, threshold 0, member member, step 1s, suppress 10m0s, forget 168h0m0s",
		},
		{
			"type: transition, member: name, state: symbol, below: 0, message: m",
			"transition, severity 1, global, threshold 0, below, at least 500, member name, suppress 10m0s, forget 1h0m0s",
		},
		{
			"type: run, in_a_row: 5, where: hot, message: m",
			"run, severity 1, global, threshold 5, keep firing for 10m0s, suppress 10m0s",
		},
		{
			"type: interval, window: 7 days, message: m",
			"interval, severity 1, global, threshold 0, at least 20, lower 10, upper 95, window 168h0m0s, suppress 10m0s",
		},
		{
			"type: interval, window: 1 hour, lower: 5, at_least: 2, message: \"{usual} {value} {threshold}\"",
			"interval, severity 1, global, threshold 0, at least 2, lower 5, window 1h0m0s, suppress 10m0s",
		},
		{
			"type: interval, window: 1 hour, upper: 99.5, message: m",
			"interval, severity 1, global, threshold 0, at least 20, upper 99.5, window 1h0m0s, suppress 10m0s",
		},
		{
			"type: underuse, window: 30 days, at_least: 5, lower: 5, message: m",
			"underuse, severity 1, global, threshold 0, at least 5, lower 5, window 720h0m0s, step 24h0m0s, suppress 10m0s",
		},
	} {
		if _, r := rule(t, c.text); figures(r) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.text, figures(r), c.want)
		}
	}
}

// The types of rules and what alert calls them go together, but for ratio, which is a threshold
// of a quotient.
func TestLoad_KnowsEveryTypeOfRules(t *testing.T) {
	t.Parallel()
	_, base, _ := readBroken(t)
	_, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(base + "rules: {r: {severity: 1}}\n")}})
	_, list, ok := strings.Cut(fmt.Sprint(err), "one of ")
	if !ok {
		t.Fatal(err)
	}
	known := 0
	for name := range strings.SplitSeq(list, ", ") {
		if _, ok := alert.ParseType(name); !ok && name != "ratio" {
			t.Errorf("%s is no type of rules", name)
		}
		known++
	}
	for of := alert.PerEvent; of <= alert.Underuse; of++ {
		if !slices.Contains(strings.Split(list, ", "), of.String()) {
			t.Errorf("no rule can be of type %s", of)
		}
	}
	if known != int(alert.Underuse)+1 {
		t.Errorf("there are %d types, want those of alert and ratio", known)
	}
}

func TestLoad_CasesHaveFiguresInPlaceOfTheRules(t *testing.T) {
	t.Parallel()
	catalog, r := rule(t, `type: count, window: 1 minute, more_than: 10, suppress: 1 hour, labels: {team: food}, cases: {
    plain: {message: "{value} {threshold} {window}"},
    low: {fewer_than: 3, suppress: 2 hours, message: m},
    unset: {more_than: unset, message: m},
    long: {window: 1 hour, for: 5 minutes, keep_firing_for: 1 minute, message: m}}`)
	rest := "suppress 1h0m0s"
	want := map[string]string{
		"plain": "",
		"low":   "count, severity 1, global, threshold 3, below, window 1m0s, step 1s, suppress 2h0m0s, forget 24h0m0s",
		"unset": "count, severity 1, global, threshold unset, window 1m0s, step 1s, " + rest,
		"long":  "count, severity 1, global, threshold 10, window 1h0m0s, step 10s, for 5m0s, keep firing for 1m0s, " + rest,
	}
	if got, want := figures(r), "count, severity 1, global, threshold 10, window 1m0s, step 1s, "+rest; got != want {
		t.Errorf("the rule: got %s, want %s", got, want)
	}
	for _, c := range r.Cases {
		got := ""
		if c.Own != nil {
			got = figures(c.Own)
			if c.Own.Name != "r" || c.Own.Stream != "s" || c.Own.Labels["team"] != "food" || c.Own.Cases != nil {
				t.Errorf("%s is not of the rule: %+v", c.Name, c.Own)
			}
		}
		if got != want[c.Name] {
			t.Errorf("%s: got %s, want %s", c.Name, got, want[c.Name])
		}
	}
	if len(r.Cases) != 4 || catalog.Rules[0] != r {
		t.Errorf("got %d cases", len(r.Cases))
	}
}

func TestLoad_CasesHaveABoundWhereTheRuleHasNone(t *testing.T) {
	t.Parallel()
	_, r := rule(t, `type: count, window: 1 minute, fewer_than: unset, cases: {
    plain: {message: m},
    set: {fewer_than: 3, message: m},
    high: {more_than: 4, message: m}}`)
	want := []string{
		"count, severity 1, global, threshold 3, below, window 1m0s, step 1s, suppress 10m0s, forget 24h0m0s",
		"count, severity 1, global, threshold 4, window 1m0s, step 1s, suppress 10m0s",
	}
	if got := []string{figures(r.Cases[1].Own), figures(r.Cases[2].Own)}; !r.Unset || r.Cases[0].Own != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What cases have of their own need not be the rule's, and what values they compare are theirs.
func TestLoad_CasesMayHaveAllFigures(t *testing.T) {
	t.Parallel()
	catalog, r := rule(t, `type: event, cases: {
    dear: {value: price, above: 5, where: hot, message: m},
    much: {value: volume, above: 6, message: m},
    cheap: {value: price, below: 1, message: m}}`)
	s := catalog.Stream("s")
	for i, want := range []string{"price > 5 hot 2", "volume > 6 - 2", "price < 1 - 1"} {
		c := &r.Cases[i]
		sign := map[bool]string{false: ">", true: "<"}[c.Own.Below]
		got := fmt.Sprintf("%s %s %g %s %d", name(s, c.Own.Value), sign, c.Own.Threshold, name(s, c.Where), c.Merges[0])
		if got != want {
			t.Errorf("%s: got %s, want %s", c.Name, got, want)
		}
		if got := name(s, c.Inputs[0].Values[0]); got != strings.Fields(want)[0] {
			t.Errorf("%s compares %s globally", c.Name, got)
		}
	}
	if r.Local {
		t.Error("one worker decides that something is low")
	}
}

func TestLoad_RulesOnAnAggregationTakeAllItsStreams(t *testing.T) {
	t.Parallel()
	catalog, r := rule(t, `type: count, aggregation: A, more_than: 1, window: 1 hour, where: hot, key: [volume], details: [symbol], message: "{volume} {symbol}"`)
	c := r.Cases[0]
	if r.Local || r.Stream != "" || len(c.Inputs) != 2 || len(c.Merges) != 0 || c.Compute != nil {
		t.Fatalf("%+v", c)
	}
	for i, stream := range []string{"s", "t"} {
		s, in := catalog.Stream(stream), c.Inputs[i]
		got := fmt.Sprintf("%s %q %s %s", in.Stream, name(s, in.Where), name(s, in.Keys[0]), name(s, in.Details[0]))
		if want := fmt.Sprintf("%s %q volume symbol", stream, "==(volume > 0\n) && (hot\n)"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	catalog, r = rule(t, `type: absence, aggregation: A, window: 1 hour, message: "{symbol} {value} {window}"`)
	c = r.Cases[0]
	for i, in := range c.Inputs {
		s, of := catalog.Stream(in.Stream), catalog.Aggregation("A").Inputs[i]
		if in.Where != of.Where || !reflect.DeepEqual(in.Keys, of.Keys) || name(s, in.Keys[0]) != "symbol" || name(s, in.Keys[1]) != "hot" {
			t.Errorf("%+v is not of %+v", in, of)
		}
	}
	if want := []alert.KeyPart{{Name: "symbol", Kind: event.String, Attribute: -1}, {Name: "hot", Kind: event.Bool, Attribute: -1}}; !reflect.DeepEqual(c.Key, want) {
		t.Errorf("the key is %+v, want the aggregation's", c.Key)
	}

	catalog, r = rule(t, "type: threshold, aggregation: Plain, value: n, above: 1, window: 1 hour, where: hot, message: m")
	if got := name(catalog.Stream("s"), r.Cases[0].Inputs[0].Where); got != "hot" || len(r.Cases[0].Inputs) != 1 {
		t.Errorf("without a filter of the aggregation it is %s, of %+v", got, r.Cases[0].Inputs)
	}
}

// Values are merged in the order total, mean, least, most where an expression has them so.
func TestLoad_ValuesAreComputedOfMeasures(t *testing.T) {
	t.Parallel()
	none := math.NaN()
	for _, c := range []struct {
		value  string
		n      float64
		values []float64
		want   float64 // NaN: there is none
	}{
		{"n", 3, nil, 3},
		{"n", 0, nil, 0},
		{"total", 3, []float64{12}, 12},
		{"total", 0, []float64{0}, 0},
		{"mean", 4, []float64{12}, 3},
		{"mean", 0, []float64{0}, none},
		{"least", 4, []float64{-2}, -2},
		{"least", 0, []float64{0}, none},
		{"most - least", 4, []float64{9, 2}, 7},
		{"most", 0, []float64{0}, none},
		{"(total + total) / 2", 4, []float64{12}, 12},
		{"-total + 2 * 1.5", 4, []float64{12}, -9},
		{"+total", 4, []float64{12}, 12},
		{"1 / total", 4, []float64{0}, none},
		{"1 / (1 / total)", 4, []float64{0}, none},
		{"total / total", 0, []float64{0}, none},
		{"total * total", 4, []float64{1e200}, none}, // infinite
		{"total / n // a comment", 4, []float64{12}, 3},
	} {
		_, r := rule(t, "type: threshold, aggregation: A, above: 1, window: 1 hour, message: m, value: "+c.value)
		got, ok := r.Cases[0].Compute(c.n, c.values)
		if ok == math.IsNaN(c.want) || ok && got != c.want {
			t.Errorf("%s of %g events with %v: got %g %t, want %g", c.value, c.n, c.values, got, ok, c.want)
		}
	}
	_, r := rule(t, "type: ratio, aggregation: A, part: total + 1, of: n + 2, above: 1, window: 1 hour, message: m")
	for _, c := range []struct{ n, total, want float64 }{{2, 3, 1}, {-2, 3, none}, {2, -1, 0}} {
		if got, ok := r.Cases[0].Compute(c.n, []float64{c.total}); ok == math.IsNaN(c.want) || ok && got != c.want {
			t.Errorf("(%g + 1) / (%g + 2): got %g %t, want %g", c.total, c.n, got, ok, c.want)
		}
	}
	_, r = rule(t, "type: threshold, aggregation: A, above: 1, window: 1 hour, message: m, value: most / least + mean - total * n")
	if want := []alert.Merge{alert.Max, alert.Min, alert.Sum, alert.Sum}; !slices.Equal(r.Cases[0].Merges, want) {
		t.Errorf("the merges are %v, want %v", r.Cases[0].Merges, want)
	}
}

// A window is made of whole steps, and so is what lies between two that are compared.
func TestLoad_WindowsAreMadeOfSteps(t *testing.T) {
	t.Parallel()
	_, base, _ := readBroken(t)
	taken := 0
	for _, kind := range []string{"count, more_than: 1", "absence", "change, aggregation: A, value: n, above: 1"} {
		for _, n := range []int{1, 2, 3, 7, 11, 13, 59, 60, 61, 90, 119, 600, 601, 3599, 3600, 3607, 86399, 86400, 90000, 864000, 5184000, 7776000, 7776060} {
			text := fmt.Sprintf("%s%srules:\n  r: {severity: 1, type: %s, window: %d seconds, message: m}\n", base, twoStreams, kind, n)
			catalog, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}, "b.yaml": {Data: []byte(otherStream)}})
			if err != nil {
				if !strings.Contains(err.Error(), "steps") && !strings.Contains(err.Error(), "before (7 days") {
					t.Errorf("%s, %d seconds: %v", kind, n, err)
				}
				continue
			}
			taken++
			r := catalog.Rules[0]
			if r.Step <= 0 || r.Window != time.Duration(n)*time.Second || r.Window%r.Step != 0 || r.Before%r.Step != 0 || (r.Window+r.Before)/r.Step > 50_000 {
				t.Errorf("%s: %+v", kind, r)
			}
		}
	}
	if taken < 40 {
		t.Errorf("only %d windows are taken", taken)
	}
}

func TestLoad_AnchorsShareWhatRulesHaveInCommon(t *testing.T) {
	t.Parallel()
	_, r := rule(t, `type: run, in_a_row: 2, cases: {
    a: {where: hot, key: &key [symbol], stakeholder: &who {role: publisher, user: symbol}, message: "  {symbol}  "},
    b: {where: not hot, key: *key, stakeholder: *who, message: "{symbol}"}}`)
	for _, c := range r.Cases {
		if len(c.Key) != 1 || c.Stakeholder.User != "symbol" || c.Message != "{symbol}" {
			t.Errorf("%+v", c)
		}
		if c.Where != -1 || c.Inputs[0].Where != -1 || c.Inputs[0].Hit < 0 {
			t.Errorf("events that do not match do not end a run: %+v", c)
		}
	}
	if r.Cases[0].Inputs[0].Hit == r.Cases[1].Inputs[0].Hit {
		t.Error("both cases have one filter")
	}
}

func TestLoad_TakesWhatFuzzingBeginsWith(t *testing.T) {
	t.Parallel()
	for _, text := range everyType() {
		rule(t, text)
	}
}

// Rules look at events, which are counted whatever rules make of them.
func TestLoad_AnExpressionOfARuleRefusesNoEvent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`type: event, stream: s, value: price / volume, above: 10, message: m`,
		`type: event, stream: s, value: 9223372036854775807 + volume + 1, above: 10, message: m`,
		`type: event, stream: s, value: price, above: 10, where: 1 / volume > 0 && 9223372036854775807 + volume + 1 < 0, message: m`,
		`type: transition, stream: s, member: "name + symbol[0:volume]", state: name, below: 0.2, key: [symbol], message: m`,
	} {
		catalog, r := rule(t, text)
		columns := event.NewColumns(catalog.Stream("s"), event.NewDictionary())
		var d event.Decoder
		body := event.Body{Data: []byte(`[{"at": 1795341599123, "name": "x", "price": 1.5, "volume": 0, "symbol": "é"}, {"at": 1795341599123, "name": "x", "price": 1.5, "volume": 1, "symbol": "é"}]`)}
		_, rejects, err := d.Decode(body, event.Origin{Stored: 1795341599123000}, columns)
		if err != nil || len(rejects) > 0 || columns.Len() != 2 {
			t.Errorf("%s: %d events, %v, %+v", text, columns.Len(), err, rejects)
		}
		if alerts := alert.NewLocal([]*alert.Rule{r}, "shard").Evaluate([]*event.Columns{columns}); len(alerts) > 0 {
			t.Errorf("%s: raised %+v", text, alerts)
		}
	}
}
