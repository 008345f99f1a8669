package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// Each test is one interleaving of workers, the stream and Postgres in which an
// event could be lost or counted twice. Those in which a worker fails between two
// particular steps are in the matrix of failpoints.

func TestInterleaving_ZombieBeforeItsClaim(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	zombie, other := p.hand("w1", nil), p.hand("w2", nil)
	p.own(5)
	messages := p.take(zombie, 5) // and hangs
	p.process(other, messages...)
	p.process(zombie, messages...)
	p.check("folded by the other, then by the zombie")
	p.replayAll()
}

func TestInterleaving_ZombieInItsTransactionIsEndedAndTheOtherGoesOn(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	zombie, other := p.hand("w1", nil), p.hand("w2", nil)
	p.own(5)
	messages := p.take(zombie, 5)
	b, err := zombie.decode(messages)
	if err != nil {
		t.Fatal(err)
	}
	claimed, resume := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	begun := time.Now() // before its session idles: however slow the machine is, the other waits until after idleInTx
	go func() {
		ended <- zombie.db.InTx(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.NextBatch(t.Context(), zombie.lease, b.totals()); err != nil {
				return err
			}
			err := tx.Claim(t.Context(), b.claims)
			close(claimed)
			<-resume
			return err
		})
	}()
	<-claimed
	p.process(other, messages...) // waits for the claim, until the zombie's session is ended
	if waited := time.Since(begun); waited < p.idleInTx {
		t.Errorf("the other waited for %s only: the claim was not held", waited)
	}
	close(resume)
	if err := <-ended; err == nil {
		t.Error("the zombie has committed what was ended")
	}
	if err := zombie.persist(t.Context(), t.Context(), messages); err != nil {
		t.Errorf("the zombie tries again: %v", err)
	}
	p.check("after both")
	p.replayAll()
}

// A process that is stopped, as by a debugger or a starved machine, wherever it
// happens to be; the others go on, and so does it.
func TestInterleaving_ProcessStoppedForLongerThanAckWait(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	process, ended := p.spawn("w1", "")
	for range 3 {
		p.round()
	}
	p.until("it folds", func() (bool, error) { return p.harness.totals().Events > 0, nil })
	p.round()
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.supervise("w2", nil)
	p.round()
	p.drain()
	if err := process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.round()
	p.drain()
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.exitCode(ended); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	p.finish()
}

