package stream

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// This file speaks JetStream's pull protocol over core NATS. The client library
// could do it, but it takes a stored message that is empty and has a header
// "Status: 409" for a notice of the server: any publisher could end every
// worker with one. Here a message is told from a notice by its reply subject,
// which only the server can set.

// pullRequest is the body of a request for messages.
type pullRequest struct {
	Batch     int           `json:"batch"`                    // messages at most
	MaxBytes  int           `json:"max_bytes,omitempty"`      // subjects, headers and bodies at most; 0: any
	Expires   time.Duration `json:"expires,omitempty"`        // after this the server ends the request
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"` // the longest the server is silent
	NoWait    bool          `json:"no_wait,omitempty"`        // only what is there already
}

// requestMessages asks a consumer of EVENTS for messages, which go to the inbox.
func (c *Conn) requestMessages(consumer, inbox string, request pullRequest) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+EventsStream+"."+consumer, inbox, body)
}

// notice is what a server says about a request for messages, in headers alone.
type notice struct {
	status string // as in HTTP
	text   string
}

func noticeOf(raw *nats.Msg) notice {
	return notice{status: raw.Header.Get("Status"), text: raw.Header.Get("Description")}
}

func (n notice) String() string { return strings.TrimSpace(n.status + " " + n.text) }

// refusal is an error where the notice says that the request cannot be
// answered, now or ever, and nil where it only ends it.
func (n notice) refusal() error {
	switch {
	case n.status == "404" || n.status == "408":
		return nil // no more messages; expired
	case n.status == "409" && (n.text == noticeCompleted || n.text == noticeTooLarge):
		return nil
	}
	return fmt.Errorf("NATS refuses to deliver messages: %s", n)
}

// Texts of notices with status 409.
const (
	noticeCompleted = "Batch Completed"
	noticeTooLarge  = "Message Size Exceeds MaxBytes"
)
