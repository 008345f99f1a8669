package stream

import (
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// hand is what a worker has in hand of one batch.
type hand struct {
	nc   *nats.Conn
	open atomic.Int64 // messages that are neither acknowledged nor given back
}

func (h *hand) settled() { h.open.Add(-1) }
