package gateway

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"weir/pkg/stream"
)

// ReplayConfig says how a log is published.
type ReplayConfig struct {
	// Source is what the events are published under: a token as in a subject. Default "replay".
	Source string
	// Batch is how many events a message has at most. Default 100, at most stream.MaxRange.
	Batch int
	// Rate bounds the events per second; messages are then cut so small that ten go out in a second.
	// Default 0: as fast as the stream takes them.
	Rate float64
	// ShiftDays moves every event by so many days of 24 hours.
	ShiftDays int
	// OnMalformed, where given, is called for each malformed line.
	OnMalformed func(line Line)
	// OnAck, where given, is called with the number of events of each message that the stream has, from another
	// goroutine. It must not block.
	OnAck func(events int)
}

// ReplayResult is what a replay did.
type ReplayResult struct {
	Published int64 // events that the stream has
	Messages  int64 // messages that the stream has
	// Known is how many of the messages the stream knew already. It looks back some minutes only; what was
	// published before that is stored again, and recognised when it is folded.
	Known     int64
	Malformed int64 // lines
	Replaced  int64 // lines with bytes that no text can hold
	Elapsed   time.Duration
}

const (
	defaultReplaySource = "replay"
	replayBatchBytes    = 256 << 10
	// replayGrace is how long messages under way are waited for after an error or a cancel.
	replayGrace = 5 * time.Second
)

func (c ReplayConfig) withDefaults() (ReplayConfig, error) {
	if c.Source == "" {
		c.Source = defaultReplaySource
	}
	if c.Batch == 0 {
		c.Batch = 100
	}
	if c.Batch < 0 || c.Batch > stream.MaxRange {
		return c, fmt.Errorf("batch of %d events: should be 1 to %d", c.Batch, stream.MaxRange)
	}
	if c.Rate < 0 || math.IsNaN(c.Rate) {
		return c, fmt.Errorf("rate of %v events a second: should be 0 or more", c.Rate)
	}
	if c.Rate > 0 {
		c.Batch = int(min(float64(c.Batch), math.Ceil(c.Rate/10)))
	}
	return c, nil
}

// Replay publishes all events of a log as request events, and returns when the stream has them. Event n of
// the log always has the identity source/epoch/n ([Log.Epoch]), so that publishing a log again, whole or in
// part, with whatever batch and rate, is recognised event by event and changes nothing. After an error the
// result tells what the stream has all the same; the same call again completes it.
func Replay(ctx context.Context, conn *stream.Conn, log *Log, config ReplayConfig) (ReplayResult, error) {
	start := time.Now()
	config, err := config.withDefaults()
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay %s: %w", log.Name, err)
	}
	publisher, err := NewPublisher(conn, PublisherConfig{
		Source: config.Source,
		Epoch:  log.Epoch(config.ShiftDays),
		OnAck: func(_ string, events int) {
			if config.OnAck != nil {
				config.OnAck(events)
			}
		},
	})
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay %s: %w", log.Name, err)
	}
	r := replay{config: config, publisher: publisher, bytes: min(replayBatchBytes, conn.MaxPayload()-headerRoom), next: 1}
	if config.Rate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(config.Rate), config.Batch)
	}
	if err = r.run(ctx, log); err == nil {
		err = publisher.Flush(ctx)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayGrace)
	defer cancel()
	if closeErr := publisher.Close(grace); err == nil {
		err = closeErr
	}
	stats := publisher.Stats()
	r.result.Published = int64(stats.Acknowledged)
	r.result.Messages = int64(stats.MessagesAcknowledged)
	r.result.Known = int64(stats.MessagesDuplicate)
	r.result.Elapsed = time.Since(start)
	if err != nil {
		return r.result, fmt.Errorf("replay %s: %w", log.Name, err)
	}
	return r.result, nil
}

// replay is one run of Replay.
type replay struct {
	config    ReplayConfig
	publisher *Publisher
	limiter   *rate.Limiter // nil without a rate
	bytes     int           // of events in a message, at most, save a single larger one
	result    ReplayResult

	events [][]byte // of the next message
	size   int      // of events in bytes, with line ends
	next   uint64   // number of events[0]
}

// run cuts the log's events into messages and hands them to the publisher.
func (r *replay) run(ctx context.Context, log *Log) error {
	for line, err := range log.Read(r.config.Source, r.config.ShiftDays) {
		if err != nil {
			return err
		}
		if line.Malformed != "" {
			r.result.Malformed++
			if r.config.OnMalformed != nil {
				r.config.OnMalformed(line)
			}
			continue
		}
		if line.Replaced {
			r.result.Replaced++
		}
		if len(r.events) == r.config.Batch || r.size+len(line.Event)+1 > r.bytes {
			if err := r.publish(ctx); err != nil {
				return err
			}
		}
		r.events = append(r.events, line.Event)
		r.size += len(line.Event) + 1
	}
	return r.publish(ctx)
}

// publish sends the events at hand as one message, when the rate allows it.
func (r *replay) publish(ctx context.Context) error {
	count := len(r.events)
	if count == 0 {
		return ctx.Err()
	}
	if r.limiter != nil {
		if err := r.limiter.WaitN(ctx, count); err != nil {
			return err
		}
	}
	if err := r.publisher.PublishMessage(ctx, TypeRequest, r.events, r.next); err != nil {
		return err
	}
	r.next += uint64(count)
	r.events, r.size = r.events[:0], 0
	return nil
}
