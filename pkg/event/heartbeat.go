package event

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// HeartbeatType is the type, in subjects, of what publishers say of
	// themselves. No stream of events can have that name.
	HeartbeatType = "heartbeat"
	// HeartbeatSuffix makes of an epoch the one whose numbers count its
	// heartbeats: <source>/<epoch>.hb/<k>.
	HeartbeatSuffix = ".hb"

	// maxHeartbeat is more than the longest heartbeat there is, in bytes.
	maxHeartbeat = 1024
	// maxHeartbeatNumber bounds its numbers: the largest of an identity, and one more.
	maxHeartbeatNumber = 1<<62 + 1
)

// Heartbeat is what a publisher says of one of its epochs, now and then and at
// its end, in a message of its own on events.heartbeat.<source>:
//
//	{"source":"gw-1","epoch":"5c0…","next":42,"acked":40,"dropped":0,"closed":false}
//
// All that it speaks of was acknowledged by the stream before it was sent. So
// what is not to be found of it was lost after that.
type Heartbeat struct {
	Source  string
	Epoch   string
	Next    uint64 // the number that it gives next, from 1
	Acked   uint64 // all numbers from 1 to this one are acknowledged; below Next
	Dropped uint64 // events that it has given up; they may be in the stream all the same
	Closed  bool   // it has ended: there will be no more numbers
}

// heartbeatText is a heartbeat as it travels. All members must be there.
type heartbeatText struct {
	Source  *string `json:"source"`
	Epoch   *string `json:"epoch"`
	Next    *uint64 `json:"next"`
	Acked   *uint64 `json:"acked"`
	Dropped *uint64 `json:"dropped"`
	Closed  *bool   `json:"closed"`
}

// Body is the heartbeat as a message carries it, application/json.
func (h Heartbeat) Body() []byte {
	body, _ := json.Marshal(heartbeatText{&h.Source, &h.Epoch, &h.Next, &h.Acked, &h.Dropped, &h.Closed}) // texts and numbers
	return body
}

// ParseHeartbeat reads the body of a heartbeat. It takes exactly what Body
// writes, in any order: every member once, no other, nothing behind it.
func ParseHeartbeat(body []byte) (Heartbeat, error) {
	if len(body) > maxHeartbeat {
		return Heartbeat{}, fmt.Errorf("heartbeat: %d bytes, at most %d are possible", len(body), maxHeartbeat)
	}
	var t heartbeatText
	if err := json.Unmarshal(body, &t, json.RejectUnknownMembers(true), jsontext.AllowDuplicateNames(false)); err != nil {
		return Heartbeat{}, fmt.Errorf("heartbeat: %w", err)
	}
	if t.Source == nil || t.Epoch == nil || t.Next == nil || t.Acked == nil || t.Dropped == nil || t.Closed == nil {
		return Heartbeat{}, errors.New("heartbeat: it should have source, epoch, next, acked, dropped and closed")
	}
	h := Heartbeat{*t.Source, *t.Epoch, *t.Next, *t.Acked, *t.Dropped, *t.Closed}
	switch {
	case h.Next > maxHeartbeatNumber || h.Dropped > maxHeartbeatNumber:
		return Heartbeat{}, fmt.Errorf("heartbeat: next %d, dropped %d: a number is over 2^62", h.Next, h.Dropped)
	case h.Acked >= h.Next:
		return Heartbeat{}, fmt.Errorf("heartbeat: acked %d is not below next %d", h.Acked, h.Next)
	}
	return h, nil
}
