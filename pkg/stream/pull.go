package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// This file speaks JetStream's pull protocol over core NATS. The client library
// could do it, but it takes a stored message that is empty and has a header
// "Status: 409" for a notice of the server: any publisher could end every
// worker with one. Here a message is told from a notice by its reply subject,
// which only the server can set.

const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = time.Second
	pullSilence   = 3 * time.Second        // after which the server or the pull is taken for lost
	pullPause     = 100 * time.Millisecond // before asking a server again that cannot answer now
	pullNotices   = 64                     // more than there are of one pull, with its heartbeats
)

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

// meaning is what a notice means for the request that it answers.
type meaning int

const (
	alive     meaning = iota // it goes on
	completed                // all of it was delivered, as is known already
	ended                    // the rest of it will not be delivered
	tooLarge                 // the same, because the next message is larger than what may still come
	lost                     // the server that had it goes, or leads no more: another one is to be asked
	deleted                  // the consumer is gone
	refused                  // it cannot be answered as it is, now or ever
	unheard                  // nobody took it, or something else is wrong that may pass
)

// meaning covers every notice that nats-server sends to a pull request.
func (n notice) meaning() meaning {
	switch n.status {
	case "100": // Idle Heartbeat
		return alive
	case "404", "408": // No Messages; Request Timeout, Interest Expired, Requests Pending
		return ended
	case "400", "412": // Bad Request; Required Api Level
		return refused
	case "409":
		switch {
		case n.text == "Batch Completed":
			return completed
		case n.text == "Message Size Exceeds MaxBytes":
			return tooLarge
		case n.text == "Leadership Change", n.text == "Server Shutdown":
			return lost
		case n.text == "Consumer Deleted":
			return deleted
		case n.text == "Consumer is push based", strings.HasPrefix(n.text, "Exceeded MaxRequest"): // it was changed
			return refused
		}
	}
	return unheard // 503: no responders. 409 Exceeded MaxWaiting, 423 for pinned clients, and what may be new.
}

// pull is the request for messages that the server has, one at a time. It is
// renewed as soon as the last message of it is taken: what is asked ahead comes
// while the batch before it is worked on.
type pull struct {
	sub      *nats.Subscription // where its messages arrive; nil: not started
	messages int                // of one request
	bytes    int                // of one request
	timer    *time.Timer        // stopped, but in wait

	asked int       // messages that may still come; 0: nothing is asked
	room  int       // bytes that may still come
	any   bool      // something came
	alone bool      // the next message is larger than a request's bytes: ask for it by itself
	pause time.Time // not to ask before; zero: to ask at once
	doubt bool      // the consumer may be gone: look before asking
	heard time.Time // when the server was last heard of; zero: since the last wait
}

// start begins to pull, again after letGo.
func (c *Consumer) start(limits Limits) error {
	p := &c.pull
	if c.arrived == nil {
		p.messages, p.bytes = limits.Messages, limits.Bytes
		if c.maxBytes > 0 {
			p.bytes = min(p.bytes, c.maxBytes)
		}
		// One pull's messages, another one's that was given up, and notices: whatever was asked for fits in.
		c.arrived = make(chan *nats.Msg, 2*p.messages+pullNotices)
		c.status = c.conn.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
		p.timer = time.NewTimer(pullSilence)
		p.timer.Stop()
	}
	return c.renew()
}

// renew gives up what was asked for, and asks anew in another inbox, so that
// an old request that a server still has is void.
func (c *Consumer) renew() error {
	c.unsubscribe()
	sub, err := c.conn.nc.ChanSubscribe(c.conn.nc.NewInbox(), c.arrived)
	if err != nil {
		return pullError(err)
	}
	c.pull.sub, c.pull.pause, c.pull.alone = sub, time.Time{}, false
	return c.ask()
}

// unsubscribe ends the request. Messages of it that are on their way still
// arrive.
func (c *Consumer) unsubscribe() {
	if c.pull.sub != nil {
		_ = c.pull.sub.Drain() // an error: the connection is closed
	}
	c.pull.sub, c.pull.asked = nil, 0
}

