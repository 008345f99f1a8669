package aggregation

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"weir/pkg/event"
)

// floats are the values of a sample as cells.
func floats(values ...float64) []event.Cell {
	cells := make([]event.Cell, len(values))
	for i, v := range values {
		cells[i] = event.FloatCell(v)
	}
	return cells
}

// fataler is a test of package testing or rapid.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// measured computes a measure over the values as events bring them.
func measured(t fataler, m Measure, values []event.Cell) (event.Cell, bool) {
	t.Helper()
	s := newSketch(m.Op)
	for _, v := range values {
		s.add(m.operand(v, nil))
	}
	return finished(t, m, encode(s))
}

func finished(t fataler, m Measure, blocks []byte) (event.Cell, bool) {
	t.Helper()
	value, ok, err := m.Finish(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return value, ok
}

// ranked is the exact quantile by the definition that the sketch goes by.
func ranked(sorted []float64, percent float64) float64 {
	return sorted[int(percent/100*float64(len(sorted)-1))]
}

func populationDeviation(values []float64) float64 {
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean) / float64(len(values))
	}
	return math.Sqrt(squares)
}

// near reports whether got is within the relative error of want.
func near(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*math.Abs(want)+1e-300
}

func TestSketch_MergesToTheSameForAnySplitAndOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := Measure{
			Name: "x", Op: rapid.SampledFrom([]Op{Distinct, Quantile, Deviation}).Draw(t, "op"), ArgKind: event.Float,
			Percent: rapid.SampledFrom([]float64{0.1, 50, 90, 99.9}).Draw(t, "percent"),
		}
		values := drawValues(t)
		want, wantOK := measured(t, m, floats(values...))
		blocks := drawMerged(t, m, floats(rapid.Permutation(values).Draw(t, "order")...))
		got, ok := finished(t, m, blocks)
		same := got == want
		if m.Op == Deviation {
			same = near(got.Float(), want.Float(), 1e-6) || math.Abs(got.Float()-want.Float()) < 1e-6
		}
		if ok != wantOK || !same && ok {
			t.Fatalf("%s: merged %v (%v), at once %v (%v)", m.Function(), got, ok, want, wantOK)
		}
	})
}

func drawValues(t *rapid.T) []float64 {
	if rapid.Bool().Draw(t, "many") { // more than are counted exactly
		n, seed := rapid.IntRange(500, 3000).Draw(t, "n"), rapid.Uint64().Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, 0))
		values := make([]float64, n)
		for i := range values {
			values[i] = math.Floor(random.NormFloat64() * 1000)
		}
		return values
	}
	return rapid.SliceOfN(rapid.OneOf(
		rapid.Float64Range(-1000, 1000), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -1, 1e-320, 1e6}),
	), 0, 50).Draw(t, "values")
}

// drawMerged splits the values into sketches, and joins them in some order,
// encoded anew in between or not.
func drawMerged(t *rapid.T, m Measure, values []event.Cell) []byte {
	var blocks [][]byte
	for len(values) > 0 {
		n := rapid.IntRange(1, len(values)).Draw(t, "split")
		s := newSketch(m.Op)
		for _, v := range values[:n] {
			s.add(m.operand(v, nil))
		}
		blocks, values = append(blocks, encode(s)), values[n:]
	}
	for len(blocks) > 1 {
		joined := slices.Concat(blocks[0], blocks[1])
		if rapid.Bool().Draw(t, "encode anew") {
			s := newSketch(m.Op)
			if err := mergeBlocks(s, joined); err != nil {
				t.Fatal(err)
			}
			joined = encode(s)
		}
		blocks = append(blocks[2:], joined)
	}
	return slices.Concat(blocks...)
}

