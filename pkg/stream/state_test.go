package stream

import (
	"context"
	"sync"
	"testing"
	"time"
)

func state(t testing.TB, conn *Conn) State {
	t.Helper()
	s, err := conn.State(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestState_CompleteThroughStopsBeforeTheFirstUnacknowledged(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	before := time.Now()
	if got := state(t, conn); got.CompleteThrough.Before(before) {
		t.Errorf("empty stream: complete through %s, want now", got.CompleteThrough)
	}

	publish(t, conn, 1, 3)
	got := state(t, conn)
	if got.LastSequence != 3 || got.Pending != 3 || got.Messages != 3 || !got.CompleteThrough.Before(time.Now()) {
		t.Errorf("got %+v", got)
	}
	batch := fetch(t, openConsumer(t, conn), Limits{Messages: 3, Wait: 5 * time.Second})
	if !got.CompleteThrough.Equal(batch[0].Stored.Add(-1)) {
		t.Errorf("nothing delivered: complete through %s, want just before %s", got.CompleteThrough, batch[0].Stored)
	}

	ackAll(t, []Message{batch[0], batch[2]})
	eventually(t, "two acknowledged", func() bool { got = state(t, conn); return got.AckPending == 1 })
	if !got.CompleteThrough.Equal(batch[1].Stored.Add(-1)) {
		t.Errorf("second missing: complete through %s, want just before %s", got.CompleteThrough, batch[1].Stored)
	}

	ackAll(t, batch[1:2])
	before = time.Now()
	eventually(t, "all acknowledged", func() bool { got = state(t, conn); return got.AckPending == 0 })
	if got.CompleteThrough.Before(before) {
		t.Errorf("all acknowledged: complete through %s, want at least %s", got.CompleteThrough, before)
	}
}

// factCheck holds what a worker knows for certain: which messages it has and
// has not acknowledged, and the latest time that was claimed to be complete.
type factCheck struct {
	mu      sync.Mutex
	unacked map[uint64]time.Time // stored times, by sequence
	claimed time.Time
	claims  int
}

// claim checks a claim against the messages known to be unacknowledged.
func (f *factCheck) claim(t *testing.T, through time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claims++
	for sequence, stored := range f.unacked {
		if !stored.After(through) {
			t.Errorf("complete through %s is claimed, but message %d, stored at %s, is not acknowledged", through, sequence, stored)
		}
	}
	if through.After(f.claimed) {
		f.claimed = through
	}
}

// got checks messages that just became known against the claims made before.
func (f *factCheck) got(t *testing.T, batch []Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range batch {
		if !m.Stored.After(f.claimed) {
			t.Errorf("message %d, stored at %s, was not acknowledged when complete through %s was claimed", m.Sequence, m.Stored, f.claimed)
		}
		f.unacked[m.Sequence] = m.Stored
	}
}

func (f *factCheck) acknowledge(t *testing.T, m Message) {
	f.mu.Lock()
	delete(f.unacked, m.Sequence)
	f.mu.Unlock()
	ackAll(t, []Message{m})
}

func TestState_CompleteThroughIsNeverAheadOfFact(t *testing.T) {
	t.Parallel()
	const total = 1500
	conn := provisioned(t, Provision{AckWait: time.Hour})
	consumer := openConsumer(t, conn)
	facts := &factCheck{unacked: make(map[uint64]time.Time)}
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var background sync.WaitGroup
	background.Go(func() {
		publishing := testContext(t)
		for n := 1; n <= total; n++ {
			if _, _, err := conn.Publish(publishing, event(n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	background.Go(func() {
		for {
			s, err := conn.State(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			facts.claim(t, s.CompleteThrough)
		}
	})

	for done := 0; done < total; {
		batch := fetch(t, consumer, Limits{Messages: 7, Wait: time.Millisecond})
		facts.got(t, batch)
		for _, m := range batch {
			facts.acknowledge(t, m)
		}
		done += len(batch)
	}
	stop()
	background.Wait()
	if facts.claims < 10 || facts.claimed.IsZero() {
		t.Errorf("only %d claims were tested", facts.claims)
	}
}
