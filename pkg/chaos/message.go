package chaos

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"weir/pkg/event"
	"weir/pkg/stream"
)

// message is what a source published, or tried to.
type message struct {
	source string
	epoch  string
	first  uint64 // number of the message, or of its first event
	ranged bool   // the events have the numbers first, first+1, …
	own    bool   // it has an identity of its own; else it is foreign
	events []made
	broken bool // cannot be read at all: one dead letter
	out    stream.Outgoing
	sum    [32]byte // of the body, which need not be kept
	beat   bool     // it is a heartbeat: claimed, and no event
	copyOf bool     // all its events are those of another message, cut anew
}

// again is when a message is published once more under its id.
type again struct {
	at      time.Time
	message *message
}

// generator makes the messages of one source, from the seed alone.
type generator struct {
	source string
	number int
	origin int64 // when the run began, in milliseconds since 1970 UTC
	random *rand.Rand
	ranged bool
	serial int
	epoch  string
	next   uint64
	beats  uint64   // heartbeats of the epoch
	before *message // the last one that can be cut anew
	burst  burst
}

// burst are throttled calls of one application, dealt out to messages that several workers get.
type burst struct {
	event made
	left  int // calls
}

func newGenerator(seed uint64, number int, origin int64) *generator {
	g := &generator{
		source: fmt.Sprintf("gw-%d", number), number: number, origin: origin,
		random: rand.New(rand.NewPCG(seed, uint64(1000+number))), //nolint:gosec // numbers of sources are small
		ranged: number == sources,                                // the last one numbers its events, as replay does
	}
	g.newEpoch()
	return g
}

// newEpoch is what a source that starts anew does.
func (g *generator) newEpoch() {
	g.epoch, g.next, g.before = fmt.Sprintf("%016x%016x", g.random.Uint64(), g.random.Uint64()), 1, nil
	g.beats = 0
}

// message draws the next one, of at most so many events, of about now.
func (g *generator) message(now int64, most int) *message {
	r := g.random
	if g.before != nil && r.IntN(50) == 0 {
		if m := g.cutAnew(); m != nil {
			return m
		}
	}
	g.serial++
	m := &message{source: g.source, epoch: g.epoch, own: r.IntN(200) != 0}
	m.ranged = g.ranged && m.own
	kind := []string{typeRequest, typeRequest, typeRequest, typeRequest, typeFault, typeThrottle}[r.IntN(6)]
	size := 1 + r.IntN(4)
	if r.IntN(3) > 0 {
		size = 1 + r.IntN(60)
	}
	for i := range min(size, most) {
		e := newEvent(r, kind, now, g.serial*100+i)
		if r.IntN(200) == 0 {
			e.flaw = []flaw{noTime, wrongType}[r.IntN(2)]
		}
		if kind == typeRequest && i == 0 && e.flaw == sound && m.own && r.IntN(20) == 0 {
			// Each is of a time of its own, before the run, so that each must raise an alert of its own; and not so long
			// before that it would be too late for the alerts over all workers.
			e.slow, e.response = true, 6000+int64(r.IntN(1000))
			e.millis = g.origin - 1_800_000 + int64(g.serial*8+g.number)
		}
		m.events = append(m.events, e)
	}
	if kind == typeThrottle && len(m.events) > 1 && m.own {
		g.throttle(m, now)
	}
	m.broken = r.IntN(200) == 0
	if m.own {
		m.first = g.next
		g.next++
		if g.ranged {
			g.next += uint64(len(m.events)) - 1
		}
	}
	m.seal(r)
	if m.own && g.ranged && !m.broken && len(m.events) > 2 {
		g.before = m
	}
	return m
}

// throttle makes the last event of a message a burst's. All calls of a burst are of one time, now or long ago, so that
// it does not matter which of them are known first.
func (g *generator) throttle(m *message, now int64) {
	e := &m.events[len(m.events)-1]
	if g.burst.left == 0 {
		g.burst = burst{event: *e, left: 8 + g.random.IntN(6)}
		g.burst.event.burst, g.burst.event.flaw = fmt.Sprintf("burst-%s-%d", g.source, g.serial), sound
		if g.burst.event.millis = now; g.random.IntN(2) == 0 {
			g.burst.event.millis -= 1_800_000
		}
	}
	serial := e.serial
	*e = g.burst.event
	e.serial = serial
	g.burst.left--
}

