package aggregation

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// cappedShard is a shard with its tables in memory, as a worker and the store
// keep it.
type cappedShard struct {
	def       *Definition
	guard     *Guard
	cascade   *Cascade // nil: to be loaded
	batch     int
	rows      map[Granularity][]cappedRows
	watermark map[Granularity]int
	diverted  map[Granularity]int64 // events that lost their name, as deltas and flushes say
}

type cappedRows struct {
	batch int
	delta Delta
}

func newCappedShard(limit int) *cappedShard {
	def := definition(Seconds, time.UTC)
	def.Granularities = []Granularity{Seconds, Minutes, Hours, Days, Years}
	def.MaxGroups = limit
	return &cappedShard{
		def: def, guard: NewGuard(), rows: map[Granularity][]cappedRows{},
		watermark: map[Granularity]int{}, diverted: map[Granularity]int64{},
	}
}

// past returns the rows of a level past a watermark.
func (s *cappedShard) past(level Granularity, watermark int) (found []Delta) {
	for _, r := range s.rows[level] {
		if r.batch > watermark {
			found = append(found, r.delta)
		}
	}
	return found
}

func (s *cappedShard) load(t *rapid.T) {
	if s.cascade != nil {
		return
	}
	s.cascade = NewCascade([]*Definition{s.def}, s.guard)
	for _, level := range s.def.Granularities[1:] {
		parent, _ := s.def.Parent(level)
		for _, tail := range s.past(parent, s.watermark[level]) {
			if err := s.cascade.AddTail(level, tail); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// fate is what becomes of a transaction.
type fate int

const (
	committed       fate = iota
	refused              // rolled back: another worker has folded the batch
	committedUnseen      // committed, but the worker saw an error
	lost                 // rolled back, but the worker does not know
	fates
)

func (s *cappedShard) flush(t *rapid.T, calls []call, due []Granularity, f fate) {
	s.load(t)
	batch := []*event.Columns{columnsOf(calls, event.NewDictionary())}
	delta := NewFolder(s.guard).Fold([]*Definition{s.def}, batch)
	levels := s.cascade.Prepare(func(g Granularity) bool {
		for _, d := range due {
			if d == g {
				return true
			}
		}
		return false
	})
	if f == committed || f == committedUnseen {
		s.write(delta, levels)
	}
	switch f {
	case refused:
		return
	case committed:
		s.cascade.Commit(levels)
		s.cascade.Add(delta)
	default:
		s.cascade = nil
	}
	s.guard.Commit()
}

func (s *cappedShard) write(delta Delta, levels *Flush) {
	s.batch++
	s.rows[Seconds] = append(s.rows[Seconds], cappedRows{s.batch, delta})
	for _, p := range levels.Delta.Parts {
		s.rows[p.Level] = append(s.rows[p.Level], cappedRows{s.batch - 1, Delta{Parts: []Part{kept(p)}, Dict: levels.Delta.Dict}})
	}
	for _, l := range levels.Levels {
		s.watermark[l.Level] = s.batch - 1
	}
	for _, o := range append(delta.Other, levels.Delta.Other...) {
		s.diverted[o.Level] += o.Events
	}
}

// kept returns the part in memory of its own: what a flush holds is good until
// the next one.
func kept(p Part) Part {
	columns := func(of [][]event.Cell) [][]event.Cell {
		of = slices.Clone(of)
		for i := range of {
			of[i] = slices.Clone(of[i])
		}
		return of
	}
	p.Keys, p.Measures, p.Events, p.Checksums = columns(p.Keys), columns(p.Measures), slices.Clone(p.Events), slices.Clone(p.Checksums)
	p.Missing, p.hashes = slices.Clone(p.Missing), slices.Clone(p.hashes)
	p.FirstTime, p.FirstSequence = slices.Clone(p.FirstTime), slices.Clone(p.FirstSequence)
	p.LastTime, p.LastSequence = slices.Clone(p.LastTime), slices.Clone(p.LastSequence)
	return p
}

// answer returns all rows of a level and what the level lacks.
func (s *cappedShard) answer(level Granularity) []Delta {
	found := s.past(level, -1)
	for {
		parent, ok := s.def.Parent(level)
		if !ok {
			return found
		}
		found = append(found, s.past(parent, s.watermark[level])...)
		level = parent
	}
}

// groupsPer merges rows per bucket of the level and name of the group.
func groupsPer(level Granularity, deltas []Delta) map[int64]map[string]*group {
	buckets := map[int64]map[string]*group{}
	for _, d := range deltas {
		for _, p := range d.Parts {
			bucket := level.Truncate(p.Bucket, time.UTC)
			if buckets[bucket] == nil {
				buckets[bucket] = map[string]*group{}
			}
			one := p
			one.Bucket = bucket
			for name, g := range merged(Delta{Parts: []Part{one}, Dict: d.Dict}) {
				put(buckets[bucket], name, g)
			}
		}
	}
	return buckets
}

func total(groups map[string]*group) string {
	sum := map[string]*group{}
	for _, g := range groups {
		one := *g
		one.total = new(big.Int).Set(g.total)
		put(sum, "all", &one)
	}
	return text(sum)
}

func drawCappedCalls(t *rapid.T) []call {
	base := time.Date(2026, 10, 25, 23, 59, 58, 0, time.UTC).UnixMicro()
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
		return call{
			api: rapid.SampledFrom([]string{"a", "b", "c", "d", OtherGroup}).Draw(t, "api"), app: rapid.SampledFrom([]string{"x", "", OtherGroup}).Draw(t, "app"),
			at:    base + rapid.SampledFrom([]int64{0, 1, 2, 3, 70, 4000}).Draw(t, "second")*1_000_000,
			ms:    rapid.Int64Range(-10, 1000).Draw(t, "ms"),
			ratio: float64(rapid.IntRange(0, 64).Draw(t, "ratio")) / 8, counted: true,
		}
	}), 0, 20).Draw(t, "calls")
}

