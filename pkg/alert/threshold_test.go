package alert

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// wideRule has a case whose key has all that dimensions are read from, and one
// with little.
func wideRule() *Rule {
	names := []string{
		"apiName", "other", "apiVersion", "userTenantDomain", "apiResourceTemplate", "applicationName", "apiMethod", "applicationId", "apiCreatorTenantDomain", "tenantDomain",
	}
	wide := Case{Name: "wide", Where: -1}
	for i, name := range names {
		wide.Key = append(wide.Key, KeyPart{name, event.String, i})
	}
	narrow := Case{Name: "narrow", Where: -1, Key: []KeyPart{{"applicationId", event.String, 7}, {"apiName", event.String, 0}}}
	return &Rule{Name: "r", Type: PerEvent, Local: true, Threshold: 7, Cases: []Case{wide, narrow}}
}

// bothWays has a bound above and one below.
func bothWays() *Rule {
	return &Rule{Name: "both", Type: Counted, Unset: true, Cases: []Case{{Name: "spike"}, {Name: "drop", Own: &Rule{Name: "both", Type: Counted, Below: true, Threshold: 3}}}}
}

// oracle is what [Bounds.For] says, by looking at every threshold.
func oracle(entries []Threshold, c *Case, key []string) (float64, bool) {
	attributes := map[string][]string{
		"api": {"apiName"}, "version": {"apiVersion"}, "resource": {"apiResourceTemplate"}, "method": {"apiMethod"},
		"application": {"applicationId", "applicationName"}, "tenant": {"apiCreatorTenantDomain", "userTenantDomain", "tenantDomain"},
	}
	type candidate struct {
		Threshold

		rank []int // less decides
	}
	var all []candidate
next:
	for _, e := range entries {
		if e.Rule != "r" || e.Case != "" && e.Case != c.Name {
			continue
		}
		set := map[string]string{
			"api": e.API, "version": e.Version, "resource": e.Resource, "method": e.Method, "application": e.Application, "tenant": e.Tenant,
		}
		var missing, by []int
		n := 0
		for _, dimension := range []string{"api", "version", "resource", "method", "application", "tenant"} {
			if set[dimension] == "" {
				missing = append(missing, 1)
				continue
			}
			n++
			missing = append(missing, 0)
			at := slices.IndexFunc(attributes[dimension], func(name string) bool {
				part := slices.IndexFunc(c.Key, func(p KeyPart) bool { return p.Name == name })
				return part >= 0 && key[part] == set[dimension]
			})
			if at < 0 {
				continue next
			}
			by = append(by, at)
		}
		rank := []int{0, -n}
		if e.Learned {
			rank[0] = 1
		}
		rank = append(append(rank, missing...), by...)
		if e.Case == "" {
			rank = append(rank, 1)
		}
		all = append(all, candidate{e, rank})
	}
	if len(all) == 0 {
		return 0, false
	}
	least := slices.MinFunc(all, func(x, y candidate) int {
		return cmp.Or(slices.Compare(x.rank[:min(len(x.rank), len(y.rank))], y.rank[:min(len(x.rank), len(y.rank))]), len(x.rank)-len(y.rank))
	})
	return least.Value, true
}

