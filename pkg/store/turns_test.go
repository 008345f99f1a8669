package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ask asks as many as are given at once: [key, want], and returns what each got.
func askTogether(t *testing.T, turns *turns, asked [][2]string, ask asking) [][]any {
	t.Helper()
	got := make([][]any, len(asked))
	var all sync.WaitGroup
	for i, a := range asked {
		all.Go(func() {
			err := turns.ask(t.Context(), a[0], a[1], func(values []any) error { got[i] = append(got[i], values...); return nil }, ask)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return got
}

func TestTurns_AskOnceForAllWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 100)
		var statements atomic.Int64
		asked := [][2]string{{"busy", "x"}}
		for i := range 30 {
			asked = append(asked, [2]string{"shape", fmt.Sprint("api-", i%3)})
		}
		got := askTogether(t, turns, asked, func(wanted []string, begun func(), row func(string, []any) error) error {
			statements.Add(1)
			time.Sleep(time.Second) //nolint:forbidigo // in a bubble: what follows waits meanwhile
			begun()
			for _, w := range wanted {
				if err := row(w, []any{"of " + w}); err != nil {
					return err
				}
			}
			return nil
		})
		if n := statements.Load(); n > 3 { // the one that was first, and those who came before it began, and the others
			t.Errorf("%d statements for 31 questions of two kinds", n)
		}
		for i, a := range asked {
			if len(got[i]) != 1 || got[i][0] != "of "+a[1] {
				t.Errorf("%v got %v", a, got[i])
			}
		}
		if c := turns.counts; c.Asked+c.Shared != 31 || c.Waiting != 0 {
			t.Errorf("counted %+v", c)
		}
	})
}

func TestTurns_GiveNobodyAnAnswerThatWasBegunBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2, 100)
		var now atomic.Int64
		ask := func(_ []string, _ func(), row func(string, []any) error) error {
			snapshot := now.Load()
			time.Sleep(time.Second) //nolint:forbidigo // in a bubble
			return row("", []any{snapshot})
		}
		var all sync.WaitGroup
		for i := range int64(10) {
			now.Store(i)
			all.Go(func() {
				_ = turns.ask(t.Context(), "same", "", func(values []any) error {
					if at, _ := values[0].(int64); at < i {
						t.Errorf("asked at %d, answered from %d", i, at)
					}
					return nil
				}, ask)
			})
			synctest.Wait()
			time.Sleep(300 * time.Millisecond) //nolint:forbidigo // in a bubble
		}
		all.Wait()
	})
}

func TestTurns_LeaveTheOthersNothingOfOneThatGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 100)
		ask := func(_ []string, _ func(), row func(string, []any) error) error {
			time.Sleep(time.Second) //nolint:forbidigo // in a bubble
			return row("", []any{"whole"})
		}
		gone, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = turns.ask(t.Context(), "before", "", func([]any) error { return nil }, ask) })
		synctest.Wait()
		all.Go(func() {
			if err := turns.ask(gone, "same", "", func([]any) error { return nil }, ask); !errors.Is(err, context.Canceled) {
				t.Errorf("who has gone got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			var got []any
			if err := turns.ask(t.Context(), "same", "", func(values []any) error { got = values; return nil }, ask); err != nil || len(got) != 1 {
				t.Errorf("who stays got %v, %v", got, err)
			}
		})
		synctest.Wait()
		leave()
		all.Wait()
		if c := turns.counts; c.Waiting != 0 || len(turns.waiting) != 0 || len(turns.slots) != 0 {
			t.Errorf("left: %+v", c)
		}
	})
}

func TestTurns_RestWhileWorkersHaveABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(4, 100)
		turns.yield.Store(true)
		began := time.Now()
		var asked [][2]string
		for i := range 10 {
			asked = append(asked, [2]string{fmt.Sprint("different ", i), ""})
		}
		var underWay atomic.Int64
		askTogether(t, turns, asked, func(_ []string, _ func(), row func(string, []any) error) error {
			if underWay.Add(1) > 1 {
				t.Error("two at a time")
			}
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // in a bubble
			underWay.Add(-1)
			return row("", nil)
		})
		// Ten of 100 ms with nine rests of 900 ms between them, each rounded to a look.
		if took := time.Since(began); took < 9100*time.Millisecond || took > 9600*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}
