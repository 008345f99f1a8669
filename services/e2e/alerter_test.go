package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // to look at what is stored
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// latest is how late an alert may be, after the time at which it could have been decided.
	latest = 30 * time.Second
	// comesBack is after how long NATS delivers again what a worker has not acknowledged. It bounds how late an alert is made by
	// a worker's death, beside the time that a redelivered message takes; an alerter's death costs what it takes the next one to
	// look for partitions, half a second, and to read what was saved.
	comesBack = 2 * time.Second
)

// alerting is weir as roles, with a load whose alerts are known.
type alerting struct {
	t     *testing.T
	begin time.Time // of event time
	flags []string
	js    jetstream.JetStream
	db    *sql.DB
	ask   func() progress

	numbers map[string]int // of the sources' last messages
	reached []reach
}

// reach is when the stream had everything up to an event time.
type reach struct {
	at   int64 // seconds since the beginning
	wall time.Time
}

func newAlerting(t *testing.T) *alerting {
	t.Helper()
	flags, i := servers(t)
	weir(t, append([]string{"WEIR_STREAM_ACK_WAIT=" + comesBack.String(), "apply"}, flags...)...)
	a := &alerting{t: t, flags: flags, ask: consumerOf(t, i), numbers: map[string]int{}}
	a.begin = time.Now().Add(-4 * time.Hour).Truncate(time.Hour) // whole steps of every length
	conn, err := nats.Connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if a.js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	if a.db, err = sql.Open("postgres", i.postgres); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.db.Close() })
	return a
}

// role starts a process: alerter, or worker with the name of its shard.
func (a *alerting) role(name ...string) *process {
	args := append([]string{"WEIR_STREAM_ACK_WAIT=" + comesBack.String(), "WEIR_LOG_FORMAT=json", name[0]}, a.flags...)
	if name[0] == "worker" {
		args = append(args, "--shard-id", name[1])
	}
	return start(a.t, args...)
}

// publish publishes events in their order, some at a time, from three sources, with the pause between two messages.
func (a *alerting) publish(load []happening, pause time.Duration) {
	a.t.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for len(load) > 0 {
		n := 1
		for n < min(len(load), 8) && load[n].kind == load[0].kind {
			n++
		}
		var bodies [][]byte
		for _, h := range load[:n] {
			bodies = append(bodies, h.body(a.begin))
		}
		source := fmt.Sprintf("gw-%d", 1+len(a.reached)%3)
		a.numbers[source]++
		message := nats.NewMsg("events." + load[0].kind + "." + source)
		message.Data = slices.Concat([]byte("["), bytes.Join(bodies, []byte(",")), []byte("]"))
		message.Header.Set("Content-Type", "application/json")
		message.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s/load/%d", source, a.numbers[source]))
		if _, err := a.js.PublishMsg(a.t.Context(), message); err != nil {
			a.t.Fatal(err)
		}
		a.reached = append(a.reached, reach{load[n-1].at, time.Now()})
		load = load[n:]
		<-tick.C
	}
}

// end is the event that lets what happened up to a time be decided.
func (a *alerting) end(through int64) {
	a.publish([]happening{{at: through + graceOfEvents, kind: "request", key: alertKey{"api-0", "web", "u", "/"}, took: 10}}, time.Millisecond)
}

// publishedAlert is an alert as a subscriber gets it.
type publishedAlert struct {
	ID, Rule, Case, State string
	Key                   map[string]string
	Value                 float64
	FiringID              string    `json:"firing_id"`
	FiredAt               time.Time `json:"fired_at"`
	ResolvedAt            time.Time `json:"resolved_at"`

	published time.Time
}

