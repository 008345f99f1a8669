package worker

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/streams"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// harness is a provisioned NATS and Postgres with the default pack.
type harness struct {
	t       *testing.T
	catalog *definition.Catalog
	natsURL string
	pgURL   string
	db      *store.DB
	conn    *stream.Conn
	failed  chan error // what a worker ended with before it was stopped
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, catalog: catalog, pgURL: embeddedtest.Postgres(t), natsURL: embeddedtest.NATS(t), failed: make(chan error, 16)}
	h.db, h.conn = h.openDB(), h.connect()
	if err := h.db.Apply(t.Context(), catalog.Aggregations); err != nil {
		t.Fatal(err)
	}
	plan, err := h.conn.PlanProvision(t.Context(), stream.Provision{AckWait: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) openDB() *store.DB {
	db, err := store.Open(h.t.Context(), store.Config{URL: h.pgURL})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (h *harness) connect() *stream.Conn {
	conn, err := stream.Connect(h.t.Context(), stream.Config{URL: h.natsURL})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(conn.Close)
	return conn
}

func (h *harness) worker(shard string) *Worker {
	return New(Config{ShardID: shard, Owner: "test", Messages: 200, Bytes: 1 << 20, Linger: 20 * time.Millisecond},
		h.catalog, h.db, h.conn, zaptest.NewLogger(h.t, zaptest.Level(zap.WarnLevel)))
}

// run starts workers on shards w1…wn, which stop with the test or when the
// returned function is called.
func (h *harness) run(n int) (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, n)
	for i := range n {
		w := h.worker(fmt.Sprintf("w%d", i+1))
		go func() {
			err := w.Run(ctx)
			if err != nil {
				h.failed <- err
			}
			done <- err
		}()
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range n {
			if err := <-done; err != nil {
				h.t.Errorf("worker: %v", err)
			}
		}
	}
	h.t.Cleanup(stop)
	return stop
}

// drain waits until the workers have acknowledged everything.
func (h *harness) drain() {
	h.t.Helper()
	h.until("everything is folded", func() (bool, error) {
		s, err := h.conn.State(h.t.Context())
		return err == nil && s.Pending == 0 && s.AckPending == 0, err
	})
}

// until polls a condition.
func (h *harness) until(what string, ok func() (bool, error)) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		good, err := ok()
		if good {
			return
		}
		select {
		case <-tick.C:
		case err := <-h.failed:
			h.t.Fatalf("a worker ended while the test waited until %s: %v", what, err)
		case <-deadline.C:
			h.t.Fatalf("waited a minute until %s (last error: %v)", what, err)
		}
	}
}

// publish stores one message, with the identity or, for "", as a foreign one.
func (h *harness) publish(subject, msgID, contentType, body string) {
	h.t.Helper()
	_, _, err := h.conn.Publish(h.t.Context(), stream.Outgoing{Subject: subject, MsgID: msgID, ContentType: contentType, Data: []byte(body)})
	if err != nil {
		h.t.Fatal(err)
	}
}

// totals sums the shards' control totals.
func (h *harness) totals() store.Totals {
	h.t.Helper()
	shards, err := h.db.Shards(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	var sum store.Totals
	for _, s := range shards {
		sum.Messages += s.Messages
		sum.Events += s.Events
		sum.DeadLetters += s.DeadLetters
	}
	return sum
}

// data returns the path of a shared data file, or skips the test aloud.
func data(t *testing.T, path string) string {
	t.Helper()
	path = "../../../shared/data/" + path
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the real logs are not beside the project: %v", err)
	}
	return path
}
