package stream

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
)

const testTimeout = 60 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func connect(t testing.TB, url string) *Conn {
	t.Helper()
	return connectWith(t, Config{URL: url})
}

func connectWith(t testing.TB, cfg Config) *Conn {
	t.Helper()
	conn, err := Connect(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// provisioned starts NATS with both streams and the consumer.
func provisioned(t testing.TB, p Provision) *Conn {
	t.Helper()
	conn := connect(t, embeddedtest.NATS(t))
	provision(t, conn, p)
	return conn
}

func provision(t testing.TB, conn *Conn, p Provision) Plan {
	t.Helper()
	plan, err := conn.Provision(testContext(t), p)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func openConsumer(t testing.TB, conn *Conn) *Consumer {
	t.Helper()
	consumer, err := conn.Consumer(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(consumer.Close)
	return consumer
}

func event(n int) Outgoing {
	id := Identity{Source: "gw-1", Epoch: "e", First: uint64(n), Last: uint64(n)}
	return Outgoing{
		Subject:     EventSubject("request", "gw-1"),
		MsgID:       id.String(),
		ContentType: "application/json",
		Data:        fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// publish stores messages from..to, one event each.
func publish(t testing.TB, conn *Conn, from, to int) {
	t.Helper()
	ctx := testContext(t)
	for n := from; n <= to; n++ {
		if _, _, err := conn.Publish(ctx, event(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func fetch(t testing.TB, consumer *Consumer, limits Limits) []Message {
	t.Helper()
	batch, err := consumer.Fetch(testContext(t), limits)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func ackAll(t testing.TB, batch []Message) {
	t.Helper()
	for _, m := range batch {
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually polls a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", testTimeout, what)
		}
	}
}

// natsServer is a NATS server that can be stopped and started again with the
// same address and the same files.
type natsServer struct {
	cfg     embedded.NATSConfig
	running *embedded.NATS
}

func startServer(t testing.TB) *natsServer {
	t.Helper()
	s := &natsServer{cfg: embedded.NATSConfig{Dir: t.TempDir()}}
	s.start(t)
	s.cfg.Listen = s.running.URL()[len("nats://"):]
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start(t testing.TB) {
	t.Helper()
	running, err := embedded.StartNATS(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.running = running
}

func (s *natsServer) stop() {
	if s.running != nil {
		s.running.Close()
		s.running = nil
	}
}

func (s *natsServer) url() string { return "nats://" + s.cfg.Listen }

// numbers reads the identities of a batch.
func numbers(t testing.TB, batch []Message) []int {
	t.Helper()
	var ns []int
	for _, m := range batch {
		id, ok := m.Identity()
		if !ok {
			t.Fatalf("message %d with id %q is foreign", m.Sequence, m.MsgID())
		}
		ns = append(ns, int(id.First))
	}
	return ns
}

func sequenceOf(batch []Message) string {
	s := ""
	for _, m := range batch {
		s += strconv.FormatUint(m.Sequence, 10) + " "
	}
	return s
}
