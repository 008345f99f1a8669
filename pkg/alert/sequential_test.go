package alert

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// deed is one event of the tests of sequential rules; at is in time since noon.
type deed struct {
	key, member, state string
	at                 time.Duration
	sequence           uint64
	hit                bool
}

func (d deed) micros() int64 { return noon.Add(d.at).UnixMicro() }

// inOrder are the deeds as they happened.
func inOrder(deeds []deed) []deed {
	return slices.SortedFunc(slices.Values(deeds), func(a, b deed) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sequence, b.sequence))
	})
}

// asEvidence is what a batch with these deeds has.
func asEvidence(r *Rule, deeds []deed) []Evidence {
	return decoded(evidenceBody(r, deeds, nil))
}

// evidenceBody encodes it, each key with details.
func evidenceBody(r *Rule, deeds []deed, details map[string][]string) []byte {
	var keys []EvidenceKey
	happened := map[string][]moment{}
	for _, d := range deeds {
		if happened[d.key] == nil {
			keys = append(keys, EvidenceKey{Parts: []string{d.key}, Details: details[d.key]})
		}
		m := moment{position: position{at: d.micros()}, n: 1}
		if r.Type == Unseen || r.Type == Transition {
			m.member = d.member
		}
		if r.Type == Transition {
			m.state = d.state
		}
		if step := r.Step.Microseconds(); step > 0 {
			m.at = floor(m.at, step)
		} else {
			m.sequence, m.hit = d.sequence, d.hit
		}
		of := happened[d.key]
		if i := slices.IndexFunc(of, func(o moment) bool { return r.Step > 0 && o.at == m.at && o.member == m.member }); i >= 0 {
			of[i].n++
		} else {
			happened[d.key] = append(of, m)
		}
	}
	var all [][]moment
	for _, key := range keys {
		of := happened[key.Parts[0]]
		slices.SortFunc(of, func(a, b moment) int { return a.compare(&b) })
		all = append(all, of)
	}
	return evidenceOf(r.Name, r.Cases[0].Name, r.has(), keys, all)
}

func decoded(body []byte) []Evidence {
	all, err := DecodeEvidence(body)
	if err != nil {
		panic(err)
	}
	return all
}

// keeper evaluates one rule, and can be replaced by another that knows what it has saved.
type keeper struct {
	rule   *Rule
	global *Global
	memory map[string]Remembered
	alerts []Alert
}

func newKeeper(r *Rule) *keeper {
	return &keeper{rule: r, global: NewGlobal([]*Rule{r}), memory: map[string]Remembered{}}
}

func (k *keeper) add(deeds ...deed) { k.global.Add(asEvidence(k.rule, deeds)) }

func (k *keeper) decide(at time.Duration) []Alert {
	alerts := k.global.Decide(noon.Add(at))
	k.alerts = append(k.alerts, alerts...)
	return alerts
}

// takeOver goes on with what was saved.
func (k *keeper) takeOver(t interface{ Fatalf(string, ...any) }) {
	k.global.Save(func(r Remembered) {
		if r.Data == nil {
			delete(k.memory, joined(r.Key))
			return
		}
		k.memory[joined(r.Key)] = r
	})
	k.global = NewGlobal([]*Rule{k.rule})
	for _, r := range k.memory {
		if !k.global.Load(r) {
			t.Fatalf("what was saved of %q is not read: %x", r.Key, r.Data)
		}
	}
}