func TestFor_IsWhatANaiveSearchFinds(t *testing.T) {
	t.Parallel()
	rule := wideRule()
	text := rapid.SampledFrom([]string{"", "", "x", "y"})
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Threshold {
			return Threshold{
				Rule: rapid.SampledFrom([]string{"r", "r", "r", "other"}).Draw(t, "rule"), Case: rapid.SampledFrom([]string{"", "wide", "narrow", "gone"}).Draw(t, "case"),
				Dimensions: Dimensions{
					text.Draw(t, "api"), text.Draw(t, "version"), text.Draw(t, "resource"), text.Draw(t, "method"), text.Draw(t, "application"), text.Draw(t, "tenant"),
				},
				Learned: rapid.IntRange(0, 2).Draw(t, "learned") == 0,
			}
		}), 0, 40, func(e Threshold) Threshold { return e }).Draw(t, "entries")
		for i := range entries {
			entries[i].Value = float64(i)
		}
		thresholds := NewThresholds([]*Rule{rule}, entries)
		for i := range rule.Cases {
			c := &rule.Cases[i]
			bounds := thresholds.For("r", c.Name)
			for range 10 {
				key := rapid.SliceOfN(text, len(c.Key), len(c.Key)).Draw(t, "key")
				got, found := bounds.For(key)
				want, wanted := oracle(entries, c, key)
				if got != want || found != wanted {
					t.Fatalf("%s %q: got %v %v, want %v %v of %+v", c.Name, key, got, found, want, wanted, entries)
				}
				if found && got < bounds.loosest {
					t.Fatalf("%v is below the loosest, %v", got, bounds.loosest)
				}
			}
		}
	})
}

func TestThresholds_WithoutEntriesAreNil(t *testing.T) {
	t.Parallel()
	var none *Thresholds
	for what, bounds := range map[string]*Bounds{
		"no thresholds":    none.For("r", "wide"),
		"an empty set":     NewThresholds([]*Rule{wideRule()}, nil).For("r", "wide"),
		"those of another": NewThresholds([]*Rule{wideRule()}, []Threshold{{Rule: "other"}}).For("r", "wide"),
		"another case":     NewThresholds([]*Rule{wideRule()}, []Threshold{{Rule: "r", Case: "narrow"}}).For("r", "wide"),
		"a dimension that the key has no more": NewThresholds([]*Rule{wideRule()}, []Threshold{
			{Rule: "r", Dimensions: Dimensions{Tenant: "x"}},
		}).For("r", "narrow"),
	} {
		if _, found := bounds.For([]string{"", ""}); bounds != nil || found {
			t.Errorf("%s: got %+v", what, bounds)
		}
	}
}

func TestCheck_RefusesWhatCouldNeverHold(t *testing.T) {
	t.Parallel()
	counted := crossingRule()
	for _, test := range []struct {
		rule *Rule
		t    Threshold
		want string // "": it is good
	}{
		{wideRule(), Threshold{Value: -1}, ""},
		{wideRule(), Threshold{Case: "wide", Dimensions: Dimensions{"a", "b", "c", "d", "e", "f"}}, ""},
		{wideRule(), Threshold{Case: "narrow", Dimensions: Dimensions{API: "a", Application: "7"}}, ""},
		{wideRule(), Threshold{Dimensions: Dimensions{Tenant: "x"}}, "the case narrow of r cannot have thresholds by tenant, because its key has none of apiCreatorTenantDomain, userTenantDomain, tenantDomain; it can have them by: api, application"},
		{slowRule(), Threshold{Dimensions: Dimensions{API: "x"}}, "slow cannot have thresholds by api, because its key has none of apiName; it can have them by: nothing"},
		{wideRule(), Threshold{Case: "wid"}, `r has no case "wid"`},
		{wideRule(), Threshold{Value: math.NaN()}, "must be a number"},
		{wideRule(), Threshold{Value: math.Inf(-1)}, "must be a number"},
		{counted, Threshold{Value: -1}, "must not be negative, it is -1"},
		{counted, Threshold{Value: 0}, ""},
		{&Rule{Name: "silent", Type: Absent, Cases: []Case{{}}}, Threshold{Value: 5}, "silent has no threshold: a rule of type absence is not decided by a bound"},
		{bothWays(), Threshold{Value: 5}, "one case of both has an upper bound and another a lower one: say which case it is for"},
		{bothWays(), Threshold{Case: "drop", Value: 5}, ""},
		{wideRule(), Threshold{Case: "wide", Dimensions: Dimensions{Version: "\xff"}}, `version: "\xff" is no text`},
		{wideRule(), Threshold{Case: "wide", Dimensions: Dimensions{Tenant: "a\x00"}}, `tenant: "a\x00" is no text`},
		{wideRule(), Threshold{Case: "wide", Dimensions: Dimensions{API: strings.Repeat("a", 1000), Resource: strings.Repeat("b", 1001)}}, "have 2001 bytes together, and may have 2000"},
	} {
		err := test.t.Check(test.rule)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.t, err, test.want)
		}
	}
}

