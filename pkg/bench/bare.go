package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/child"
)

// Bare takes messages from the consumer that a run has made, acknowledges each, and does nothing else, until ctx ends. It runs in a process of its own,
// and is what a program gets that uses the client of NATS as its documentation shows: pkg/stream has no part in it.
func Bare(ctx context.Context, url string, ahead int) error {
	nc, err := nats.Connect(url, nats.Name("weir bench bare consumer"))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, eventsStream, bareConsumer)
	if err != nil {
		return fmt.Errorf("open consumer %s: %w", bareConsumer, err)
	}
	failed := make(chan error, 1)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if err := m.Ack(); err != nil {
			select {
			case failed <- fmt.Errorf("acknowledge: %w", err):
			default:
			}
		}
	}, jetstream.PullMaxMessages(ahead))
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer consuming.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// bare is one measurement of the bare consumer.
type bare struct {
	rate float64 // events/s
	cpu  *CPU
}

// Messages that the bare consumer asks for ahead, by their size: more or fewer are slower.
const (
	aheadSmall = 2_000
	aheadLarge = 200
	largeBytes = 16 << 10
)

// bare lets the bare consumer take all that the stream has, which is so many events.
func (b *bed) bare(ctx context.Context, events int, memory *Memory) (*bare, error) {
	if err := b.hold(ctx, bareConsumer); err != nil {
		return nil, err
	}
	ahead := aheadSmall
	if b.cfg.Batch*b.cfg.EventSize > largeBytes {
		ahead = aheadLarge
	}
	dir := filepath.Join(b.cfg.Dir, b.name)
	p, err := spawn("bare consumer", b.cfg.Program, filepath.Join(dir, "bare.log"), child.Environment(dir), "bench", "bare", "--nats", b.url, "--ahead", strconv.Itoa(ahead))
	if err != nil {
		return nil, err
	}
	processes := []*process{p}
	defer killAll(processes) // it has ended, but after an error
	if err := b.ready(ctx, bareConsumer, processes); err != nil {
		return nil, fmt.Errorf("wait for the bare consumer to begin: %w", err)
	}
	before, after, err := b.timed(ctx, bareConsumer, processes)
	if err != nil {
		return nil, err
	}
	peak(&memory.BareConsumer, readStatus(p.Pid())["VmHWM"])
	peak(&memory.NATS, readStatus(b.server.Pid())["VmHWM"])
	m := &bare{rate: float64(events) / after.at.Sub(before.at).Seconds()}
	m.cpu, _ = after.since(before, events)
	return m, p.stop()
}
