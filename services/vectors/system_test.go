package vectors

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/lib/pq" // for the state that a vector wants the tables in
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// system is a provisioned NATS and Postgres for one vector. One worker runs at
// a time, that of the node at which events arrive: so the stream has the
// events in the order of arrival over all nodes, and each is folded by the
// worker of its own shard.
type system struct {
	t       *testing.T
	vector  *vector
	catalog *definition.Catalog
	url     string // of Postgres
	db      *store.DB
	conn    *stream.Conn
	config  worker.Config
	sent    map[string]int // messages, by subject
	fed     upTo           // the last event that was published

	runs    int          // workers that were started
	folding atomic.Int64 // the last of them that said it folds
	shard   string       // whose worker runs or ran last
	stop    func()       // nil: none runs
	ended   chan error
}

func newSystem(t *testing.T, v *vector, catalog *definition.Catalog) *system {
	t.Helper()
	s := &system{t: t, vector: v, catalog: catalog, sent: map[string]int{}, ended: make(chan error, 1)}
	s.url = embeddedtest.PostgresLike(t, "schema", func(url string) error { // each vector has tables of its own
		db, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), nil, store.PlanOptions{}), db.Close())
	})
	var err error
	if s.db, err = store.Open(t.Context(), store.Config{URL: s.url, MaxOpen: 10}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	if s.conn, err = stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.conn.Close)
	if err := s.db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.Provision(t.Context(), stream.Provision{AckWait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	s.config = pace(v.ID)
	t.Cleanup(s.halt)
	return s
}

// pace is how a worker cuts the events of a vector into batches and which
// coarser levels it flushes with each of them: by chance, but the same for a
// vector every time. Levels that are not flushed get all they lack when the
// worker stops.
func pace(id string) worker.Config {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // it never fails
	seed := h.Sum64()
	chance := rand.New(rand.NewPCG(seed, 0))
	return worker.Config{
		Owner: "test", Messages: 1 + chance.IntN(4), Bytes: 1 << 20, Linger: time.Millisecond,
		Cadence: func(g aggregation.Granularity) time.Duration {
			if rand.New(rand.NewPCG(seed, uint64(g))).IntN(2) == 0 {
				return 0 // with every batch
			}
			return time.Hour // only in the end
		},
	}
}

// run has the worker of the shard, and no other, run.
func (s *system) run(shard string) {
	if s.stop != nil && s.shard == shard {
		return
	}
	s.halt()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.shard, s.stop = shard, cancel
	s.runs++
	w := s.worker(shard)
	go func() { s.ended <- w.Run(ctx) }()
}

func (s *system) worker(shard string) *worker.Worker {
	config := s.config
	config.ShardID = shard
	run := int64(s.runs)
	log := zaptest.NewLogger(s.t, zaptest.Level(zap.InfoLevel), zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "worker folds" {
			s.folding.Store(run)
		}
		return nil
	})))
	return worker.New(config, s.catalog, s.db, s.conn, log)
}

// halt stops the worker that runs, which leaves its shard with all levels
// complete.
func (s *system) halt() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	if err := <-s.ended; err != nil {
		s.t.Errorf("worker of shard %s: %v", s.shard, err)
	}
}

// feed publishes the events up to seq and waits until they are folded.
func (s *system) feed(until upTo) {
	s.t.Helper()
	for _, e := range s.vector.Events {
		if upTo(e.Seq) <= s.fed || upTo(e.Seq) > until {
			continue
		}
		if s.stop != nil && s.shard != e.node() {
			s.drain()
		}
		s.run(e.node())
		for _, in := range s.vector.inputs() {
			s.publish(in, e)
		}
	}
	s.fed = max(s.fed, until)
	s.drain()
}

func (s *system) publish(in *input, e event) {
	s.t.Helper()
	data, err := in.body(e)
	if err != nil {
		s.t.Fatal(err)
	}
	subject := "events." + in.name + "." + e.node()
	s.sent[subject]++
	id := fmt.Sprintf("%s/%s/%d", e.node(), in.name, s.sent[subject])
	if _, _, err := s.conn.Publish(s.t.Context(), stream.Outgoing{Subject: subject, MsgID: id, Data: data}); err != nil {
		s.t.Fatal(err)
	}
}

