package chaos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// truth is what must be counted now: what the sources published, as far as it is in the stream.
type truth struct {
	messages int            // in the stream
	again    int            // of them, such as the stream held already, whole or in part: the ledger had to refuse
	folded   []made         // events, each once
	dead     map[string]int // dead letters, by identity
	own      map[ledgerKey]bool
	foreign  map[[2]int64]bool // sequence, and microseconds of when it was stored
	slow     map[int64]bool    // times of events that must have raised an alert
	global   map[string]int    // events of what must, or must not, have raised one over all workers
	problems []string          // the first of them
	count    int
}

const mostProblems = 20 // shown; one cause has many effects

func (t *truth) problem(format string, args ...any) {
	if t.count++; t.count <= mostProblems {
		t.problems = append(t.problems, fmt.Sprintf(format, args...))
	}
}

// learn reads the whole stream and compares it with the history.
func (h *history) learn(ctx context.Context, js jetstream.JetStream) (*truth, error) {
	t := &truth{dead: map[string]int{}, own: map[ledgerKey]bool{}, foreign: map[[2]int64]bool{}, slow: map[int64]bool{}, global: map[string]int{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	found := map[*message]bool{}
	seen := map[identity]bool{}
	err := readStream(ctx, js, eventsStream, func(m jetstream.Msg, sequence uint64, stored time.Time) {
		t.messages++
		sum := sha256.Sum256(m.Data())
		published := h.byID[m.Headers().Get(jetstream.MsgIDHeader)]
		if published == nil {
			published = h.foreign[sum]
		}
		if published == nil || published.sum != sum || published.out.Subject != m.Subject() {
			t.problem("message %d of the stream (%s, id %q) is none that was published", sequence, m.Subject(), m.Headers().Get(jetstream.MsgIDHeader))
			return
		}
		found[published] = true
		t.add(published, int64(sequence), stored, seen) //nolint:gosec // a sequence
	})
	if err != nil {
		return nil, err
	}
	for m := range h.acked {
		if !found[m] {
			t.problem("message %s (%s) was acknowledged, and is not in the stream: NATS lost it", m.out.MsgID, m.out.Subject)
		}
	}
	return t, nil
}

// add is one stored message.
func (t *truth) add(m *message, sequence int64, stored time.Time, seen map[identity]bool) {
	claimed := ledgerKey{"", "", uint64(sequence)} //nolint:gosec // a sequence
	if m.own {
		claimed = m.claim(0)
		for i := range max(1, len(m.events)) { // a heartbeat has none
			t.own[m.claim(i)] = true
		}
	} else {
		t.foreign[[2]int64{sequence, stored.UnixMicro()}] = true
	}
	again := false
	first := func(offset int) bool {
		id := m.identity(claimed, offset)
		if seen[id] {
			again = true
			return false
		}
		seen[id] = true
		return true
	}
	if m.broken {
		if first(-1) {
			t.dead[m.identity(claimed, -1).text()]++
		}
	}
	for i, e := range m.events {
		switch {
		case m.broken || !first(i):
		case e.flaw != sound:
			t.dead[m.identity(claimed, i).text()]++
		default:
			t.folded = append(t.folded, e)
			if e.slow {
				t.slow[e.millis] = true
				t.global[globalKey(ruleSlow, e.apiName(), e.method(), e.template(), e.millis/1000+1)]++
			}
			if e.burst != "" {
				t.global[globalKey(ruleBurst, e.apiName(), e.burst, "", e.millis/2000*2+2)]++
			}
		}
	}
	if again {
		t.again++
	}
}

func (i identity) text() string {
	return fmt.Sprintf("%s/%s/%d offset %d", i.source, i.epoch, i.number, i.offset)
}

// readPatience is how long a stream is waited for: on a loaded machine three servers that were just started need some seconds.
const readPatience = 20 * time.Second

// readStream calls f for everything that a stream holds.
func readStream(ctx context.Context, js jetstream.JetStream, name string, f func(m jetstream.Msg, sequence uint64, stored time.Time)) error {
	messages, last, err := openStream(ctx, js, name)
	for end := time.Now().Add(readPatience); err != nil && ctx.Err() == nil && time.Now().Before(end); {
		pause(ctx, 200*time.Millisecond)
		messages, last, err = openStream(ctx, js, name)
	}
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	if messages == nil {
		return nil
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(readPatience))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return errors.Join(fmt.Errorf("read stream %s", name), err)
		}
		f(m, meta.Sequence.Stream, meta.Timestamp)
		if meta.Sequence.Stream >= last {
			return nil
		}
	}
}

// openStream begins to read a stream, up to the sequence that is its last now; nil if it holds nothing.
func openStream(ctx context.Context, js jetstream.JetStream, name string) (messages jetstream.MessagesContext, last uint64, err error) {
	s, err := js.Stream(ctx, name)
	if err != nil || s.CachedInfo().State.Msgs == 0 {
		return nil, 0, err
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return nil, 0, err
	}
	messages, err = consumer.Messages()
	return messages, s.CachedInfo().State.LastSeq, err
}