// ask sends a request if there is none.
func (c *Consumer) ask() error {
	p := &c.pull
	if p.asked > 0 || !p.pause.IsZero() {
		return nil
	}
	request := pullRequest{Batch: p.messages, MaxBytes: p.bytes, Expires: pullExpiry, Heartbeat: pullHeartbeat}
	if p.alone {
		request.Batch, request.MaxBytes = 1, 0
	}
	switch err := c.conn.requestMessages(FoldConsumer, p.sub.Subject, request); {
	case errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining):
		return pullError(err)
	case err != nil: // away for so long that no more can be buffered
		p.pause = time.Now().Add(pullPause)
		return nil //nolint:nilerr // it asks again after the pause
	}
	p.asked, p.room, p.any, p.alone, p.heard = request.Batch, request.MaxBytes, false, false, time.Time{}
	return nil
}

func pullError(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) {
		return fmt.Errorf("pull from consumer %s: connection %w", FoldConsumer, ErrClosed)
	}
	return fmt.Errorf("pull from consumer %s: %w", FoldConsumer, err)
}

// take returns what the server says about the message that arrived, or is not
// ok if it is a notice, or returns a final error.
func (c *Consumer) take(raw *nats.Msg) (d delivery, ok bool, err error) {
	p := &c.pull
	p.heard = time.Time{}
	d, ok = parseDelivery(raw.Reply)
	if !ok {
		if raw.Sub == p.sub {
			err = c.heed(noticeOf(raw))
		}
		return delivery{}, false, err
	}
	if raw.Sub == p.sub { // else of a request that was given up
		p.any = true
		p.asked--
		if p.room -= raw.Size(); p.room == 0 {
			p.asked = 0 // the server counts in the same way, and says nothing then
		}
		if err = c.ask(); err != nil {
			c.failure = err // for the next Fetch; this message is good
		}
	}
	return d, true, nil
}

// heed does what a notice asks for. An error is final.
func (c *Consumer) heed(n notice) error {
	p := &c.pull
	switch n.meaning() {
	case alive, completed:
		return nil
	case ended:
		p.asked = 0
	case tooLarge:
		p.asked, p.alone = 0, !p.any
	case deleted:
		return fmt.Errorf("pull from consumer %s: %s: %w", FoldConsumer, n, ErrGone)
	case refused:
		return fmt.Errorf("pull from consumer %s: NATS answers %q: it was changed, start again", FoldConsumer, n)
	case lost:
		p.asked, p.pause = 0, time.Now().Add(pullPause)
	case unheard:
		c.conn.log.Debug("NATS does not answer a pull", zap.String("consumer", FoldConsumer), zap.Stringer("notice", n))
		p.asked, p.pause, p.doubt = 0, time.Now().Add(pullPause), true
	}
	return c.ask()
}

// wait waits for something to arrive, and sees to it that something can. It
// returns nothing when ctx ends or the wait is over, or with a final error.
func (c *Consumer) wait(ctx context.Context, over <-chan time.Time) (*nats.Msg, error) {
	p := &c.pull
	for c.failure == nil {
		if p.heard.IsZero() {
			p.heard = time.Now()
		}
		until := p.heard.Add(pullSilence)
		if !p.pause.IsZero() {
			until = p.pause
		}
		p.timer.Reset(time.Until(until))
		var err error
		select {
		case raw := <-c.arrived:
			p.timer.Stop()
			return raw, nil
		case status := <-c.status:
			if status == nats.CLOSED {
				err = pullError(nats.ErrConnectionClosed)
			} else {
				err = c.renew() // the server of before is not asked any more
			}
		case <-p.timer.C:
			err = c.overdue(ctx)
		case <-over:
			p.timer.Stop()
			return nil, nil
		case <-ctx.Done():
			p.timer.Stop()
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, c.failure
}

// overdue asks again after a pause, or after a silence in which at least
// heartbeats should have come. A consumer that is gone is silent too, so it looks
// whether it is there.
func (c *Consumer) overdue(ctx context.Context) error {
	p := &c.pull
	p.heard = time.Time{}
	silent := p.pause.IsZero()
	if silent && !c.conn.nc.IsConnected() {
		return nil // status says when it is again
	}
	if silent || p.doubt {
		if err := c.check(ctx); errors.Is(err, ErrGone) {
			return err
		}
		p.doubt = false
	}
	if silent {
		return c.renew()
	}
	p.pause = time.Time{}
	return c.ask()
}