// For any cap, batches, cadence, refusals and crashes: the totals of every
// bucket at every level are those of a loop over all events; without a restart
// no bucket at any level has more groups than the cap, and the one for others;
// a bucket that never had more is exact; and what was diverted is counted.
func TestGuard_CapsEveryLevelAndConservesTotals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 13).Draw(t, "cap")
		s := newCappedShard(limit)
		var all []call
		restarted, guessed := false, false
		for n := range rapid.IntRange(1, 10).Draw(t, "batches") {
			calls := drawCappedCalls(t)
			for i := range calls {
				calls[i].sequence = uint64(100*n + i)
			}
			f := fate(rapid.IntRange(0, int(fates)-1).Draw(t, "fate"))
			s.flush(t, calls, rapid.SliceOf(rapid.SampledFrom(s.def.Granularities)).Draw(t, "due"), f)
			if f == committed || f == committedUnseen {
				all = append(all, calls...)
			}
			guessed = guessed || f == lost
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				s.cascade, s.guard, restarted = nil, NewGuard(), true
			}
		}
		for _, level := range s.def.Granularities {
			s.checkTotals(t, level, all)
		}
		s.flush(t, nil, s.def.Granularities, committed)
		for _, level := range s.def.Granularities {
			s.checkTotals(t, level, all)
			if !restarted {
				s.checkCap(t, level)
			}
			if !guessed { // what might have been written counts
				s.checkExact(t, level, all)
			}
			s.checkCounted(t, level, all)
		}
	})
}

func wantPer(level Granularity, all []call) map[int64]map[string]*group {
	buckets := map[int64]map[string]*group{}
	for _, x := range all {
		at := level.Truncate(x.at, time.UTC)
		if buckets[at] == nil {
			buckets[at] = map[string]*group{}
		}
		for name, g := range oracle([]call{x}, func(int64) int64 { return at }) {
			put(buckets[at], name, g)
		}
	}
	return buckets
}

func (s *cappedShard) checkTotals(t *rapid.T, level Granularity, all []call) {
	t.Helper()
	got, want := groupsPer(level, s.answer(level)), wantPer(level, all)
	if len(got) != len(want) {
		t.Fatalf("per %s: %d buckets, want %d", level, len(got), len(want))
	}
	for bucket := range want {
		if total(got[bucket]) != total(want[bucket]) {
			t.Fatalf("per %s, bucket %d, cap %d: total %swant %s", level, bucket, s.def.MaxGroups, total(got[bucket]), total(want[bucket]))
		}
	}
}

