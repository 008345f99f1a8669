package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/embedded"
	"weir/pkg/stream"
)

// Interleavings with what publishers and the stream itself do.

func TestInterleaving_PublisherTriesAgainAfterTheDedupWindow(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	s, err := p.jetstream().Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Duplicates = 100 * time.Millisecond
	if _, err := p.jetstream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	p.supervise("w1", nil)
	id := p.id()
	body := p.message(id, 1, 3)
	first, err := p.conn.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.until("the stream takes the same message again", func() (bool, error) {
		p.publish("events.tick.gw", id, "application/x-ndjson", body)
		state, err := p.conn.State(t.Context())
		return err == nil && state.LastSequence > first.LastSequence, err
	})
	p.round()
	p.finish()
}

// Messages of an epoch that has ended come from a spool, out of order, between
// those of the next.
func TestInterleaving_SpooledMessagesOfAnOldEpochComeAfterTheNewBegan(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	p.supervise("w1", nil)
	p.own(3)
	p.number = 8 // 4 … 8 are in the spool
	p.own(1)
	p.drain()
	p.epoch, p.number = "later", 0
	p.own(2)
	p.drain()
	for _, n := range []int{7, 4, 8, 5, 6} {
		p.message(fmt.Sprintf("gw/e/%d", n), 1, int64(n))
		p.own(1)
	}
	p.publish("events.tick.gw", "gw/e/9-9", "", "{}") // was folded before the restart
	p.finish()
}

func TestInterleaving_ConsumerDeletedEndsWorkersUntilItIsProvisioned(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	p.round()
	w := p.supervise("w1", nil)
	p.drain()
	if err := p.jetstream().DeleteConsumer(t.Context(), "EVENTS", "fold"); err != nil {
		t.Fatal(err)
	}
	p.until("the worker has ended, and says why", func() (bool, error) {
		for _, err := range w.endings() {
			if errors.Is(err, stream.ErrNotProvisioned) && strings.Contains(err.Error(), "weir apply") {
				return true, nil
			}
		}
		return false, nil
	})
	p.round()
	p.provision()
	p.finish()
}

func TestWorker_WhoseConsumerIsDeletedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	core, logged := observer.New(zapcore.WarnLevel)
	w := New(p.config("w1", nil), p.catalog, p.open(nil), p.connect(), zap.New(core))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	p.round()
	p.drain()
	if err := p.jetstream().DeleteConsumer(t.Context(), "EVENTS", "fold"); err != nil {
		t.Fatal(err)
	}
	if err := p.end(ended); !errors.Is(err, stream.ErrGone) || !strings.Contains(err.Error(), "run weir apply") {
		t.Errorf("it ended with %v, want what to do", err)
	}
	for _, line := range logged.All() {
		t.Errorf("it said %s: %v", line.Message, line.ContextMap())
	}
}

// What was published while there was no consumer waits for the next.
func TestConsumer_ProvisionedAfterMessagesWerePublishedHasThemAll(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	p.own(3)
	if err := p.jetstream().DeleteConsumer(t.Context(), "EVENTS", "fold"); err != nil {
		t.Fatal(err)
	}
	p.own(2)
	p.provision()
	state, err := p.conn.State(t.Context())
	if err != nil || state.Pending != 5 {
		t.Fatalf("%d messages wait (%v), want all 5", state.Pending, err)
	}
	w := p.hand("w1", nil)
	p.process(w, p.take(w, 5)...)
	p.check("from a consumer that was made later")
}

// A late ack for a message that the consumer has forgotten, and delivers anew.
func TestInterleaving_LateAckAfterTheConsumerWasMadeAnew(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	zombie := p.hand("w1", nil)
	p.own(4)
	first := p.take(zombie, 4)
	p.persistWithoutAcks(zombie, first)
	p.own(2)
	if err := p.jetstream().DeleteConsumer(t.Context(), "EVENTS", "fold"); err != nil {
		t.Fatal(err)
	}
	p.provision()
	other := p.hand("w2", nil)
	again := p.take(other, 6)
	if err := zombie.acknowledge(first); err != nil {
		t.Fatal(err)
	}
	p.process(other, again...)
	p.drain()
	p.check("acknowledged late, to another consumer")
	p.replayAll()
}

func TestInterleaving_StreamMadeAnewStopsWorkersAndClashesWithNothing(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	p.round()
	w := p.supervise("w1", nil)
	p.drain()
	if err := p.jetstream().DeleteStream(t.Context(), "EVENTS"); err != nil {
		t.Fatal(err)
	}
	p.until("the worker has ended", func() (bool, error) { return len(w.endings()) > 0, nil })
	p.stopAll()
	p.provision()
	p.round() // its foreign messages have the sequences of others that are folded
	p.supervise("w1", nil)
	p.drain()
	p.round()
	p.finish()
}

// natsIn is a NATS server whose files the test can put back.
func natsIn(t *testing.T, dir, listen string) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// The newest messages are folded, and the stream loses them: a power cut, or a
// backup that is put back. Their sequences are given to other messages.
func TestInterleaving_StreamLosesItsTailAndUsesItsSequencesAgain(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), t.TempDir()
	server := natsIn(t, dir, "")
	listen := strings.TrimPrefix(server.URL(), "nats://")
	p := newProofOn(t, servers{nats: server.URL(), ackWait: time.Second})
	p.round()
	p.supervise("w1", nil)
	p.settle()
	server.Close()
	if err := os.CopyFS(filepath.Join(backup, "nats"), os.DirFS(filepath.Join(dir, "nats"))); err != nil {
		t.Fatal(err)
	}
	server = natsIn(t, dir, listen)
	p.round() // what will be lost
	p.supervise("w1", nil)
	p.settle()
	server.Close()
	_ = os.RemoveAll(filepath.Join(dir, "nats"))
	if err := os.CopyFS(filepath.Join(dir, "nats"), os.DirFS(filepath.Join(backup, "nats"))); err != nil {
		t.Fatal(err)
	}
	natsIn(t, dir, listen)
	p.until("the connections are back", func() (bool, error) { _, err := p.conn.State(t.Context()); return err == nil, err })
	before := ask[int](p.harness, `SELECT count(DISTINCT sequence) FROM weir.ledger_foreign`)
	p.round() // under the same sequences
	p.supervise("w1", nil)
	p.settle()
	if after := ask[int](p.harness, `SELECT count(DISTINCT sequence) FROM weir.ledger_foreign`); after != before {
		t.Errorf("the ledger knows %d sequences of foreign messages, want %d, used again", after, before)
	}
	p.alertsLost = true // with the stream ALERTS
	p.check("after the sequences were used again")
	p.replayAll()
}