// drain waits until everything that was published is folded.
func (s *system) drain() {
	s.t.Helper()
	s.until("everything is folded", func() (bool, error) {
		state, err := s.conn.State(s.t.Context())
		return err == nil && state.Behind == 0, err
	})
}

// restart stops the worker and starts it again.
func (s *system) restart() {
	s.t.Helper()
	if s.shard == "" {
		return // none has run yet
	}
	s.halt()
	s.run(s.shard)
	s.until("the worker folds", func() (bool, error) { return s.folding.Load() == int64(s.runs), nil })
}

// until polls a condition.
func (s *system) until(what string, ok func() (bool, error)) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(4 * time.Minute) // a loaded machine, with -race
	defer deadline.Stop()
	for {
		good, err := ok()
		if good {
			return
		}
		select {
		case <-tick.C:
		case err := <-s.ended:
			s.stop = nil
			s.t.Fatalf("the worker of shard %s ended while the test waited until %s: %v", s.shard, what, err)
		case <-deadline.C:
			s.t.Fatalf("waited four minutes until %s (last error: %v)", what, err)
		}
	}
}

// do takes one step.
func (s *system) do(step step) {
	s.t.Helper()
	switch step.Op {
	case "events":
		s.feed(step.Seq)
	case "query":
		s.query(step.ID)
	case "purge":
		s.halt() // what a coarser level lacks would be kept
		if _, err := s.db.Purge(s.t.Context(), time.UnixMilli(step.Now), s.catalog.Aggregations); err != nil {
			s.t.Fatal(err)
		}
	case "restart":
		s.restart()
	case "preload_store":
		s.preload()
	default:
		s.t.Fatalf("there is no step %q", step.Op)
	}
}

// query asks a question twice: while the worker runs, so that what a level
// lacks comes from finer ones, and when all levels are complete.
func (s *system) query(id string) {
	s.t.Helper()
	q := s.vector.question(id)
	if q == nil {
		s.t.Fatalf("there is no question %q", id)
	}
	question, err := q.parse(s.catalog)
	if q.ExpectError != nil && *q.ExpectError {
		s.vector.wantRefused(s.t, q, err)
		return
	}
	if err != nil {
		s.t.Errorf("%s: refused: %v", id, err)
		return
	}
	for _, when := range []string{"while the worker runs", "when the worker has stopped"} {
		answer, err := question.Ask(s.t.Context(), s.db)
		if err != nil {
			s.t.Fatalf("%s, %s: %v", id, when, err)
		}
		if wrong := q.wrong(answer.Rows); wrong != "" {
			s.t.Errorf("%s, %s: %s\nquestion %v\ngot  %v\nwant %v", id, when, wrong, q.values(), answer.Rows, q.want())
		}
		s.halt()
	}
	s.wantComplete()
}

// wantComplete checks that no coarser level lacks anything.
func (s *system) wantComplete() {
	s.t.Helper()
	shards, err := s.db.Shards(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, shard := range shards {
		lacking, _, err := s.db.LoadCascade(s.t.Context(), shard.ShardID, s.catalog.Aggregations, nil, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		if !lacking.Empty() {
			s.t.Errorf("the coarser levels of shard %s lack %d groups although its worker has stopped", shard.ShardID, lacking.Groups())
		}
	}
}

// preload puts the tables in the state of a crash that left rows at the finest
// level only: folds the events that no step feeds, and takes away all that the
// coarser levels have. Siddhi's rows in coarser tables cannot be had so; those
// that count are in the events of the vector too.
func (s *system) preload() {
	s.t.Helper()
	until := upTo(0)
	for _, e := range s.vector.Events {
		until = max(until, upTo(e.Seq))
	}
	for _, step := range s.vector.Steps {
		if step.Op == "events" {
			s.t.Fatal("events after preload_store: which of them are in the store is not said")
		}
	}
	s.feed(until)
	s.halt()
	db, err := sql.Open("postgres", s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	statements := []string{"DELETE FROM weir.watermark"}
	for _, def := range s.catalog.Aggregations {
		for _, level := range def.Granularities[1:] {
			statements = append(statements, "DELETE FROM weir_data."+def.Table(level))
		}
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(s.t.Context(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}
