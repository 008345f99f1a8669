package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// allKinds is an aggregation with a key and a measure of every kind.
func allKinds() *aggregation.Definition {
	def := &aggregation.Definition{Name: "AllKinds", Granularities: aggregation.Granularities(), Zone: time.UTC}
	for _, kind := range []event.Kind{event.String, event.Int, event.Float, event.Bool, event.Time} {
		def.Keys = append(def.Keys, aggregation.Key{Name: "by_" + kind.String(), Kind: kind})
		def.Measures = append(def.Measures, aggregation.Measure{Name: "Last_" + kind.String(), Op: aggregation.Last, Arg: "x", ArgKind: kind})
	}
	def.Measures = append(def.Measures, aggregation.Measure{Name: "n", Op: aggregation.Count})
	return def
}

// group is one element of a packed row of allKinds, as Go values.
type group struct {
	text     string
	number   int64
	float    float64
	flag     bool
	time     int64
	events   int64
	lastTime int64
	lastSeq  int64
}

// part packs groups; measures hold the same values as keys.
func part(def *aggregation.Definition, dict *event.Dictionary, bucket int64, groups []group) aggregation.Part {
	p := aggregation.Part{Definition: def, Level: def.Finest(), Bucket: bucket, Keys: make([][]event.Cell, 5)}
	for _, g := range groups {
		for at, cell := range []event.Cell{dict.Intern(g.text), event.Cell(g.number), event.FloatCell(g.float), event.BoolCell(g.flag), event.Cell(g.time)} {
			p.Keys[at] = append(p.Keys[at], cell)
		}
		p.Events, p.Checksums = append(p.Events, event.Cell(g.events)), append(p.Checksums, event.Cell(int32(g.lastSeq)))
		p.LastTime = append(p.LastTime, event.Cell(g.lastTime))
		p.LastSequence = append(p.LastSequence, event.Cell(g.lastSeq))
	}
	p.Measures = append(slices.Clone(p.Keys), nil)
	return p
}

// testContext is a testing.T or a rapid.T.
type testContext interface {
	Context() context.Context
	Fatal(args ...any)
}

// errUndo ends a transaction that is only for looking.
var errUndo = errors.New("only to look")

// roundTrip writes the parts and reads them back in their order, in a
// transaction that is then rolled back. Keys and measures must agree.
func roundTrip(t testContext, db *DB, shardID string, delta aggregation.Delta) (buckets []int64, groups [][]group) {
	err := db.InTx(t.Context(), func(tx *Tx) error {
		if err := tx.WriteDelta(t.Context(), shardID, 7, delta); err != nil {
			return err
		}
		rows, err := tx.tx.QueryContext(t.Context(), `
			SELECT p.bucket, u.* FROM weir_data.allkinds_seconds p, unnest(weir_view.texts(by_string), by_int, by_float, by_bool, by_time, weir_events, weir_view.numbers(weir_last_time), weir_view.numbers(weir_last_seq))
				WITH ORDINALITY AS u
			WHERE shard_id = $1 AND batch_no = 7 AND weir_view.texts(by_string) = weir_view.texts(last_string, by_string[1]) AND by_int = last_int
				AND by_float::text = last_float::text AND by_bool = last_bool AND by_time = last_time
			ORDER BY p.bucket, p.weir_part, u.ordinality`, shardID)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var g group
			var bucket, at time.Time
			var ordinality int64
			if err := rows.Scan(&bucket, &g.text, &g.number, &g.float, &g.flag, &at, &g.events, &g.lastTime, &g.lastSeq, &ordinality); err != nil {
				return err
			}
			g.time = at.UnixMicro()
			if len(buckets) == 0 || buckets[len(buckets)-1] != bucket.UnixMicro() {
				buckets, groups = append(buckets, bucket.UnixMicro()), append(groups, nil)
			}
			groups[len(groups)-1] = append(groups[len(groups)-1], g)
		}
		return errors.Join(rows.Err(), errUndo)
	})
	if !errors.Is(err, errUndo) {
		t.Fatal(err)
	}
	return buckets, groups
}