func TestInterleaving_SameMessagesInTwoWorkersAtOnce(t *testing.T) {
	t.Parallel()
	p := newProofOn(t, servers{ackWait: patience}) // each round takes its own messages, and none of the one before
	a, b := p.hand("w1", nil), p.hand("w2", nil)
	for range 10 {
		p.own(3)
		p.message("", 1, 1)
		p.message(fmt.Sprintf("gw/r/%d-%d", p.made*10, p.made*10+1), 2, 2, 3)
		messages := p.take(a, 5)
		var group sync.WaitGroup
		for _, w := range []*Worker{a, b} {
			group.Go(func() {
				if err := w.persist(t.Context(), t.Context(), messages); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	p.check("folded by both at once")
	p.replayAll()
}

func TestInterleaving_RedeliveredBatchesAreCutDifferently(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	a, b := p.hand("w1", nil), p.hand("w2", nil)
	p.own(6)
	p.message("", 1, 1)
	p.message("", 1, 2)
	m := p.take(a, 8)
	p.process(a, m[:3]...)
	p.process(b, m[2:6]...) // half old, half new
	p.process(a, m[7], m[1], m[4])
	p.process(b, m...)
	p.process(a, m[5:]...)
	p.check("in five cuts")
	p.replayAll()
}

func TestInterleaving_LostLateAndDuplicateAcks(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	a, b := p.hand("w1", nil), p.hand("w2", nil)
	p.own(4)
	first := p.take(a, 4)
	p.persistWithoutAcks(a, first) // all acks are lost
	again := p.take(b, 4)
	for _, m := range again {
		if m.Deliveries < 2 {
			t.Errorf("message %d came %d times", m.Sequence, m.Deliveries)
		}
	}
	p.process(b, again...) // refused, and acknowledged
	for range 2 {
		if err := a.acknowledge(first); err != nil { // late, and twice
			t.Fatal(err)
		}
	}
	p.process(a, first...)
	p.drain()
	p.check("after acks were lost, late and doubled")
	p.replayAll()
}

// persistWithoutAcks folds messages as far as the commit.
func (p *proof) persistWithoutAcks(w *Worker, messages []stream.Message) {
	p.t.Helper()
	b, err := w.decode(messages)
	if err == nil {
		err = w.flush(p.t.Context(), b)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// The stream knows messages and no deliveries: the ack of a zombie settles the
// copy that another worker has in hand, whose transaction then fails. That loses
// nothing, because the zombie acknowledges only what is committed.
func TestInterleaving_LateAckSettlesACopyWhoseTransactionFails(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	zombie, other := p.hand("w1", nil), p.hand("w2", nil)
	p.own(4)
	first := p.take(zombie, 4)
	p.persistWithoutAcks(zombie, first) // committed, and hangs
	copies := p.take(other, 4)
	b, err := other.decode(copies)
	if err != nil {
		t.Fatal(err)
	}
	err = other.db.InTx(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.NextBatch(t.Context(), other.lease, b.totals()); err != nil {
			return err
		}
		if err := zombie.acknowledge(first); err != nil { // meanwhile
			return err
		}
		return errTest
	})
	if !errors.Is(err, errTest) {
		t.Fatal(err)
	}
	p.drain() // nothing will be delivered again
	p.check("acknowledged by the zombie, given up by the other")
	p.replayAll()
}

// A worker whose transaction fails does not acknowledge, whatever fails.
func TestInterleaving_NothingIsAcknowledgedBeforeItsCommit(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	w := p.hand("w1", nil)
	p.own(4)
	messages := p.take(w, 4)
	release := p.holdLedger()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := w.process(ctx, messages); done <- err }()
	p.waitForFlush()
	cancel()
	if err := <-done; err == nil {
		t.Error("a flush that was cancelled went through")
	}
	release()
	state, err := p.conn.State(t.Context())
	if err != nil || state.AckPending != 4 {
		t.Errorf("%d messages are not acknowledged (%v), want all 4", state.AckPending, err)
	}
	p.supervise("w2", nil)
	p.finish()
}

// The connection is lost while the commit is on its way: before Postgres had it.
func TestInterleaving_CommitUnknownAndNotCommitted(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	p.idleInTx = patience // the session is there until the test ends it
	w := p.hand("w1", nil)
	p.round()
	messages := p.take(w, 12)
	b, err := w.decode(messages)
	if err != nil {
		t.Fatal(err)
	}
	err = w.db.InTx(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.NextBatch(t.Context(), w.lease, b.totals()); err != nil {
			return err
		}
		if err := tx.Claim(t.Context(), b.claims); err != nil {
			return err
		}
		p.terminate(`state LIKE 'idle in transaction%'`)
		return nil // and so the commit finds nobody
	})
	if err == nil || !strings.Contains(err.Error(), "commit") {
		t.Errorf("got %v, want an error of the commit", err)
	}
	if err := w.persist(t.Context(), t.Context(), messages); err != nil {
		t.Fatal(err)
	}
	p.relayOnce(w)
	p.check("tried again")
	p.replayAll()
}

func (p *proof) relayOnce(w *Worker) {
	p.t.Helper()
	if _, err := w.relay.Once(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

func TestInterleaving_TwoWorkersWithOneShardID(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	first := p.hand("w1", nil)
	p.own(6)
	messages := p.take(first, 6)
	p.process(first, messages[:2]...)
	p.terminate(holdsALease) // it does not notice
	second := p.hand("w1", nil)
	p.process(second, messages[2:4]...)
	if err := first.persist(t.Context(), t.Context(), messages[4:]); !errors.Is(err, store.ErrFenced) {
		t.Errorf("the first got %v, want to be fenced", err)
	}
	p.process(second, messages...)
	p.check("after the second took the shard")
	p.replayAll()
}

// An event whose minute, hour and day were written to the coarser levels long
// before.
func TestInterleaving_LateEventIntoFlushedLevels(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	p.round()
	p.supervise("w1", nil)
	p.settle()
	for _, per := range p.ticks().Granularities[1:] {
		if n := ask[int](p.harness, `SELECT count(*) FROM weir_data.`+p.ticks().Table(per)); n == 0 {
			t.Errorf("nothing is flushed per %s", per)
		}
	}
	p.made = 0 // the same times again
	p.supervise("w2", nil)
	p.own(5)
	p.finish()
}

// Something that Postgres cannot store, beside a transaction that it wants to be
// tried again.
func TestInterleaving_PoisonInABatchThatIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	w := p.hand("w1", nil)
	p.own(3)
	text, _ := p.tick(4)
	p.publish("events.tick.gw", p.id(), "", strings.Replace(text, `"name":"`, `"name":"poison`, 1))
	p.totals.Messages++
	p.totals.DeadLetters++
	p.claims++
	p.own(3)
	table := "weir_data." + p.ticks().Table(p.ticks().Finest())
	p.exec(`CREATE SEQUENCE public.tries`)
	p.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('public.tries') IN (1, 3) THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF;
		IF EXISTS (SELECT FROM unnest(NEW.name) AS n WHERE n LIKE 'poison%') THEN RAISE EXCEPTION USING ERRCODE = '22003'; END IF;
		RETURN NEW; END $$`)
	p.exec(`CREATE TRIGGER refuse BEFORE INSERT ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	if err := w.persist(t.Context(), t.Context(), p.take(w, 7)); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](p.harness, `SELECT last_value FROM public.tries`); n < 4 {
		t.Errorf("the table was written %d times: nothing was tried again", n)
	}
	p.check("with the poison set apart")
	p.exec(`DROP TRIGGER refuse ON ` + table)
	p.replayAll()
}
