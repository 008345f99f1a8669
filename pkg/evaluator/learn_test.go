package evaluator

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/store"
)

// learning is a rule that learns over so many days, or, if it is "", none that does.
func learning(t *testing.T, learn string) *definition.Catalog {
	t.Helper()
	if learn != "" {
		learn = "\n    learn: {aggregation: Times, value: p95, at_least: 50, over: " + learn + "}"
	}
	catalog, err := definition.Load(fstest.MapFS{"calls.yaml": {Data: []byte(`
stream: call
time: at
attributes: {at: {type: time, unit: ms}, apiName: string, apiMethod: string, apiVersion: int, responseTime: int}
aggregations:
  Times: {group_by: [apiMethod, apiVersion, apiName], select: {p95: p95(responseTime)}, every: [hours, days]}
rules:
  slow:
    type: event
    severity: 2
    value: responseTime
    above: unset
    key: [apiName, apiVersion]` + learn + `
    message: "{apiName} {apiVersion} took {value}, more than {threshold}"
`)}})
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

// calls are calls of version 2 of an API, over the hour that begins at a time, that take from+1, from+2, … ms.
func calls(api string, at time.Duration, n, from int) (all []sent) {
	for i := range n {
		h := happening{stream: "call", at: epoch.Add(at + time.Duration(i)*time.Hour/time.Duration(n)), values: map[string]string{
			"apiName": api, "apiVersion": "2", "apiMethod": []string{"GET", "POST"}[i%2], "responseTime": strconv.Itoa(from + i + 1),
		}}
		all = append(all, sent{h, h.at})
	}
	return all
}

const oneDay = 24 * time.Hour

// classroom publishes, and looks at what was learned of it.
type classroom struct {
	*site

	chance  *rand.Rand
	numbers map[string]int
}

func newClassroom(t *testing.T, learn string) *classroom {
	t.Helper()
	catalog := learning(t, learn)
	return &classroom{newSite(t, &scenario{name: t.Name(), catalog: catalog}), rand.New(rand.NewPCG(1, 2)), map[string]int{}} //nolint:gosec // any order
}

func (c *classroom) publish(all ...[]sent) {
	for _, some := range all {
		c.send(c.chance, c.numbers, some)
	}
}

// awaitLearned waits until exactly these are learned: the 95th percentile of APIs, within 3 %.
func (c *classroom) awaitLearned(want map[string]float64) {
	c.t.Helper()
	var got []alert.Threshold
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("learned in the end: %+v", got)
		}
	})
	c.await(fmt.Sprintf("what is learned to be %v", want), func() (bool, error) {
		all, _, err := c.db.Thresholds(c.t.Context())
		got = nil
		right := 0
		for _, of := range all {
			if !of.Learned {
				continue
			}
			got = append(got, of.Threshold)
			value, ok := want[of.API]
			if ok && of.Version == "2" && of.Dimensions == (alert.Dimensions{API: of.API, Version: "2"}) && of.Value > value*0.97 && of.Value < value*1.03 {
				right++
			}
		}
		return right == len(want) && len(got) == right, err
	})
}

