package evaluator

import (
	"time"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// clock is event time up to which everything is folded, but for what gateways publish late.
type clock struct {
	now     int64           // microseconds since 1970 UTC; 0: nothing was heard yet
	lag     int64           // by how much the newest events are behind the stream's time
	stored  int64           // the stream's time of these
	waiting []store.BatchOf // batches beside which something is not folded yet
}

func (c *clock) known() bool { return c.now != 0 }

// saved is what restore takes.
func (c *clock) saved() (now, lag int64) { return c.now, c.lag }

func (c *clock) restore(now, lag int64) {
	if now > c.now {
		c.now, c.lag = now, lag
	}
}

// advance takes in batches that were committed, the state of the stream having been asked before they were
// read, and returns the time. It never goes back.
func (c *clock) advance(state stream.State, batches []store.BatchOf) time.Time {
	floor := state.AckFloor
	if state.Behind == 0 {
		floor = max(floor, state.LastSequence)
	}
	c.waiting = append(c.waiting, batches...)
	rest := c.waiting[:0]
	for _, b := range c.waiting {
		if b.Incarnation == state.Incarnation && b.LastSequence > floor {
			rest = append(rest, b)
			continue
		}
		c.now = max(c.now, b.Newest)
		if b.Stored >= c.stored {
			c.stored, c.lag = b.Stored, b.Stored-b.Newest
		}
	}
	c.waiting = rest
	if state.Behind == 0 && len(c.waiting) == 0 && c.known() && !state.CompleteThrough.IsZero() {
		c.now = max(c.now, state.CompleteThrough.UnixMicro()-c.lag)
	}
	return time.UnixMicro(c.now)
}