func TestThreshold_IsOneObjectAsJSON(t *testing.T) {
	t.Parallel()
	want := Threshold{Rule: "r", Case: "c", Dimensions: Dimensions{"a", "b", "c", "d", "e", "f"}, Value: 1.5, Learned: true}
	text, err := json.Marshal(want)
	if wantText := `{"rule":"r","case":"c","api":"a","version":"b","resource":"c","method":"d","application":"e","tenant":"f","value":1.5,"learned":true}`; err != nil || string(text) != wantText {
		t.Errorf("got %s, %v, want %s", text, err, wantText)
	}
	var got Threshold
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if small, err := json.Marshal(Threshold{Rule: "r"}); err != nil || string(small) != `{"rule":"r","value":0}` {
		t.Errorf("got %s, %v", small, err)
	}
	if want.Text() != "api=a version=b resource=c method=d application=e tenant=f" || (Dimensions{}).Text() != "everything" {
		t.Errorf("got %s", want.Text())
	}
}

// named gives the tests' rules keys that dimensions are read from.
func named(rule *Rule) *Rule {
	for i := range rule.Cases {
		rule.Cases[i].Key = slices.Clone(rule.Cases[i].Key)
		for j := range rule.Cases[i].Key {
			part := &rule.Cases[i].Key[j]
			part.Name = map[string]string{"api": "apiName", "app": "applicationId"}[part.Name]
		}
		rule.Cases[i].Message = "{value} over {threshold}"
	}
	return rule
}

func of(entries ...Threshold) func(rules ...*Rule) *Thresholds {
	return func(rules ...*Rule) *Thresholds { return NewThresholds(rules, entries) }
}

func TestLocal_ThresholdsHoldForTheirKeysUntilTheyAreUnset(t *testing.T) {
	t.Parallel()
	rule := named(slowRule())
	rule.Suppress = 0
	l := NewLocal([]*Rule{rule}, "s")
	calls := []call{
		{api: "x", millis: 150}, {api: "y", millis: 150}, {api: "x", millis: 5001}, {api: "y", millis: 5001}, {api: "y", millis: 9001}, {api: "z", millis: 5001},
	}
	raised := func() (got []string) {
		for _, a := range l.Evaluate(columns(calls...)) {
			if want := fmt.Sprintf("%v over %v", a.Value, a.Threshold); a.Message != want {
				t.Errorf("message %q, want %q", a.Message, want)
			}
			got = append(got, fmt.Sprint(a.Key["apiName"], " ", a.Message))
		}
		l.Commit()
		return got
	}
	unset := []string{"x 5001 over 5000", "y 5001 over 5000", "y 9001 over 5000", "z 5001 over 5000"}
	low, high := Threshold{Rule: "slow", Dimensions: Dimensions{API: "x"}, Value: 100}, Threshold{Rule: "slow", Dimensions: Dimensions{API: "y"}, Value: 9000}
	for _, step := range []struct {
		what       string
		thresholds *Thresholds
		want       []string
	}{
		{"none", nil, unset},
		{"one below and one above the rule's own", of(low, high)(rule), []string{"x 150 over 100", "x 5001 over 100", "y 9001 over 9000", "z 5001 over 5000"}},
		{"one for everything besides", of(low, Threshold{Rule: "slow", Value: 6000})(rule), []string{"x 150 over 100", "x 5001 over 100", "y 9001 over 6000"}},
		{"none any more", nil, unset},
		{"one is unset", of(high)(rule), []string{"x 5001 over 5000", "y 9001 over 9000", "z 5001 over 5000"}},
		{"all are unset", of()(rule), unset},
	} {
		l.SetThresholds(step.thresholds)
		if got := raised(); !slices.Equal(got, step.want) {
			t.Errorf("%s: got %q, want %q", step.what, got, step.want)
		}
	}
}