func otherName(bucket int64) string { return fmt.Sprint(bucket, OtherGroup, "/", OtherGroup) }

func (s *cappedShard) checkCap(t *rapid.T, level Granularity) {
	t.Helper()
	for bucket, groups := range groupsPer(level, s.past(level, -1)) {
		delete(groups, otherName(bucket))
		if len(groups) > s.def.MaxGroups {
			t.Fatalf("per %s, bucket %d: %d groups beside the one for others, the cap is %d", level, bucket, len(groups), s.def.MaxGroups)
		}
	}
}

func (s *cappedShard) checkExact(t *rapid.T, level Granularity, all []call) {
	t.Helper()
	got := groupsPer(level, s.answer(level))
	for bucket, want := range wantPer(level, all) {
		named := len(want)
		if want[otherName(bucket)] != nil {
			named--
		}
		if named <= s.def.MaxGroups && text(got[bucket]) != text(want) {
			t.Fatalf("per %s, bucket %d, cap %d: got\n%s\nwant\n%s", level, bucket, s.def.MaxGroups, text(got[bucket]), text(want))
		}
	}
}

// checkCounted compares what deltas and flushes said with what is in the
// groups for others beyond what came from the finer level.
func (s *cappedShard) checkCounted(t *rapid.T, level Granularity, all []call) {
	t.Helper()
	others := func(level Granularity) (n int64) {
		for bucket, groups := range groupsPer(level, s.past(level, -1)) {
			if g := groups[otherName(bucket)]; g != nil {
				n += g.n
			}
		}
		return n
	}
	want := others(level)
	if parent, ok := s.def.Parent(level); ok {
		want -= others(parent)
	} else {
		for _, x := range all {
			if x.api == OtherGroup && x.app == OtherGroup {
				want--
			}
		}
	}
	if s.diverted[level] != want {
		t.Fatalf("per %s: %d events are said to be diverted, %d are", level, s.diverted[level], want)
	}
}

// What is forgotten of old buckets is which groups they have, no event.
func TestGuard_ForgetsOldBucketsAndNoEvent(t *testing.T) {
	t.Parallel()
	def := definition(Seconds, time.UTC)
	def.MaxGroups = 2
	guard := NewGuard()
	fold := func(second int, apis ...string) (names int, events int64) {
		var calls []call
		for i, api := range apis {
			calls = append(calls, call{api: api, at: int64(second)*1_000_000 + 1, sequence: uint64(i), counted: true})
		}
		delta := NewFolder(guard).Fold([]*Definition{def}, []*event.Columns{columnsOf(calls, event.NewDictionary())})
		guard.Commit()
		for _, g := range merged(delta) {
			names++
			events += g.n
		}
		return names, events
	}
	if names, events := fold(1, "a", "b", "c", "d"); names != 3 || events != 4 {
		t.Fatalf("got %d groups of %d events, want 3 of 4", names, events)
	}
	for second := 2; second < rememberedBuckets; second++ {
		fold(second, "a")
	}
	if names, events := fold(1, "c", "d"); names != 1 || events != 2 {
		t.Errorf("a bucket that is remembered: got %d groups of %d events, want 1 of 2", names, events)
	}
	for second := range 10 * rememberedBuckets {
		fold(100+second, "a")
	}
	if names, events := fold(1, "c", "d", "e"); names != 3 || events != 3 {
		t.Errorf("a bucket that is forgotten: got %d groups of %d events, want 3 of 3", names, events)
	}
	for _, l := range guard.levels {
		if held := len(l.buckets); held > 2*rememberedBuckets {
			t.Errorf("%d buckets are remembered, want at most %d", held, 2*rememberedBuckets)
		}
		groups := 0
		for _, a := range l.buckets {
			groups += a.held()
		}
		if groups != l.held {
			t.Errorf("%d groups are remembered, it counts %d", groups, l.held)
		}
	}
}

