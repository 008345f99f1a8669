package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"
	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// bucketStarts asks Postgres for the starts of the buckets that hold the
// instants, all in microseconds since 1970 UTC.
func bucketStarts(t *rapid.T, db *DB, unit string, n int, zone string, instants []int64) []int64 {
	rows, err := db.sql.QueryContext(t.Context(), `
		SELECT (extract(epoch FROM weir_view.bucket_start('epoch'::timestamptz + t / 1000000 * interval '1 second' + t % 1000000 * interval '1 microsecond', $1, $2, $3)) * 1000000)::bigint
		FROM unnest($4::bigint[]) WITH ORDINALITY AS u (t, i) ORDER BY i`, unit, n, zone, pq.Array(instants))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var starts []int64
	for rows.Next() {
		var start int64
		if err := rows.Scan(&start); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, start)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return starts
}

// since is from when on the answers must agree. Four zones are other names of
// Brussels, Athens and Lisbon since 2024, and for bucket_start they always are;
// databases of zones may still have them as they were before.
func since(zone string) int64 {
	if slices.Contains([]string{"CET", "MET", "EET", "WET"}, zone) {
		return time.Date(1981, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	}
	return math.MinInt64
}

// Instants near the clock changes of a zone, and anywhere from 1900 to 2100.
func drawInstant(t *rapid.T, zone *time.Location) int64 {
	first, last := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	at := rapid.Int64Range(first, last).Draw(t, "instant")
	if rapid.Bool().Draw(t, "near a clock change") {
		if _, change := time.UnixMicro(at).In(zone).ZoneBounds(); !change.IsZero() && change.UnixMicro() < last {
			return change.UnixMicro() + rapid.Int64Range(-30*3600, 30*3600).Draw(t, "seconds after")*1_000_000
		}
	}
	return at
}

// bucket_start is Granularity.Truncate, in every zone that both know.
func TestBucketStart_IsTruncate(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	var names pq.StringArray
	err := db.sql.QueryRowContext(t.Context(), `SELECT array_agg(name ORDER BY name) FROM pg_timezone_names WHERE name !~ '^(posix|right)/'`).Scan(&names)
	if err != nil {
		t.Fatal(err)
	}
	odd := []string{"UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia", "Pacific/Apia", "Asia/Beirut", "America/Havana", "CET", "EET"}
	units := []string{"seconds", "minutes", "hours", "days", "weeks", "months", "quarters", "years"}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.SampledFrom([]string(names)), rapid.SampledFrom(odd)).Draw(t, "zone")
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Skip(err)
		}
		unit := rapid.SampledFrom(units).Draw(t, "unit")
		n := rapid.OneOf(rapid.Just(1), rapid.SampledFrom([]int{2, 3, 4, 6, 7, 8, 10, 12, 15, 24, 30, 36, 48, 60, 90, 120}), rapid.IntRange(1, 999)).Draw(t, "n")
		text := fmt.Sprint(n, " ", unit)
		if n == 1 {
			text = unit
		}
		level, err := aggregation.ParseGranularity(text)
		if err != nil {
			t.Fatal(err)
		}
		var instants []int64
		for range 20 {
			instants = append(instants, drawInstant(t, zone))
		}
		got := bucketStarts(t, db, unit, n, name, instants)
		for i, at := range instants {
			if want := level.Truncate(at, zone); got[i] != want && want >= since(name) {
				t.Errorf("%s in %s at %s: got %s, want %s", text, name, instant(at), instant(got[i]), instant(want))
			}
		}
	})
}

func TestBucketStart_RefusesWhatIsNoBucket(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for call, want := range map[string]string{
		`(now(), 'fortnights', 1, 'UTC')`: "use seconds, minutes",
		`(now(), 'days', 0, 'UTC')`:       "has no width",
		`(now(), 'days', 1, 'Mars/Base')`: "Mars/Base",
	} {
		_, err := db.sql.ExecContext(t.Context(), `SELECT weir_view.bucket_start`+call)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", call, err, want)
		}
	}
}

// sketchOf folds values into as many blocks as a fold of each part makes.
func sketchOf(m aggregation.Measure, parts [][]float64) []byte {
	def := &aggregation.Definition{
		Name: "Sketch", Zone: time.UTC, Measures: []aggregation.Measure{m}, Granularities: []aggregation.Granularity{aggregation.Years},
		Inputs: []aggregation.Input{{Stream: "values", Where: -1, Args: []int{0}}},
	}
	blocks := []byte{}
	for _, values := range parts {
		c := event.NewColumns(&event.Schema{Name: "values", Attributes: []event.Attribute{{Name: "v", Kind: event.Float}}}, event.NewDictionary())
		for i, v := range values {
			c.Times, c.Sequences = append(c.Times, 0), append(c.Sequences, uint64(i))
			c.Messages, c.Offsets, c.Dropped = append(c.Messages, int32(i)), append(c.Offsets, 0), append(c.Dropped, false)
			c.Checksums = append(c.Checksums, 0)
			c.Cells[0] = append(c.Cells[0], event.FloatCell(v))
		}
		for _, part := range aggregation.NewFolder(nil).Fold([]*aggregation.Definition{def}, []*event.Columns{c}).Parts {
			blocks = append(blocks, part.Sketches[0][0]...)
		}
	}
	return blocks
}

