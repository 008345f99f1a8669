package stream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestFetch_EndsWhenTheConsumerWasDeletedBefore(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	consumer := openConsumer(t, conn)
	if err := conn.js.DeleteConsumer(testContext(t), EventsStream, FoldConsumer); err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Fetch(testContext(t), Limits{}); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestFetch_EndsWhenTheConsumerAllowsLessThanItAsks(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	ctx := testContext(t)
	consumer := openConsumer(t, conn)
	config := Provision{}.withDefaults().fold()
	config.MaxRequestBatch = 5
	if _, err := conn.js.UpdateConsumer(ctx, EventsStream, config); err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Fetch(ctx, Limits{Messages: 10}); err == nil || !strings.Contains(err.Error(), "MaxRequestBatch") {
		t.Errorf("got %v, want what NATS says", err)
	}
}

func TestFetch_EndsWithTheConnection(t *testing.T) {
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
	conn.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// A server says nothing when a message uses up exactly the bytes of a request.
func TestFetch_GoesOnWhenARequestsBytesAreUsedUpExactly(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	publish(t, conn, 1, 9)
	arrived := make(chan *nats.Msg, 1)
	inbox := conn.nc.NewInbox()
	if _, err := conn.nc.ChanSubscribe(inbox, arrived); err != nil {
		t.Fatal(err)
	}
	if err := conn.requestMessages(FoldConsumer, inbox, pullRequest{Batch: 1, Expires: time.Minute}); err != nil {
		t.Fatal(err)
	}
	first := <-arrived
	consumer := openConsumer(t, conn)
	var inboxes []*nats.Subscription
	for n := 0; n < 8; {
		n += len(fetch(t, consumer, Limits{Messages: 5, Bytes: first.Size()}))
		inboxes = append(inboxes, consumer.pull.sub)
	}
	for _, sub := range inboxes {
		if sub != inboxes[0] {
			t.Fatal("the silence had to pass until the consumer asked again")
		}
	}
}

func TestFetch_AsksForOneBatchAhead(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	publish(t, conn, 1, 50)
	consumer := openConsumer(t, conn)
	fetch(t, consumer, Limits{Messages: 10, Wait: 5 * time.Second})
	eventually(t, "a batch ahead", func() bool { return state(t, conn).AckPending == 20 })
	fetch(t, consumer, Limits{Messages: 10, Wait: 5 * time.Second})
	eventually(t, "another one", func() bool { return state(t, conn).AckPending == 30 })
}
