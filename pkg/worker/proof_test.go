package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/failpoint"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// proofPack is a small pack: every case of a test has tables of its own.
func proofPack() fstest.MapFS {
	return fstest.MapFS{
		"tick.yaml": {Data: []byte(`
stream: tick
time: at
attributes:
  at:   {type: time, unit: ms, description: when}
  name: {type: string, description: who}
  size: {type: int, min: 0, description: how much}
aggregations:
  Ticks:
    description: Ticks by name.
    group_by: [name]
    select:
      n:     count()
      total: sum(size)
    every: seconds, minutes, hours, days, years
`)},
		"rules.yaml": {Data: []byte(`
rules:
  large:
    description: A tick is large.
    type: event
    stream: tick
    severity: 2
    value: size
    above: 5000
    key: [name]
    suppress: 10 minutes
    message: "{name} has {value}"
`)},
	}
}

// proof is a harness that keeps, beside what it publishes, what must come of it:
// an oracle that shares nothing with the fold.
type proof struct {
	*harness
	idleInTx time.Duration // of the workers' sessions

	made       int // events so far: each has its own time
	number     int // of the last message of the epoch
	epoch      string
	want       map[aggregation.Granularity]map[string]int64 // by bucket and name: events, and sizes
	totals     store.Totals
	claims     int64 // identities
	alerts     int64
	alertsLost bool // by the test, from the stream
	watchers   []*supervised
}

func newProof(t *testing.T) *proof {
	t.Helper()
	return newProofOn(t, servers{ackWait: time.Second})
}

func newProofOn(t *testing.T, s servers) *proof {
	t.Helper()
	s.definitions = proofPack()
	p := &proof{harness: newHarnessOn(t, s), epoch: "e", idleInTx: 500 * time.Millisecond, want: map[aggregation.Granularity]map[string]int64{}}
	for _, per := range p.ticks().Granularities {
		p.want[per] = map[string]int64{}
	}
	return p
}

func (p *proof) ticks() *aggregation.Definition { return p.catalog.Aggregation("Ticks") }

// tick makes an event: its text, and what adds it to the oracle.
func (p *proof) tick(size int64) (text string, count func()) {
	p.made++
	n := p.made
	at := time.Date(2024, 2, 28, 23, 50, 0, 0, time.UTC).Add(time.Duration(n*n) * 7 * time.Second)
	name := fmt.Sprint("name", n%5)
	if size > 5000 {
		name = fmt.Sprint("large", n) // not suppressed by another
	}
	return fmt.Sprintf(`{"at":%d,"name":%q,"size":%d}`, at.UnixMilli(), name, size), func() {
		for per, want := range p.want {
			key := bucketOf(at, per).Format(time.RFC3339) + " " + name
			want[key+" n"]++
			want[key+" total"] += size
		}
		p.totals.Events++
		if size > 5000 {
			p.alerts++
		}
	}
}

// bucketOf is the oracle's own: by the calendar.
func bucketOf(at time.Time, per aggregation.Granularity) time.Time {
	y, mo, d := at.Date()
	h, mi, s := at.Clock()
	switch per {
	case aggregation.Minutes:
		s = 0
	case aggregation.Hours:
		mi, s = 0, 0
	case aggregation.Days:
		h, mi, s = 0, 0, 0
	case aggregation.Years:
		mo, d, h, mi, s = 1, 1, 0, 0, 0
	default: // seconds
	}
	return time.Date(y, mo, d, h, mi, s, 0, time.UTC)
}

// message publishes events as one message under the id, "" for none, that
// claims so many identities.
func (p *proof) message(id string, claims int64, sizes ...int64) (body string) {
	p.t.Helper()
	for _, size := range sizes {
		text, count := p.tick(size)
		count()
		body += text + "\n"
	}
	p.publish("events.tick.gw", id, "application/x-ndjson", body)
	p.totals.Messages++
	p.claims += claims
	return body
}

func (p *proof) id() string {
	p.number++
	return fmt.Sprintf("gw/%s/%d", p.epoch, p.number)
}

