package alert

import (
	"maps"
	"testing"
	"time"

	"weir/pkg/event"
)

// A case's figures are in place of the rule's, and what alerts show is all that global ones do.
func TestLocal_DecidesCasesByTheirOwnFigures(t *testing.T) {
	t.Parallel()
	rule := &Rule{
		Name: "r", Type: PerEvent, Local: true, Stream: "call", Severity: 2, Value: attrMillis, Threshold: 5000, Suppress: 10 * time.Minute,
		Labels: map[string]string{"team": "food"},
	}
	own := *rule
	own.Value, own.Threshold, own.Suppress = attrRatio, 0.5, time.Minute
	key := []KeyPart{{"api", event.String, attrAPI}}
	rule.Cases = []Case{
		{Name: "slow", Where: -1, Key: key, Message: "{value}"},
		{
			Name: "much", Own: &own, Where: -1, Key: key, Message: "{api} {app} {isA}: {value} > {threshold}",
			Details: []string{"app", "isA"}, Inputs: []Input{{Stream: "call", Details: []int{attrApp, attrA}}},
			Stakeholder: StakeholderOf{Role: Publisher, User: "app", Tenant: "api"},
		},
	}
	l := NewLocal([]*Rule{rule}, "shard")
	got := l.Evaluate(columns(
		call{at: 0, api: "x", app: 7, millis: 5000, ratio: 0.75, a: true},
		call{at: 30 * time.Second, api: "x", app: 8, millis: 1, ratio: 0.9},
		call{at: 2 * time.Minute, api: "x", app: 9, millis: 6000, ratio: 0.6},
	))
	want := map[string]string{"much 0.75": "x 7 true: 0.75 > 0.5", "much 0.6": "x 9 false: 0.6 > 0.5", "slow 6000": "6000"}
	said := map[string]string{}
	for i := range got {
		a := &got[i]
		said[a.Case+" "+figure(a.Value)] = a.Message
		if a.Labels["team"] != "food" {
			t.Errorf("%s has the labels %v", a.Case, a.Labels)
		}
		if a.Case == "slow" && (a.Details != nil || a.Stakeholder != Stakeholder{} || a.Threshold != 5000) {
			t.Errorf("slow has what is the other case's: %+v", a)
		}
	}
	if !maps.Equal(said, want) {
		t.Fatalf("got %v, want %v", said, want)
	}
	for i := range got {
		if a := got[i]; a.Case == "much" && a.Value == 0.75 {
			if !maps.Equal(a.Details, map[string]string{"app": "7", "isA": "true"}) || (a.Stakeholder != Stakeholder{Role: Publisher, User: "7", Tenant: "x"}) {
				t.Errorf("got the details %v and the stakeholder %+v", a.Details, a.Stakeholder)
			}
		}
	}
}