// A call that is usual for one API is too slow for another; what somebody has set goes before what
// was learned, and who had too few calls has no bound.
func TestLearning_GivesEachKeyTheBoundOfItsPast(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs NATS and Postgres")
	}
	c := newClassroom(t, "3 days")
	byHand := alert.Threshold{Rule: "slow", Dimensions: alert.Dimensions{API: "set"}, Value: 3}
	if _, err := c.db.SetThreshold(t.Context(), byHand, "ann"); err != nil {
		t.Fatal(err)
	}
	defer c.start(2, 1)() // one evaluator: that it goes by what was learned for one key says that it does for all
	for day := range 3 {  // of 60 calls a third on each
		at := time.Duration(day) * oneDay
		c.publish(calls("fast", at, 20, 20*day), calls("slow", at, 20, 1000+20*day), calls("set", at, 20, 20*day), calls("canary", at, 20, 0))
		c.publish(calls("rare", at, 16, 0), calls("", at, 30, 0)) // 48 of the one; the other has no name
	}
	c.publish(calls("early", -oneDay, 60, 0), calls("gone", 0, 60, 0), calls("today", 3*oneDay, 60, 0))
	c.awaitLearned(map[string]float64{"fast": 57, "slow": 1057, "set": 57, "canary": 19, "gone": 57})

	beat := 3*oneDay + 2*time.Hour
	c.await("both workers and the evaluator to have the thresholds", func() (bool, error) {
		beat += 20 * time.Minute
		c.publish(calls("canary", beat, 1, 1_000), calls("canary", beat+time.Minute, 1, 1_000))
		told := map[string]bool{}
		for _, a := range append(c.alerts(alert.ScopeLocal), c.alerts(alert.ScopeGlobal)...) {
			if a.Key["apiName"] == "canary" {
				told[a.ShardID] = true // of a global one there is none
			}
		}
		return len(told) == 3, nil
	})
	beat += 2 * time.Hour
	for _, api := range []string{"fast", "slow", "set", "rare", "today", "", "early"} {
		c.publish(calls(api, beat, 1, 500))
	}
	c.publish(calls("set", beat+time.Hour, 1, 3), calls("fast", beat+time.Hour, 1, 50))
	c.publish(calls("canary", beat+2*time.Hour, 1, 0))
	c.awaitClock(epoch.Add(beat + 90*time.Minute))
	got := map[string][]float64{}
	for _, a := range c.alerts(alert.ScopeGlobal) {
		if a.State == alert.Firing && !a.FiredAt.Before(epoch.Add(beat)) {
			got[a.Key["apiName"]] = append(got[a.Key["apiName"]], a.Value)
			if name := a.Key["apiName"]; (name == "set") != (a.Threshold == 3) {
				t.Errorf("%s: the threshold was %g", name, a.Threshold)
			}
		}
	}
	if want := map[string][]float64{"fast": {501}, "set": {501, 4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("alerts of %v, want %v", got, want)
	}
}

// Each day is learned of the days before: who has no calls in them any more has no bound.
func TestLearning_ForgetsKeysThatAreGone(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs NATS and Postgres")
	}
	c := newClassroom(t, "2 days")
	stop := c.start(1, 1)
	defer func() { stop() }()
	c.publish(calls("gone", 0, 60, 0), calls("stays", 0, 60, 0), calls("later", oneDay, 1, 0))
	c.awaitLearned(map[string]float64{"gone": 57, "stays": 57})
	c.publish(calls("stays", oneDay, 60, 60), calls("later", oneDay, 60, 0), calls("later", 2*oneDay, 1, 0))
	c.awaitLearned(map[string]float64{"gone": 57, "stays": 114, "later": 57})
	c.publish(calls("later", 3*oneDay, 1, 0))
	c.awaitLearned(map[string]float64{"stays": 117, "later": 57})

	before, err := c.db.Learned(t.Context())
	if err != nil || !before["slow"].Through.Equal(epoch.Add(3*oneDay)) {
		t.Errorf("learned through %v, %v", before, err)
	}
	stop()
	c.s.catalog = learning(t, "3 days") // another definition holds at once, not tomorrow
	stop = c.start(1, 1)
	c.awaitLearned(map[string]float64{"gone": 57, "stays": 114, "later": 57})
	stop()
	c.s.catalog = learning(t, "") // and none forgets, as does a rule that is there no more
	if err := c.db.ReplaceLearned(t.Context(), "renamed", []alert.Threshold{{Value: 1}}, store.Learning{What: "something"}); err != nil {
		t.Fatal(err)
	}
	stop = c.start(1, 1)
	c.awaitLearned(map[string]float64{})
	if after, err := c.db.Learned(t.Context()); err != nil || len(after) != 0 {
		t.Errorf("learned %v, %v", after, err)
	}
}

// Where learning fails, alerts are decided as ever, and what was learned before holds.
func TestLearning_HoldsNothingUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs NATS and Postgres")
	}
	c := newClassroom(t, "3 days")
	before := alert.Threshold{Dimensions: alert.Dimensions{API: "fast"}, Value: 100}
	if err := c.db.ReplaceLearned(t.Context(), "slow", []alert.Threshold{before}, store.Learning{What: "before"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.sql.ExecContext(t.Context(), `ALTER TABLE weir.threshold_learning RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int32
	c.log = c.log.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
		if strings.HasPrefix(e.Message, "thresholds not learned") {
			failed.Add(1)
		}
		return nil
	}))
	defer c.start(1, 1)()
	c.publish(calls("fast", 0, 60, 0), calls("fast", oneDay, 2, 99), calls("fast", oneDay+2*time.Hour, 1, 0))
	c.await("the alert", func() (bool, error) {
		all := c.alerts(alert.ScopeGlobal)
		return len(all) == 2 && all[0].Threshold == 100 && all[0].Value == 101 && all[1].State == alert.Resolved && failed.Load() == 1, nil
	})
}
