//go:build failpoints

package worker

import (
	"errors"
	"fmt"
	"testing"

	"weir/pkg/failpoint"
	"weir/pkg/store"
)

// The matrix: at every step of the protocol a worker fails in every way, in the
// middle of a batch that holds messages with an identity of their own, ranges,
// foreign ones, bad ones, and events that raise alerts. Whatever happens, in the
// end everything is there once.
func TestFailpoint(t *testing.T) {
	t.Parallel()
	for _, step := range failpoint.Steps() {
		if step == failpoint.LedgerCompacting || step == failpoint.LedgerCompacted || // see package store
			step == failpoint.BackfillRead || step == failpoint.BackfillEnding { // see TestFailpoint_Backfill
			continue
		}
		for action, run := range map[string]func(*proof, failpoint.Step){
			"error": failsOnce, "panic": panicsOnce, "pause": pausesLong, "exit": exits,
		} {
			t.Run(string(step)+"/"+action, func(t *testing.T) {
				t.Parallel()
				p := newProof(t)
				p.round()
				if step == failpoint.Refusing { // something that is folded already
					p.supervise("w0", nil)
					p.settle()
					p.publish("events.tick.gw", "gw/e/1-1", "", "{}")
				}
				run(p, step)
				p.round()
				p.finish()
			})
		}
	}
}

// What another worker has given back is committed, and the worker does not know;
// tried again it is found in the ledger, and no other batch comes. What the worker
// remembers lacks it, and yet the coarser levels get it.
func TestFailpoint_LevelsAreCompletedAfterACommitOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	set := &failpoint.Set{}
	set.Fail(failpoint.Committed, 1)
	w := p.hand("w1", set)
	p.own(4)
	giveBack(p.take(w, 4))
	if err := w.persist(t.Context(), t.Context(), p.take(w, 4)); err != nil || set.Hits(failpoint.Committed) == 0 {
		t.Fatalf("after %d commits: %v", set.Hits(failpoint.Committed), err)
	}
	if err := w.rollUp(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n := p.incomplete("w1"); n != 0 {
		t.Errorf("the levels lack %d groups", n)
	}
	p.check("rolled up")
	p.replayAll()
}

func failsOnce(p *proof, step failpoint.Step) {
	set := &failpoint.Set{}
	set.Fail(step, 1)
	p.goesOn(step, set, func(err error) bool { return errors.Is(err, failpoint.ErrInjected) })
}

func panicsOnce(p *proof, step failpoint.Step) {
	set := &failpoint.Set{}
	set.Panic(step, 1)
	p.goesOn(step, set, func(err error) bool {
		var panicked *panicError
		return errors.As(err, &panicked)
	})
}

// goesOn runs a worker through its failure. It may end only where it has just
// begun, and by nothing else.
func (p *proof) goesOn(step failpoint.Step, set *failpoint.Set, injected func(error) bool) {
	p.t.Helper()
	w := p.supervise("w1", set)
	p.until("the step is reached", func() (bool, error) { return set.Hits(step) > 0, nil })
	p.round()
	p.drain()
	for _, err := range w.endings() {
		if !injected(err) || step != failpoint.LeaseTaken {
			p.t.Errorf("the worker ended: %v", err)
		}
	}
}

// pausesLong stops a worker at the step until another one has folded everything,
// what the first has in hand included, and lets it go on then.
func pausesLong(p *proof, step failpoint.Step) {
	p.t.Helper()
	set := &failpoint.Set{}
	reached, resume := set.Pause(step, 1)
	p.t.Cleanup(resume) // before its worker is waited for
	zombie := p.supervise("w1", set)
	<-reached
	p.supervise("w2", nil)
	p.round()
	p.drain()
	if got, want := p.harness.totals(), p.totals; got != want {
		p.t.Errorf("while one hangs: control totals %+v, want %+v", got, want)
	}
	resume()
	p.round()
	p.drain()
	for _, err := range zombie.endings() {
		if !errors.Is(err, store.ErrFenced) {
			p.t.Errorf("the worker that hung ended: %v", err)
		}
	}
}

// exits kills a worker's process at the step; another one takes over its shard.
func exits(p *proof, step failpoint.Step) {
	p.t.Helper()
	_, ended := p.spawn("w1", fmt.Sprintf("%s=exit", step))
	if code := p.exitCode(ended); code != failpoint.ExitCode {
		p.t.Fatalf("the process ended with %d, want to be killed at %s", code, step)
	}
	p.supervise("w1", nil)
}
