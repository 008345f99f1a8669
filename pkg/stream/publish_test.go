package stream

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestPublish_ReportsDuplicates(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	for i, wantDuplicate := range []bool{false, true} {
		seq, duplicate, err := conn.Publish(ctx, event(1))
		if err != nil || seq != 1 || duplicate != wantDuplicate {
			t.Errorf("attempt %d: got %d, %v, %v", i, seq, duplicate, err)
		}
	}
}

func TestPublish_FailsAtOnceWhenTheMessageIsAtFault(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{MaxMessageBytes: 1000})
	for _, size := range []int{2000, conn.MaxPayload() + 1} {
		_, _, err := conn.Publish(testContext(t), Outgoing{Subject: EventSubject("request", "gw-1"), Data: make([]byte, size)})
		if err == nil {
			t.Errorf("%d bytes were published", size)
		}
	}
	if _, _, err := conn.Publish(testContext(t), Outgoing{Subject: "events.a b", Data: []byte("{}")}); !errors.Is(err, nats.ErrBadSubject) {
		t.Errorf("bad subject: %v", err)
	}
}

func TestPublish_EndsWithItsContextWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connect(t, server.url())
	ctx, cancel := context.WithTimeout(testContext(t), time.Second)
	defer cancel()
	if _, _, err := conn.Publish(ctx, event(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no stream: %v", err)
	}
	server.stop()
	ctx, cancel = context.WithTimeout(testContext(t), 300*time.Millisecond)
	defer cancel()
	if _, _, err := conn.Publish(ctx, event(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no server: %v", err)
	}
}

func TestPublish_GivesUpAfterRetryFor(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connectWith(t, Config{URL: server.url(), RetryFor: 200 * time.Millisecond})
	server.stop()
	eventually(t, "the connection to be lost", func() bool { return !conn.nc.IsConnected() })
	_, _, err := conn.Publish(testContext(t), event(1))
	if !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("got %v", err)
	}
}

func TestPublishAsync_SurvivesARestartWithoutDoubles(t *testing.T) {
	t.Parallel()
	const total = 3000
	server := startServer(t)
	conn := connectWith(t, Config{URL: server.url(), MaxInFlight: 100})
	provision(t, conn, Provision{})
	var stored sync.WaitGroup
	var acknowledged atomic.Int64
	restart := make(chan struct{})
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-restart
		server.stop()
		server.start(t)
	}()
	ctx := testContext(t)
	for n := 1; n <= total; n++ {
		stored.Add(1)
		err := conn.PublishAsync(ctx, event(n), func(_ uint64, _ bool, err error) {
			defer stored.Done()
			if err != nil {
				t.Error(err)
			}
			if acknowledged.Add(1) == total/3 {
				close(restart)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stored.Wait()
	<-restarted
	state, err := conn.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if state.Messages != total || state.LastSequence != total {
		t.Errorf("stream holds %d messages, last %d, want %d", state.Messages, state.LastSequence, total)
	}
}

func TestPublishAsync_PushesBackWhenTooManyAreUnderWay(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connectWith(t, Config{URL: server.url(), MaxInFlight: 2})
	provision(t, conn, Provision{})
	server.stop()
	var done sync.WaitGroup
	for n := 1; n <= 2; n++ {
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
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	err := conn.PublishAsync(ctx, event(3), func(uint64, bool, error) { t.Error("a refused message is done") })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	server.start(t)
	done.Wait()
	publish(t, conn, 3, 3)
}

func TestPublish_WaitsWhileTheStreamIsFull(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{MaxBytes: 20_000})
	ctx := testContext(t)
	big := func(n int) Outgoing {
		out := event(n)
		out.Data = bytes.Repeat([]byte("x"), 4000)
		return out
	}
	for n := 1; n <= 4; n++ {
		if _, _, err := conn.Publish(ctx, big(n)); err != nil {
			t.Fatal(err)
		}
	}
	results := make(chan error, 1)
	if err := conn.PublishAsync(ctx, big(5), func(_ uint64, _ bool, err error) { results <- err }); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, _, err := conn.Publish(short, big(6)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a full stream took a message: %v", err)
	}
	provision(t, conn, Provision{MaxBytes: 1 << 20})
	if err := <-results; err != nil {
		t.Errorf("after the stream had room: %v", err)
	}
	state, err := conn.State(ctx)
	if err != nil || state.Messages < 5 {
		t.Errorf("got %+v, %v", state, err)
	}
}

func TestClose_EndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connect(t, server.url())
	provision(t, conn, Provision{})
	server.stop()
	results := make(chan error, 1)
	if err := conn.PublishAsync(testContext(t), event(1), func(_ uint64, _ bool, err error) { results <- err }); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, _, err := conn.Publish(testContext(t), event(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}