// alerts are those on the stream, by id, and how often each was published.
func (a *alerting) alerts() (all map[string]publishedAlert, times map[string]int) {
	a.t.Helper()
	all, times = map[string]publishedAlert{}, map[string]int{}
	stream, err := a.js.Stream(a.t.Context(), "ALERTS")
	if err != nil {
		a.t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(a.t.Context(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{"alerts.global.>"}})
	if err != nil {
		a.t.Fatal(err)
	}
	info, err := consumer.Info(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	for left := info.NumPending; left > 0; {
		batch, err := consumer.FetchNoWait(int(left)) //nolint:gosec // a count
		if err != nil {
			a.t.Fatal(err)
		}
		for m := range batch.Messages() {
			left--
			meta, err := m.Metadata()
			of := publishedAlert{}
			if err == nil {
				err = json.Unmarshal(m.Data(), &of)
			}
			if err != nil {
				a.t.Fatalf("%v in %s", err, m.Data())
			}
			of.published = meta.Timestamp
			if id := m.Headers().Get(jetstream.MsgIDHeader); id != of.ID {
				a.t.Errorf("alert %s was published as %q", of.ID, id)
			}
			all[of.ID] = of
			times[of.ID]++
		}
	}
	return all, times
}

// await waits until so many alerts are published. Those that have not come when the last of them may, do not come.
func (a *alerting) await(number int) {
	a.t.Helper()
	limit := time.Now().Add(latest)
	untilEvery(a.t, askTick, fmt.Sprintf("%d alerts", number), func() bool {
		stream, err := a.js.Stream(a.t.Context(), "ALERTS")
		if err != nil {
			a.t.Fatal(err)
		}
		info, err := stream.Info(a.t.Context(), jetstream.WithSubjectFilter("alerts.global.>"))
		if err != nil {
			a.t.Fatal(err)
		}
		published := 0
		for _, n := range info.State.Subjects {
			published += int(n) //nolint:gosec // a count
		}
		return published >= number || time.Now().After(limit)
	})
}

// count asks the database for a number.
func (a *alerting) count(query string, args ...any) (n int64) {
	a.t.Helper()
	if err := a.db.QueryRowContext(a.t.Context(), query, args...).Scan(&n); err != nil {
		a.t.Fatal(err)
	}
	return n
}

// check compares all alerts with what the oracle says, which is everything up to a time.
func (a *alerting) check(want map[told]int, through int64) {
	a.t.Helper()
	until(a.t, "the outbox to be empty", func() bool { return a.count(`SELECT count(*) FROM weir.alert_outbox`) == 0 })
	all, times := a.alerts()
	if stored := a.count(`SELECT count(*) FROM weir.alert WHERE scope = 'global'`); stored != int64(len(all)) {
		a.t.Errorf("%d alerts are stored, %d were published", stored, len(all))
	}
	for id := range all {
		if times[id] != 1 || a.count(`SELECT count(*) FROM weir.alert WHERE id = $1`, id) != 1 {
			a.t.Errorf("alert %s was published %d times", id, times[id])
		}
	}
	got := map[told]int{}
	lateness := time.Duration(0)
	for _, of := range all {
		said := of.tell(a.begin)
		if said.at > through {
			continue // the stream's own time goes on
		}
		got[said]++
		if fired, ok := all[of.FiringID]; of.State == "resolved" && (!ok || !maps.Equal(fired.Key, of.Key)) {
			a.t.Errorf("%+v resolves %q, which is no alert of its key", said, of.FiringID)
		}
		could := a.couldBe(said.at)
		if lateness = max(lateness, of.published.Sub(could)); of.published.Sub(could) > latest {
			a.t.Errorf("%+v came %s after it could have been decided", said, of.published.Sub(could))
		}
	}
	for of, n := range want {
		if got[of] != n {
			a.t.Errorf("%d alerts, want %d: %+v", got[of], n, of)
		}
	}
	for of := range got {
		if want[of] == 0 {
			a.t.Errorf("an alert that nothing is the reason of: %+v", of)
		}
	}
	a.t.Logf("%d alerts; the latest was published %s after it could have been decided", len(got), lateness.Round(time.Millisecond))
}

// couldBe is when what happened up to a time could be decided: the stream had everything before it, and an
// event that was so much later that nothing of before was to be expected.
func (a *alerting) couldBe(at int64) time.Time {
	n, _ := slices.BinarySearchFunc(a.reached, at+graceOfEvents, func(r reach, at int64) int {
		if r.at < at {
			return -1
		}
		return 1
	})
	return a.reached[min(n, len(a.reached)-1)].wall
}

// Three workers and two alerters are killed in turn while events come, each time with a part of them still to come, and
// started again when more have. Event time runs some hundred times faster than the clock, so that alerts end, too.
func TestAlerter_KilledInTurnWithWorkersMissesNoAlertAndTellsNoneTwice(t *testing.T) {
	t.Parallel()
	a := newAlerting(t)
	workers := []*process{a.role("worker", "w1"), a.role("worker", "w2"), a.role("worker", "w3")}
	alerters := []*process{a.role("alerter"), a.role("alerter")}
	for _, p := range slices.Concat(workers, alerters) {
		until(t, p.name+" to be at work", func() bool {
			said := p.stderr.String()
			return strings.Contains(said, "worker folds") || strings.Contains(said, "took a partition") || !p.running()
		})
	}
	chance := rand.New(rand.NewPCG(1, 6)) //nolint:gosec // a load, no secret
	load, through := madeLoad(chance)
	want := oracleOf(load, through)
	const rounds, pause = 12, 15 * time.Millisecond
	for n := range rounds {
		portion := load[:len(load)/(rounds-n)]
		load = load[len(portion):]
		first := 1 + chance.IntN(len(portion)-1)
		second := first + chance.IntN(len(portion)-first)
		if n%2 == 0 {
			victim := &workers[n/2%len(workers)]
			(*victim).signal(syscall.SIGSTOP) // what it is given from now on stays in its hands
			a.publish(portion[:first], pause)
			until(t, "messages to be in the hands of workers", func() bool { return a.ask().inHand > 0 })
			(*victim).kill()
			a.publish(portion[first:second], pause)
			*victim = a.role("worker", fmt.Sprintf("w%d", 1+n/2%len(workers)))
		} else {
			victim := &alerters[n/2%len(alerters)]
			a.publish(portion[:first], pause)
			(*victim).kill()
			a.publish(portion[first:second], pause)
			*victim = a.role("alerter")
		}
		a.publish(portion[second:], pause)
	}
	a.end(through)
	a.await(len(want))
	for _, p := range alerters {
		p.stop() // which saves how far they are
	}
	if clock := a.count(`SELECT min(clock) FROM weir.alert_partition`); clock < a.begin.Add(time.Duration(through)*time.Second).UnixMicro() {
		t.Errorf("the clock of some partition is %s, so that not everything is decided", time.UnixMicro(clock))
	}
	now := a.ask()
	if again := int64(now.delivered) - int64(len(a.reached)); again <= 0 { //nolint:gosec // counts
		t.Error("no message was delivered again: none was in the hands of a worker that died")
	} else {
		t.Logf("%d messages, %d deliveries more", len(a.reached), again)
	}
	a.check(want, through)
}

// An alerter that has all partitions stands still and dies, while another is there that has none.
func TestAlerter_TakesOverAtOnceWhatADeadOneHad(t *testing.T) {
	t.Parallel()
	a := newAlerting(t)
	a.role("worker", "w1")
	first := a.role("alerter")
	var load []happening
	round := func(at int64) {
		var some []happening
		for n := range 64 { // so many that every partition has some
			key := alertKey{fmt.Sprintf("api-%d", n%16), "web", "u", fmt.Sprintf("/slow/%d", n)}
			some = append(some, happening{at: at, kind: "request", key: key, took: 6000})
		}
		for n := range 16 {
			some = append(some, happening{at: at, kind: "request", key: alertKey{fmt.Sprintf("api-%d", n), "web", "u", "/"}, took: 10})
		}
		load = append(load, some...)
		a.publish(some, time.Millisecond)
		a.end(at + 1)
	}
	round(10)
	a.await(64)
	owner := ""
	const whose = `SELECT string_agg(DISTINCT owner, ', ') FROM weir.alert_partition`
	owners := func() (is string) {
		if err := a.db.QueryRowContext(t.Context(), whose).Scan(&is); err != nil {
			t.Fatal(err)
		}
		return is
	}
	if owner = owners(); strings.Contains(owner, ", ") {
		t.Fatalf("the partitions belong to %s, want one owner", owner)
	}
	first.signal(syscall.SIGSTOP)
	second := a.role("alerter")
	until(t, "the second alerter to stand by", func() bool {
		return strings.Contains(second.stderr.String(), "evaluator decides alerts") || !second.running()
	})
	round(10 + 601) // when no key is quiet any more, and no API silent yet
	if is := owners(); is != owner {
		t.Fatalf("the partitions belong to %s, before %s is dead", is, owner)
	}
	died := time.Now()
	first.kill()
	want := oracleOf(load, 612)
	a.await(len(want))
	t.Logf("the second has told of everything %s after the first died", time.Since(died).Round(time.Millisecond))
	if is := owners(); strings.Contains(is, owner) || strings.Contains(is, ", ") {
		t.Errorf("the partitions belong to %s", is)
	}
	a.check(want, 612)
}
