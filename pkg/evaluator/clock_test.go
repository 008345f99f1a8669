package evaluator

import (
	"testing"
	"time"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// batchAt is a batch that was stored some seconds after the epoch, with its newest event.
func batchAt(sequence uint64, stored, newest int) store.BatchOf {
	at := func(seconds int) int64 { return epoch.Add(time.Duration(seconds) * time.Second).UnixMicro() }
	return store.BatchOf{EvidenceOf: store.EvidenceOf{Incarnation: "s", LastSequence: sequence, Stored: at(stored), Newest: at(newest)}}
}

// stateAt says that so many messages are acknowledged, of those that are stored so many seconds after the epoch.
func stateAt(acked, last uint64, seconds int) stream.State {
	return stream.State{
		Incarnation: "s", AckFloor: acked, LastSequence: last, Behind: last - acked, CompleteThrough: epoch.Add(time.Duration(seconds) * time.Second),
	}
}

func TestClock_WaitsForWhatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	var c clock
	c.advance(stateAt(1, 3, 10), []store.BatchOf{batchAt(3, 12, 11), batchAt(1, 10, 9)})
	if got := time.UnixMicro(c.now).Sub(epoch); got != 9*time.Second {
		t.Errorf("the clock is %s, want 9s: message 2 is not folded", got)
	}
	c.advance(stateAt(3, 3, 13), nil)
	if got := time.UnixMicro(c.now).Sub(epoch); got != 12*time.Second {
		t.Errorf("the clock is %s, want 12s, a second behind the stream's", got)
	}
}

// The last batch before a silence may be of events that are late.
func TestClock_LateEventsDoNotHoldItUp(t *testing.T) {
	t.Parallel()
	var c clock
	c.advance(stateAt(1, 1, 3700), []store.BatchOf{batchAt(1, 3700, 3699)})
	c.advance(stateAt(2, 2, 3703), []store.BatchOf{batchAt(2, 3703, 3)})
	c.advance(stateAt(2, 2, 3720), nil)
	if got := time.UnixMicro(c.now).Sub(epoch); got != 3719*time.Second {
		t.Errorf("the clock is %s, want 1h1m59s, a second behind the stream's", got)
	}
}

// Where all events are late from some time on, they are waited for.
func TestClock_FallsBehindWithTheGateways(t *testing.T) {
	t.Parallel()
	var c clock
	c.advance(stateAt(1, 1, 100), []store.BatchOf{batchAt(1, 100, 99)})
	c.advance(stateAt(2, 2, 200), []store.BatchOf{batchAt(2, 200, 150)})
	c.advance(stateAt(2, 2, 220), nil)
	if got := time.UnixMicro(c.now).Sub(epoch); got != 170*time.Second {
		t.Errorf("the clock is %s, want 170s, as far behind the stream's as the events are", got)
	}
}
