package store

import (
	"fmt"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

// BenchmarkEncode encodes the delta of 50,000 events of the whole default pack
// for COPY: the finest level, and the minutes of ten such batches.
func BenchmarkEncode(b *testing.B) {
	const events, batches = 50_000, 10
	l := newLoad(b)
	cascade := aggregation.NewCascade(l.catalog.Aggregations, nil)
	var delta aggregation.Delta
	for range batches {
		delta = aggregation.NewFolder(nil).Fold(l.catalog.Aggregations, l.batch(b, events))
		cascade.Add(delta)
	}
	minutes := cascade.Prepare(func(g aggregation.Granularity) bool { return g == aggregation.Minutes }).Delta
	for name, delta := range map[string]aggregation.Delta{"seconds": delta, "minutes": minutes} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			db, size := &DB{}, 0
			for b.Loop() {
				size = benchEncode(db, delta)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(delta.Groups()), "ns/group")
			b.ReportMetric(float64(delta.Groups()), "groups")
			b.ReportMetric(float64(size)/float64(delta.Groups()), "B/group")
		})
	}
}

func benchEncode(db *DB, delta aggregation.Delta) (size int) {
	e := db.encoder("w1", 7, delta.Dict)
	defer db.encoders.Put(e)
	for i := range delta.Parts {
		p := &delta.Parts[i]
		e.columns = columnsOf(p.Definition)
		encode := e.packed
		if !p.Definition.Packed(p.Level) {
			encode = e.plain
		}
		e.chunk = encode(e.chunk[:0], p)
		size += len(e.chunk)
	}
	return size
}

// BenchmarkFlush flushes batches of 50,000 events of the whole default pack as a
// worker does, all in one transaction each: the number of the batch, the delta,
// control totals, and the claim of messages of 100 events. "finest" has no
// coarser levels in it; "levels" are the flushes of minutes after so many
// batches, and what they cost by row.
func BenchmarkFlush(b *testing.B) {
	for _, events := range []int{1000, 50_000} {
		b.Run(fmt.Sprintf("finest/%d", events), func(b *testing.B) {
			f := newFlushBench(b)
			b.ReportAllocs()
			for b.Loop() {
				f.flush(events)
			}
			f.report(float64(b.N*events), "event")
			b.ReportMetric(float64(f.groups)/float64(b.N*events), "groups/event")
		})
	}
	b.Run("levels", func(b *testing.B) {
		f := newFlushBench(b)
		rows, events, batch := 0, 0, int64(0)
		b.ReportAllocs()
		for b.Loop() {
			for range 4 {
				delta := aggregation.NewFolder(nil).Fold(f.load.catalog.Aggregations, f.load.batch(b, 50_000))
				f.cascade.Add(delta)
				events += 50_000
			}
			levels := f.cascade.Prepare(func(g aggregation.Granularity) bool { return g == aggregation.Minutes })
			batch++
			f.measure(func() error {
				return f.db.InTx(b.Context(), func(tx *Tx) error { return tx.WriteLevels(b.Context(), "b", batch, levels) })
			})
			f.cascade.Commit(levels)
			rows += levels.Delta.Groups()
		}
		f.report(float64(rows), "row")
		b.ReportMetric(float64(rows)/float64(events), "rows/event")
	})
}

type flushBench struct {
	*meter

	load    *load
	lease   *Lease
	cascade *aggregation.Cascade
	message uint64
	groups  int
}

func newFlushBench(b *testing.B) *flushBench {
	b.Helper()
	f := &flushBench{meter: newMeter(b), load: newLoad(b)}
	defs := f.load.catalog.Aggregations
	if err := f.db.Apply(b.Context(), defs, PlanOptions{}); err != nil {
		b.Fatal(err)
	}
	var err error
	if f.lease, err = f.db.LeaseShard(b.Context(), "b", "bench", time.Second, defs); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.lease.Close() })
	f.cascade = aggregation.NewCascade(defs, nil)
	return f
}

func (f *flushBench) flush(events int) {
	f.b.Helper()
	batch := f.load.batch(f.b, events)
	delta := aggregation.NewFolder(nil).Fold(f.load.catalog.Aggregations, batch)
	controls := aggregation.Controls(f.load.catalog.Aggregations, batch)
	f.groups += delta.Groups()
	claims := NewClaims()
	for range (events + 99) / 100 {
		f.message++
		claims.Add("gw", "00000000000000000000000000000000", f.message)
	}
	ctx := f.b.Context()
	f.measure(func() error {
		return f.db.InTx(ctx, func(tx *Tx) error {
			n, err := tx.NextBatch(ctx, f.lease, Totals{Messages: int64(events / 100), Events: int64(events), Claims: int64(events / 100)})
			if err == nil {
				err = tx.WriteDelta(ctx, "b", n, delta)
			}
			if err == nil {
				err = tx.WriteControl(ctx, "b", controls)
			}
			if err == nil {
				err = tx.Claim(ctx, claims)
			}
			return err
		})
	})
}

// BenchmarkClaim claims messages, a whole transaction each time: of three
// sources with identities of their own, of which a worker sees every second, and
// foreign ones.
func BenchmarkClaim(b *testing.B) {
	for _, n := range []int{100, 1000, 50_000} {
		b.Run(fmt.Sprintf("own/%d", n), func(b *testing.B) {
			sources := []string{"gateway-1.example.com", "gateway-2.example.com", "gateway-3.example.com"}
			benchClaim(b, n, func(c *Claims, k uint64) bool {
				return c.Add(sources[k%3], "0123456789abcdef0123456789abcdef", k/3*2+1)
			})
		})
		b.Run(fmt.Sprintf("foreign/%d", n), func(b *testing.B) {
			benchClaim(b, n, func(c *Claims, k uint64) bool {
				return c.AddForeign("0123456789abcdef", 2*k+1, 1_790_000_000_000_000+int64(k))
			})
		})
	}
}

func benchClaim(b *testing.B, n int, add func(*Claims, uint64) bool) {
	m, next := newMeter(b), uint64(0)
	var adding time.Duration
	b.ReportAllocs()
	for b.Loop() {
		m.measure(func() error {
			begun := time.Now()
			claims := NewClaims()
			for range n {
				if !add(claims, next) {
					b.Fatal("it was there")
				}
				next++
			}
			_ = claims.Folded()
			adding += time.Since(begun)
			return m.db.InTx(b.Context(), func(tx *Tx) error { return tx.Claim(b.Context(), claims) })
		})
	}
	m.report(float64(b.N*n), "message")
	b.ReportMetric(float64(adding.Nanoseconds())/1000/float64(b.N*n), "adding-µs/message")
}
