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
// anybody: its Ack, Nak and InProgress do nothing.
type Message struct {
	Subject    string
	Data       []byte    // do not change; still encoded as ContentEncoding says
	Sequence   uint64    // place in the stream, from 1
	Stored     time.Time // by the clock of the server that stored it, UTC
	Deliveries uint64    // a hint only: 1 does not prove that this is the first delivery

	header nats.Header // what the publisher wrote: prove nothing by it
	reply  string      // where it is acknowledged
	hand   *hand       // nil: not delivered to anybody
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
	rest, ok := strings.CutPrefix(reply, ackPrefix)
	if !ok {
		return delivery{}, false
	}
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
		_, rest, _ = strings.Cut(rest, ".")
	}
	var numbers [5]uint64
	for i := range numbers {
		var token string
		token, rest, _ = strings.Cut(rest, ".")
		n, err := strconv.ParseUint(token, 10, 64)
		if err != nil {
			return delivery{}, false
		}
		numbers[i] = n
	}
	return delivery{
		deliveries: numbers[0],
		sequence:   numbers[1],
		number:     numbers[2],
		stored:     time.Unix(0, int64(numbers[3])).UTC(), //nolint:gosec // nanoseconds since 1970, by the server
		pending:    numbers[4],
	}, true
}

// message returns what the server delivered.
func (d delivery) message(raw *nats.Msg) Message {
	return Message{
		Subject:    raw.Subject,
		Data:       raw.Data,
		Sequence:   d.sequence,
		Stored:     d.stored,
		Deliveries: d.deliveries,
		header:     raw.Header,
		reply:      raw.Reply,
	}
}

// MsgID is the header Nats-Msg-Id, or "" where the publisher set none.
func (m Message) MsgID() string { return m.header.Get(headerMsgID) }

// ContentType is the header Content-Type, or "".
func (m Message) ContentType() string { return m.find(headerContentType) }

// ContentEncoding is the header Content-Encoding, or "".
func (m Message) ContentEncoding() string { return m.find(headerContentEncoding) }

// find finds a header whatever its case: NATS compares names as they are
// written, but foreign publishers write HTTP names in HTTP's ways.
func (m Message) find(name string) string {
	if value := m.header.Get(name); value != "" {
		return value
	}
	for key, values := range m.header {
		if len(values) > 0 && strings.EqualFold(key, name) {
			return values[0]
		}
	}
	return ""
}

// Identity is the publisher's own identity of the message. It is not ok, and
// the message is foreign, when Nats-Msg-Id is missing, is no identity, or names
// a source other than the subject's: a gateway's credential binds the subject,
// so nobody can speak in another source's name.
func (m Message) Identity() (Identity, bool) { return IdentityOf(m.Subject, m.MsgID()) }

// Ack says that the message need not be delivered again. Call it only after
// what it caused is committed. It does not wait for the server: an ack can be
// lost, and the message is then delivered again.
func (m Message) Ack() error {
	if m.hand == nil {
		return nil
	}
	m.hand.settled()
	return answer(m.hand.nc, m.reply, ackAck)
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
		return answer(m.hand.nc, m.reply, ackNak)
	}
	return answer(m.hand.nc, m.reply, ackNak+` {"delay": `+strconv.FormatInt(int64(delay), 10)+`}`)
}

// InProgress restarts the consumer's AckWait for this message.
func (m Message) InProgress() error {
	if m.hand == nil {
		return nil
	}
	return answer(m.hand.nc, m.reply, ackProgress)
}

// What a consumer can be told about a message.
const (
	ackAck      = "+ACK"
	ackNak      = "-NAK"
	ackProgress = "+WPI"
)

func answer(nc *nats.Conn, reply, text string) error { return nc.Publish(reply, []byte(text)) }

// size is what the message counts against Limits.Bytes.
func (m Message) size() int { return len(m.Data) }