// Where there is no room the buckets that were touched last are remembered longest.
func TestGuard_ForgetsOldestBucketsFirstWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	def := definition(Seconds, time.UTC)
	def.MaxGroups = 2
	guard := NewGuard()
	folder := NewFolder(guard)
	fold := func(second int, apis ...string) int {
		var calls []call
		for i, api := range apis {
			calls = append(calls, call{api: api, at: int64(second)*1_000_000 + 1, sequence: uint64(i), counted: true})
		}
		delta := folder.Fold([]*Definition{def}, []*event.Columns{columnsOf(calls, event.NewDictionary())})
		guard.Commit()
		return len(merged(delta))
	}
	fold(1, "a", "b")
	fold(2, "a", "b")
	fold(3, "a", "b")
	guard.Shrink(6 * hashSize) // enough
	if names := fold(1, "c", "d"); names != 1 {
		t.Errorf("with enough room: got %d groups, want 1", names)
	}
	guard.Shrink(6*hashSize - 1)
	if names := fold(1, "c", "d"); names != 1 {
		t.Errorf("the bucket that was touched last: got %d groups, want 1", names)
	}
	if names := fold(2, "c", "d"); names != 2 {
		t.Errorf("the other bucket: got %d groups, want 2", names)
	}
	guard.Shrink(0)
	for id, l := range guard.levels {
		if l.held != 0 || len(l.buckets) != 0 {
			t.Errorf("per %s: %d groups of %d buckets are remembered without any room", id.Level, l.held, len(l.buckets))
		}
	}
}

// A delta that was added to a cascade and then not committed leaves nothing behind: the
// groups of another one have their names at every level.
func TestGuard_ForgetsWhatACascadeWasGivenInVain(t *testing.T) {
	t.Parallel()
	def := definition(Seconds, time.UTC)
	def.Granularities = []Granularity{Seconds, Minutes}
	def.MaxGroups = 1
	defs := []*Definition{def}
	guard := NewGuard()
	folder := NewFolder(guard)
	fold := func(api string, second int64) Delta {
		return folder.Fold(defs, []*event.Columns{columnsOf([]call{{api: api, at: 1_000_000*second + 1, sequence: 1, counted: true}}, event.NewDictionary())})
	}
	NewCascade(defs, guard).Add(fold("refused", 1))
	cascade := NewCascade(defs, guard)
	cascade.Add(fold("committed", 1))
	guard.Commit()
	minutes := cascade.Prepare(func(Granularity) bool { return true })
	if len(minutes.Delta.Other) != 0 {
		t.Errorf("%d events lost the name of their group", minutes.Delta.Other[0].Events)
	}
	cascade.Commit(minutes)
	cascade.Add(fold("beyond the cap", 2))
	guard.Commit()
	if other := cascade.Prepare(func(Granularity) bool { return true }).Delta.Other; len(other) != 1 {
		t.Errorf("what is beyond the cap has a name: %v", other)
	}
}

// Keys that are no texts are 0 in the group for others.
func TestGuard_OtherKindsOfKeysAreZero(t *testing.T) {
	t.Parallel()
	def := definition(Seconds, time.UTC)
	def.MaxGroups = 1
	def.Keys = append(def.Keys, Key{"ms", event.Int})
	def.Inputs[0].Keys = append(def.Inputs[0].Keys, 2)
	calls := []call{{api: "a", ms: 7, at: 1, counted: true}, {api: "a", ms: 8, at: 1, counted: true}, {api: "b", ms: 9, at: 1, counted: true}}
	delta := NewFolder(nil).Fold([]*Definition{def}, []*event.Columns{columnsOf(calls, event.NewDictionary())})
	var got []string
	for _, p := range delta.Parts {
		for i := range p.Len() {
			got = append(got, fmt.Sprint(delta.Dict.Text(p.Keys[0][i]), delta.Dict.Text(p.Keys[1][i]), p.Keys[2][i], " of ", p.Events[i]))
		}
	}
	if want := "[a7 of 1 __other____other__0 of 2]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if len(delta.Other) != 1 || delta.Other[0].Events != 2 || delta.Other[0].Level != Seconds {
		t.Errorf("diverted: got %+v, want 2 events", delta.Other)
	}
}
