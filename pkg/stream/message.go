package stream

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a message, as they travel.
const (
	headerContentType     = "Content-Type"
	headerContentEncoding = "Content-Encoding"
)

// Message is one delivery of one stored message. The same message may be
// delivered several times, to several workers; Subject, Data, the headers,
// Sequence and Stored are the same each time.
type Message struct {
	Subject    string
	Data       []byte    // do not change; still encoded as ContentEncoding says
	Sequence   uint64    // place in the stream, from 1
	Stored     time.Time // by the clock of the server that stored it, UTC
	Deliveries uint64    // a hint only: 1 does not prove that this is the first delivery

	raw jetstream.Msg
}

func newMessage(raw jetstream.Msg) (Message, error) {
	meta, err := raw.Metadata()
	if err != nil {
		return Message{}, err
	}
	return Message{
		Subject:    raw.Subject(),
		Data:       raw.Data(),
		Sequence:   meta.Sequence.Stream,
		Stored:     meta.Timestamp.UTC(),
		Deliveries: meta.NumDelivered,
		raw:        raw,
	}, nil
}

// MsgID is the header Nats-Msg-Id, or "" where the publisher set none.
func (m Message) MsgID() string { return m.raw.Headers().Get(jetstream.MsgIDHeader) }

// ContentType is the header Content-Type, or "".
func (m Message) ContentType() string { return m.header(headerContentType) }

// ContentEncoding is the header Content-Encoding, or "".
func (m Message) ContentEncoding() string { return m.header(headerContentEncoding) }

// header finds a header whatever its case: NATS compares names as they are
// written, but foreign publishers write HTTP names in HTTP's ways.
func (m Message) header(name string) string {
	headers := m.raw.Headers()
	if value := headers.Get(name); value != "" {
		return value
	}
	for key, values := range headers {
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
func (m Message) Ack() error { return m.raw.Ack() }

// InProgress restarts the consumer's AckWait for this message.
func (m Message) InProgress() error { return m.raw.InProgress() }

// Nak gives the message back, to be delivered again after delay (0: at once),
// to whichever worker asks.
func (m Message) Nak(delay time.Duration) error { return m.raw.NakWithDelay(delay) }

// size is what the message counts against Limits.Bytes.
func (m Message) size() int { return len(m.Data) }