// drawParts draws values of many sizes in several parts.
func drawParts(t *rapid.T, most int) [][]float64 {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	spread := rapid.SampledFrom([]float64{1, 20, 300}).Draw(t, "spread")
	parts := make([][]float64, rapid.IntRange(1, 4).Draw(t, "parts"))
	for i := range parts {
		n := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, most)).Draw(t, "values")
		for range n {
			v := math.Pow(10, spread*(random.Float64()*2-1))
			switch random.IntN(10) {
			case 0:
				v = 0
			case 1, 2:
				v = -v
			case 3:
				v = math.Round(v)
			}
			parts[i] = append(parts[i], v)
		}
	}
	return parts
}

// The functions give what Measure.Finish gives: counts exactly, the others to
// rounding.
func TestSketchFunctions_GiveWhatFinishGives(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.OneOf(rapid.SampledFrom([]float64{0.1, 50, 90, 99, 99.9}), rapid.Float64Range(0.01, 99.99)).Draw(t, "percent")
		for _, f := range []struct {
			op   aggregation.Op
			call string
		}{
			{aggregation.Distinct, "distinct_count($1)"}, {aggregation.Deviation, "stddev($1)"}, {aggregation.Quantile, fmt.Sprintf("quantile($1, %v)", percent)},
		} {
			call := f.call
			m := aggregation.Measure{Name: "m", Op: f.op, Arg: "v", ArgKind: event.Float, Percent: percent}
			blocks := sketchOf(m, drawParts(t, 2000))
			cell, ok, err := m.Finish(blocks)
			if err != nil {
				t.Fatal(err)
			}
			want := any(nil)
			switch {
			case ok && m.Kind() == event.Int:
				want = int64(cell)
			case ok:
				want = cell.Float()
			}
			var got any
			if err := db.sql.QueryRowContext(t.Context(), `SELECT weir_view.`+call, blocks).Scan(&got); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			if !near(got, want) {
				t.Fatalf("%s of %d bytes: got %v, want %v", call, len(blocks), got, want)
			}
		}
	})
}

// The squares of small distances are too small for a number.
func TestStddev_OfTinyValuesDoesNotFail(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	m := aggregation.Measure{Name: "m", Op: aggregation.Deviation, Arg: "v", ArgKind: event.Float}
	for _, v := range []float64{1e-140, 1e-155, 1e-161, 1e-170, 1e-300, 1e-310, 1e100} {
		if got := ask[float64](t, db, `SELECT weir_view.stddev($1)`, sketchOf(m, [][]float64{{v}, {3 * v}, {0, -v}})); got < 0 || got > 4*v+1e-150 {
			t.Errorf("of %g: got %g", v, got)
		}
	}
}

// near reports whether two values are the same, numbers up to rounding; below
// 1e-150 their squares have no digits left.
func near(a, b any) bool {
	x, ok := a.(float64)
	y, also := b.(float64)
	if !ok || !also {
		return a == b
	}
	return x == y || math.Abs(x-y) <= 1e-12*math.Abs(y)+1e-150
}

// Counts of all sizes: hashes, sparse keys, registers, and all of them joined.
func TestDistinctCount_IsExactlyThatOfGo(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	m := aggregation.Measure{Name: "m", Op: aggregation.Distinct, Arg: "v", ArgKind: event.Float}
	from := 0.0
	values := func(n int) []float64 {
		all := make([]float64, n)
		for i := range all {
			all[i] = from + float64(i)
		}
		from += float64(n) * 0.9 // some are those of the next as well
		return all
	}
	for _, sizes := range [][]int{
		{0},
		{1},
		{512},
		{513},
		{300, 300},
		{200, 300},
		{5000},
		{400, 400, 5000},
		{25_000},
		{12_000, 12_000, 12_000},
		{33_000},
		{60_000},
		{60_000, 100, 9000},
		{100_000, 60_000},
		{20_000, 20_000, 20_000, 20_000},
	} {
		var parts [][]float64
		for _, n := range sizes {
			parts = append(parts, values(n))
		}
		blocks := sketchOf(m, parts)
		cell, _, err := m.Finish(blocks)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if got := ask[int64](t, db, `SELECT weir_view.distinct_count($1)`, blocks); got != int64(cell) {
			t.Errorf("%v values: got %d, want %d", sizes, got, int64(cell))
		}
		t.Logf("%v values: %d, %d bytes, %s", sizes, int64(cell), len(blocks), time.Since(started).Round(time.Microsecond))
	}
}

func TestSketchFunctions_RefuseCorruptedSketches(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	many := make([]float64, 1000)
	for i := range many {
		many[i] = float64(i)
	}
	for op, call := range map[aggregation.Op]string{
		aggregation.Distinct: "distinct_count($1)", aggregation.Deviation: "stddev($1)", aggregation.Quantile: "quantile($1, 50)",
	} {
		m := aggregation.Measure{Name: "m", Op: op, Arg: "v", ArgKind: event.Float, Percent: 50}
		for _, good := range [][]byte{sketchOf(m, [][]float64{{1, 2, -3}}), sketchOf(m, [][]float64{many})} {
			other := bytes.Clone(good)
			_, length := binary.Uvarint(other)
			other[length] = 9
			for what, bad := range map[string][]byte{"cut short": good[:len(good)-1], "of another format": other, "of nothing": {0}, "endless": bytes.Repeat([]byte{0xff}, 20)} {
				_, err := db.sql.ExecContext(t.Context(), `SELECT weir_view.`+call, bad)
				if err == nil || !strings.Contains(err.Error(), "corrupted sketch") {
					t.Errorf("%s, %d bytes %s: got error %v, want one about a corrupted sketch", call, len(good), what, err)
				}
			}
		}
		if got := ask[any](t, db, `SELECT weir_view.`+call, nil); got != nil {
			t.Errorf("%s of NULL: %v", call, got)
		}
	}
}
