package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Durability is what JetStream does with what it has acknowledged, as far as a
// client can see: not how often a server writes to its disk.
type Durability struct {
	Replicas   int  // servers that keep each message of EVENTS
	Memory     bool // in memory alone
	Async      bool // acknowledged before it is written at all
	DropsOld   bool // a full stream drops its oldest messages
	DropsAcked bool // the stream drops what is acknowledged by consumers
	Purgeable  bool // messages can be purged or deleted by clients
	MaxDeliver int  // deliveries after which the consumer fold gives up; negative: never
}

// Durability asks the server.
func (c *Conn) Durability(ctx context.Context) (Durability, error) {
	s, err := c.js.Stream(ctx, EventsStream)
	if err != nil {
		return Durability{}, openError("stream "+EventsStream, err)
	}
	consumer, err := s.Consumer(ctx, FoldConsumer)
	if err != nil {
		return Durability{}, openError("consumer "+FoldConsumer, err)
	}
	config := s.CachedInfo().Config
	return Durability{
		Replicas:   config.Replicas,
		Memory:     config.Storage != jetstream.FileStorage,
		Async:      config.PersistMode == jetstream.AsyncPersistMode,
		DropsOld:   config.Discard != jetstream.DiscardNew,
		DropsAcked: config.Retention != jetstream.LimitsPolicy,
		Purgeable:  !config.DenyPurge || !config.DenyDelete,
		MaxDeliver: consumer.CachedInfo().Config.MaxDeliver,
	}, nil
}

// Unavailable reports whether NATS, or JetStream in it, cannot be reached or
// takes no work now, so that trying again later may succeed. What only a change of
// settings can mend is not that: wrong credentials, certificates, or a port at
// which something else answers.
func Unavailable(err error) bool {
	var answer *jetstream.APIError
	if errors.As(err, &answer) {
		return answer.Code >= 500
	}
	for _, passing := range []error{
		nats.ErrNoServers, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrStaleConnection,
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	var network *net.OpError
	return errors.As(err, &network) && (network.Op == "dial" || network.Timeout())
}
