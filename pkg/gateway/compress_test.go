package gateway

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/pkg/embedded/embeddedtest"
)

// BenchmarkCompression compresses simulated events and reads them again as
// workers do, with one reader for all: bytes, and µs of CPU on both sides, of an event.
func BenchmarkCompression(b *testing.B) {
	simulator := NewSimulator(SimulatorConfig{Source: "gw-1", Seed: 1})
	for _, events := range []int{1, 100} {
		bodies := simulatedBodies(b, simulator, events, 200)
		for _, compression := range []string{"none", "gzip", "zstd"} {
			b.Run(fmt.Sprintf("%d/%s", events, compression), func(b *testing.B) {
				codec, err := newCodec(compression)
				if err != nil {
					b.Fatal(err)
				}
				unpack := unpacker(b, compression)
				var size int
				var packing, unpacking time.Duration
				n := 0
				for b.Loop() {
					packed := make([][]byte, len(bodies))
					began := embeddedtest.OwnCPU()
					for i, body := range bodies {
						packed[i] = codec.encode(body)
					}
					packing += embeddedtest.OwnCPU() - began
					began = embeddedtest.OwnCPU()
					for i := range packed {
						if plain := unpack(packed[i]); len(plain) != len(bodies[i]) {
							b.Fatalf("got %d bytes, want %d", len(plain), len(bodies[i]))
						}
						size += len(packed[i])
					}
					unpacking += embeddedtest.OwnCPU() - began
					n += events * len(bodies)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(size)/float64(n), "bytes/event")
				b.ReportMetric(float64(packing.Nanoseconds())/1e3/float64(n), "packing-µs/event")
				b.ReportMetric(float64(unpacking.Nanoseconds())/1e3/float64(n), "unpacking-µs/event")
			})
		}
	}
}

// simulatedBodies returns the bodies of messages as a publisher cuts them.
func simulatedBodies(b *testing.B, simulator *Simulator, events, messages int) [][]byte {
	b.Helper()
	bodies := make([][]byte, 0, messages)
	var m message
	for len(bodies) < messages {
		simulated, err := simulator.Next(time.Now())
		if err != nil {
			b.Fatal(err)
		}
		if simulated.Type != TypeRequest {
			continue
		}
		if m.append(simulated.JSON); m.events == events {
			bodies = append(bodies, m.body)
			m = message{}
		}
	}
	return bodies
}

func unpacker(b *testing.B, compression string) func([]byte) []byte {
	b.Helper()
	switch compression {
	case "gzip":
		var r gzip.Reader
		var plain bytes.Buffer
		return func(packed []byte) []byte {
			plain.Reset()
			if err := r.Reset(bytes.NewReader(packed)); err != nil {
				b.Fatal(err)
			}
			if _, err := plain.ReadFrom(&r); err != nil {
				b.Fatal(err)
			}
			return plain.Bytes()
		}
	case "zstd":
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(r.Close)
		var plain []byte
		return func(packed []byte) []byte {
			plain, err = r.DecodeAll(packed, plain[:0])
			if err != nil {
				b.Fatal(err)
			}
			return plain
		}
	}
	return func(plain []byte) []byte { return plain }
}