// For any few values, sketches say what a loop over the values says.
func TestSketch_EqualsTheOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(-1e9, 1e9), rapid.SampledFrom([]float64{0, 1, -7, 1e300, -1e300})), 1, exactDistinct).Draw(t, "values")
		different := map[float64]bool{}
		for _, v := range values {
			different[v] = true
		}
		m := Measure{Op: Distinct, ArgKind: event.Float}
		if got, _ := measured(t, m, floats(values...)); int(got) != len(different) {
			t.Fatalf("%d different values, want %d", got, len(different))
		}
		sorted := slices.Sorted(slices.Values(values))
		m = Measure{Op: Quantile, ArgKind: event.Float, Percent: rapid.Float64Range(0.001, 99.999).Draw(t, "percent")}
		if got, _ := measured(t, m, floats(values...)); !near(got.Float(), ranked(sorted, m.Percent), 0.01) {
			t.Fatalf("p%v is %v, want %v", m.Percent, got.Float(), ranked(sorted, m.Percent))
		}
		if sorted[0] < -1e290 || sorted[len(sorted)-1] > 1e290 { // their squares are too large for a float
			return
		}
		m = Measure{Op: Deviation, ArgKind: event.Float}
		want := populationDeviation(values)
		if got, _ := measured(t, m, floats(values...)); math.Abs(got.Float()-want) > 1e-9*max(1, sorted[len(sorted)-1]-sorted[0]) {
			t.Fatalf("deviation %v, want %v", got.Float(), want)
		}
	})
}

func TestSketch_OfNothingHasNoValueButACount(t *testing.T) {
	t.Parallel()
	for _, m := range []Measure{{Op: Quantile, Percent: 50}, {Op: Deviation}, {Op: Distinct}} {
		value, ok := finished(t, m, nil)
		if ok != (m.Op == Distinct) || ok && value != 0 {
			t.Errorf("%s of nothing: %v (%v)", m.Function(), value, ok)
		}
		value, ok = measured(t, m, nil) // a block that says so
		if ok != (m.Op == Distinct) || ok && value != 0 {
			t.Errorf("%s of an empty block: %v (%v)", m.Function(), value, ok)
		}
	}
	// What is no number is not in a deviation, and does not spoil it.
	m := Measure{Op: Deviation, ArgKind: event.Float}
	if got, _ := measured(t, m, floats(1, math.NaN(), 3, math.Inf(1))); got.Float() != 1 {
		t.Errorf("deviation %v, want 1", got.Float())
	}
}

func TestDistinct_HashesValuesOfEveryKind(t *testing.T) {
	t.Parallel()
	dict := event.NewDictionary()
	for _, c := range []struct {
		kind   event.Kind
		values []event.Cell
		want   int
	}{
		{event.String, []event.Cell{dict.Intern("a"), dict.Intern("b"), dict.Intern("a"), dict.Intern("")}, 3},
		{event.Int, []event.Cell{1, -1, 1, 0}, 3},
		{event.Float, floats(0, math.Copysign(0, -1), 0.5), 2},
		{event.Bool, []event.Cell{0, 1, 1}, 2},
		{event.Time, []event.Cell{0, 1_000_000, 1_000_000}, 2},
	} {
		d, m := &distinct{}, Measure{Op: Distinct, ArgKind: c.kind}
		for _, v := range c.values {
			d.add(m.operand(v, dict))
		}
		if got, _ := d.value(m); int(got) != c.want {
			t.Errorf("%s: %d different values, want %d", c.kind, got, c.want)
		}
	}
	// They are stored: another hash would count stored values twice.
	if got := hashOf(event.String, dict.Intern("a"), dict); uint64(got) != 0xd24ec4f1a98c6e5b {
		t.Errorf("the hash of a is %#x", uint64(got))
	}
	if got := hashOf(event.Int, 1, nil); uint64(got) != 0x9f29cb17a2a49995 {
		t.Errorf("the hash of 1 is %#x", uint64(got))
	}
}

