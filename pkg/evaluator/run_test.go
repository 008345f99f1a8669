package evaluator

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/lib/pq" // to look at the tables
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"weir/pkg/alert"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/relay/relaytest"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// numbersOfWorkers are those with which each scenario is played.
func numbersOfWorkers() []int { return []int{1, 2, 8} }

// Whatever the number of workers and evaluators, and however the transport deals events out to
// messages and to them, the same global alerts are decided, each once.
func TestScenarios_AreDecidedTheSameWithAnyNumberOfWorkers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs NATS and Postgres")
	}
	for _, s := range readScenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var first string
			for _, workers := range numbersOfWorkers() {
				decided := s.run(t, workers)
				s.check(t, decided)
				body, err := json.MarshalIndent(decided, "", " ")
				if err != nil {
					t.Fatal(err)
				}
				if first = cmp.Or(first, string(body)); first != string(body) {
					t.Errorf("%s: with %d workers: %s\nwith one: %s", s.name, workers, body, first)
				}
			}
		})
	}
}

// site is a provisioned NATS and Postgres.
type site struct {
	t    *testing.T
	s    *scenario
	db   *store.DB
	sql  *sql.DB
	conn *stream.Conn
	log  *zap.Logger
}

func newSite(t *testing.T, s *scenario) *site {
	t.Helper()
	url := embeddedtest.PostgresLike(t, "schema", func(url string) error {
		db, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), nil, store.PlanOptions{}), db.Close())
	})
	site := &site{t: t, s: s, log: zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))}
	var err error
	if site.db, err = store.Open(t.Context(), store.Config{URL: url, MaxOpen: 40}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = site.db.Close() })
	if site.sql, err = sql.Open("postgres", url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = site.sql.Close() })
	if site.conn, err = stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(site.conn.Close)
	if err := site.db.Apply(t.Context(), s.catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := site.conn.Provision(t.Context(), stream.Provision{AckWait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	return site
}

// run plays the scenario and returns the global alerts that were decided up to its end.
func (s *scenario) run(t *testing.T, workers int) []alert.Alert {
	t.Helper()
	site := newSite(t, s)
	for _, set := range s.thresholds {
		if _, err := site.db.SetThreshold(t.Context(), set.Threshold, "test"); err != nil {
			t.Fatal(err)
		}
	}
	defer site.start(workers, 1+workers/3)()
	site.publish(rand.New(rand.NewPCG(1, uint64(workers)))) //nolint:gosec // a small number
	site.awaitClock(s.through.Add(DefaultGrace))
	site.await("the relay", func() (bool, error) {
		var left int
		err := site.sql.QueryRowContext(t.Context(), `SELECT count(*) FROM weir.alert_outbox`).Scan(&left)
		return left == 0, err
	})
	all := site.alerts(alert.ScopeGlobal)
	site.published(all)
	if want, ok := s.local[workers]; ok {
		counts := map[string]int{}
		for _, a := range site.alerts(alert.ScopeLocal) {
			if !a.FiredAt.After(s.through) {
				counts[a.Rule]++
			}
		}
		for rule, n := range want {
			if counts[rule] != n {
				t.Errorf("%s with %d workers: %d local alerts of %s, want %d", s.name, workers, counts[rule], rule, n)
			}
		}
	}
	return slices.DeleteFunc(all, func(a alert.Alert) bool { return at(a).After(s.through) })
}

// start runs workers and evaluators, and returns when all workers fold; they end with what it returns.
func (site *site) start(workers, evaluators int) (stop func()) {
	site.t.Helper()
	ctx, cancel := context.WithCancel(site.t.Context())
	group, ctx := errgroup.WithContext(ctx)
	var folding atomic.Int32
	log := site.log.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "worker folds" {
			folding.Add(1)
		}
		return nil
	}))
	for n := range workers {
		// A flush takes its time: who is alone makes fewer.
		w := worker.New(worker.Config{ShardID: "w" + strconv.Itoa(n+1), Owner: "test", Messages: 8 / workers, Bytes: 1 << 20, Linger: time.Millisecond},
			site.s.catalog, site.db, site.conn, log)
		group.Go(func() error { return w.Run(ctx) })
	}
	for n := range evaluators {
		e := New(Config{Owner: "test " + strconv.Itoa(n), Every: 20 * time.Millisecond, Save: 200 * time.Millisecond}, site.s.catalog.Rules, site.db, site.conn, site.log)
		group.Go(func() error { return e.Run(ctx) })
	}
	site.await("all workers to fold", func() (bool, error) { return int(folding.Load()) == workers, nil })
	return func() {
		cancel()
		if err := group.Wait(); err != nil {
			site.t.Error(err)
		}
	}
}

func at(a alert.Alert) time.Time {
	if a.State == alert.Resolved {
		return a.ResolvedAt
	}
	return a.FiredAt
}

func (site *site) alerts(scope alert.Scope) []alert.Alert {
	site.t.Helper()
	all, err := site.db.Alerts(site.t.Context(), store.AlertFilter{Scope: string(scope), Limit: 10_000})
	if err != nil {
		site.t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b alert.Alert) int { return cmp.Or(at(a).Compare(at(b)), cmp.Compare(a.ID, b.ID)) })
	for i := range all {
		if all[i].State == alert.Firing {
			all[i].ResolvedAt = time.Time{} // which is in the row of the one that fired, too
		}
	}
	return all
}

