package stream

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// hand is what a worker has in hand of one batch.
type hand struct {
	of      *hands
	open    atomic.Int64 // messages that are neither acknowledged nor given back
	replies []string     // of all messages; only where they may have to be kept; guarded by hands.mu, as what follows
	since   time.Time
	looks   int // of Keep
}

// settled takes one message out of the hand.
func (h *hand) settled() {
	if h.open.Add(-1) == 0 {
		h.of.drop(h)
	}
}

// hands are the batches that a worker has.
type hands struct {
	nc *nats.Conn

	mu   sync.Mutex
	kept bool // Keep is running
	all  []*hand
	free [][]string // replies, of batches that are done
}

// out hands out a batch.
func (h *hands) out(batch []Message) {
	this := &hand{of: h}
	this.open.Store(int64(len(batch)))
	for i := range batch {
		batch[i].hand = this
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.kept {
		return
	}
	this.since = time.Now()
	if last := len(h.free) - 1; last >= 0 {
		this.replies, h.free = h.free[last], h.free[:last]
	}
	this.replies = slices.Grow(this.replies, len(batch))
	for i := range batch {
		this.replies = append(this.replies, batch[i].reply)
	}
	h.all = append(h.all, this)
}

// drop forgets a batch that is done.
func (h *hands) drop(done *hand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = slices.DeleteFunc(h.all, func(batch *hand) bool { return batch == done })
	if len(h.free) < keepFree && done.replies != nil {
		clear(done.replies)
		h.free = append(h.free, done.replies[:0])
	}
	done.replies = nil
}

const (
	keepFree  = 4  // lists to be used again, as many as a worker has batches
	keepParts = 6  // of AckWait, between two looks of Keep
	keepMost  = 12 // times AckWait, after which a batch is taken for stuck, and others get it
)

// Keep keeps what the worker has in hand from being delivered to others, for as
// long as Keep runs and the process does: until ctx ends. It looks every sixth
// of AckWait. What Fetch returned and is neither acknowledged nor given back at
// two looks is kept, but not longer than twelve times AckWait: a worker with a
// batch that takes so long is stuck, and keeps nothing until that is settled.
// What was asked for ahead and not fetched at two looks is given back instead:
// others get it sooner. So a batch that takes less than a sixth of AckWait costs nothing, and what a killed or stopped
// process has is delivered to others after AckWait.
//
// Six, because a message that waited ahead, was then handed out and waited
// again is kept before its AckWait ends: at each step it waits two looks at most.
func (c *Consumer) Keep(ctx context.Context) error {
	c.hands.keep(true)
	defer c.hands.keep(false)
	look := time.NewTicker(max(c.ackWait/keepParts, time.Millisecond))
	defer look.Stop()
	var fetches uint64
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		now := time.Now()
		if now.Sub(last) > c.ackWait { // the process was stopped: others have it all by now
			c.hands.forget()
		}
		last = now
		c.hands.hold(now.Add(-keepMost * c.ackWait))
		fetches = c.tidy(fetches)
	}
}

// tidy gives back what is asked ahead if Fetch was not called since the last
// time, of which it takes and returns the number of calls.
func (c *Consumer) tidy(fetches uint64) uint64 {
	if !c.mu.TryLock() {
		return fetches // Fetch is at it
	}
	defer c.mu.Unlock()
	if c.fetches == fetches && c.pull.sub != nil && c.failure == nil {
		c.letGo()
	}
	return c.fetches
}

func (h *hands) keep(kept bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept, h.all = kept, nil
}

func (h *hands) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = nil
}

// hold tells the server of what is in hand for longer than a look, unless some
// of it was handed out before the worker is taken for stuck.
func (h *hands) hold(stuck time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(h.all, func(batch *hand) bool { return batch.since.Before(stuck) }) {
		return
	}
	for _, batch := range h.all {
		if batch.looks++; batch.looks < 2 {
			continue
		}
		for _, reply := range batch.replies { // the server passes over those that are acknowledged
			_ = answer(h.nc, reply, ackProgress) // an error: the connection is closed
		}
	}
}
