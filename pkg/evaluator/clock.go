package evaluator

import (
	"cmp"
	"slices"
	"time"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// clock is event time up to which everything is folded, but for what gateways publish late.
type clock struct {
	now   int64   // microseconds since 1970 UTC; 0: nothing was heard yet
	lag   int64   // by how much the newest events are behind the stream's time
	heard []heard // of the last minute of the stream's time
	// incarnation of the stream, and up to which message all is acknowledged, when that was asked last
	incarnation string
	floor       uint64

	waiting []store.BatchOf // batches beside which something is not folded yet
}

// heard is how late a batch's newest event was.
type heard struct{ stored, lag int64 }

// lagOver is over how much of the stream's time the least lag counts: a batch of late events alone, which may be
// the last for long, does not hold up the others, and gateways that are late from now on are waited for.
const lagOver = int64(time.Minute / time.Microsecond)

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
	c.incarnation, c.floor = state.Incarnation, floor
	c.waiting = append(c.waiting, batches...)
	rest := c.waiting[:0]
	for _, b := range c.waiting {
		if b.Incarnation == state.Incarnation && b.LastSequence > floor {
			rest = append(rest, b)
			continue
		}
		c.now = max(c.now, b.Newest)
		c.heard = append(c.heard, heard{b.Stored, b.Stored - b.Newest})
	}
	c.waiting = rest
	c.measureLag()
	if state.Behind == 0 && len(c.waiting) == 0 && c.known() && !state.CompleteThrough.IsZero() {
		c.now = max(c.now, state.CompleteThrough.UnixMicro()-c.lag)
	}
	return time.UnixMicro(c.now)
}

func (c *clock) measureLag() {
	if len(c.heard) == 0 {
		return
	}
	last := slices.MaxFunc(c.heard, func(a, b heard) int { return cmp.Compare(a.stored, b.stored) }).stored
	c.heard = slices.DeleteFunc(c.heard, func(h heard) bool { return h.stored <= last-lagOver })
	c.lag = slices.MinFunc(c.heard, func(a, b heard) int { return cmp.Compare(a.lag, b.lag) }).lag
}