// sameGroup compares to the bit, so that -0 is not 0.
func sameGroup(a, b group) bool {
	bits := math.Float64bits(a.float) == math.Float64bits(b.float) || math.IsNaN(a.float) && math.IsNaN(b.float)
	a.float, b.float = 0, 0
	return bits && a == b
}

func TestWriteDelta_KeepsEveryValue(t *testing.T) {
	t.Parallel()
	def := allKinds()
	db := migrated(t, def)
	shard := "a\\c{}'d\",é"
	mustLease(t, db, shard, def)
	texts := []string{
		"", "plain", `"`, `""`, `\`, `\\`, `\"`, `{}`, `{`, `}`, `{"a","b"}`, ",", "a,b", "NULL", "null", `\N`, `\.`, "\\.\n", "\n", "\r\n", "\t", "\v\f\b\x01\x7f",
		" lead and trail ", "'", "''; DROP TABLE x; --", "$1", "%s", "é", "e\u0301", "日本語", "👩‍👩‍👧", "\u2028", "\uFEFF", "\U0010FFFF", strings.Repeat(`\"`, 70_000),
	}
	numbers := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1<<53 + 1}
	floats := []float64{0, math.Copysign(0, -1), 1.0 / 3, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1e21, math.Inf(1), math.Inf(-1), math.NaN()}
	times := []int64{0, 1, -1, micro(1, 1, 1), micro(1969, 12, 31) + 1, micro(2000, 2, 29), micro(9999, 12, 31)}
	var want []group
	for i, text := range texts {
		want = append(want, group{
			text: text, number: numbers[i%len(numbers)], float: floats[i%len(floats)], flag: i%2 == 0, time: times[i%len(times)],
			events: int64(i + 1), lastTime: times[i%len(times)], lastSeq: numbers[i%len(numbers)],
		})
	}
	delta := aggregation.Delta{Dict: event.NewDictionary()}
	starts := []int64{micro(1, 1, 1), micro(1969, 12, 31), 0, micro(2024, 5, 17), micro(9999, 12, 31)}
	for _, bucket := range starts {
		delta.Parts = append(delta.Parts, part(def, delta.Dict, bucket, want))
	}
	buckets, got := roundTrip(t, db, shard, delta)
	if !slices.Equal(buckets, starts) {
		t.Errorf("buckets: got %v, want %v", buckets, starts)
	}
	for i := range got {
		if !slices.EqualFunc(got[i], want, sameGroup) {
			t.Errorf("bucket %d: got %.300v, want %.300v", buckets[i], got[i], want)
		}
	}
}

func micro(year, month, day int) int64 {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).UnixMicro()
}

