package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"weir/pkg/event"
	"weir/pkg/stream"
)

const (
	heartbeatEvery = 10 * time.Second
	// heartbeatGrace is how long the last heartbeat may take: nothing depends on
	// it but what an auditor can say.
	heartbeatGrace = 2 * time.Second
)

// newEpoch returns 128 random bits.
func newEpoch() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, as of Go 1.24
	return hex.EncodeToString(random[:])
}

// heart numbers the messages of a publisher, remembers which of them the stream
// has acknowledged, and tells the workers so by heartbeats: an auditor can then
// say of every message that was acknowledged whether it is still there.
//
// A heartbeat says up to which number all are acknowledged. One that was given
// up, which may be in the stream or not, would end that for good. So when a later
// one is acknowledged, the publisher goes on in a new epoch, and the old one is
// closed. Where the epoch was given, it stays, and acked stays below that number.
type heart struct {
	conn   *stream.Conn
	source string
	every  time.Duration // negative: no heartbeats
	renews bool          // the epoch was not given

	mu      sync.Mutex
	current *epoch
	ending  []*epoch // given up: their numbers are settled, or will be
	beating chan struct{}
	stop    context.CancelFunc
}

// epoch is what is known of the numbers of one epoch. It is guarded by heart.mu.
type epoch struct {
	name    string
	last    uint64 // number given
	open    int    // numbers that are neither acknowledged nor given up
	acked   uint64
	ahead   map[uint64]struct{} // acknowledged, above acked+1
	stuck   uint64              // the lowest number that was given up; 0: none
	over    bool                // a number above stuck is acknowledged
	dropped uint64              // events that were given up
	beats   uint64              // heartbeats so far; each has its own number, sent or not
}

func newHeart(conn *stream.Conn, source, name string, every time.Duration, renews bool) *heart {
	return &heart{conn: conn, source: source, every: every, renews: renews, current: beginEpoch(name)}
}

func beginEpoch(name string) *epoch { return &epoch{name: name, ahead: map[uint64]struct{}{}} }

// name is the epoch of the next message.
func (h *heart) name() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current.name
}

// take gives the next message its epoch and number. The first begins the
// heartbeats, which end with close.
func (h *heart) take() (name string, number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current.over && h.renews {
		h.ending = append(h.ending, h.current)
		h.current = beginEpoch(newEpoch())
	}
	if h.every > 0 && h.beating == nil {
		h.beating = make(chan struct{})
		life, stop := context.WithCancel(context.Background()) //nolint:forbidigo // heartbeats outlive the call that begins them: close ends this
		h.stop = stop
		go h.run(life, h.every, h.beating)
	}
	h.current.last++
	h.current.open++
	return h.current.name, h.current.last
}

// settle says that the message of that number, with so many events, is
// acknowledged, or with an error that it was given up.
func (h *heart) settle(name string, number, events uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.current
	if i := slices.IndexFunc(h.ending, func(e *epoch) bool { return e.name == name }); i >= 0 {
		e = h.ending[i]
	}
	e.open--
	if err != nil {
		e.dropped += events
		if e.stuck == 0 || number < e.stuck {
			e.stuck = number
		}
		return
	}
	e.acknowledge(number)
}

func (e *epoch) acknowledge(number uint64) {
	if e.stuck > 0 && number > e.stuck {
		e.over = true // acked will not come so far
		return
	}
	if number != e.acked+1 {
		e.ahead[number] = struct{}{} // at most those that overtook one under way
		return
	}
	for there := true; there; _, there = e.ahead[e.acked+1] {
		e.acked++
		delete(e.ahead, e.acked)
	}
}

func (h *heart) run(life context.Context, every time.Duration, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-life.Done():
			return
		case <-tick.C:
			h.beat(life, false)
		}
	}
}

// close sends the last heartbeat of each epoch, unless nothing was ever
// numbered. It does not report whether they were stored.
func (h *heart) close(ctx context.Context) {
	h.mu.Lock()
	beating, stop := h.beating, h.stop
	h.beating, h.every = nil, -1
	h.mu.Unlock()
	if beating == nil {
		return
	}
	stop()
	<-beating
	ctx, cancel := context.WithTimeout(ctx, heartbeatGrace)
	defer cancel()
	h.beat(ctx, true)
}

// beat sends one heartbeat for each epoch, and waits until the stream has it:
// while it cannot be reached, one is under way, and not one for every tick.
func (h *heart) beat(ctx context.Context, last bool) {
	h.mu.Lock()
	epochs := append(slices.Clone(h.ending), h.current)
	h.mu.Unlock()
	for i, e := range epochs {
		h.mu.Lock()
		ended := i < len(epochs)-1 && e.open == 0
		e.beats++
		id := stream.Identity{Source: h.source, Epoch: e.name + event.HeartbeatSuffix, First: e.beats, Last: e.beats}
		body := event.Heartbeat{Source: h.source, Epoch: e.name, Next: e.last + 1, Acked: e.acked, Dropped: e.dropped, Closed: last || ended}.Body()
		h.mu.Unlock()
		_, _, err := h.conn.Publish(ctx, stream.Outgoing{
			Subject: stream.EventSubject(event.HeartbeatType, h.source), MsgID: id.String(), ContentType: "application/json", Data: body,
		})
		if ended && err == nil {
			h.mu.Lock()
			h.ending = slices.DeleteFunc(h.ending, func(old *epoch) bool { return old == e })
			h.mu.Unlock()
		}
	}
}
