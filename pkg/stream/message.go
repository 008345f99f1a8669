package stream

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers of a message, as they travel.
const (
	headerMsgID           = nats.MsgIdHdr
	headerContentType     = "Content-Type"
	headerContentEncoding = "Content-Encoding"
)

// Message is one delivery of one stored message. The same message may be
// delivered several times, to several workers; Subject, Data, the headers,
// Sequence and Stored are the same each time.
//
// A message that [History] returned, or one made by hand, was not delivered to
// anybody: its Ack and Nak do nothing.
type Message struct {
	Subject    string
	Data       []byte    // do not change; still encoded as ContentEncoding says
	Sequence   uint64    // place in the stream, from 1
	Stored     time.Time // by the clock of the server that stored it, UTC
	Deliveries uint64    // a hint only: 1 does not prove that this is the first delivery

	headers headers // what the publisher wrote: prove nothing by it
	sender  *sender // nil: foreign
	first   uint64  // of the identity, if it is not
	last    uint64
	reply   string // where it is acknowledged
	hand    *hand  // nil: not delivered to anybody
}

// delivery is what the server says about a message that it delivers, in the
// message's reply subject. No publisher can write there, unlike in the headers.
type delivery struct {
	deliveries uint64    // 1: the first
	sequence   uint64    // in the stream
	number     uint64    // of all deliveries of the consumer, from 1
	stored     time.Time // UTC
	pending    uint64    // messages that the consumer has still to deliver after this one
}

const ackPrefix = "$JS.ACK."

// parseDelivery reads a reply subject. There are two forms, the second one from
// servers with domains; more tokens may follow:
//
//	$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<stored>.<pending>
//	$JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<stored>.<pending>
//
// Whatever is not of these forms was not delivered from a stream.
func parseDelivery(reply string) (d delivery, ok bool) {
	if !strings.HasPrefix(reply, ackPrefix) {
		return delivery{}, false
	}
	rest := reply[len(ackPrefix):]
	names := 0
	switch dots := strings.Count(rest, "."); {
	case dots == 6:
		names = 2
	case dots >= 8:
		names = 4
	default:
		return delivery{}, false
	}
	for range names {
		rest = rest[strings.IndexByte(rest, '.')+1:]
	}
	var numbers [5]uint64
	for i := range numbers {
		end := 0
		for end < len(rest) && rest[end] != '.' {
			end++
		}
		if numbers[i], ok = parseDigits(rest[:end]); !ok {
			return delivery{}, false
		}
		rest = rest[min(end+1, len(rest)):]
	}
	return delivery{
		deliveries: numbers[0],
		sequence:   numbers[1],
		number:     numbers[2],
		stored:     time.Unix(0, int64(numbers[3])).UTC(), //nolint:gosec // nanoseconds since 1970, by the server
		pending:    numbers[4],
	}, true
}

// message returns what the server delivered, not yet identified.
func (d delivery) message(raw *nats.Msg) Message {
	return Message{
		Subject:    raw.Subject,
		Data:       raw.Data,
		Sequence:   d.sequence,
		Stored:     d.stored,
		Deliveries: d.deliveries,
		headers:    headersOf(raw.Header),
		reply:      raw.Reply,
	}
}

// headers are those of a message that mean something to Weir; "" where the
// publisher set none.
type headers struct {
	msgID, contentType, contentEncoding string
}

// headersOf keeps three strings, and not the map that nats.go makes for every
// message whether one wants it or not.
//
// Content-Type and Content-Encoding are found whatever their case: NATS compares
// names as they are written, but foreign publishers write HTTP names in HTTP's ways.
func headersOf(all nats.Header) headers {
	h := headers{msgID: all.Get(headerMsgID), contentType: all.Get(headerContentType), contentEncoding: all.Get(headerContentEncoding)}
	if h.msgID != "" && h.contentType != "" && (len(all) == 2 || h.contentEncoding != "") {
		return h // nothing else is there, or wanted
	}
	for name, values := range all {
		switch {
		case len(values) == 0:
		case h.contentType == "" && strings.EqualFold(name, headerContentType):
			h.contentType = values[0]
		case h.contentEncoding == "" && strings.EqualFold(name, headerContentEncoding):
			h.contentEncoding = values[0]
		}
	}
	return h
}

// MsgID is the header Nats-Msg-Id, or "" where the publisher set none.
func (m Message) MsgID() string { return m.headers.msgID }

// ContentType is the header Content-Type, or "".
func (m Message) ContentType() string { return m.headers.contentType }

// ContentEncoding is the header Content-Encoding, or "".
func (m Message) ContentEncoding() string { return m.headers.contentEncoding }

// Identity is the publisher's own identity of the message. It is not ok, and
// the message is foreign, when Nats-Msg-Id is missing, is no identity, or names
// a source other than the subject's: a gateway's credential binds the subject,
// so nobody can speak in another source's name.
func (m Message) Identity() (Identity, bool) {
	if m.sender == nil {
		return Identity{}, false
	}
	return Identity{Source: m.sender.source, Epoch: m.sender.epoch, First: m.first, Last: m.last}, true
}

// Ack says that the message need not be delivered again. Call it only after
// what it caused is committed. It does not wait for the server: an ack can be
// lost, and the message is then delivered again.
func (m Message) Ack() error {
	if m.hand == nil {
		return nil
	}
	m.hand.settled()
	return m.hand.of.nc.Publish(m.reply, nil)
}

// Nak gives the message back, to be delivered again after delay (0: at once),
// to whichever worker asks. Of a message that is acknowledged already it does
// nothing.
func (m Message) Nak(delay time.Duration) error {
	if m.hand == nil {
		return nil
	}
	m.hand.settled()
	if delay <= 0 {
		return answer(m.hand.of.nc, m.reply, ackNak)
	}
	return answer(m.hand.of.nc, m.reply, ackNak+` {"delay": `+strconv.FormatInt(int64(delay), 10)+`}`)
}

// What a consumer can be told about a message. Nothing at all means that it is
// acknowledged: the same as "+ACK", and the server need not copy it.
const (
	ackNak      = "-NAK"
	ackProgress = "+WPI"
)

func answer(nc *nats.Conn, reply, text string) error { return nc.Publish(reply, []byte(text)) }
