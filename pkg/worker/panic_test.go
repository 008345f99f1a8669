package worker

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/event"
	"weir/pkg/store"
)

// What a bug in the code would do: with one message, and each time that it is in
// a batch, it panics.
func TestPanic_OnAMessageMakesItADeadLetterAndItsNeighboursAreFolded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		where  string
		plant  func(*proof)
		poison string
		reason string
	}{
		{
			"decoding",
			func(p *proof) {
				for i := range p.catalog.Stream("tick").Attributes {
					if a := &p.catalog.Stream("tick").Attributes[i]; a.Name == "name" {
						a.IfEmpty = func(*event.Columns, int) (event.Cell, error) { panic("secret of a gateway") }
					}
				}
			},
			`{"at":1,"name":"","size":1}`, "secret of a gateway",
		},
		{
			"the rules",
			func(p *proof) { p.catalog.Rules[0].Cases[0].Key[0].Attribute = 1 << 20 },
			`{"at":1,"name":"secret of a gateway","size":6000}`, "index out of range",
		},
	} {
		t.Run(test.where, func(t *testing.T) {
			t.Parallel()
			p := newProof(t)
			test.plant(p)
			w := p.hand("w1", nil)
			core, logged := observer.New(zapcore.InfoLevel)
			w.log = zap.New(core)
			p.own(3)
			p.publish("events.tick.gw", p.id(), "", test.poison)
			p.totals.Messages++
			p.totals.DeadLetters++
			p.claims++
			p.own(2)
			messages := p.take(w, 6)
			for range 2 { // the second time it is in the ledger
				if err := w.persist(t.Context(), t.Context(), messages); err != nil {
					t.Fatal(err)
				}
				p.check("with a message that the code panics on")
			}
			letters, err := p.db.DeadLetters(t.Context(), store.DeadLetterFilter{Limit: 10})
			if err != nil || len(letters) != 1 || letters[0].Sequence != messages[3].Sequence || string(letters[0].Payload) != test.poison ||
				!strings.HasPrefix(letters[0].Reason, "the worker panicked on it: ") || !strings.Contains(letters[0].Reason, test.reason) {
				t.Errorf("got %+v, %v", letters, err)
			}
			lines := logged.FilterMessageSnippet("panicked").All()
			if len(lines) == 0 {
				t.Fatal("nothing is logged")
			}
			text := fmt.Sprint(lines[0].ContextMap())
			if strings.Contains(text, "secret") || !strings.Contains(text, "panic.go") {
				t.Errorf("logged %s: want the stack, and nothing of the payload", text)
			}
		})
	}
}

func TestPanic_InATransactionRollsItBackAndTheConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	w := p.hand("w1", nil)
	p.own(3)
	messages := p.take(w, 3)
	lease := w.lease
	w.lease = nil // NextBatch panics
	if _, err := w.attempt(t.Context(), messages); err == nil || !strings.Contains(err.Error(), "panic") || ofInput(err) {
		t.Errorf("got %v, want a panic that is nobody's message's fault", err)
	}
	if w.cascade != nil {
		t.Error("what the levels lack is taken for known")
	}
	w.lease = lease
	if n := ask[int](p.harness, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'weir proof' AND state LIKE 'idle in transaction%'`); n != 0 {
		t.Errorf("%d sessions are still in a transaction", n)
	}
	if err := w.persist(t.Context(), t.Context(), messages); err != nil {
		t.Fatal(err)
	}
	p.check("tried again")
}
