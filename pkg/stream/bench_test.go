package stream

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/embedded/embeddedtest"
)

// BenchmarkFetch takes and acknowledges what is in the stream already, messages
// of 500 bytes (one event) and of 50 kB (about 100 events), and compares that with
// consumers of the client library that do nothing but acknowledge: in turn, of the
// same messages, from a server in a process of its own. One iteration is one
// turn:
//
//	go test -run '^$' -bench Fetch -benchtime 7x ./pkg/stream
//
// It reports medians: messages a second, CPU time (µs) and allocations of a
// message in the client, CPU time in the server, and the ratio of the rates
// within a turn.
func BenchmarkFetch(b *testing.B) {
	b.Run("500B", func(b *testing.B) { benchmarkFetch(b, 500, 60_000, 2000) })
	b.Run("50kB", func(b *testing.B) { benchmarkFetch(b, 50_000, 4_000, 100) })
}

func benchmarkFetch(b *testing.B, size, total, pull int) {
	server := embeddedtest.NATSInProcess(b)
	conn := connect(b, server.URL)
	provision(b, conn, Provision{MaxAckPending: 100_000})
	fill(b, conn, size, total)
	embeddedtest.Race{
		Server: server, Of: total, Unit: "msg",
		Runners: []embeddedtest.Runner{
			{Name: "weir", Run: func() { fetchAll(b, conn, total, pull) }},
			{Name: "fetch", Run: func() { bareFetch(b, conn, total, pull) }},
			{Name: "consume", Run: func() { bareConsume(b, conn, total, pull) }},
		},
		Between: func() { rewind(b, conn) },
		Settled: func() {
			eventually(b, "all acknowledged", func() bool { return state(b, conn).AckPending == 0 })
		},
	}.Run(b)
}

// fill stores messages of three sources, as gateways send them.
func fill(b *testing.B, conn *Conn, size, total int) {
	b.Helper()
	ctx := b.Context()
	var stored sync.WaitGroup
	for n := range total {
		source := "gw-" + string(rune('1'+n%3))
		id := Identity{Source: source, Epoch: strings.Repeat("0123456789abcdef", 2), First: uint64(n/3 + 1), Last: uint64(n/3 + 1)}
		stored.Add(1)
		err := conn.PublishAsync(ctx, Outgoing{
			Subject: EventSubject("request", source), MsgID: id.String(), ContentType: "application/x-ndjson", Data: bytes.Repeat([]byte("x"), size),
		}, func(uint64, bool, error) { stored.Done() })
		if err != nil {
			b.Fatal(err)
		}
	}
	stored.Wait()
}

// rewind makes the consumer anew, so that it begins with the first message.
func rewind(b *testing.B, conn *Conn) {
	b.Helper()
	if err := conn.js.DeleteConsumer(b.Context(), EventsStream, FoldConsumer); err != nil {
		b.Fatal(err)
	}
	provision(b, conn, Provision{MaxAckPending: 100_000})
}

// fetchAll is what a worker does with a stream, save the work.
func fetchAll(b *testing.B, conn *Conn, total, pull int) {
	b.Helper()
	consumer, err := conn.Consumer(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { _ = consumer.Keep(ctx) })
	for taken := 0; taken < total; {
		batch := fetch(b, consumer, Limits{Messages: pull})
		for i := range batch {
			if _, ok := batch[i].Identity(); !ok || batch[i].ContentType() == "" || batch[i].ContentEncoding() != "" {
				b.Fatal("not as it was published")
			}
		}
		ackAll(b, batch)
		taken += len(batch)
	}
	if err := conn.nc.Flush(); err != nil {
		b.Fatal(err)
	}
	cancel()
	keeping.Wait()
	consumer.Close()
}

func bareFetch(b *testing.B, conn *Conn, total, pull int) {
	b.Helper()
	consumer := bareConsumer(b, conn)
	for taken := 0; taken < total; {
		batch, err := consumer.Fetch(min(pull, total-taken))
		if err != nil {
			b.Fatal(err)
		}
		for m := range batch.Messages() {
			if err := m.Ack(); err != nil {
				b.Fatal(err)
			}
			taken++
		}
	}
	if err := conn.nc.Flush(); err != nil {
		b.Fatal(err)
	}
}

func bareConsume(b *testing.B, conn *Conn, total, pull int) {
	b.Helper()
	done := make(chan struct{})
	taken := 0
	consuming, err := bareConsumer(b, conn).Consume(func(m jetstream.Msg) {
		if err := m.Ack(); err != nil {
			b.Error(err)
		}
		if taken++; taken == total {
			close(done)
		}
	}, jetstream.PullMaxMessages(pull))
	if err != nil {
		b.Fatal(err)
	}
	<-done
	if err := conn.nc.Flush(); err != nil {
		b.Fatal(err)
	}
	consuming.Stop()
}

func bareConsumer(b *testing.B, conn *Conn) jetstream.Consumer {
	b.Helper()
	consumer, err := conn.js.Consumer(b.Context(), EventsStream, FoldConsumer)
	if err != nil {
		b.Fatal(err)
	}
	return consumer
}
