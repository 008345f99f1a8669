package aggregation

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// shown is everything that a delta says, in its order.
func shown(d Delta) string {
	var b []byte // by hand: with -race, fmt takes most of the time of the tests
	for _, p := range d.Parts {
		b = fmt.Appendln(b, p.Definition.Name, p.Level, p.Bucket, p.Missing == nil)
		for i := range p.Len() {
			for k, key := range p.Definition.Keys {
				b = append(appendCell(b, key.Kind, p.Keys[k][i], d.Dict), ' ')
			}
			b = appendCell(append(appendCell(b, event.Int, p.Events[i], nil), ' '), event.Int, p.Checksums[i], nil)
			for k, m := range p.Definition.Measures {
				if !m.Stored() {
					continue
				}
				b = append(append(append(b, ' '), m.Name...), '=')
				if m.Sketched() {
					b = hex.AppendEncode(b, p.Sketches[k][i])
				} else {
					b = appendCell(b, m.ArgKind, p.Measures[k][i], d.Dict)
				}
			}
			for _, column := range [][]event.Cell{p.FirstTime, p.FirstSequence, p.LastTime, p.LastSequence} {
				if column != nil {
					b = appendCell(append(b, ' '), event.Int, column[i], nil)
				}
			}
			b = append(b, '\n')
		}
	}
	for _, o := range d.Other {
		b = fmt.Appendln(b, "others", o.Definition.Name, o.Level, o.Bucket, o.Events)
	}
	return string(b)
}

func appendCell(b []byte, kind event.Kind, cell event.Cell, dict *event.Dictionary) []byte {
	if kind == event.String {
		return strconv.AppendQuote(b, dict.Text(cell))
	}
	return strconv.AppendInt(b, int64(cell), 10)
}

// measuredDefinition has a measure of every op, and texts among them.
func measuredDefinition(name string, finest Granularity, zone *time.Location) *Definition {
	def := definition(finest, zone)
	def.Name = name
	for _, m := range []Measure{
		{Name: "who", Op: Last, Arg: "app", ArgKind: event.String},
		{Name: "least", Op: Min, Arg: "ratio", ArgKind: event.Float},
		{Name: "apps", Op: Distinct, Arg: "app", ArgKind: event.String},
		{Name: "values", Op: Distinct, Arg: "ms", ArgKind: event.Int},
		{Name: "p50", Op: Quantile, Arg: "ms", ArgKind: event.Int, Percent: 50},
		{Name: "p95", Op: Quantile, Arg: "ms", ArgKind: event.Int, Percent: 95, Shares: "p50"},
		{Name: "spread", Op: Deviation, Arg: "ratio", ArgKind: event.Float},
	} {
		def.Measures = append(def.Measures, m)
		def.Inputs[0].Args = append(def.Inputs[0].Args, map[string]int{"app": 1, "ms": 2, "ratio": 3}[m.Arg])
	}
	return def
}

// renamed makes columns those of another stream.
func renamed(c *event.Columns, stream string) *event.Columns {
	schema := *c.Schema
	schema.Name = stream
	c.Schema = &schema
	return c
}

