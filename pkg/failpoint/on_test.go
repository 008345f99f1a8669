//go:build failpoints

package failpoint

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSet_ActsOnTheHitItWasToldOf(t *testing.T) {
	t.Parallel()
	set, err := Parse("claimed:2=error, committed:*=error,acked=error")
	if err != nil {
		t.Fatal(err)
	}
	for hit, want := range []map[Step]bool{
		{Claimed: false, Committed: true, Acked: true, Folded: false},
		{Claimed: true, Committed: true, Acked: false, Folded: false},
		{Claimed: false, Committed: true, Acked: false, Folded: false},
	} {
		for step, fails := range want {
			if err := set.Hit(step); errors.Is(err, ErrInjected) != fails {
				t.Errorf("hit %d of %s: %v", hit+1, step, err)
			}
		}
	}
	if got := set.Hits(Claimed); got != 3 {
		t.Errorf("%d hits, want 3", got)
	}
}

func TestSet_PanicsWhereItWasTold(t *testing.T) {
	t.Parallel()
	set, err := Parse("folded=panic")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if v := recover(); v != "injected panic at folded" {
			t.Errorf("recovered %v", v)
		}
	}()
	_ = set.Hit(Folded)
	t.Error("it did not panic")
}

func TestSet_PausesForSomeTimeOrUntilItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, err := Parse("claimed=pause(3s)")
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_ = set.Hit(Claimed)
		if d := time.Since(begun); d != 3*time.Second {
			t.Errorf("paused for %s", d)
		}
		reached, resume := set.Pause(Acked, 1)
		done := make(chan error)
		go func() { done <- set.Hit(Acked) }()
		<-reached
		synctest.Wait()
		select {
		case <-done:
			t.Error("it went on before it was resumed")
		default:
		}
		resume()
		resume()
		if err := <-done; err != nil {
			t.Error(err)
		}
		set.Fail(Folded, Always)
		set.Clear(Folded)
		if err := set.Hit(Folded); err != nil {
			t.Errorf("cleared, and still %v", err)
		}
	})
}

func TestParse_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"claimed":          "STEP=ACTION",
		"climed=exit":      `no step "climed"`,
		"claimed:0=exit":   "from 1",
		"claimed:x=exit":   "from 1",
		"claimed:=exit":    "from 1",
		"claimed=die":      "the actions are exit, panic, error and pause(DURATION)",
		"claimed=pause(x)": "pause(1s500ms)",
	} {
		if _, err := Parse(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", spec, err, want)
		}
	}
	var none *Set
	if err := none.Hit(Claimed); err != nil {
		t.Errorf("a nil set: %v", err)
	}
}
