package stream

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/embedded/embeddedtest"
)

func TestProvision_CreatesOnceAndKeepsTheIncarnation(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	first := provision(t, conn, Provision{})
	if lines := strings.Join(first.Lines(), "\n"); strings.Count(lines, "create ") != 3 {
		t.Errorf("first plan:\n%s", lines)
	}
	incarnation := openConsumer(t, conn).Incarnation()
	if len(incarnation) != 32 {
		t.Errorf("incarnation %q, want 32 hexadecimal digits", incarnation)
	}

	second := provision(t, conn, Provision{})
	if slices.ContainsFunc(second.steps, func(s step) bool { return s.apply != nil }) {
		t.Errorf("second plan changes something:\n%s", strings.Join(second.Lines(), "\n"))
	}

	third := provision(t, conn, Provision{MaxAge: 48 * time.Hour, AckWait: 20 * time.Second})
	lines := strings.Join(third.Lines(), "\n")
	for _, want := range []string{"max age 7d -> 2d", "ack wait 5s -> 20s", "unchanged stream ALERTS"} {
		if !strings.Contains(lines, want) {
			t.Errorf("third plan lacks %q:\n%s", want, lines)
		}
	}
	if got := openConsumer(t, conn).Incarnation(); got != incarnation {
		t.Errorf("incarnation changed from %s to %s", incarnation, got)
	}
}

func TestProvision_PlanChangesNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	if _, err := conn.PlanProvision(testContext(t), Provision{}); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Consumer(testContext(t))
	if !errors.Is(err, ErrNotProvisioned) || !strings.Contains(err.Error(), "weir apply") {
		t.Errorf("got %v, want ErrNotProvisioned naming weir apply", err)
	}
}

func TestProvision_NamesWhatCannotBeChanged(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	_, err := conn.js.CreateStream(testContext(t), jetstream.StreamConfig{
		Name: EventsStream, Subjects: []string{allEvents}, Storage: jetstream.MemoryStorage, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Provision(testContext(t), Provision{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{EventsStream, "storage is memory, should be file", "retention is workqueue, should be limits"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func TestProvision_GivesAStreamMadeByHandAnIncarnation(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	_, err := conn.js.CreateStream(testContext(t), jetstream.StreamConfig{
		Name: EventsStream, Subjects: []string{"events.request.*"}, Metadata: map[string]string{"owner": "ops"},
	})
	if err != nil {
		t.Fatal(err)
	}
	provision(t, conn, Provision{})
	if got := openConsumer(t, conn).Incarnation(); len(got) != 32 {
		t.Errorf("incarnation %q", got)
	}
	s, err := conn.js.Stream(testContext(t), EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	if config.Metadata["owner"] != "ops" || !config.DenyDelete || !config.DenyPurge || config.Discard != jetstream.DiscardNew {
		t.Errorf("got %+v", config)
	}
}

func TestProvision_NobodyCanPurgeOrDelete(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	publish(t, conn, 1, 1)
	s, err := conn.js.Stream(testContext(t), EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(testContext(t)); err == nil {
		t.Error("the stream was purged")
	}
	if err := s.DeleteMsg(testContext(t), 1); err == nil {
		t.Error("a message was deleted")
	}
}

func TestConnect_ErrorNamesTheURLWithoutThePassword(t *testing.T) {
	t.Parallel()
	_, err := Connect(testContext(t), Config{URL: "nats://weir:secret@127.0.0.1:1"})
	if err == nil {
		t.Fatal("connected to a port where nobody listens")
	}
	if !strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}