// own publishes n messages of one event each, with identities of their own.
func (p *proof) own(n int) {
	for range n {
		p.message(p.id(), 1, 3)
	}
}

// bad publishes a message that cannot be read.
func (p *proof) bad(id string) {
	p.publish("events.tick.gw", id, "", "broken")
	p.totals.Messages++
	p.totals.DeadLetters++
	p.claims++
}

// round publishes some messages of every kind.
func (p *proof) round() {
	p.t.Helper()
	p.own(3)
	p.message(p.id(), 1, 1, 2)
	p.message(fmt.Sprintf("gw/r/%d-%d", 10*p.number, 10*p.number+2), 3, 4, 5, 6)
	p.message("", 1, 7)
	p.message("", 1, 8, 9)
	p.bad(p.id())
	p.bad("")
	text, count := p.tick(10)
	count()
	p.publish("events.tick.gw", p.id(), "application/json", "["+text+",7]") // one good, one bad
	p.totals.Messages++
	p.totals.DeadLetters++
	p.claims++
	p.message(p.id(), 1, 6000)
	p.message("", 1, 7000)
}

// check compares everything with the oracle.
func (p *proof) check(when string) {
	p.t.Helper()
	for per, want := range p.want {
		if got := p.answer(per); !maps.Equal(got, want) {
			p.t.Errorf("%s, per %s: got %s\nwant %s", when, per, show(got), show(want))
		}
	}
	if got, want := p.harness.totals(), p.totals; got != want {
		p.t.Errorf("%s: control totals %+v, want %+v", when, got, want)
	}
	ledger := ask[int64](p.harness, `SELECT (SELECT coalesce(sum(length(replace(bits::text, '0', ''))), 0) FROM weir.ledger_page)
		+ (SELECT coalesce(sum(last_page - first_page + 1), 0) * 4096 FROM weir.ledger_full) + (SELECT count(*) FROM weir.ledger_foreign)`)
	if ledger != p.claims {
		p.t.Errorf("%s: the ledger holds %d identities, want %d", when, ledger, p.claims)
	}
	letters := ask[string](p.harness, `SELECT count(*) || ' ' || count(DISTINCT (sequence, event_offset, stored_at)) FROM weir.dead_letter`)
	if want := fmt.Sprintf("%d %[1]d", p.totals.DeadLetters); letters != want {
		p.t.Errorf("%s: dead letters, and different ones: %s, want %s", when, letters, want)
	}
	if n := ask[int64](p.harness, `SELECT count(*) FROM weir.alert`); n != p.alerts {
		p.t.Errorf("%s: %d alerts, want %d", when, n, p.alerts)
	}
	published := map[string]int{}
	for _, a := range p.published("large") {
		published[a.ID]++
	}
	if int64(len(published)) != p.alerts && !p.alertsLost {
		p.t.Errorf("%s: %d alerts are published, want %d", when, len(published), p.alerts)
	}
	for id, n := range published {
		if n > 1 {
			p.t.Errorf("%s: alert %s is published %d times", when, id, n)
		}
	}
}

