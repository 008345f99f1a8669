package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
)

func benchDB(b *testing.B) *DB {
	b.Helper()
	db, err := Open(b.Context(), Config{URL: embeddedtest.PostgresServer(b).URL()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	return db
}

// BenchmarkClaim compares the two parts of the ledger, a whole transaction
// each time: pages for messages with an identity, rows for foreign ones.
func BenchmarkClaim(b *testing.B) {
	for _, n := range []int{100, 1000, 20_000} {
		b.Run(fmt.Sprintf("pages/%d", n), func(b *testing.B) {
			benchClaim(b, n, func(c *Claims, k uint64) { c.Add("gw", "e", k) })
		})
		b.Run(fmt.Sprintf("rows/%d", n), func(b *testing.B) {
			benchClaim(b, n, func(c *Claims, k uint64) { c.AddForeign("i", k, int64(k)) })
		})
	}
}

func benchClaim(b *testing.B, n int, add func(*Claims, uint64)) {
	db := benchDB(b)
	next := uint64(1)
	for b.Loop() {
		claims := NewClaims()
		for range n {
			add(claims, next)
			next++
		}
		if err := db.InTx(b.Context(), func(tx *Tx) error { return tx.Claim(context.WithoutCancel(b.Context()), claims) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/message")
}

// BenchmarkWriteDelta compares packed rows (many groups share a bucket) with
// what they would be without packing (each group has a bucket of its own):
// 10,000 groups, a whole transaction each time.
func BenchmarkWriteDelta(b *testing.B) {
	const groups = 10_000
	for _, buckets := range []int{1, 10, 1000, groups} {
		b.Run(fmt.Sprintf("rows=%d", buckets), func(b *testing.B) {
			db := benchDB(b)
			def := &aggregation.Definition{
				Name: "Bench", Zone: time.UTC, Granularities: []aggregation.Granularity{aggregation.Seconds},
				Keys:     []aggregation.Key{{Name: "api", Kind: event.String}, {Name: "app", Kind: event.String}},
				Measures: []aggregation.Measure{{Name: "n", Op: aggregation.Count}, {Name: "ms", Op: aggregation.Sum, Arg: "ms", ArgKind: event.Int}, {Name: "label", Op: aggregation.Last, Arg: "label", ArgKind: event.String}},
			}
			defs := []*aggregation.Definition{def}
			if err := db.Apply(b.Context(), defs, PlanOptions{}); err != nil {
				b.Fatal(err)
			}
			lease, err := db.LeaseShard(b.Context(), "b", "bench", time.Second, defs)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = lease.Close() })
			delta := benchDelta(def, groups, buckets)
			for b.Loop() {
				err := db.InTx(b.Context(), func(tx *Tx) error {
					batch, err := tx.NextBatch(b.Context(), lease, Totals{})
					if err != nil {
						return err
					}
					return tx.WriteDelta(b.Context(), "b", batch, delta)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/groups, "µs/group")
		})
	}
}

func benchDelta(def *aggregation.Definition, groups, buckets int) aggregation.Delta {
	dict := event.NewDictionary()
	delta := aggregation.Delta{Dict: dict}
	for k := range buckets {
		part := aggregation.Part{Definition: def, Level: def.Finest(), Bucket: int64(k) * 1_000_000, Keys: make([][]event.Cell, 2), Measures: make([][]event.Cell, 3)}
		for i := range groups / buckets {
			part.Keys[0] = append(part.Keys[0], dict.Intern(fmt.Sprintf("/api-%d/1.0.0", i%100)))
			part.Keys[1] = append(part.Keys[1], dict.Intern(fmt.Sprintf("application-%d", i)))
			part.Events = append(part.Events, 3)
			part.Measures[1] = append(part.Measures[1], event.Cell(i*17))
			part.Measures[2] = append(part.Measures[2], dict.Intern("label"))
			part.LastTime, part.LastSequence = append(part.LastTime, event.Cell(i)), append(part.LastSequence, event.Cell(i))
		}
		delta.Parts = append(delta.Parts, part)
	}
	return delta
}
