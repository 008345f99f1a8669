package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// messageRequest asks for one message: that with the sequence, or, with Next,
// the first from there on whose subject matches.
type messageRequest struct {
	Sequence uint64 `json:"seq"`
	Next     string `json:"next_by_subj,omitempty"`
}

// messageAnswer is what the server answers.
type messageAnswer struct {
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Message *struct {
		Subject  string    `json:"subject"`
		Sequence uint64    `json:"seq"`
		Header   []byte    `json:"hdrs"`
		Data     []byte    `json:"data"`
		Time     time.Time `json:"time"`
	} `json:"message"`
}

const (
	codeNoMessage = 10037 // as in the server's list of errors
	codeNoStream  = 10059
)

// ErrNoMessage means that the stream does not hold the message, or not any more;
// where it has replicas, perhaps only that one of them lags.
var ErrNoMessage = errors.New("the stream does not hold this message")

// storedMessage reads one message of EVENTS, or fails with ErrNoMessage.
//
// It asks in the way that answers in JSON. The other one, direct get, answers
// with the message itself, and says its sequence and time in headers, among
// which the publisher's own come first: it could claim to be any message.
func (c *Conn) storedMessage(ctx context.Context, request messageRequest) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return Message{}, err
	}
	reply, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+EventsStream, body)
	if err != nil {
		return Message{}, err
	}
	var answer messageAnswer
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return Message{}, err
	}
	switch e := answer.Error; {
	case e != nil && e.Code == codeNoMessage:
		return Message{}, ErrNoMessage
	case e != nil && e.Code == codeNoStream:
		return Message{}, fmt.Errorf("%s: %w", e.Description, ErrGone)
	case e != nil:
		return Message{}, fmt.Errorf("NATS answers: %s", e.Description)
	case answer.Message == nil:
		return Message{}, errors.New("NATS answers without a message")
	}
	m := answer.Message
	// Headers that cannot be read are none, as in a message that is delivered.
	header, _ := nats.DecodeHeadersMsg(m.Header)
	message := Message{Subject: m.Subject, Data: m.Data, Sequence: m.Sequence, Stored: m.Time.UTC(), headers: headersOf(header)}
	new(names).identify(&message)
	return message, nil
}
