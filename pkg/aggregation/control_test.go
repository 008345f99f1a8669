package aggregation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// Control totals are those of a loop over all events, and of what Fold makes of
// them at any level and with any cap: over several streams, with and without a
// condition, wherever events were dropped.
func TestControls_AreWhatTheGroupsAddUpTo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		requests, faults := drawBatch(t, "requests"), drawBatch(t, "faults")
		dict := event.NewDictionary()
		of := columnsOf(requests, dict)
		and := columnsOf(faults, dict)
		renamed := *and.Schema
		renamed.Name = "fault"
		and.Schema = &renamed
		batch := []*event.Columns{of, and}
		some, every, both := definition(Seconds, time.UTC), definition(Minutes, time.UTC), definition(Hours, time.UTC)
		some.MaxGroups = 1
		every.Inputs[0].Where = -1
		both.Inputs = append(both.Inputs, every.Inputs[0])
		both.Inputs[1].Stream = "fault"
		defs := []*Definition{some, every, both}
		for i, def := range defs {
			def.Name = fmt.Sprint("Calls", i)
		}
		want := map[string]Control{}
		count := func(def *Definition, calls []call, all bool) {
			for _, x := range calls {
				if x.dropped || !all && !x.counted {
					continue
				}
				start := time.UnixMicro(x.at).UTC().Truncate(15 * time.Minute)
				key := def.Name + start.Format(time.RFC3339)
				had := want[key]
				want[key] = Control{def, start.UnixMicro(), had.Events + 1, had.Checksum + x.checksum()}
			}
		}
		count(some, requests, false)
		count(every, requests, true)
		count(both, requests, false)
		count(both, faults, true)
		wantControls(t, Controls(defs, batch), want)
		folded := map[string]Control{}
		for _, p := range NewFolder(nil).Fold(defs[:2], batch).Parts {
			start := time.UnixMicro(p.Bucket).UTC().Truncate(15 * time.Minute)
			key := p.Definition.Name + start.Format(time.RFC3339)
			for i := range p.Len() {
				had := folded[key]
				folded[key] = Control{p.Definition, start.UnixMicro(), had.Events + int64(p.Events[i]), had.Checksum + uint32(p.Checksums[i])}
			}
		}
		wantControls(t, Controls(defs[:2], batch), folded)
	})
}

func wantControls(t *rapid.T, controls []Control, want map[string]Control) {
	t.Helper()
	line := func(c Control) string {
		return fmt.Sprintf("%s %d %d %08x", c.Definition.Name, c.Period, c.Events, c.Checksum)
	}
	var got, wanted []string
	for _, c := range controls {
		got = append(got, line(c))
	}
	if !slices.IsSortedFunc(controls, func(a, b Control) int {
		return strings.Compare(a.Definition.Name, b.Definition.Name)*2 + int(min(max(a.Period-b.Period, -1), 1))
	}) {
		t.Fatalf("not in order: %v", got)
	}
	for _, c := range want {
		wanted = append(wanted, line(c))
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if g, w := strings.Join(got, "\n"), strings.Join(wanted, "\n"); g != w {
		t.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}

func drawBatch(t *rapid.T, name string) []call {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
		return call{
			api: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "api"), app: "x",
			at:       1_795_341_599_000_000 + rapid.SampledFrom([]int64{0, 1, 899_999_999, 900_000_000, 7_200_000_000}).Draw(t, "at"),
			sequence: rapid.Uint64Range(1, 1<<40).Draw(t, "sequence"),
			counted:  rapid.Bool().Draw(t, "counted"), dropped: rapid.IntRange(0, 4).Draw(t, "dropped") == 0,
		}
	}), 0, 30).Draw(t, name)
}
