package store

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

// BenchmarkLoadCascade reads what the coarser levels lack after 300,000 events
// of the whole default pack, in batches of 10,000: all of it, which is packed
// per second; once minutes are flushed, in packed rows, too; and once hours are,
// in a row per group. Peak is the most that the heap held meanwhile, garbage
// included, as far as a look every millisecond shows.
func BenchmarkLoadCascade(b *testing.B) {
	const events, batch = 300_000, 10_000
	f := newFlushBench(b)
	for range events / batch {
		f.flush(batch)
	}
	defs := f.load.catalog.Aggregations
	number := ask[int64](b, f.db, `SELECT last_batch FROM weir.shard WHERE shard_id = 'b'`)
	for i, parent := range aggregation.Granularities()[:3] {
		if i > 0 { // give the parent what it lacks
			levels := f.lacking().Prepare(func(g aggregation.Granularity) bool { return g == parent })
			if err := f.db.InTx(b.Context(), func(tx *Tx) error { return tx.WriteLevels(b.Context(), "b", number, levels) }); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprint(parent), func(b *testing.B) {
			b.ReportAllocs()
			m := &meter{b: b, db: f.db, server: f.server, trips: f.trips}
			var cascade *aggregation.Cascade
			empty, peak := live(), uint64(0)
			for b.Loop() {
				cascade = nil
				m.measure(func() (err error) {
					peak = max(peak, peakOf(func() { cascade, _, err = f.db.LoadCascade(b.Context(), "b", defs, nil, 0) }))
					return err
				})
			}
			m.report(float64(b.N*events), "event")
			b.ReportMetric(float64(cascade.Groups()), "groups")
			b.ReportMetric(float64(peak-empty)/(1<<20), "peak-MB")
			b.ReportMetric(float64(live()-empty)/(1<<20), "cascade-MB")
			runtime.KeepAlive(cascade)
		})
	}
}

// lacking reads what the levels lack.
func (f *flushBench) lacking() *aggregation.Cascade {
	f.b.Helper()
	cascade, _, err := f.db.LoadCascade(f.b.Context(), "b", f.load.catalog.Aggregations, nil, 0)
	if err != nil {
		f.b.Fatal(err)
	}
	return cascade
}

// live is how many bytes the heap holds after a collection.
func live() uint64 {
	runtime.GC()
	return heap()
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// peakOf returns the most that the heap held while f ran.
func peakOf(f func()) (most uint64) {
	done, told := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		most := uint64(0)
		for {
			select {
			case <-tick.C:
				most = max(most, heap())
			case <-done:
				told <- most
				return
			}
		}
	}()
	f()
	close(done)
	return <-told
}
