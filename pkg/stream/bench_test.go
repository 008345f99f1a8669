package stream

import (
	"bytes"
	"sync"
	"testing"
)

// BenchmarkFetch takes and acknowledges messages that are in the stream already:
// of 50 kB (about 100 events) and of 500 bytes (one event).
func BenchmarkFetch(b *testing.B) {
	b.Run("50kB", func(b *testing.B) { benchmarkFetch(b, 50_000, Limits{Messages: 100}) })
	b.Run("500B", func(b *testing.B) { benchmarkFetch(b, 500, Limits{Messages: 2000}) })
}

func benchmarkFetch(b *testing.B, size int, limits Limits) {
	conn := provisioned(b, Provision{})
	body := bytes.Repeat([]byte("x"), size)
	ctx := testContext(b)
	var stored sync.WaitGroup
	for n := 1; n <= b.N; n++ {
		out := event(n)
		out.Data = body
		stored.Add(1)
		if err := conn.PublishAsync(ctx, out, func(uint64, bool, error) { stored.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	stored.Wait()
	consumer := openConsumer(b, conn)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	for taken := 0; taken < b.N; {
		batch := fetch(b, consumer, limits)
		ackAll(b, batch)
		taken += len(batch)
	}
}

// BenchmarkPublishAsync stores messages of 50 kB (about 100 events).
func BenchmarkPublishAsync(b *testing.B) {
	conn := provisioned(b, Provision{})
	body := bytes.Repeat([]byte("x"), 50_000)
	ctx := testContext(b)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	var stored sync.WaitGroup
	for n := 1; n <= b.N; n++ {
		out := event(n)
		out.Data = body
		stored.Add(1)
		if err := conn.PublishAsync(ctx, out, func(uint64, bool, error) { stored.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	stored.Wait()
}