// published checks that subscribers got each of the alerts once.
func (site *site) published(want []alert.Alert) {
	site.t.Helper()
	if len(want) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(site.t.Context(), 30*time.Second)
	defer cancel()
	got := map[string]int{}
	err := site.conn.SubscribeAlerts(ctx, stream.AlertFilter{Scope: string(alert.ScopeGlobal), Since: time.Unix(1, 0)}, func(m stream.AlertMessage) {
		got[m.MsgID]++
		if _, err := alert.Decode(m.Data); err != nil || relaytest.BySchema(m.Data) != nil {
			site.t.Errorf("%s: published %s, which is no alert: %v, %v", site.s.name, m.Data, err, relaytest.BySchema(m.Data))
		}
		if len(got) == len(want) {
			cancel()
		}
	})
	if err != nil {
		site.t.Fatal(err)
	}
	for _, a := range want {
		if got[a.ID] != 1 {
			site.t.Errorf("%s: %s was published %d times", site.s.name, describe(a), got[a.ID])
		}
	}
}

func (site *site) await(what string, done func() (bool, error)) {
	site.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		ok, err := done()
		if err != nil {
			site.t.Fatalf("wait for %s: %v", what, err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			site.t.Fatalf("%s: waited too long for %s", site.s.name, what)
		}
	}
}

// message is what a gateway publishes at a time.
type message struct {
	stream, source string
	at             time.Time
	events         []json.RawMessage
}

// publish publishes the events as gateways may: three of them, whose messages come in an order that is
// up to two seconds of event time wrong, cut at random. Late ones are published when what they are late for
// is decided. A last event moves the clock past the end.
func (site *site) publish(chance *rand.Rand) {
	s := site.s
	var order []sent
	var lates []time.Time
	for _, h := range s.events {
		if h.after.Equal(h.at) {
			order = append(order, sent{h, h.at.Add(time.Duration(chance.IntN(4000)-2000) * time.Millisecond)})
		} else if !slices.Contains(lates, h.after) {
			lates = append(lates, h.after)
		}
	}
	slices.SortStableFunc(order, func(a, b sent) int { return a.at.Compare(b.at) })
	slices.SortFunc(lates, time.Time.Compare)
	numbers := map[string]int{}
	for _, late := range lates {
		n, _ := slices.BinarySearchFunc(order, late.Add(3*DefaultGrace), func(a sent, at time.Time) int { return a.at.Compare(at) })
		n = min(n+1, len(order)) // one that moves the clock past the others: else it goes on by itself, which takes its time
		site.send(chance, numbers, order[:n])
		order = order[n:]
		site.awaitClock(late.Add(DefaultGrace))
		var its []sent
		for _, h := range s.events {
			if !h.after.Equal(h.at) && h.after.Equal(late) {
				its = append(its, sent{h, late})
			}
		}
		site.send(chance, numbers, its)
	}
	end := s.closing()
	site.send(chance, numbers, order)
	site.send(chance, numbers, []sent{{end, end.at}})
}

// sent is an event with when it is published.
type sent struct {
	happening

	at time.Time
}

// send publishes events in their order.
func (site *site) send(chance *rand.Rand, numbers map[string]int, order []sent) {
	t, s := site.t, site.s
	var messages []*message
	open := map[string]*message{}
	for _, h := range order {
		source := "gw-" + strconv.Itoa(1+chance.IntN(3))
		m := open[h.stream+"."+source]
		if m == nil || len(m.events) > chance.IntN(4) || h.at.Sub(m.at) > time.Second {
			m = &message{stream: h.stream, source: source, at: h.at}
			open[h.stream+"."+source] = m
			messages = append(messages, m)
		}
		body, err := s.body(h.happening)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		m.events = append(m.events, body)
	}
	for _, m := range messages {
		numbers[m.source]++
		_, _, err := site.conn.Publish(t.Context(), stream.Outgoing{
			Subject: "events." + m.stream + "." + m.source, MsgID: fmt.Sprintf("%s/scenario/%d", m.source, numbers[m.source]),
			ContentType: "application/json", Data: slices.Concat([]byte("["), bytes.Join(raw(m.events), []byte(",")), []byte("]")),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// awaitClock waits until everything up to a time is decided, or could be. An event that is a dead letter ends the test: what is
// expected may hang on it, and the clock does where it is the last one.
func (site *site) awaitClock(through time.Time) {
	site.t.Helper()
	site.await("the clock to be "+through.Sub(epoch).String(), func() (bool, error) {
		var behind int
		var dead sql.NullString
		err := site.sql.QueryRowContext(site.t.Context(), `
			SELECT (SELECT count(*) FROM weir.alert_partition WHERE clock < $1), (SELECT min(reason) FROM weir.dead_letter)`,
			through.UnixMicro()).Scan(&behind, &dead)
		if dead.Valid {
			err = errors.Join(err, fmt.Errorf("%s: an event became a dead letter: %s", site.s.name, dead.String))
		}
		return behind == 0, err
	})
}

func raw(events []json.RawMessage) [][]byte {
	all := make([][]byte, len(events))
	for i, e := range events {
		all[i] = e
	}
	return all
}
