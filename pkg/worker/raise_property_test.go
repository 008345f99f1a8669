package worker

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"weir/pkg/definition"
	"weir/pkg/store"
)

// model is what a property test knows of the events it has published.
type model struct {
	names []string // of all events, each its own
	next  int      // number of the next message
	// sent are the payloads of dead letters, by id: dropped ones have none any more.
	sent map[int64]string
	seen map[int64]store.DeadLetter // as they were last read, by id
}

// letter reads a dead letter whole, unless it is as it was.
func (m *model) letter(t *rapid.T, h *harness, listed store.DeadLetter) store.DeadLetter {
	if seen, ok := m.seen[listed.ID]; ok {
		known := seen
		known.Payload = listed.Payload
		if reflect.DeepEqual(known, listed) && bytes.HasPrefix(seen.Payload, listed.Payload) && (len(seen.Payload) == 0) == (len(listed.Payload) == 0) {
			return seen
		}
	}
	full, err := h.db.DeadLetter(h.t.Context(), listed.ID)
	if err != nil {
		t.Fatal(err)
	}
	if full.State == store.DeadLetterDropped != (len(full.Payload) == 0) {
		t.Fatalf("dead letter %d is %s and has %q", listed.ID, full.State, full.Payload)
	}
	m.seen[listed.ID] = full
	return full
}

// body draws a message of n events, each with a name of its own: good ones, some
// that are good for the definitions of now, and some that never are.
func (m *model) body(t *rapid.T, n int) string {
	events := make([]string, n)
	for i := range events {
		name := fmt.Sprintf("e%d", len(m.names))
		m.names = append(m.names, name)
		events[i] = sizedTick(name, len(m.names)%50, rapid.SampledFrom([]int{1, 2, -1, -2}).Draw(t, "size"))
		if rapid.IntRange(0, 9).Draw(t, "timeless") == 0 {
			events[i] = fmt.Sprintf(`{"name":%q}`, name)
		}
	}
	return "[" + strings.Join(events, ",") + "]"
}

// publish publishes a message of any kind.
func (m *model) publish(t *rapid.T, h *harness) {
	m.next++
	n := rapid.IntRange(1, 4).Draw(t, "events")
	subject := rapid.SampledFrom([]string{"events.tick.gw", "events.tock.gw"}).Draw(t, "subject")
	kind := rapid.SampledFrom([]string{"own", "foreign", "range"}).Draw(t, "kind")
	if kind != "range" {
		id := ""
		if kind == "own" {
			id = fmt.Sprintf("gw/e/%d", m.next)
		}
		h.publish(subject, id, "", m.body(t, n))
		return
	}
	// Two cuts of the same events, which overlap.
	events := m.body(t, n+2)
	list := strings.SplitAfter(strings.Trim(events, "[]"), "}")
	part := func(from, to int) string { return "[" + strings.TrimPrefix(strings.Join(list[from:to], ""), ",") + "]" }
	first := 10 * m.next
	h.publish(subject, fmt.Sprintf("gw/r/%d-%d", first, first+n), "", part(0, n+1))
	h.publish(subject, fmt.Sprintf("gw/r/%d-%d", first+1, first+n+1), "", part(1, n+2))
}

// check holds every event against where it must be: folded once at every level,
// or in one dead letter.
func (m *model) check(t *rapid.T, h *harness, now *definition.Catalog) (folded int64) {
	var buried []string
	for _, l := range h.letters() {
		full := m.letter(t, h, l)
		if len(full.Payload) > 0 {
			m.sent[l.ID] = string(full.Payload)
		}
		switch {
		case full.State == store.DeadLetterFolded:
		case full.Offset >= 0:
			buried = append(buried, nameIn(m.sent[l.ID]))
		default:
			for i, text := range strings.SplitAfter(m.sent[l.ID], "}") {
				if nameIn(text) != "" && standsFor(&full, i) {
					buried = append(buried, nameIn(text))
				}
			}
		}
	}
	for _, per := range now.Aggregation("Ticks").Granularities {
		folded = 0
		for _, name := range []string{"Ticks", "Tocks"} {
			for event, n := range h.names(now.Aggregation(name), per) {
				folded += n
				if n != 1 {
					t.Fatalf("per %s: %s has %d of %s", per, name, n, event)
				}
			}
		}
		if folded+int64(len(buried)) != int64(len(m.names)) {
			t.Fatalf("per %s: %d events folded and %d in dead letters, of %d", per, folded, len(buried), len(m.names))
		}
	}
	totals := h.totals()
	if n := ask[int64](h, `SELECT count(*) FROM weir.dead_letter`); totals.Events != folded || totals.DeadLetters != n {
		t.Fatalf("control totals %+v, want %d events and %d dead letters", totals, folded, n)
	}
	return folded
}

// nameIn is the name in the text of an event.
func nameIn(text string) string {
	_, rest, _ := strings.Cut(text, `"name":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// Whatever is replayed, by whom, how often, and with which definitions, each
// event is in the tables once, or in a dead letter.
func TestRaise_KeepsEveryEventOnce(t *testing.T) {
	t.Parallel()
	h, now := newMendHarness(t)
	old := h.idle("old")
	workers := []*Worker{h.knowing(now, "w1"), h.knowing(now, "w2")}
	m := &model{sent: map[int64]string{}, seen: map[int64]store.DeadLetter{}}
	rapid.Check(t, func(t *rapid.T) {
		before := h.lastSequence()
		for range rapid.IntRange(1, 3).Draw(t, "messages") {
			m.publish(t, h)
		}
		messages := h.take(old, int(h.lastSequence()-before)) //nolint:gosec // few
		h.process(old, messages...)
		m.check(t, h, now)
		for range rapid.IntRange(0, 5).Draw(t, "steps") {
			step(t, h, old, workers)
			m.check(t, h, now)
		}
		h.process(workers[0], messages...) // delivered again
		h.expire()
		h.raiseAll(workers[0])
		folded := m.check(t, h, now)
		h.request(store.DeadLetterFilter{})
		h.raiseAll(workers[1])
		folded = max(folded, m.check(t, h, now))
		h.request(store.DeadLetterFilter{})
		h.raiseAll(workers[0])
		if again := m.check(t, h, now); again != folded {
			t.Fatalf("replaying again folded %d events", again-folded)
		}
	})
}

// step is something that happens to dead letters.
func step(t *rapid.T, h *harness, old *Worker, workers []*Worker) {
	var err error
	switch letters := h.letters(); rapid.SampledFrom([]string{"ask", "drop", "old", "both", "crash"}).Draw(t, "step") {
	case "ask":
		filter := store.DeadLetterFilter{Reason: rapid.SampledFrom([]string{"", "below 0", "unknown", "missing"}).Draw(t, "reason")}
		h.request(filter)
	case "drop":
		if len(letters) > 0 {
			_, err = h.db.DropDeadLetters(h.t.Context(), store.DeadLetterFilter{IDs: []int64{rapid.SampledFrom(letters).Draw(t, "letter").ID}})
		}
	case "old":
		_, err = old.replay(h.t.Context())
	case "both": // with the same letters in hand
		var group errgroup.Group
		taken, takeErr := h.db.TakeDeadLetters(h.t.Context())
		for _, w := range workers {
			group.Go(func() error {
				if len(taken) == 0 {
					return nil
				}
				_, err := w.raise(h.t.Context(), taken)
				return err
			})
		}
		err = errors.Join(takeErr, group.Wait())
	case "crash": // of a worker that has taken some
		_, err = h.db.TakeDeadLetters(h.t.Context())
		h.expire()
	}
	if err != nil {
		t.Fatal(err)
	}
}
