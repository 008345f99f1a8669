package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// keep runs Keep until the test ends or the returned function is called.
func keep(t testing.TB, c *Consumer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Keep(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// another fetches with a consumer of its own for as long as given.
func another(t testing.TB, conn *Conn, limit time.Duration) []Message {
	t.Helper()
	consumer := openConsumer(t, conn)
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(testContext(t), limit)
	defer cancel()
	batch, err := consumer.Fetch(ctx, Limits{Messages: 10, Wait: time.Second})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return batch
}

func TestKeep_HoldsWhatIsInHandLongerThanAckWait(t *testing.T) {
	t.Parallel()
	const ackWait = time.Second
	conn := provisioned(t, Provision{AckWait: ackWait})
	publish(t, conn, 1, 10)
	consumer := openConsumer(t, conn)
	stop := keep(t, consumer)
	batch := fetch(t, consumer, Limits{Messages: 10, Wait: 5 * time.Second})
	ackAll(t, batch[:4]) // as when a batch is done in pieces
	if got := another(t, conn, 3*ackWait); len(got) > 0 {
		t.Errorf("another worker got messages %s, which are in hand", sequenceOf(got))
	}
	ackAll(t, batch[4:])
	eventually(t, "all acknowledged", func() bool { return state(t, conn).Behind == 0 })

	publish(t, conn, 11, 13)
	fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	stop()
	other := openConsumer(t, conn)
	seen := map[uint64]bool{}
	eventually(t, "another worker to get what is not kept any more", func() bool {
		for _, m := range fetch(t, other, Limits{}) {
			seen[m.Sequence] = true
		}
		return seen[11] && seen[12] && seen[13]
	})
}

// answers returns a function that counts the answers to messages of a kind so far.
func answers(t testing.TB, conn *Conn, kind string) func() int {
	t.Helper()
	arrived := make(chan *nats.Msg, 1000)
	if _, err := conn.nc.ChanSubscribe(ackPrefix+">", arrived); err != nil {
		t.Fatal(err)
	}
	n := 0
	return func() int {
		if err := conn.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		for len(arrived) > 0 {
			if m := <-arrived; string(m.Data) == kind {
				n++
			}
		}
		return n
	}
}

func TestKeep_SaysNothingOfWhatIsDoneInTime(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	kept := answers(t, conn, ackProgress)
	publish(t, conn, 1, 6)
	consumer := openConsumer(t, conn)
	consumer.hands.keep(true)
	first := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	consumer.hands.hold(time.Time{})
	ackAll(t, first)
	second := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	consumer.hands.hold(time.Time{})
	if n := kept(); n != 0 {
		t.Errorf("%d messages are kept at the first look at them, want none", n)
	}
	consumer.hands.hold(time.Time{})
	if n := kept(); n != 3 {
		t.Errorf("%d messages are kept at the second look, want 3", n)
	}
	ackAll(t, second)
	consumer.hands.hold(time.Time{})
	if n := kept(); n != 3 || len(consumer.hands.all) != 0 {
		t.Errorf("%d messages are kept, want none that are acknowledged; %d batches left", n, len(consumer.hands.all))
	}
}

func TestKeep_KeepsNothingWhileABatchIsStuck(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	kept := answers(t, conn, ackProgress)
	publish(t, conn, 1, 6)
	consumer := openConsumer(t, conn)
	consumer.hands.keep(true)
	stuck := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	limit := time.Now()
	fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	for range 3 {
		consumer.hands.hold(limit)
	}
	if n := kept(); n != 0 {
		t.Errorf("%d messages are kept by a worker that is stuck, want none", n)
	}
	ackAll(t, stuck)
	consumer.hands.hold(limit)
	consumer.hands.hold(limit)
	if n := kept(); n != 3 {
		t.Errorf("%d messages are kept after it has gone on, want 3", n)
	}
}

func TestKeep_GivesBackWhatIsAskedAheadWhenTheWorkerIsBusy(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: 2 * time.Second})
	given := answers(t, conn, ackNak)
	publish(t, conn, 1, 20)
	consumer := openConsumer(t, conn)
	keep(t, consumer)
	batch := fetch(t, consumer, Limits{Messages: 10, Wait: 5 * time.Second})
	eventually(t, "the ten that are ahead to be given back", func() bool { return given() == 10 })
	if got := another(t, conn, testTimeout); sequenceOf(got) != "11 12 13 14 15 16 17 18 19 20 " {
		t.Errorf("another worker got %s, want 11 to 20", sequenceOf(got))
	} else {
		ackAll(t, got)
	}
	ackAll(t, batch)
	publish(t, conn, 21, 21)
	if got := fetch(t, consumer, Limits{}); sequenceOf(got) != "21 " {
		t.Errorf("the first one then got %s, want 21", sequenceOf(got))
	}
}

func TestFetch_LeavesTheOthersMostOfWhatMayBeInHand(t *testing.T) {
	t.Parallel()
	const most = 64
	conn := provisioned(t, Provision{MaxAckPending: most, AckWait: time.Hour})
	publish(t, conn, 1, 100)
	consumer := openConsumer(t, conn)
	for range 3 { // one that is folded, two that wait
		if got := fetch(t, consumer, Limits{Messages: 50, Wait: 5 * time.Second}); len(got) != most/batchShare {
			t.Errorf("got %d messages, want %d", len(got), most/batchShare)
		}
	}
	if s := state(t, conn); s.AckPending > most/4 {
		t.Errorf("one worker has %d messages, want a quarter of %d at most", s.AckPending, most)
	}
}

func TestFetch_TakesMessagesLargerThanItsByteLimitAmongSmallOnes(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	for n := range 30 {
		size := 10
		if n%3 > 0 {
			size = 3000
		}
		if _, _, err := conn.Publish(ctx, Outgoing{Subject: EventSubject("request", "gw-1"), Data: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	consumer := openConsumer(t, conn)
	var got []Message
	for len(got) < 30 {
		got = append(got, fetch(t, consumer, Limits{Bytes: 1000, Messages: 4})...)
	}
	for i, m := range got {
		if m.Sequence != uint64(i+1) {
			t.Fatalf("got messages %s, want 1 to 30", sequenceOf(got))
		}
	}
}

func TestKeep_ForgetsABatchWithItsLastMessage(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	publish(t, conn, 1, 9)
	consumer := openConsumer(t, conn)
	consumer.hands.keep(true)
	batch := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	other := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	ackAll(t, batch[:2])
	if len(consumer.hands.all) != 2 {
		t.Errorf("%d batches are kept, want 2", len(consumer.hands.all))
	}
	if err := batch[2].Nak(time.Hour); err != nil {
		t.Fatal(err)
	}
	if all := consumer.hands.all; len(all) != 1 || all[0] != other[0].hand || len(consumer.hands.free) != 1 {
		t.Errorf("%d batches are kept, want the other one; %d lists to use again", len(all), len(consumer.hands.free))
	}
	third := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second})
	if got := third[0].hand.replies; len(got) != 3 || got[0] != third[0].reply || got[2] != third[2].reply || len(consumer.hands.free) != 0 {
		t.Errorf("the third batch is kept as %q", got)
	}
}