// heartbeat is a message of what is acknowledged of the epoch.
func (g *generator) heartbeat(acked uint64, closed bool) *message {
	g.beats++
	m := &message{source: g.source, epoch: g.epoch + event.HeartbeatSuffix, first: g.beats, own: true, beat: true}
	m.out.Subject, m.out.ContentType = stream.EventSubject(event.HeartbeatType, g.source), "application/json"
	m.out.MsgID = fmt.Sprintf("%s/%s/%d", m.source, m.epoch, m.first)
	m.out.Data = event.Heartbeat{Source: g.source, Epoch: g.epoch, Next: g.next, Acked: acked, Closed: closed}.Body()
	m.sum = sha256.Sum256(m.out.Data)
	return m
}

// last is the last number of the message.
func (m *message) last() uint64 {
	if m.ranged {
		return m.first + uint64(len(m.events)) - 1
	}
	return m.first
}

// cutAnew publishes the last part of the message before as another message: the same events, another cut.
func (g *generator) cutAnew() *message {
	b := g.before
	g.before = nil
	from := 1 + g.random.IntN(len(b.events)-1)
	m := &message{source: b.source, epoch: b.epoch, first: b.first + uint64(from), ranged: true, own: true, copyOf: true, events: b.events[from:]} //nolint:gosec // an index
	m.seal(g.random)
	return m
}

// seal writes the message as it goes over the wire.
func (m *message) seal(r *rand.Rand) {
	kind := m.events[0].kind
	var parts []string
	for _, e := range m.events {
		parts = append(parts, string(e.body()))
	}
	m.out.Subject = stream.EventSubject(kind, m.source)
	m.out.ContentType = "application/json"
	body := "[" + strings.Join(parts, ",") + "]"
	switch {
	case m.broken && r.IntN(3) == 0:
		m.out.Subject = stream.EventSubject("nonsense", m.source) // no such stream is defined
	case m.broken:
		body = body[:len(body)/2]
	case len(parts) == 1:
		body = parts[0]
	case r.IntN(3) == 0:
		body, m.out.ContentType = strings.Join(parts, "\n")+"\n", "application/x-ndjson"
	}
	m.out.Data = []byte(body)
	if r.IntN(10) == 0 {
		m.out.Data, m.out.ContentEncoding = zipped(m.out.Data), "gzip"
	}
	m.sum = sha256.Sum256(m.out.Data)
	switch last := m.first + uint64(len(m.events)) - 1; {
	case !m.own:
		m.out.MsgID = "" // foreign publishers have none
	case m.ranged:
		m.out.MsgID = fmt.Sprintf("%s/%s/%d-%d", m.source, m.epoch, m.first, last)
	default:
		m.out.MsgID = fmt.Sprintf("%s/%s/%d", m.source, m.epoch, m.first)
	}
}

func zipped(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // to memory
	_ = w.Close()
	return b.Bytes()
}

// claim is how the ledger knows the event at offset: by number, or the whole message by its own.
func (m *message) claim(offset int) ledgerKey {
	if m.ranged {
		return ledgerKey{m.source, m.epoch, m.first + uint64(max(0, offset))} //nolint:gosec // not below 0
	}
	return ledgerKey{m.source, m.epoch, m.first}
}

// ledgerKey is a number of a publisher epoch; of a foreign message, "", the stream's incarnation and the sequence.
type ledgerKey struct {
	source, epoch string
	number        uint64
}

// identity is an event's own: what may be folded once.
type identity struct {
	ledgerKey
	offset int // in a message that is claimed as a whole; -1 is the whole message, as a dead letter
}

func (m *message) identity(key ledgerKey, offset int) identity {
	if m.ranged {
		key.number += uint64(max(0, offset)) //nolint:gosec // not below 0
		return identity{key, min(offset, 0)}
	}
	return identity{key, offset}
}
