package worker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver of the tests' own questions
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/streams"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(workerVariable); spec != "" {
		os.Exit(runAsWorker(spec))
	}
	embeddedtest.Main(m)
}

// patience is how long tests wait for what has to come: a loaded machine, with -race.
const patience = 4 * time.Minute

// harness is a provisioned NATS and Postgres with the default pack.
type harness struct {
	t       *testing.T
	catalog *definition.Catalog
	servers servers
	db      *store.DB
	sql     *sql.DB // for the tests' own questions; its sessions are named "tests"
	conn    *stream.Conn
	failed  chan error // what a worker ended with before it was stopped
}

// servers says where NATS and Postgres are; "" is one of the test's own.
type servers struct {
	nats, postgres string
	ackWait        time.Duration // default a minute: on a busy machine nothing is delivered again that was only slow
	definitions    fs.FS         // default the default pack
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	return newHarnessOn(t, servers{})
}

func newHarnessOn(t *testing.T, s servers) *harness {
	t.Helper()
	if s.definitions == nil {
		s.definitions = streams.Files
	}
	catalog, err := definition.Load(s.definitions)
	if err != nil {
		t.Fatal(err)
	}
	applied := s.postgres == ""
	if applied {
		s.postgres = appliedPostgres(t, s.definitions, catalog)
	}
	if s.nats == "" {
		s.nats = embeddedtest.NATS(t)
	}
	if s.ackWait == 0 {
		s.ackWait = time.Minute
	}
	h := &harness{t: t, catalog: catalog, servers: s, failed: make(chan error, 16)}
	h.db, h.sql, h.conn = h.openDB(), h.openSQL(), h.connect()
	if !applied {
		if err := h.db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h.provision()
	return h
}

// appliedPostgres is a database to which the definitions are applied.
func appliedPostgres(t *testing.T, definitions fs.FS, catalog *definition.Catalog) string {
	t.Helper()
	files, err := fs.Glob(definitions, "*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no definitions", err)
	}
	key := ""
	for _, name := range files {
		text, err := fs.ReadFile(definitions, name)
		if err != nil {
			t.Fatal(err)
		}
		key += name + "\n" + string(text)
	}
	return embeddedtest.PostgresLike(t, key, func(url string) error {
		db, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}), db.Close())
	})
}

func (h *harness) openDB() *store.DB {
	db, err := store.Open(h.t.Context(), store.Config{URL: h.servers.postgres, MaxOpen: 20})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (h *harness) openSQL() *sql.DB {
	u, err := url.Parse(h.servers.postgres)
	if err != nil {
		h.t.Fatal(err)
	}
	q := u.Query()
	q.Set("application_name", "tests")
	u.RawQuery = q.Encode()
	db, err := sql.Open("postgres", u.String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (h *harness) connect() *stream.Conn {
	conn, err := stream.Connect(h.t.Context(), stream.Config{URL: h.servers.nats})
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
	workers := make([]*Worker, n)
	for i := range workers {
		workers[i] = h.worker(fmt.Sprintf("w%d", i+1))
	}
	return h.runAll(workers...)
}

// runAll is run with these workers.
func (h *harness) runAll(workers ...*Worker) (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, len(workers))
	for _, w := range workers {
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
		for range workers {
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
		return err == nil && s.Behind == 0, err
	})
}

// until polls a condition.
func (h *harness) until(what string, ok func() (bool, error)) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
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
			h.t.Fatalf("waited %s until %s (last error: %v)", patience, what, err)
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

// publishCalls stores messages n = from…to of one event each.
func (h *harness) publishCalls(source string, from, to int) {
	h.t.Helper()
	for n := from; n <= to; n++ {
		h.publish("events.request."+source, fmt.Sprintf("%s/e/%d", source, n), "", call(n, ""))
	}
}

// call is a request event, number n of an hour of 2024; more are further
// attributes.
func call(n int, more string) string {
	at := time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
	return fmt.Sprintf(`{"apiName":"pizza","apiContext":"/pizza/1","responseCode":200,"requestTimestamp":%d%s}`, at.UnixMilli(), more)
}

// idle returns a worker that has its shard but does not run: the test hands
// it its batches.
func (h *harness) idle(shard string) *Worker {
	h.t.Helper()
	w := h.worker(shard)
	var err error
	if w.consumer, err = h.conn.Consumer(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(w.consumer.Close)
	if err := w.leaseShard(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = w.lease.Close() })
	return w
}

// take fetches n messages, and acknowledges none.
func (h *harness) take(w *Worker, n int) (messages []stream.Message) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for len(messages) < n {
		more, err := w.consumer.Fetch(ctx, stream.Limits{Messages: n - len(messages)})
		if err != nil {
			h.t.Fatal(err)
		}
		messages = append(messages, more...)
	}
	return messages
}

func (h *harness) process(w *Worker, messages ...stream.Message) {
	h.t.Helper()
	for len(messages) > 0 {
		n, err := w.process(h.t.Context(), messages)
		if err != nil {
			h.t.Fatal(err)
		}
		messages = messages[n:]
	}
}

// ask reads one value from Postgres.
func ask[T any](h *harness, query string, args ...any) (v T) {
	h.t.Helper()
	if err := h.sql.QueryRowContext(h.t.Context(), query, args...).Scan(&v); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	return v
}

// counts reads a table of texts and numbers.
func (h *harness) counts(query string, args ...any) map[string]int64 {
	h.t.Helper()
	rows, err := h.sql.QueryContext(h.t.Context(), query, args...)
	if err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	counts := map[string]int64{}
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			h.t.Fatal(err)
		}
		counts[name] = n
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return counts
}

// folded is how many events the tables of an aggregation hold.
func (h *harness) folded(aggregationName string) int64 {
	h.t.Helper()
	table := h.catalog.Aggregation(aggregationName).Table(aggregation.Seconds)
	return ask[int64](h, `SELECT coalesce(sum(n), 0)::bigint FROM weir_data.`+table+`, unnest(weir_events) AS n`)
}

// wantCalls checks that the request events folded are exactly so many, by the
// tables, at every level, and by the control totals.
func (h *harness) wantCalls(what string, want int64) {
	h.t.Helper()
	if got := h.folded("ApiVersionPerAppAgg"); got != want {
		h.t.Errorf("%s: %d events are in the table, want %d", what, got, want)
	}
	if got := h.totals().Events; got != want {
		h.t.Errorf("%s: %d events are in the control totals, want %d", what, got, want)
	}
	h.wantConserved(what, h.catalog.Aggregation("ApiVersionPerAppAgg"))
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
		sum.OtherEvents += s.OtherEvents
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
