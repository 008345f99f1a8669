package worker

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"weir/pkg/definition"
)

// chaos is one round of the property test: workers without the twin and with
// it fold, are handed the same messages, and end; the backfill is killed and run
// again; somebody publishes all the time.
type chaos struct {
	*harness
	catalog *definition.Catalog
	name    string
	random  *rand.Rand
	taker   *Worker // fetches for all of them
}

// fold hands what is published to the workers, some of it to several at once,
// until the publisher has ended and nothing is left. The old one ends on the way.
func (c *chaos) fold(old, fresh *Worker, messages int) {
	end := c.random.IntN(messages)
	joins := c.random.IntN(end + 1)
	ended := false
	for done := 0; done < messages; {
		batch := c.take(c.taker, min(1+c.random.IntN(6), messages-done))
		done += len(batch)
		workers := []*Worker{old, fresh}
		if done < joins {
			workers = workers[:1]
		}
		if done > end {
			workers = workers[1:]
			if !ended {
				c.close(old)
			}
			ended = true
		}
		c.random.Shuffle(len(workers), func(i, k int) { workers[i], workers[k] = workers[k], workers[i] })
		var group sync.WaitGroup
		for i, w := range workers {
			if i > 0 && c.random.IntN(2) == 0 {
				continue // only the first gets it
			}
			group.Go(func() {
				for rest := batch; len(rest) > 0; {
					n, err := w.process(c.t.Context(), rest)
					if err != nil {
						c.t.Error(err)
						return
					}
					rest = rest[n:]
				}
			})
		}
		group.Wait()
	}
	if !ended {
		c.close(old)
	}
}

func (c *chaos) close(w *Worker) {
	if err := w.lease.Close(); err != nil {
		c.t.Error(err)
	}
}

// killAndRunAgain runs the backfill until it is complete, and returns how often
// it was killed.
func (c *chaos) killAndRunAgain(random *rand.Rand) (kills int) {
	most := random.IntN(8)
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
		reports := 1 + random.IntN(5)
		err := c.backfill(ctx, c.catalog, c.name, func(BackfillProgress) {
			if reports--; reports == 0 && kills < most {
				time.AfterFunc(time.Duration(random.IntN(8))*time.Millisecond, cancel)
			}
		})
		killed := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			return kills
		case !killed:
			c.t.Error(err)
			return kills
		}
		kills++
	}
}

// chaosRounds is how many rounds there are: each has a way of its own, and later
// ones cost more, for they have all events of those before.
func chaosRounds(t *testing.T) int {
	t.Helper()
	text := cmp.Or(os.Getenv("WEIR_CHAOS_ROUNDS"), "3")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("WEIR_CHAOS_ROUNDS: %v", err)
	}
	return n
}

func TestBackfill_GivesEveryEventOnceWhateverHappens(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	taker := h.idle("taker")
	if err := taker.lease.Close(); err != nil {
		t.Fatal(err)
	}
	var events int64
	for round := range chaosRounds(t) {
		random := rand.New(rand.NewPCG(1, uint64(round)))
		name := fmt.Sprint("Twin", round)
		before := h.idle(fmt.Sprint("before", round))
		mix := func(epoch string) (messages int) {
			messages, n := h.publishMix(epoch)
			events += int64(n)
			return messages
		}
		for i := range 3 {
			h.process(before, h.take(taker, mix(fmt.Sprintf("a%d_%d", round, i)))...)
		}
		old := h.idle(fmt.Sprint("old", round))
		if err := before.lease.Close(); err != nil {
			t.Fatal(err)
		}
		c := &chaos{harness: h, name: name, random: random, taker: taker, catalog: h.twin(name)}
		fresh := h.knowing(c.catalog, fmt.Sprint("fresh", round))
		const mixes, size = 8, 9
		var group sync.WaitGroup
		var kills int
		group.Go(func() {
			for i := range mixes {
				mix(fmt.Sprintf("b%d_%d", round, i))
			}
		})
		killer := rand.New(rand.NewPCG(2, uint64(round)))
		group.Go(func() { kills = c.killAndRunAgain(killer) })
		c.fold(old, fresh, mixes*size)
		group.Wait()
		h.wantTwin(fmt.Sprintf("round %d, with %d kills", round, kills), c.catalog, name, events)
		if err := fresh.lease.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
}
