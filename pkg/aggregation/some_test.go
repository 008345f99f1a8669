package aggregation

import (
	"slices"
	"testing"
	"time"

	"weir/pkg/event"
)

// However few groups a flush may have, flush after flush gives all levels what
// one gives at once.
func TestPrepareSome_GivesAllInPieces(t *testing.T) {
	t.Parallel()
	var events []call
	for i := range 300 {
		events = append(events, call{api: string(rune('a' + i%7)), app: "x", at: int64(i+1) * 37_000_000, sequence: uint64(i + 1), ms: int64(i), counted: true})
	}
	all := func(FlushedLevel) bool { return true }
	def := definition(Seconds, time.UTC)
	def.Granularities = []Granularity{Seconds, Minutes, Hours, Days, Years}
	fill := func() *Cascade {
		c := NewCascade([]*Definition{def}, nil)
		c.Add(NewFolder(nil).Fold([]*Definition{def}, []*event.Columns{columnsOf(events, event.NewDictionary())}))
		return c
	}
	once := fill()
	want := once.PrepareSome(all, 1<<30).Delta.Groups()
	for _, most := range []int{1, 2, 50, 1000} {
		c := fill()
		var got, flushes int
		for complete := false; !complete; flushes++ {
			f := c.PrepareSome(all, most)
			got += f.Delta.Groups()
			if f.Complete != slices.ContainsFunc(f.Levels, func(l FlushedLevel) bool { return l.Level == def.Granularities[len(def.Granularities)-1] }) {
				t.Errorf("at most %d: complete is %v with the levels %v", most, f.Complete, f.Levels)
			}
			complete = f.Complete
			c.Commit(f)
		}
		if got != want || !c.Empty() || most == 1 && flushes < 2 {
			t.Errorf("at most %d: %d groups in %d flushes, want %d; empty: %v", most, got, flushes, want, c.Empty())
		}
	}
}
