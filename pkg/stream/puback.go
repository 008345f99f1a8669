package stream

import (
	"bytes"
	"encoding/json"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pubAck is what a stream says to a message that it was sent.
type pubAck struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// stored reads an answer; where the message is not stored it is an error.
func stored(raw *nats.Msg) (sequence uint64, duplicate bool, err error) {
	if sequence, duplicate, ok := parseStored(raw.Data); ok {
		return sequence, duplicate, nil
	}
	if len(raw.Data) == 0 && noticeOf(raw).status == "503" {
		return 0, false, jetstream.ErrNoStreamResponse
	}
	var a pubAck
	switch err := json.Unmarshal(raw.Data, &a); {
	case err != nil:
		return 0, false, jetstream.ErrInvalidJSAck
	case a.Error != nil:
		return 0, false, a.Error
	case a.Stream == "":
		return 0, false, jetstream.ErrInvalidJSAck
	}
	return a.Sequence, a.Duplicate, nil
}

// parseStored reads what servers answer most: {"stream":"EVENTS","seq":1}, or
// that with ,"duplicate": true. It is not ok for any other form, which may be as good.
func parseStored(text []byte) (sequence uint64, duplicate, ok bool) {
	text, ok = bytes.CutPrefix(text, []byte(`{"stream":"`))
	if !ok {
		return 0, false, false
	}
	name := bytes.IndexByte(text, '"')
	if name < 1 || bytes.IndexByte(text[:name], '\\') >= 0 {
		return 0, false, false
	}
	text, ok = bytes.CutPrefix(text[name:], []byte(`","seq":`))
	if !ok {
		return 0, false, false
	}
	text, ok = bytes.CutSuffix(text, []byte(`}`))
	if !ok {
		return 0, false, false
	}
	text, duplicate = bytes.CutSuffix(text, []byte(`,"duplicate": true`))
	sequence, ok = parseNumber(string(text))
	return sequence, duplicate, ok
}