// A folder that has folded other batches, of the same dictionary, of others and
// of aggregations of its own, folds as one that has not, and as one that goes
// event by event; also where sums overflow, groups are beyond the cap and hashes
// collide.
func TestFolder_FoldsAsANewOneDoes(t *testing.T) {
	t.Parallel()
	zones := map[string]*time.Location{"UTC": time.UTC, "Berlin": location(t, "Europe/Berlin")}
	rapid.Check(t, func(t *rapid.T) {
		var defs []*Definition
		for i := range rapid.IntRange(1, 3).Draw(t, "definitions") {
			def := measuredDefinition(fmt.Sprint("Calls", i), rapid.SampledFrom([]Granularity{Seconds, Hours, Days}).Draw(t, "finest"),
				zones[rapid.SampledFrom([]string{"UTC", "Berlin"}).Draw(t, "zone")])
			def.MaxGroups = rapid.SampledFrom([]int{0, 1, 5, DefaultMaxGroups}).Draw(t, "cap")
			def.Inputs[0].Where = rapid.SampledFrom([]int{-1, 4}).Draw(t, "where")
			if rapid.Bool().Draw(t, "two streams") {
				other := def.Inputs[0]
				other.Stream = "fault"
				def.Inputs = append(def.Inputs, other)
			}
			defs = append(defs, def)
		}
		draw := rapid.SampledFrom([]func(*rapid.T) []call{drawCalls, drawExtremes}).Draw(t, "of calls")
		dicts := []*event.Dictionary{event.NewDictionary(), event.NewDictionary(), event.NewDictionary()}
		guard, again, exactly := NewGuard(), NewGuard(), NewGuard()
		folder := NewFolder(guard)
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			at := rapid.IntRange(0, 2).Draw(t, "dictionary")
			if rapid.IntRange(0, 3).Draw(t, "replaced") == 0 {
				dicts[at] = event.NewDictionary()
			}
			batch := []*event.Columns{columnsOf(draw(t), dicts[at])}
			if rapid.Bool().Draw(t, "faults") {
				batch = append(batch, renamed(columnsOf(drawCalls(t), dicts[at]), "fault"))
			}
			some := defs[:rapid.IntRange(1, len(defs)).Draw(t, "folded")]
			if rapid.IntRange(0, 3).Draw(t, "collide") == 0 {
				hashes := guard.hasher.texts(dicts[at])
				for i := range hashes {
					hashes[i] %= 2
				}
				for _, def := range defs { // those that come later, too
					def.MaxGroups = 0 // the guard goes by hashes alone
				}
			}
			got := shown(folder.Fold(some, batch))
			if want := shown(NewFolder(again).Fold(some, batch)); got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			one := NewFolder(exactly)
			exactly.rollBack()
			one.delta = Delta{Dict: dicts[at]}
			for _, def := range some {
				s := one.folding(def)
				s.begin(one, batch)
				one.foldExactly(s)
			}
			if want := shown(one.delta); got != want {
				t.Fatalf("got\n%s\nevent by event\n%s", got, want)
			}
			if rapid.Bool().Draw(t, "committed") {
				guard.Commit()
				again.Commit()
				exactly.Commit()
			}
		}
	})
}

// A cascade gives the same whichever dictionaries its deltas have.
func TestCascade_IsTheSameOverChangingDictionaries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		def := measuredDefinition("Calls", Seconds, time.UTC)
		def.Granularities = []Granularity{Seconds, Minutes, Hours, Years}
		defs := []*Definition{def}
		guard := NewGuard()
		folder := NewFolder(guard)
		changing, plain := NewCascade(defs, guard), NewCascade(defs, nil)
		dicts := []*event.Dictionary{event.NewDictionary(), event.NewDictionary(), event.NewDictionary()}
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			calls := drawCalls(t)
			at := rapid.IntRange(0, 2).Draw(t, "dictionary")
			if rapid.IntRange(0, 3).Draw(t, "replaced") == 0 {
				dicts[at] = event.NewDictionary()
			}
			changing.Add(folder.Fold(defs, []*event.Columns{columnsOf(calls, dicts[at])}))
			guard.Commit()
			plain.Add(NewFolder(nil).Fold(defs, []*event.Columns{columnsOf(calls, event.NewDictionary())}))
			due := rapid.SampledFrom(def.Granularities).Draw(t, "due")
			is := func(g Granularity) bool { return g == due }
			got, want := changing.Prepare(is), plain.Prepare(is)
			if shown(got.Delta) != shown(want.Delta) {
				t.Fatalf("got\n%s\nwant\n%s", shown(got.Delta), shown(want.Delta))
			}
			if rapid.Bool().Draw(t, "committed") {
				changing.Commit(got)
				plain.Commit(want)
			}
			if rapid.IntRange(0, 3).Draw(t, "compacted") == 0 {
				changing.renew()
			}
		}
	})
}

// What the packer makes of values is what sketches make of them.
func TestSketchPacker_WritesWhatSketchesWrite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := Measure{Op: rapid.SampledFrom([]Op{Distinct, Quantile, Deviation}).Draw(t, "op"), ArgKind: event.Float}
		values := drawValues(t)
		if rapid.Bool().Draw(t, "odd") {
			values = append(values, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, 5e-324, 0)
		}
		var c collected
		sketches := make([]sketch, 3)
		for i := range sketches {
			sketches[i] = newSketch(m.Op)
		}
		for i, v := range values {
			g := i * i % len(sketches)
			cell := m.operand(event.FloatCell(v), nil)
			sketches[g].add(cell)
			c.values, c.groups = append(c.values, cell), append(c.groups, int32(7+g))
		}
		var p sketchPacker
		for i, block := range p.pack(m.Op, &c, 7, len(sketches)) {
			if want := encode(sketches[i]); string(block) != string(want) {
				t.Fatalf("%s of group %d: got %x, want %x", m.Op, i, block, want)
			}
		}
	})
}