// answer asks for everything per a granularity.
func (p *proof) answer(per aggregation.Granularity) map[string]int64 {
	p.t.Helper()
	field := func(role store.Role, i int, kind event.Kind) store.Expr {
		return store.Expr{Op: store.OpField, Kind: kind, Field: store.Field{Role: role, Index: i}}
	}
	q := &store.Question{
		Aggregation: p.ticks(), Per: per, Until: math.MaxInt64 / 4, Limit: -1,
		Group: []store.Field{{Role: store.BucketField}, {Role: store.KeyField}},
		Select: []store.Expr{
			field(store.BucketField, 0, event.Time), field(store.KeyField, 0, event.String),
			{Op: store.OpSum, Kind: event.Int, Args: []store.Expr{field(store.MeasureField, 0, event.Int)}},
			{Op: store.OpSum, Kind: event.Int, Args: []store.Expr{field(store.MeasureField, 1, event.Int)}},
		},
	}
	got := map[string]int64{}
	err := p.db.Ask(p.t.Context(), q, func(v []any) error {
		bucket, _ := v[0].(time.Time)
		n, _ := v[2].(int64)
		total, _ := v[3].(int64)
		key := fmt.Sprint(bucket.UTC().Format(time.RFC3339), " ", v[1])
		got[key+" n"] += n
		got[key+" total"] += total
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

func show(counts map[string]int64) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%s %d", key, counts[key]))
	}
	return strings.Join(lines, ", ")
}

// replayAll delivers the whole stream anew, to a consumer that knows nothing of
// what was acknowledged, and expects that it changes nothing.
func (p *proof) replayAll() {
	p.t.Helper()
	p.stopAll()
	p.forgetAcks()
	p.supervise("replay", nil)
	p.settle()
	p.check("after everything was delivered anew")
}

// jetstream is NATS without Weir.
func (h *harness) jetstream() jetstream.JetStream {
	h.t.Helper()
	nc, err := nats.Connect(h.servers.nats)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		h.t.Fatal(err)
	}
	return js
}

// settle waits until everything is folded, acknowledged and published, and stops
// the workers.
func (p *proof) settle() {
	p.t.Helper()
	p.drain()
	p.until("the outbox is empty", func() (bool, error) {
		return ask[int](p.harness, `SELECT count(*) FROM weir.alert_outbox`) == 0, nil
	})
	p.stopAll()
}

// finish settles, checks, and replays everything.
func (p *proof) finish() {
	p.t.Helper()
	p.settle()
	p.check("drained")
	p.replayAll()
}

// supervised is a worker that is started again when it ends, as an orchestrator
// does it.
type supervised struct {
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	ended  []error
}

func (s *supervised) stop() {
	s.cancel()
	<-s.done
}

func (s *supervised) endings() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended)
}

// open connects a worker's own pool.
func (p *proof) open(set *failpoint.Set) *store.DB {
	p.t.Helper()
	db, err := store.Open(p.t.Context(), store.Config{URL: p.servers.postgres, Name: "weir proof", IdleInTx: p.idleInTx, Failpoints: set})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (p *proof) config(shard string, set *failpoint.Set) Config {
	return Config{
		ShardID: shard, Owner: "proof", Messages: 200, Linger: 50 * time.Millisecond, Failpoints: set,
		Cadence: func(aggregation.Granularity) time.Duration { return 0 },
	}
}

// supervise runs a worker until the test ends, with connections of its own.
func (p *proof) supervise(shard string, set *failpoint.Set) *supervised {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	s := &supervised{cancel: cancel, done: make(chan struct{})}
	db, conn := p.open(set), p.connect()
	log := zaptest.NewLogger(p.t, zaptest.Level(zap.FatalLevel))
	go func() {
		defer close(s.done)
		for ctx.Err() == nil {
			err := New(p.config(shard, set), p.catalog, db, conn, log).Run(ctx)
			s.mu.Lock()
			if err != nil {
				s.ended = append(s.ended, err)
			}
			s.mu.Unlock()
		}
	}()
	p.watchers = append(p.watchers, s)
	p.t.Cleanup(s.stop)
	return s
}

// stopAll stops all workers that were supervised, at once.
func (p *proof) stopAll() {
	for _, s := range p.watchers {
		s.cancel()
	}
	for _, s := range p.watchers {
		s.stop()
	}
	p.watchers = nil
}

// hand is a worker that has its shard and does not run: the test hands it
// its batches. It has a pool of its own.
func (p *proof) hand(shard string, set *failpoint.Set) *Worker {
	p.t.Helper()
	w := New(p.config(shard, set), p.catalog, p.open(set), p.connect(), zaptest.NewLogger(p.t, zaptest.Level(zap.FatalLevel)))
	if err := w.start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		w.consumer.Close()
		_ = w.lease.Close()
	})
	return w
}

// take fetches exactly n messages, and acknowledges none.
func (p *proof) take(w *Worker, n int) []stream.Message {
	p.t.Helper()
	return p.harness.take(w, n)
}

var errTest = errors.New("by the test")
