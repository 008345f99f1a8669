package worker

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/gateway"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/streams"
)

// BenchmarkEngine folds simulated traffic with the whole default pack, through
// JetStream and into Postgres, in batches of about 10,000 and 50,000 events,
// and then asks for a month per days. One iteration is the whole:
//
//	WEIR_BENCH_EVENTS=10000000 go test -run '^$' -bench Engine -benchtime 1x -timeout 2h ./pkg/worker
//
// The events (300,000 where it is not said how many) have up to a month of event
// time: each day has its share within a minute, 5,400 a second of ten million,
// so that a batch spans seconds, as it does in a busy stream. Every count is
// compared with what was published.
func BenchmarkEngine(b *testing.B) {
	events := 300_000
	if text := os.Getenv("WEIR_BENCH_EVENTS"); text != "" {
		var err error
		if events, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for _, batch := range []int{10_000, 50_000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			for b.Loop() {
				newEngineBench(b, batch).run(events)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

const (
	benchDays       = 31
	eventsPerBenchM = 100 // events in a message
)

type engineBench struct {
	b        *testing.B
	catalog  *definition.Catalog
	postgres string // URL
	server   *embedded.Postgres
	db       *store.DB
	sql      *sql.DB
	conn     *stream.Conn
	batch    int
	requests int64 // published, of that type
}

func newEngineBench(b *testing.B, batch int) *engineBench {
	b.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{KeepAll: true})
	if err != nil {
		b.Fatal(err)
	}
	server := embeddedtest.PostgresServer(b)
	e := &engineBench{b: b, catalog: catalog, postgres: server.URL(), server: server, batch: batch}
	if e.db, err = store.Open(b.Context(), store.Config{URL: e.postgres, StatementTimeout: -1}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.db.Close() })
	if e.sql, err = sql.Open("postgres", e.postgres); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.sql.Close() })
	if e.conn, err = stream.Connect(b.Context(), stream.Config{URL: embeddedtest.NATS(b)}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(e.conn.Close)
	if err := e.db.Apply(b.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
		b.Fatal(err)
	}
	if _, err := e.conn.Provision(b.Context(), stream.Provision{AckWait: time.Minute}); err != nil {
		b.Fatal(err)
	}
	return e
}

func benchValue[T any](e *engineBench, text string, args ...any) (v T) {
	e.b.Helper()
	if err := e.sql.QueryRowContext(e.b.Context(), text, args...).Scan(&v); err != nil {
		e.b.Fatalf("%s: %v", text, err)
	}
	return v
}

func (e *engineBench) run(events int) {
	var folding time.Duration
	var postgres, process time.Duration
	var wal float64
	days := min(benchDays, max(1, events/(4*e.batch)))
	for day := range days { // day by day, so that publishing does not disturb
		e.publish(day, events/days)
		walBefore, postgresBefore, processBefore, started := benchValue[string](e, `SELECT pg_current_wal_lsn()::text`), embeddedtest.PostgresCPU(e.server), embeddedtest.OwnCPU(), time.Now()
		e.fold()
		folding += time.Since(started)
		postgres += embeddedtest.PostgresCPU(e.server) - postgresBefore
		process += embeddedtest.OwnCPU() - processBefore
		wal += benchValue[float64](e, `SELECT pg_current_wal_lsn() - $1::pg_lsn`, walBefore)
	}
	n := float64(events / days * days)
	e.b.ReportMetric(n/folding.Seconds(), "events/s")
	e.b.ReportMetric(n/float64(benchValue[int64](e, `SELECT sum(last_batch) FROM weir.shard`)), "events/flush")
	e.b.ReportMetric(float64(postgres.Microseconds())/n, "postgres-µs/event")
	e.b.ReportMetric(float64(process.Microseconds())/n, "worker+nats-µs/event")
	e.b.ReportMetric(wal/n, "WAL-B/event")
	e.b.ReportMetric(e.rows()/n, "rows/event")
	e.ask()
}

// publish stores a day's events: simulated, a minute of that day.
func (e *engineBench) publish(day, events int) {
	e.b.Helper()
	source := fmt.Sprintf("gw-%d", day)
	publisher, err := gateway.NewPublisher(e.conn, gateway.PublisherConfig{Source: source, BatchEvents: eventsPerBenchM, Linger: -1})
	if err != nil {
		e.b.Fatal(err)
	}
	simulator := gateway.NewSimulator(gateway.SimulatorConfig{Source: "gw", Seed: uint64(day)})
	start := time.Date(2026, 10, 1+day, 12, 0, 0, 0, time.UTC)
	for i := range events {
		event, err := simulator.Next(start.Add(time.Duration(i) * time.Minute / time.Duration(events)))
		if err == nil {
			err = publisher.Publish(e.b.Context(), event.Type, event.JSON)
		}
		if err != nil {
			e.b.Fatal(err)
		}
		if event.Type == gateway.TypeRequest {
			e.requests++
		}
	}
	if err := publisher.Close(e.b.Context()); err != nil {
		e.b.Fatal(err)
	}
}

// fold runs a worker until everything is folded, and lets it end.
func (e *engineBench) fold() {
	e.b.Helper()
	ctx, stop := context.WithCancel(e.b.Context())
	defer stop()
	w := New(Config{ShardID: "w1", Owner: "bench", Messages: e.batch / eventsPerBenchM, Bytes: 256 << 20, Linger: 200 * time.Millisecond},
		e.catalog, e.db, e.conn, zap.NewNop())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			e.b.Fatalf("the worker ended: %v", err)
		case <-tick.C:
		}
		if s, err := e.conn.State(ctx); err == nil && s.Behind == 0 {
			break
		}
	}
	stop()
	if err := <-done; err != nil {
		e.b.Fatal(err)
	}
}

// rows counts what is stored, over all aggregations, levels and shards.
func (e *engineBench) rows() (n float64) {
	for _, def := range e.catalog.Aggregations {
		for _, level := range def.Granularities {
			n += benchValue[float64](e, `SELECT count(*) FROM weir_data."`+def.Table(level)+`"`)
		}
	}
	return n
}

// ask asks for a month per days, checks the answer, and reports the median of
// five times.
func (e *engineBench) ask() {
	e.b.Helper()
	for _, c := range []struct{ unit, groupBy, selected string }{
		{"ms/month-by-api", "bucket,apiContext", "bucket,apiContext,totalRequestCount"},
		{"ms/month-by-user", "bucket,applicationId,username", "bucket,applicationId,username,totalRequestCount"},
	} {
		name := map[bool]string{true: "ApiUserPerAppAgg", false: "ApiVersionPerAppAgg"}[strings.Contains(c.unit, "user")]
		question, err := query.Parse(e.catalog, name, url.Values{
			"within": {"2026-10-01,2026-11-01"}, "per": {"days"}, "group_by": {c.groupBy}, "select": {c.selected},
		})
		if err != nil {
			e.b.Fatal(err)
		}
		var times []time.Duration
		for range 5 {
			started, counted := time.Now(), int64(0)
			err := question.Each(e.b.Context(), e.db, func(cells []any) error {
				n, _ := cells[len(cells)-1].(int64)
				counted += n
				return nil
			})
			if err != nil {
				e.b.Fatal(err)
			}
			if counted != e.requests {
				e.b.Fatalf("%s per days has %d events, want the %d published", name, counted, e.requests)
			}
			times = append(times, time.Since(started))
		}
		slices.Sort(times)
		e.b.ReportMetric(float64(times[2].Microseconds())/1000, c.unit)
	}
}
