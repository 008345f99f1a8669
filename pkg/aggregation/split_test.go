package aggregation

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// drawExtremes returns calls of a few groups in one or two hours, most of which
// bring a sum to its limits.
func drawExtremes(t *rapid.T) []call {
	apis := rapid.SampledFrom([]int{1, 3, 300}).Draw(t, "apis")
	values := []int64{math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, 1 << 62, -1 << 62, 1, -1, 0}
	if rapid.Bool().Draw(t, "one sign") {
		values = values[:2] // every event is one overflow
	}
	calls := make([]call, rapid.IntRange(1, 1500).Draw(t, "n"))
	seed := rapid.Uint64().Draw(t, "seed")
	for i := range calls {
		seed = seed*6364136223846793005 + 1442695040888963407
		calls[i] = call{
			api: fmt.Sprint(seed >> 33 % uint64(apis)), at: int64(seed>>40%3) * 1_800_000_000, sequence: uint64(i + 1),
			ms: values[seed>>50%uint64(len(values))], ratio: 0.5, counted: true,
		}
	}
	return calls
}

// Any number of sums may leave 64 bits, in one bucket or many, at every level:
// nothing is lost, and finding groups neither fails nor slows down.
func TestTable_SetsAsideAnyNumberOfSums(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		calls := drawExtremes(t)
		def := definition(Seconds, time.UTC)
		def.Granularities = []Granularity{Seconds, Hours, Days}
		def.MaxGroups = rapid.SampledFrom([]int{0, 2, DefaultMaxGroups}).Draw(t, "cap")
		capped := def.MaxGroups == 2
		guard := rapid.SampledFrom([]*Guard{nil, NewGuard()}).Draw(t, "guard")
		check := func(what string, level Granularity, calls []call, d Delta) {
			groups := oracle(calls, func(at int64) int64 { return level.Truncate(at, time.UTC) })
			got, want := text(merged(d)), text(groups)
			if capped {
				got, want = total(merged(d)), total(groups)
			}
			if got != want {
				t.Fatalf("%s: got\n%s\nwant\n%s", what, got, want)
			}
		}
		cascade := NewCascade([]*Definition{def}, guard)
		for rest := calls; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			delta := NewFolder(guard).Fold([]*Definition{def}, []*event.Columns{columnsOf(rest[:n], event.NewDictionary())})
			if guard != nil {
				guard.Commit()
			}
			check("fold", Seconds, rest[:n], delta)
			merger := NewMerger(def, Hours)
			if err := merger.Add(delta); err != nil {
				t.Fatal(err)
			}
			check("merge", Hours, rest[:n], merger.Delta())
			cascade.Add(delta)
			rest = rest[n:]
		}
		for _, level := range def.Granularities[1:] {
			flush := cascade.Prepare(func(Granularity) bool { return true })
			of := flush.Delta
			of.Parts = slices.DeleteFunc(slices.Clone(of.Parts), func(p Part) bool { return p.Level != level })
			check("cascade", level, calls, of)
		}
		hours := cascade.Prepare(func(g Granularity) bool { return g == Hours })
		cascade.Commit(hours)
		check("hours, then days", Days, calls, cascade.Prepare(func(Granularity) bool { return true }).Delta)
	})
}

// The group of a key whose sums were set aside is still found when the table
// has grown often.
func TestTable_FindsTheGroupThatGoesOn(t *testing.T) {
	t.Parallel()
	var calls []call
	for i := range 3000 { // 1000 sums set aside, among 1000 other groups
		api := "big"
		if i%3 == 2 {
			api = fmt.Sprint("other", i)
		}
		calls = append(calls, call{api: api, sequence: uint64(i), ms: math.MaxInt64, counted: true})
	}
	for i := range 50 {
		calls = append(calls, call{api: "big", sequence: uint64(5000 + i), ms: 0, counted: true})
	}
	delta := NewFolder(nil).Fold([]*Definition{definition(Seconds, time.UTC)}, []*event.Columns{columnsOf(calls, event.NewDictionary())})
	rows := 0
	for i := range delta.Parts[0].Len() {
		if delta.Dict.Text(delta.Parts[0].Keys[0][i]) == "big" {
			rows++
		}
	}
	if rows != 2000 {
		t.Errorf("got %d rows of the key, want 2000: one for each sum, and the events of 0 in the last", rows)
	}
}

// What is missing of a group is in no dictionary, and adds nothing to a sum.
func TestCascade_TakesNothingThatIsMissing(t *testing.T) {
	t.Parallel()
	def := &Definition{
		Name: "Calls", Keys: []Key{{"hit", event.Bool}}, Granularities: []Granularity{Seconds, Hours}, Zone: time.UTC,
		Measures: []Measure{
			{Name: "n", Op: Count},
			{Name: "who", Op: Last, Arg: "api", ArgKind: event.String},
			{Name: "total", Op: Sum, Arg: "ms", ArgKind: event.Int},
			{Name: "different", Op: Distinct, Arg: "api", ArgKind: event.String},
		},
	}
	missing := MissingBit(1) | MissingBit(2) | MissingBit(3)
	tail := Delta{Dict: event.NewDictionary(), Parts: []Part{{ // as read of rows that were written before the three were defined
		Definition: def, Level: Seconds, Keys: [][]event.Cell{{1, 1}}, Events: []event.Cell{2, 3}, Checksums: []event.Cell{math.MaxInt32, 1},
		Measures: [][]event.Cell{nil, {7, 7}, {math.MaxInt64, math.MaxInt64}, nil}, Sketches: [][][]byte{nil, nil, nil, {{0xff}, {0xff}}},
		Missing: []event.Cell{missing, missing}, LastTime: []event.Cell{1, 2}, LastSequence: []event.Cell{1, 2},
	}}}
	cascade := NewCascade([]*Definition{def}, nil)
	if err := cascade.AddTail(Hours, tail); err != nil {
		t.Fatal(err)
	}
	parts := cascade.Prepare(func(Granularity) bool { return true }).Delta.Parts
	if len(parts) != 1 || parts[0].Len() != 1 || parts[0].Events[0] != 5 || parts[0].Checksums[0] != math.MinInt32 || parts[0].Missing[0] != missing {
		t.Errorf("got %+v, want one group of 5 events whose measures are missing", parts)
	}
}
