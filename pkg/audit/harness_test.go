package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
	"weir/streams"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// harness is a provisioned NATS and Postgres with the default pack, and an
// auditor of both.
type harness struct {
	*Auditor

	t        *testing.T
	nats     string
	postgres string
	catalog  *definition.Catalog
	store    *store.DB
	stream   *stream.Conn
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	postgres := embeddedtest.PostgresLike(t, "pack", func(url string) error {
		db, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}), db.Close())
	})
	return provisioned(&harness{t: t, catalog: catalog, nats: embeddedtest.NATS(t), postgres: postgres})
}

// provisioned connects the harness to its servers, and provisions these.
func provisioned(h *harness) *harness {
	t := h.t
	t.Helper()
	var err error
	if h.store, err = store.Open(t.Context(), store.Config{URL: h.postgres, MaxOpen: 20}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	h.stream = h.connect()
	if err := h.store.Apply(t.Context(), h.catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.stream.Provision(t.Context(), stream.Provision{AckWait: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	pool, err := store.OpenPool(t.Context(), store.Config{URL: h.postgres})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	h.Auditor = New(pool, h.stream, Config{Version: "test", Budget: time.Minute})
	return h
}

func (h *harness) connect() *stream.Conn {
	conn, err := stream.Connect(h.t.Context(), stream.Config{URL: h.nats})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(conn.Close)
	return conn
}

// run starts workers on these shards; stop waits until they have ended.
func (h *harness) run(shards ...string) (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, len(shards))
	for _, shard := range shards {
		w := worker.New(worker.Config{ShardID: shard, Owner: "test", Messages: 50, Bytes: 1 << 20, Linger: 10 * time.Millisecond},
			h.catalog, h.store, h.stream, zaptest.NewLogger(h.t, zaptest.Level(zap.WarnLevel)))
		go func() { done <- w.Run(ctx) }()
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range shards {
			if err := <-done; err != nil {
				h.t.Errorf("worker: %v", err)
			}
		}
	}
	h.t.Cleanup(stop)
	return stop
}

// publish stores events number from…to of a source, one a message.
func (h *harness) publish(source string, from, to int) {
	h.t.Helper()
	for n := from; n <= to; n++ {
		h.send(source, fmt.Sprintf("%s/e/%d", source, n), n)
	}
}

// send stores one event. The events are two minutes apart, from noon of a day
// of 2024 on.
func (h *harness) send(source, msgID string, n int) {
	h.t.Helper()
	at := time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * 2 * time.Minute)
	body := fmt.Sprintf(`{"apiName":"pizza","apiContext":"/pizza/%d","responseCode":200,"requestTimestamp":%d}`, n%3, at.UnixMilli())
	_, _, err := h.stream.Publish(h.t.Context(), stream.Outgoing{Subject: "events.request." + source, MsgID: msgID, Data: []byte(body)})
	if err != nil {
		h.t.Fatal(err)
	}
}

// drain waits until the workers have acknowledged everything.
func (h *harness) drain() {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(5 * time.Minute)
	defer deadline.Stop()
	for {
		state, err := h.stream.State(h.t.Context())
		if err == nil && state.Behind == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			h.t.Fatalf("the workers did not finish: %+v, %v", state, err)
		}
	}
}

// acknowledge takes n messages, and folds none.
func (h *harness) acknowledge(n int) {
	h.t.Helper()
	consumer, err := h.stream.Consumer(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	defer consumer.Close()
	for taken := 0; taken < n; {
		messages, err := consumer.Fetch(h.t.Context(), limits(n-taken))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, m := range messages {
			if err := m.Ack(); err != nil {
				h.t.Fatal(err)
			}
		}
		taken += len(messages)
	}
	h.drain()
}

func (h *harness) ddl(query string) {
	h.t.Helper()
	if _, err := h.db.ExecContext(h.t.Context(), query); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
}

func (h *harness) exec(query string, args ...any) {
	h.t.Helper()
	result, err := h.db.ExecContext(h.t.Context(), query, args...)
	if err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	if n, _ := result.RowsAffected(); n == 0 {
		h.t.Fatalf("%s: changed nothing", query)
	}
}

func (h *harness) pass() *Report {
	h.t.Helper()
	r, err := h.Pass(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *harness) full() *Report {
	h.t.Helper()
	r, err := h.Full(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *harness) green(r *Report) {
	h.t.Helper()
	if !r.Green() {
		h.t.Fatalf("%s: %+v", r.Sentence(), r.Findings)
	}
}

// number reads one number.
func number(t *testing.T, db *sql.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