func TestLocal_CountedThresholdsAreByKeyAndCase(t *testing.T) {
	t.Parallel()
	rule := named(crossingRule())
	l := NewLocal([]*Rule{rule}, "s")
	l.SetThresholds(of(
		Threshold{Rule: "crossing", Case: "first", Dimensions: Dimensions{API: "x"}, Value: 3},
		Threshold{Rule: "crossing", Dimensions: Dimensions{Application: "2"}, Value: 5},
	)(rule))
	alerts := func(n int, c call) (got []string) {
		var calls []call
		for i := range n {
			c.at = time.Duration(i) * time.Second
			calls = append(calls, c)
		}
		for _, a := range l.Evaluate(columns(calls...)) {
			got = append(got, fmt.Sprintf("%s %v over %v", a.Case, a.Value, a.Threshold))
		}
		l.Commit()
		return got
	}
	for _, test := range []struct {
		what string
		n    int
		c    call
		want []string
	}{
		{"of the case", 4, call{api: "x", app: 1, a: true}, []string{"first 4 over 3"}},
		{"with as many dimensions, that of the API", 4, call{api: "x", app: 2, a: true}, []string{"first 4 over 3"}},
		{"of all cases", 6, call{api: "y", app: 2, a: true, b: true}, []string{"first 6 over 5", "second 6 over 5"}},
		{"the rule's own", 11, call{api: "y", app: 3, a: true}, []string{"first 11 over 10"}},
	} {
		if got := alerts(test.n, test.c); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
	// What was counted before counts when a threshold is set.
	if got := alerts(5, call{api: "z", app: 4, a: true}); len(got) != 0 {
		t.Errorf("five below ten: got %q", got)
	}
	l.SetThresholds(of(Threshold{Rule: "crossing", Dimensions: Dimensions{API: "z"}, Value: 5}, Threshold{Rule: "crossing", Value: 100})(rule))
	if got, want := alerts(1, call{api: "z", app: 4, a: true}), []string{"first 6 over 5"}; !slices.Equal(got, want) {
		t.Errorf("the sixth: got %q, want %q", got, want)
	}
}

func TestLocal_UnsetRuleFiresOnlyForKeysWithAThreshold(t *testing.T) {
	t.Parallel()
	perEvent, counted := named(slowRule()), named(crossingRule())
	perEvent.Unset, perEvent.Threshold, counted.Unset, counted.Threshold = true, 0, true, 0
	l := NewLocal([]*Rule{perEvent, counted}, "s")
	batch := []call{{api: "x", app: 1, millis: 9000, a: true}, {api: "y", app: 1, millis: 9000, a: true}}
	if alerts := l.Evaluate(columns(batch...)); len(alerts) != 0 || len(l.pending) != 0 {
		t.Errorf("without thresholds: %d alerts, %d keys remembered", len(alerts), len(l.pending))
	}
	l.SetThresholds(of(Threshold{Rule: "slow", Dimensions: Dimensions{API: "x"}, Value: -1}, Threshold{Rule: "crossing", Dimensions: Dimensions{API: "y"}})(perEvent, counted))
	var got []string
	for _, a := range l.Evaluate(columns(batch...)) {
		got = append(got, a.Rule+" "+a.Key["apiName"])
	}
	if want := []string{"slow x", "crossing y"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The cells of texts change from batch to batch, with their dictionary.
func TestLocal_BoundsAreNotThoseOfAnotherBatchsCells(t *testing.T) {
	t.Parallel()
	rule := named(slowRule())
	l := NewLocal([]*Rule{rule}, "s")
	l.SetThresholds(of(Threshold{Rule: "slow", Dimensions: Dimensions{API: "x"}, Value: 1})(rule))
	for range 3 {
		if got := l.Evaluate(columns(call{api: "x", millis: 2})); len(got) != 1 {
			t.Fatalf("x: got %+v", got)
		}
		if got := l.Evaluate(columns(call{api: "y", millis: 2})); len(got) != 0 {
			t.Fatalf("y: got %+v", got)
		}
	}
}

// A worker's hot loop: 10,000 events of 100 APIs, none of them an alert. The
// ratio of the others to "none" is what thresholds cost.
func BenchmarkLocal_Thresholds(b *testing.B) {
	var calls []call
	for i := range 10_000 {
		calls = append(calls, call{at: time.Duration(i) * time.Millisecond, api: fmt.Sprint("api-", i%100), app: int64(i % 10), millis: int64(i % 900)})
	}
	batch := columns(calls...)
	rule := named(slowRule())
	var every []Threshold
	for i := range 100 {
		every = append(every, Threshold{Rule: "slow", Dimensions: Dimensions{API: fmt.Sprint("api-", i)}, Value: 1000})
	}
	low := append(slices.Clone(every), Threshold{Rule: "slow", Dimensions: Dimensions{API: "none"}, Value: 1})
	for _, bench := range []struct {
		name    string
		entries []Threshold
	}{{"none", nil}, {"of another rule", []Threshold{{Rule: "other", Value: 1}}}, {"all above the values", every}, {"one below all values", low}} {
		b.Run(bench.name, func(b *testing.B) {
			l := NewLocal([]*Rule{rule}, "s")
			l.SetThresholds(NewThresholds([]*Rule{rule}, bench.entries))
			b.ReportAllocs()
			for b.Loop() {
				if alerts := l.Evaluate(batch); len(alerts) > 0 {
					b.Fatal(alerts[0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(calls)), "ns/event")
		})
	}
}

// What does not break the loosest bound breaks none: so that it need not be looked at.
func TestBounds_LoosestIsThatOfAnyKey(t *testing.T) {
	t.Parallel()
	rule := bothWays()
	key := []KeyPart{{"apiName", event.String, 0}}
	rule.Cases[0].Key, rule.Cases[1].Key = key, key
	x := Dimensions{API: "x"}
	for _, test := range []struct {
		name   string
		values []float64
		want   float64
	}{{"spike", []float64{7, 9}, 7}, {"drop", []float64{1, 2}, 3}, {"drop", []float64{1, 9}, 9}} {
		entries := []Threshold{{Rule: "both", Case: test.name, Dimensions: x, Value: test.values[0]}, {Rule: "both", Case: test.name, Value: test.values[1]}}
		if got := NewThresholds([]*Rule{rule}, entries).For("both", test.name).loosest; got != test.want {
			t.Errorf("%s of %v: got %v, want %v", test.name, test.values, got, test.want)
		}
	}
}

// A case may have figures of its own in place of the rule's.
func TestLocal_CasesGoByTheirOwnFigures(t *testing.T) {
	t.Parallel()
	rule := named(crossingRule())
	own := *rule
	own.Cases, own.Threshold = nil, 2
	rule.Cases[0].Own = &own
	l := NewLocal([]*Rule{rule}, "s")
	three := []call{{api: "x", app: 1, a: true, b: true}, {api: "x", app: 1, a: true, b: true}, {api: "x", app: 1, a: true, b: true}}
	alerts := l.Evaluate(columns(three...))
	if len(alerts) != 1 || alerts[0].Case != "first" || alerts[0].Threshold != 2 {
		t.Errorf("got %+v, want one of the case with the lower bound", alerts)
	}
	own.Below = true
	if alerts := l.Evaluate(columns(three...)); len(alerts) != 0 {
		t.Errorf("one worker's share is said to be too little: %+v", alerts)
	}
}
