package gateway

import (
	"fmt"
	"strings"
	"time"

	"weir/pkg/event"
	"weir/pkg/stream"
)

// PublisherConfig says how events become messages. Only Source is required.
type PublisherConfig struct {
	// Source names this gateway: a token without '.', '*', '>', '/' and spaces.
	// Two running gateways should not share one, but nothing breaks if they do.
	Source string
	// Epoch makes the numbers of this run different from every other run's.
	// Default: 128 random bits. Give one only where the same events must have
	// the same identities each time, as replay does; then the same epoch must
	// mean the same events, cut the same way.
	Epoch string

	BatchEvents int           // events in a message, at most; default 100
	BatchBytes  int           // bytes in a message before compression, at most, save a single larger event; default 256 KiB
	Linger      time.Duration // how long an event waits for others; default 20 ms; negative: until the message is full
	Compression string        // "none" (default), "gzip" or "zstd"; pays where bytes are short, see docs/performance.md

	// MaxInFlight is how many messages may be open or under way; Publish waits
	// while it would take one more. Default 256.
	MaxInFlight int

	// HeartbeatEvery is how often the Publisher says which of its messages were
	// acknowledged, for auditors. Default 10 s, or none where Epoch is given; negative: none.
	// For an epoch that was given: no other run may ever use it, and it must have
	// room for 3 characters more.
	HeartbeatEvery time.Duration

	// OnAck, where given, is called for each message that the stream stored,
	// with its type and its number of events. It must not block.
	OnAck func(eventType string, events int)
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	if c.HeartbeatEvery == 0 {
		c.HeartbeatEvery = heartbeatEvery
		if c.Epoch != "" {
			c.HeartbeatEvery = -1
		}
	}
	if c.BatchEvents <= 0 {
		c.BatchEvents = 100
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = 256 << 10
	}
	if c.Linger == 0 {
		c.Linger = 20 * time.Millisecond
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 256
	}
	return c
}

func (c PublisherConfig) validate() error {
	if !stream.ValidToken(c.Source) {
		return fmt.Errorf("source %q is no token: 1 to 128 printable ASCII characters without space . * > /", c.Source)
	}
	switch {
	case c.Epoch == "": // to be random
	case !stream.ValidEpoch(c.Epoch):
		return fmt.Errorf("epoch %q is none: 1 to 64 characters of A-Z a-z 0-9 _ . -", c.Epoch)
	case strings.HasSuffix(c.Epoch, event.HeartbeatSuffix):
		return fmt.Errorf("epoch %q is one of heartbeats: it must not end in %s", c.Epoch, event.HeartbeatSuffix)
	case c.HeartbeatEvery > 0 && !stream.ValidEpoch(c.Epoch+event.HeartbeatSuffix):
		return fmt.Errorf("epoch %q has %d characters: with heartbeats, at most %d are possible", c.Epoch, len(c.Epoch), 64-len(event.HeartbeatSuffix))
	}
	return nil
}
