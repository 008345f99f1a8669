package store

import (
	"fmt"
	"slices"
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

// BenchmarkWriteDelta is what COPY takes, and compares packed rows (many groups share a bucket) with
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
			b.ReportAllocs()
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
			part.Events, part.Checksums = append(part.Events, 3), append(part.Checksums, event.Cell(int32(event.Checksum(1, uint64(i), 0))))
			part.Measures[1] = append(part.Measures[1], event.Cell(i*17))
			part.Measures[2] = append(part.Measures[2], dict.Intern("label"))
			part.LastTime, part.LastSequence = append(part.LastTime, event.Cell(i)), append(part.LastSequence, event.Cell(i))
		}
		delta.Parts = append(delta.Parts, part)
	}
	return delta
}

// BenchmarkCompact compacts a level that has 48 rows of each of 2,000 keys, a
// day's flushes, and asks for all of it before and after: with and without
// sketches (11 measures, or 2).
func BenchmarkCompact(b *testing.B) {
	const keys, flushes = 2000, 48
	plain, sketched := cascadeDef("Plain", time.UTC), cascadeDef("Sketched", time.UTC)
	plain.Measures, plain.Inputs[0].Args = slices.Delete(plain.Measures, 5, 9), slices.Delete(plain.Inputs[0].Args, 5, 9)
	for _, def := range []*aggregation.Definition{plain, sketched} {
		b.Run(def.Name, func(b *testing.B) {
			db := benchDB(b)
			defs := []*aggregation.Definition{def}
			if err := db.Apply(b.Context(), defs, PlanOptions{}); err != nil {
				b.Fatal(err)
			}
			lease, err := db.LeaseShard(b.Context(), "b", "bench", time.Second, defs)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = lease.Close() })
			var compacting, crowded, single time.Duration
			for b.Loop() {
				benchRows(b, db, lease, def, keys, flushes)
				crowded += benchAsk(b, db, def, keys)
				begun := time.Now()
				groups, err := db.Compact(b.Context(), 0, defs)
				if err != nil || groups != keys*flushes {
					b.Fatalf("compacted %d groups, %v", groups, err)
				}
				compacting += time.Since(begun)
				single += benchAsk(b, db, def, keys)
			}
			b.ReportMetric(float64(b.N*keys*flushes)/compacting.Seconds(), "rows/s")
			b.ReportMetric(float64(crowded.Microseconds())/float64(b.N)/1000, "ms/question-before")
			b.ReportMetric(float64(single.Microseconds())/float64(b.N)/1000, "ms/question-after")
		})
	}
}

// benchRows replaces what is there by so many rows of each key, in one month.
func benchRows(b *testing.B, db *DB, lease *Lease, def *aggregation.Definition, keys, flushes int) {
	b.Helper()
	if _, err := db.sql.ExecContext(b.Context(), "TRUNCATE "+tableOf(def, aggregation.Months)+", weir.compacted, weir.watermark"); err != nil {
		b.Fatal(err)
	}
	for n := range flushes {
		var events []tried
		for i := range keys {
			at := time.Date(2026, 5, 1, 0, n, i%60, 0, time.UTC).UnixMicro()
			events = append(events, tried{api: fmt.Sprint("/api-", i), code: 200, ms: int64(n * i), size: float64(n*i%997) + 1, at: at, sequence: uint64(n*keys + i)})
		}
		defs := []*aggregation.Definition{def}
		err := db.InTx(b.Context(), func(tx *Tx) error {
			batch, err := tx.NextBatch(b.Context(), lease, Totals{})
			if err != nil {
				return err
			}
			months := aggregation.NewMerger(def, aggregation.Months)
			if err := months.Add(aggregation.NewFolder(nil).Fold(defs, []*event.Columns{columnsOfTried(events)})); err != nil {
				return err
			}
			return tx.WriteLevels(b.Context(), lease.ShardID, batch, &aggregation.Flush{
				Delta: months.Delta(), Levels: []aggregation.FlushedLevel{{Definition: def, Level: aggregation.Months}, {Definition: def, Level: aggregation.Years}},
			})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if _, err := db.sql.ExecContext(b.Context(), "VACUUM ANALYZE "+tableOf(def, aggregation.Months)); err != nil {
		b.Fatal(err)
	}
}

func benchAsk(b *testing.B, db *DB, def *aggregation.Definition, keys int) time.Duration {
	b.Helper()
	begun, rows := time.Now(), 0
	err := db.Ask(b.Context(), everything(def, aggregation.Months), func([]any) error { rows++; return nil })
	if err != nil || rows != keys {
		b.Fatalf("got %d rows, %v", rows, err)
	}
	return time.Since(begun)
}