// told lists what was decided, one alert a line, in order.
func (k *keeper) told() (lines []string) {
	for i := range k.alerts {
		a := &k.alerts[i]
		at := a.at().Sub(noon)
		line := fmt.Sprintf("%s %s %s", at, a.State, a.Key["key"])
		for _, name := range slices.Sorted(maps.Keys(a.Details)) {
			line += fmt.Sprintf(" %s=%s", name, a.Details[name])
		}
		line += fmt.Sprintf(" %s > %s", figure(a.Value), figure(a.Threshold))
		if a.State == Resolved {
			line += fmt.Sprintf(" fired %s", a.FiredAt.Sub(noon))
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// fired are the times of the alerts that fired, with those details.
func (k *keeper) fired(details ...string) (lines []string) {
	alerts := slices.SortedStableFunc(slices.Values(k.alerts), func(a, b Alert) int { return a.at().Compare(b.at()) })
	for i := range alerts {
		if a := &alerts[i]; a.State == Firing {
			line := a.FiredAt.Sub(noon).String()
			for _, name := range details {
				line += " " + a.Details[name]
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func (k *keeper) ids() (ids []string) {
	for i := range k.alerts {
		ids = append(ids, k.alerts[i].ID+" "+k.alerts[i].FiringID)
	}
	slices.Sort(ids)
	return ids
}

// drawSchedule has a rule decide over deeds that come in batches, in any order that leaves none
// late, with evaluators taking over from each other.
func drawSchedule(t *rapid.T, r *Rule, deeds []deed, end time.Duration) *keeper {
	return drawTold(t, r, deeds, end, func(deeds []deed) []deed { return deeds })
}

// drawTold is that of workers that do not tell all deeds.
func drawTold(t *rapid.T, r *Rule, deeds []deed, end time.Duration, tell func([]deed) []deed) *keeper {
	k := newKeeper(r)
	rest := rapid.Permutation(deeds).Draw(t, "order of arrival")
	through := time.Duration(0)
	for through < end {
		through = min(end, through+time.Duration(rapid.Int64Range(1, int64(end)/2).Draw(t, "until")))
		var batch []deed
		rest = slices.DeleteFunc(rest, func(d deed) bool {
			if d.at > through && rapid.IntRange(0, 2).Draw(t, "waits") > 0 {
				return false
			}
			batch = append(batch, d)
			return true
		})
		for len(batch) > 0 {
			n := rapid.IntRange(1, len(batch)).Draw(t, "batch")
			k.add(tell(batch[:n])...)
			if batch = batch[n:]; rapid.IntRange(0, 3).Draw(t, "taken over") == 0 {
				k.takeOver(t)
			}
		}
		k.decide(through)
		if rapid.IntRange(0, 3).Draw(t, "taken over") == 0 {
			k.takeOver(t)
		}
	}
	return k
}

// checkOracle compares two schedules with each other and with what an oracle says.
func checkOracle(t *rapid.T, r *Rule, deeds []deed, end time.Duration, oracle []string) {
	a, b := drawSchedule(t, r, deeds, end), drawSchedule(t, r, deeds, end)
	slices.Sort(oracle)
	if got := a.told(); !slices.Equal(got, oracle) {
		t.Fatalf("got\n%q\nwant\n%q", got, oracle)
	}
	if got, want := b.ids(), a.ids(); !slices.Equal(got, want) {
		t.Fatalf("another schedule has the ids\n%q\nwant\n%q", got, want)
	}
	if late := a.global.Late() + b.global.Late(); late != 0 {
		t.Fatalf("%d events are late", late)
	}
}

func oneCase(r Rule) *Rule {
	r.Name, r.Global, r.Severity = "rule", true, 1
	r.Cases = []Case{{Key: []KeyPart{{Name: "key"}}, Message: "{value}", Inputs: []Input{{Where: -1, Member: -1, Hit: -1}}}}
	return &r
}

func sequentialRules() []*Rule {
	return []*Rule{unseenRule(), transitionRule(), runRule(), intervalRule(), underuseRule()}
}

func TestSequential_EventsThatWaitSurviveATakeover(t *testing.T) {
	t.Parallel()
	k := newKeeper(runRule())
	for i := range 5 {
		k.add(deed{key: "api", at: time.Duration(10+i) * time.Second, sequence: uint64(i + 1), hit: true})
		k.takeOver(t)
		k.decide(time.Duration(i) * time.Second)
	}
	k.decide(time.Minute)
	if got := k.fired(); !slices.Equal(got, []string{"14s"}) {
		t.Fatalf("fired at %q", got)
	}
}

func TestSequential_KeysThatAreNotHeardOfAreForgottenAfterAYear(t *testing.T) {
	t.Parallel()
	for _, r := range sequentialRules() {
		t.Run(r.Type.String(), func(t *testing.T) {
			t.Parallel()
			k := newKeeper(r)
			k.add(deed{key: "some", member: "m", state: "s", at: time.Second, sequence: 1, hit: true})
			k.decide(time.Hour)
			if got := k.global.Keys(); got != 1 {
				t.Fatalf("%d keys after an hour", got)
			}
			k.takeOver(t)
			k.decide(retired + 24*time.Hour)
			k.takeOver(t)
			if got := k.global.Keys(); got != 0 || len(k.memory) != 0 {
				t.Fatalf("%d keys and %d in memory after more than a year", got, len(k.memory))
			}
		})
	}
}

func TestSequential_StateOfAnotherFormIsPassedOver(t *testing.T) {
	t.Parallel()
	for _, r := range sequentialRules() {
		k := newKeeper(r)
		k.add(deed{key: "some", member: "m", state: "s", at: time.Second, sequence: 1, hit: true})
		k.decide(time.Hour)
		k.takeOver(t)
		for _, other := range sequentialRules() {
			if other.Type == r.Type {
				continue
			}
			g := NewGlobal([]*Rule{other})
			for _, saved := range k.memory {
				if g.Load(saved) || g.Keys() != 0 {
					t.Errorf("a rule of type %s takes what one of type %s has saved", other.Type, r.Type)
				}
			}
		}
		for _, saved := range k.memory {
			for n := range len(saved.Data) {
				cut := saved
				cut.Data = saved.Data[:n]
				if NewGlobal([]*Rule{r}).Load(cut) {
					t.Errorf("%s: %d of %d bytes are taken", r.Type, n, len(saved.Data))
				}
			}
		}
	}
}

// FuzzSequentialLoad looks for state that is taken but not understood: whatever is taken, can be gone on with
// and is saved as something that is taken again.
func FuzzSequentialLoad(f *testing.F) {
	for i, r := range sequentialRules() {
		k := newKeeper(r)
		for n := range 20 {
			k.add(deed{
				key: "some", member: fmt.Sprint("m", n%3), state: fmt.Sprint("s", n%4), hit: n%9 > 0,
				at: time.Duration(n) * max(r.Step, time.Second), sequence: uint64(n + 1),
			})
		}
		k.decide(12 * max(r.Step, time.Second))
		k.takeOver(f)
		for _, saved := range k.memory {
			f.Add(uint8(i), saved.Data)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, state []byte) {
		r := sequentialRules()[int(kind)%len(sequentialRules())]
		k := newKeeper(r)
		if !k.global.Load(Remembered{Rule: r.Name, Key: []string{"some"}, Data: state}) {
			return
		}
		k.add(deed{key: "some", member: "m", state: "s", at: time.Second, sequence: 7, hit: true})
		k.decide(time.Hour)
		k.takeOver(t)
	})
}

func TestSequential_AlertsOfAKeyThatAreOpenHaveABound(t *testing.T) {
	t.Parallel()
	var want []string
	for _, every := range []time.Duration{time.Second, 20 * time.Minute} { // however often it is decided
		k := newKeeper(unseenRule())
		k.add(calls("user", "home", 0, 10)...)
		for n := range 3 * mostOpen {
			k.add(deed{key: "user", member: fmt.Sprint(n), at: time.Minute + time.Duration(n)*time.Second/4})
		}
		for at := time.Duration(0); at < time.Hour; at += every {
			k.decide(at)
		}
		if got := len(k.fired()); got != mostOpen+mostOpen*3/5 {
			t.Fatalf("%d of %d are told", got, 3*mostOpen)
		}
		if got := k.global.Crowded(); got != 3*mostOpen-mostOpen-mostOpen*3/5 {
			t.Fatalf("%d are counted", got)
		}
		if want == nil {
			want = k.ids()
		}
		if !slices.Equal(k.ids(), want) {
			t.Fatal("what is told depends on when it is decided")
		}
	}
}

// Texts are decoded in one piece: whatever remembered one of them would hold all of its batch.
func TestGlobal_WhatIsRememberedHoldsNoEvidenceInMemory(t *testing.T) { //nolint:paralleltest // it looks at the heap
	counted := oneCase(Rule{Type: Counted, Window: time.Hour, Step: time.Minute, Threshold: 1e9})
	for _, r := range append(sequentialRules(), counted) {
		t.Run(r.Type.String(), func(t *testing.T) {
			r.Cases[0].Details = []string{"detail"}
			g := NewGlobal([]*Rule{r})
			for n := range 200 {
				body := evidenceBody(r, []deed{
					{key: "large", member: "m", state: "s", at: time.Duration(n) * time.Second, sequence: uint64(2*n + 1)},
					{key: fmt.Sprint(n), member: fmt.Sprint("m", n), state: fmt.Sprint("s", n), at: time.Duration(n) * time.Second, sequence: uint64(2*n + 2)},
				}, map[string][]string{"large": {strings.Repeat(fmt.Sprint(n%10), 1<<20)}, fmt.Sprint(n): {fmt.Sprint("detail", n)}})
				g.Add(decoded(body))
				g.Decide(noon.Add(time.Duration(n) * time.Second))
			}
			runtime.GC()
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			if memory.HeapAlloc > 60<<20 {
				t.Errorf("%d MB are held, of 200 MB of evidence", memory.HeapAlloc>>20)
			}
			runtime.KeepAlive(g)
		})
	}
}