func TestWriteDelta_OfAnyValuesReadsBackTheSame(t *testing.T) {
	t.Parallel()
	def := allKinds()
	db := migrated(t, def)
	mustLease(t, db, "s", def)
	text := rapid.Custom(func(t *rapid.T) string {
		runes := rapid.SliceOf(rapid.OneOf(rapid.SampledFrom([]rune("\"\\{},'\t\n\r N")), rapid.Rune())).Draw(t, "runes")
		return strings.ReplaceAll(string(runes), "\x00", "")
	})
	when := rapid.Int64Range(micro(1, 1, 1), micro(9999, 12, 31))
	one := rapid.Custom(func(t *rapid.T) group {
		return group{
			text: text.Draw(t, "text"), number: rapid.Int64().Draw(t, "number"), float: rapid.Float64().Draw(t, "float"),
			flag: rapid.Bool().Draw(t, "flag"), time: when.Draw(t, "time"), events: rapid.Int64Min(1).Draw(t, "events"),
			lastTime: when.Draw(t, "last time"), lastSeq: rapid.Int64Min(1).Draw(t, "last sequence"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.MapOfN(rapid.Custom(func(t *rapid.T) int64 { return when.Draw(t, "bucket") / 1e6 * 1e6 }), rapid.SliceOfN(one, 1, 12), 1, 3).Draw(t, "parts")
		delta := aggregation.Delta{Dict: event.NewDictionary()}
		for bucket, groups := range parts {
			delta.Parts = append(delta.Parts, part(def, delta.Dict, bucket, groups))
		}
		buckets, got := roundTrip(t, db, "s", delta)
		if len(buckets) != len(parts) {
			t.Fatalf("got %d buckets, want %d", len(buckets), len(parts))
		}
		for i, bucket := range buckets {
			if !slices.EqualFunc(got[i], parts[bucket], sameGroup) {
				t.Fatalf("bucket %d: got %+v, want %+v", bucket, got[i], parts[bucket])
			}
		}
	})
}

// So many different texts, and times so far from each other, that they take
// one digit more, or one less; and more groups than a row takes.
func TestWriteDelta_NumbersTextsAndTimes(t *testing.T) {
	t.Parallel()
	def := allKinds()
	db := migrated(t, def)
	mustLease(t, db, "s", def)
	for _, groups := range []int{4, 5, 70, 5000, 2*packedGroups + 7} {
		for _, different := range []int{1, 2, 64, 65, 4096, 4097, groups - 1, groups} {
			if different > groups || groups > packedGroups && different < groups { // what fewer texts do in a row, they do in any
				continue
			}
			var want []group
			for i := range int64(groups) {
				n := i % int64(different)
				want = append(want, group{
					text: fmt.Sprint("text ", n), events: i, lastTime: micro(1969, 12, 31) + 1000*n, lastSeq: 1<<50 - n,
					number: i, time: micro(2026, 1, 1) + i,
				})
			}
			delta := aggregation.Delta{Dict: event.NewDictionary()}
			delta.Parts = append(delta.Parts, part(def, delta.Dict, 0, want))
			_, got := roundTrip(t, db, "s", delta)
			if all := slices.Concat(got...); !slices.EqualFunc(all, want, sameGroup) {
				t.Errorf("%d groups, %d different: got %.300v, want %.300v", groups, different, all, want)
			}
		}
	}
}

func TestWriteDelta_LargerThanOneChunk(t *testing.T) {
	t.Parallel()
	def, other := allKinds(), calls("Other")
	db := migrated(t, def, other)
	lease := mustLease(t, db, "s", def, other)
	delta := aggregation.Delta{Dict: event.NewDictionary()}
	text := strings.Repeat("x", copyChunk/3)
	for i := range int64(50) {
		delta.Parts = append(delta.Parts, part(def, delta.Dict, i*1e6, []group{{text: fmt.Sprint(i, text), events: i + 1}}))
	}
	delta.Parts = append(delta.Parts, oneCall(other, time.Unix(0, 0)).Parts...)
	if err := flush(t.Context(), db, lease, delta, NewClaims()); err != nil {
		t.Fatal(err)
	}
	if got := ask[string](t, db, `SELECT count(*) || ' ' || sum(weir_events[1]) || ' ' || sum(length(by_string[2])) FROM weir_data.allkinds_seconds`); got !=
		fmt.Sprint(50, 51*25, 50*len(text)+90) {
		t.Errorf("got %s", got)
	}
	if got := ask[int](t, db, `SELECT count(*) FROM weir_data.other_seconds`); got != 1 {
		t.Errorf("the aggregation after it has %d rows, want 1", got)
	}
}

func TestWriteDelta_RefusesColumnsThatAreNotParallel(t *testing.T) {
	t.Parallel()
	def := calls("Parallel")
	db := migrated(t, def)
	lease := mustLease(t, db, "s", def)
	delta := oneCall(def, time.Unix(0, 0))
	delta.Parts[0].Measures[1] = append(delta.Parts[0].Measures[1], 5)
	err := flush(t.Context(), db, lease, delta, NewClaims())
	if err == nil || !strings.Contains(err.Error(), "bytes has 2 values for 1 groups") {
		t.Errorf("got %v, want that a column is not parallel", err)
	}
}