func TestFinish_RefusesCorruptedBlocks(t *testing.T) {
	t.Parallel()
	one := func(op Op) []byte {
		s := newSketch(op)
		s.add(event.FloatCell(12))
		return encode(s)
	}
	many := &distinct{}
	for i := range uint64(5000) {
		many.insert(i * 0x9e3779b97f4a7c15)
	}
	for _, op := range []Op{Distinct, Quantile, Deviation} {
		for name, blocks := range map[string][]byte{
			"no payload": {0}, "cut length": {0x80}, "length beyond the end": {200, 1, 2}, "unknown format": {1, 99},
			"cut payload":      append([]byte{byte(len(one(op)) - 2)}, one(op)[1:len(one(op))-1]...),
			"another's format": one(map[Op]Op{Distinct: Quantile, Quantile: Deviation, Deviation: Distinct}[op]),
			"good, then bad":   append(one(op), 7),
			"great length":     {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1},
		} {
			if _, _, err := (Measure{Op: op, Percent: 50}).Finish(blocks); !errors.Is(err, errBlock) {
				t.Errorf("%s, %s: got error %v", op, name, err)
			}
		}
	}
	registers := encode(many)
	if _, _, err := (Measure{Op: Distinct}).Finish(append([]byte{4}, registers[2:6]...)); !errors.Is(err, errBlock) {
		t.Errorf("cut registers: got error %v", err)
	}
	for name, payload := range map[string][]byte{
		"bin out of range": {formatBins, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0}, "more bins than bytes": {formatBins, 0, 200, 1, 0},
		"bins that descend": {formatBins, 0, 2, 8, 1, 1, 1, 0}, "an empty bin": {formatBins, 0, 1, 8, 0, 0}, "too long": {formatBins, 0, 0, 0, 0},
		"negative squares": append(append([]byte{formatMoments, 2}, make([]byte, 8)...), 0, 0, 0, 0, 0, 0, 0xf0, 0xbf),
	} {
		op := map[byte]Op{formatBins: Quantile, formatMoments: Deviation}[payload[0]]
		if _, _, err := (Measure{Op: op, Percent: 50}).Finish(append([]byte{byte(len(payload))}, payload...)); !errors.Is(err, errBlock) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

// Whatever the bytes are, they are a value or an error; and what is a value is
// still that value when it is encoded anew.
func FuzzFinish(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for i, op := range []Op{Distinct, Quantile, Deviation} {
		for _, n := range []int{0, 1, 3, 1000} {
			s := newSketch(op)
			for range n {
				s.add(event.FloatCell(random.NormFloat64()))
			}
			f.Add(byte(i), encode(s))
			f.Add(byte(i), append(encode(s), encode(s)...))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, blocks []byte) {
		m := Measure{Op: []Op{Distinct, Quantile, Deviation}[which%3], Percent: 95}
		value, ok, err := m.Finish(blocks)
		if err != nil {
			return
		}
		s := newSketch(m.Op)
		if err := mergeBlocks(s, blocks); err != nil {
			t.Fatal(err)
		}
		again, okAgain, err := m.Finish(encode(s))
		if err != nil || again != value || ok != okAgain {
			t.Fatalf("encoded anew: %v (%v) and error %v, was %v (%v)", again, okAgain, err, value, ok)
		}
	})
}

func BenchmarkSketch(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, op := range []Op{Distinct, Quantile, Deviation} {
		for _, n := range []int{1, 10, 100, 1000, 100_000} {
			values := make([]event.Cell, n)
			for i := range values {
				values[i] = event.FloatCell(math.Exp(4 + random.NormFloat64()))
			}
			m := &Measure{Op: op, ArgKind: event.Float}
			fill := func() []byte {
				s := newSketch(op)
				for _, v := range values {
					s.add(m.operand(v, nil))
				}
				return encode(s)
			}
			block := fill()
			b.Run(fmt.Sprintf("add/%s/%d", op, n), func(b *testing.B) {
				for b.Loop() {
					fill()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
				b.ReportMetric(float64(len(block)), "bytes")
			})
			b.Run(fmt.Sprintf("merge/%s/%d", op, n), func(b *testing.B) {
				s := newSketch(op)
				for b.Loop() {
					if err := mergeBlocks(s, block); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkFold_Measures shows what each measure adds to a fold.
func BenchmarkFold_Measures(b *testing.B) {
	var calls []call
	for i := range 20_000 {
		calls = append(calls, call{api: fmt.Sprint("api", i%97), app: fmt.Sprint("app", i%13), at: int64(i) * 50, sequence: uint64(i), ms: int64(i*7919%777 + 1), counted: true})
	}
	columns := []*event.Columns{columnsOf(calls, event.NewDictionary())}
	for _, m := range []Measure{
		{Op: Count}, {Op: Sum}, {Op: Min}, {Op: First}, {Op: Last}, {Op: Distinct}, {Op: Quantile, Percent: 95}, {Op: Deviation},
	} {
		b.Run(m.Op.String(), func(b *testing.B) {
			m.Name, m.ArgKind = "x", event.Int
			def := definition(Seconds, nil)
			def.Measures, def.Inputs[0].Args = []Measure{m}, []int{2}
			if m.Op == Count {
				def.Inputs[0].Args[0] = -1
			}
			folder := NewFolder(nil)
			b.ReportAllocs()
			for b.Loop() {
				folder.Fold([]*Definition{def}, columns)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(calls)), "ns/event")
		})
	}
}
