package stream

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
)

func TestFetch_ReturnsMessagesWithTheirIdentity(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	before := time.Now()
	publish(t, conn, 1, 1)
	m := fetch(t, openConsumer(t, conn), Limits{})[0]
	if m.Subject != "events.request.gw-1" || string(m.Data) != `{"n":1}` || m.ContentType() != "application/json" ||
		m.ContentEncoding() != "" || m.Sequence != 1 || m.Deliveries != 1 {
		t.Errorf("got %+v", m)
	}
	if m.Stored.Before(before) || m.Stored.After(time.Now()) {
		t.Errorf("stored at %s", m.Stored)
	}
	if id, ok := m.Identity(); !ok || id != (Identity{"gw-1", "e", 1, 1}) {
		t.Errorf("identity %+v, %v", id, ok)
	}
}

func TestIdentity_IsForeignWhenTheSourceIsNotTheSubjects(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	for _, id := range []string{"gw-2/e/1", "", "no identity", "gw-1/e/0"} {
		if _, _, err := conn.Publish(ctx, Outgoing{Subject: EventSubject("request", "gw-1"), MsgID: id, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	batch := fetch(t, openConsumer(t, conn), Limits{Messages: 4, Wait: 5 * time.Second})
	if len(batch) != 4 {
		t.Fatalf("got %d messages, want 4", len(batch))
	}
	for _, m := range batch {
		if id, ok := m.Identity(); ok {
			t.Errorf("message with id %q is %+v, want foreign", m.MsgID(), id)
		}
	}
}

func TestFetch_KeepsItsLimits(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	for range 10 {
		if _, _, err := conn.Publish(ctx, Outgoing{Subject: EventSubject("request", "gw-1"), Data: bytes.Repeat([]byte("x"), 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	consumer := openConsumer(t, conn)
	if batch := fetch(t, consumer, Limits{Messages: 3, Wait: 5 * time.Second}); len(batch) != 3 {
		t.Errorf("got %d messages, want 3", len(batch))
	}
	if batch := fetch(t, consumer, Limits{Bytes: 2500, Wait: 5 * time.Second}); len(batch) != 2 || batch[0].Sequence != 4 {
		t.Errorf("got messages %s, want 4 5", sequenceOf(batch))
	}
	if batch := fetch(t, consumer, Limits{Bytes: 10, Wait: 5 * time.Second}); len(batch) != 1 || batch[0].Sequence != 6 {
		t.Errorf("got messages %s, want the 6th alone although it is larger", sequenceOf(batch))
	}
	if batch := fetch(t, consumer, Limits{Wait: 300 * time.Millisecond}); len(batch) != 4 || batch[3].Sequence != 10 {
		t.Errorf("got messages %s, want 7 to 10 when the wait is over", sequenceOf(batch))
	}
}

func TestFetch_TakesTheLargestMessageWhateverTheByteLimit(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	largest := Outgoing{Subject: EventSubject("request", "gw-1"), Data: make([]byte, conn.MaxPayload()-1024)}
	if _, _, err := conn.Publish(testContext(t), largest); err != nil {
		t.Fatal(err)
	}
	if batch := fetch(t, openConsumer(t, conn), Limits{Bytes: 1000}); len(batch) != 1 {
		t.Errorf("got %d messages", len(batch))
	}
}

func TestFetch_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	consumer := openConsumer(t, conn)
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if batch, err := consumer.Fetch(ctx, Limits{}); !errors.Is(err, context.DeadlineExceeded) || batch != nil {
		t.Errorf("got %d messages, %v", len(batch), err)
	}
	publish(t, conn, 1, 1)
	ctx, cancel = context.WithCancel(testContext(t))
	time.AfterFunc(200*time.Millisecond, cancel)
	if batch, err := consumer.Fetch(ctx, Limits{Wait: time.Hour}); err != nil || len(batch) != 1 {
		t.Errorf("got %d messages, %v, want the one there is", len(batch), err)
	}
}

func TestFetch_SharesMessagesBetweenWorkersWithoutLoss(t *testing.T) {
	t.Parallel()
	const total = 2000
	conn := provisioned(t, Provision{AckWait: time.Minute})
	var done sync.WaitGroup
	for n := 1; n <= total; n++ {
		done.Add(1)
		if err := conn.PublishAsync(testContext(t), event(n), func(_ uint64, _ bool, err error) {
			defer done.Done()
			if err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()

	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var mu sync.Mutex
	seen := make(map[int]int)
	var workers sync.WaitGroup
	shares := make([]int, 2)
	for w := range shares {
		consumer := openConsumer(t, conn)
		workers.Go(func() {
			for {
				batch, err := consumer.Fetch(ctx, Limits{Messages: 50})
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				ackAll(t, batch)
				mu.Lock()
				shares[w] += len(batch)
				for _, n := range numbers(t, batch) {
					seen[n]++
				}
				if len(seen) == total {
					stop()
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	for n := 1; n <= total; n++ {
		if seen[n] != 1 {
			t.Errorf("message %d was delivered %d times", n, seen[n])
		}
	}
	if min(shares[0], shares[1]) == 0 {
		t.Errorf("one worker got everything: %v", shares)
	}
}

func TestClose_GivesBackWhatWasNotHandedOut(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	publish(t, conn, 1, 20)
	leaving, err := conn.Consumer(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	first := fetch(t, leaving, Limits{Messages: 10, Wait: 5 * time.Second})
	ackAll(t, first)
	leaving.Close()
	if _, err := leaving.Fetch(testContext(t), Limits{}); !errors.Is(err, ErrClosed) {
		t.Errorf("fetch after close: %v", err)
	}

	staying := openConsumer(t, conn)
	got := numbers(t, first)
	for len(got) < 20 {
		batch := fetch(t, staying, Limits{})
		ackAll(t, batch)
		got = append(got, numbers(t, batch)...)
	}
	slices.Sort(got)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("got %v, want 1 to 20 once each", got)
		}
	}
}

func TestFetch_SurvivesARestartOfNATS(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connect(t, server.url())
	provision(t, conn, Provision{AckWait: time.Second})
	publish(t, conn, 1, 10)
	consumer := openConsumer(t, conn)
	seen := make(map[int]bool)
	for _, n := range numbers(t, fetch(t, consumer, Limits{Messages: 4, Wait: 5 * time.Second})) {
		seen[n] = true // not acknowledged: they must come again
	}

	// A Fetch is waiting while the server goes.
	server.stop()
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		server.start(t)
		publish(t, conn, 11, 20)
	}()
	seen = make(map[int]bool)
	for len(seen) < 20 {
		batch := fetch(t, consumer, Limits{Messages: 4})
		ackAll(t, batch)
		for _, n := range numbers(t, batch) {
			seen[n] = true
		}
	}
	<-restarted
}

func TestFetch_RefusesAnotherStreamOfTheSameName(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connect(t, server.url())
	provision(t, conn, Provision{})
	publish(t, conn, 1, 3)
	consumer := openConsumer(t, conn)
	ackAll(t, fetch(t, consumer, Limits{}))

	server.stop()
	server.cfg.Dir = t.TempDir() // everything lost
	server.start(t)
	other := connect(t, server.url())
	provision(t, other, Provision{})
	publish(t, other, 1, 3)

	if batch, err := consumer.Fetch(testContext(t), Limits{}); !errors.Is(err, ErrGone) {
		t.Errorf("got messages %s of another stream, %v, want ErrGone", sequenceOf(batch), err)
	}
	if _, err := consumer.Fetch(testContext(t), Limits{}); !errors.Is(err, ErrGone) {
		t.Errorf("the second time: %v, want ErrGone again", err)
	}
}

func TestFetch_EndsWhenTheConsumerIsDeleted(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	consumer := openConsumer(t, conn)
	errs := make(chan error, 1)
	ctx := testContext(t)
	go func() {
		_, err := consumer.Fetch(ctx, Limits{})
		errs <- err
	}()
	eventually(t, "a waiting pull", func() bool {
		info, err := conn.js.Consumer(ctx, EventsStream, FoldConsumer)
		return err == nil && info.CachedInfo().NumWaiting > 0
	})
	if err := conn.js.DeleteConsumer(ctx, EventsStream, FoldConsumer); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestConsumer_CreatesNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	if _, err := conn.Consumer(testContext(t)); !errors.Is(err, ErrNotProvisioned) {
		t.Errorf("got %v, want ErrNotProvisioned", err)
	}
	if _, err := conn.State(testContext(t)); !errors.Is(err, ErrNotProvisioned) {
		t.Errorf("got %v, want ErrNotProvisioned", err)
	}
}
