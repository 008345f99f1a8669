package chaos

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func plan(t *testing.T, cfg Config) Plan {
	t.Helper()
	p, err := NewPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewPlan_IsMadeOfTheSeedAlone(t *testing.T) {
	t.Parallel()
	cfg := Config{Seed: 5, Topology: R3, Length: 5 * time.Minute, CanMount: true}
	one, two := plan(t, cfg), plan(t, cfg)
	if !reflect.DeepEqual(one, two) {
		t.Errorf("two plans of one seed differ:\n%s\n%s", one, two)
	}
	cfg.Seed = 6
	if other := plan(t, cfg); reflect.DeepEqual(one.Steps, other.Steps) {
		t.Error("two seeds have the same steps")
	}
}

func TestNewPlan_DealsEveryFaultAndLeavesTimeToHeal(t *testing.T) {
	t.Parallel()
	for _, topology := range []string{R1, R3} {
		for seed := range uint64(20) {
			p := plan(t, Config{Seed: seed, Topology: topology, Length: 4 * time.Minute, CanMount: true})
			drawn := map[string]bool{}
			for _, s := range p.Steps {
				drawn[s.Fault] = true
				if s.AtEvents == 0 && (s.At < p.WarmUp || s.At >= p.Length) {
					t.Errorf("seed %d: %s is outside of %s to %s", seed, s, p.WarmUp, p.Length)
				}
			}
			for _, name := range p.Faults {
				if !drawn[name] {
					t.Errorf("seed %d, %s: four minutes have no %s", seed, topology, name)
				}
			}
		}
	}
}

func TestNewPlan_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg  Config
		want string
	}{
		"fault":         {Config{Faults: []string{"worker-kil"}}, `no fault is named "worker-kil"`},
		"topology":      {Config{Topology: "r2"}, "should be r1 or r3"},
		"not with r1":   {Config{Faults: []string{"leader-kill"}}, "needs --topology r3"},
		"without right": {Config{Faults: []string{"disk-full"}}, "may not"},
		"short":         {Config{Length: time.Second}, "at least 10s"},
	}
	for name, tt := range tests {
		if _, err := NewPlan(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestPlan_DemandsWhatItsFaultsMakeLikely(t *testing.T) {
	t.Parallel()
	p := Plan{Events: 200_000, Steps: []Step{{Fault: "worker-kill"}, {Fault: "worker-kill"}, {Fault: "worker-kill"}}}
	reached := map[string]int{"workers killed while messages were in hand": 1, "redeliveries": 9, "messages stored twice": 5, "dead letters": 5, "alerts relayed": 4, "alerts over all workers": 5, "redelivered in the replay": 9}
	missed := p.missed(reached)
	want := []string{"alerts relayed: 4, at least 5", "workers killed while messages were in hand: 1, at least 2"}
	if !slices.Equal(missed, want) {
		t.Errorf("missed %q, want %q", missed, want)
	}
}

func TestPlan_DemandsEachFaultItHasOnce(t *testing.T) {
	t.Parallel()
	for _, k := range kinds() {
		least := Plan{Events: 1, Steps: []Step{{Fault: k.name}}}.least()
		if without := (Plan{Events: 1}).least(); len(least) <= len(without) {
			t.Errorf("a plan with one %s demands %v, as one without", k.name, least)
		}
	}
}
