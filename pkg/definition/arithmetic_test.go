package definition_test

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/definition"
	"weir/pkg/event"
)

// An integer that would leave 64 bits rejects the event, in whatever way it is
// computed.
func TestExpressions_RejectIntegersBeyond64Bits(t *testing.T) {
	t.Parallel()
	const most = "9223372036854775807"
	for expression, want := range map[string]string{
		"i * i":                              "4000000000000000000 * 4000000000000000000 does not fit into an integer of 64 bits",
		"i + i + i":                          "8000000000000000000 + 4000000000000000000 does not fit into an integer of 64 bits",
		"0 - i - i - i":                      "-8000000000000000000 - 4000000000000000000 does not fit into an integer of 64 bits",
		"-(i + " + most + " - i - i)":        "4000000000000000000 + 9223372036854775807 does not fit",
		"abs(0 - " + most + " - b1)":         "abs(-9223372036854775808) does not fit",
		"-(0 - " + most + " - b1)":           "-(-9223372036854775808) does not fit",
		"i > 0 ? i * 3 : 0":                  "4000000000000000000 * 3 does not fit",
		"i * i > 0":                          "4000000000000000000 * 4000000000000000000 does not fit",
		"float(i * 3)":                       "column 9: 4000000000000000000 * 3 does not fit",
		"len(s) * i * i":                     "does not fit",
		"let j = i; j * j":                   "column 14: 4000000000000000000 * 4000000000000000000 does not fit",
		"int(f * 1e300)":                     "int(1.5e+300) does not fit into an integer of 64 bits",
		"int(-f * 1e300)":                    "int(-1.5e+300) does not fit",
		"int((f - f) / 0)":                   "int(NaN) does not fit",
		"int(9223372036854775808.0)":         "int(9.223372036854776e+18) does not fit",
		"sum([i, i, i])":                     "8000000000000000000 + 4000000000000000000 does not fit",
		"sum(1..3, # > 0 ? i : 0)":           "8000000000000000000 + 4000000000000000000 does not fit",
		"int(sum([[i, i, i][0], i, i]))":     "does not fit",
		"int(reduce(1..3, #acc * i, 1))":     "4000000000000000000 * 4000000000000000000 does not fit",
		"int([i, 1.5][0] * [i, 's'][0])":     "4000000000000000000 * 4000000000000000000 does not fit",
		"(duration('2000000h') * 2).Hours()": "7200000000000000000 * 2 does not fit",
		"count(1..3, # * i > 0)":             "does not fit",
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			schema := evaluator(t, "b ? 1 : 0", strings.ReplaceAll(expression, "b1", "x0"))
			columns := row(schema, 4e18, 1.5, true, "GET", time.UnixMicro(0))
			columns.Cells[5] = append(columns.Cells[5], 1)
			cell, err := schema.Attributes[schema.Index("x1")].Derive(columns, 0)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %d and %v, want the error %s", cell, err, want)
			}
		})
	}
}

func TestExpressions_AnOperandCanGuardAnOverflow(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{"i < 100 && i * i < 100", "not (i > 100 || i * i > 100)", "i < 100 ? i * i < 100 : false"} {
		schema := evaluator(t, expression)
		columns := row(schema, math.MaxInt64, 0, true, "", time.UnixMicro(0))
		if cell, err := schema.Attributes[5].Derive(columns, 0); cell != 0 || err != nil {
			t.Errorf("%s: got %d, %v, want false", expression, cell, err)
		}
	}
}

// Integers are exact or refused: never anything else.
func TestExpressions_ComputeAsBigIntegersDo(t *testing.T) {
	t.Parallel()
	operators := map[string]func(z, a, b *big.Int) *big.Int{"+": (*big.Int).Add, "-": (*big.Int).Sub, "*": (*big.Int).Mul}
	schemas := map[string]*event.Schema{}
	for symbol := range operators {
		// Of the event's two integers, the second is a time, in milliseconds.
		schemas[symbol] = evaluator(t, "i "+symbol+" at", "let x = i; x "+symbol+" at", "int([i][0] "+symbol+" [at][0])")
	}
	whole := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 31, 1 << 32, -1 << 32}))
	rapid.Check(t, func(t *rapid.T) {
		a, b := whole.Draw(t, "a"), rapid.Int64Range(-1<<53, 1<<53).Draw(t, "b")
		for symbol, of := range operators {
			want := of(new(big.Int), big.NewInt(a), big.NewInt(b))
			schema := schemas[symbol]
			columns := row(schema, a, 0, false, "", time.UnixMilli(b))
			for _, x := range schema.Attributes[5:] {
				cell, err := x.Derive(columns, 0)
				if (err == nil) != want.IsInt64() || err == nil && int64(cell) != want.Int64() {
					t.Errorf("%d %s %d: got %d, %v, want %s", a, symbol, b, cell, err, want)
				}
			}
		}
	})
}

func TestLoad_RefusesConstantsBeyond64Bits(t *testing.T) {
	t.Parallel()
	_, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte("stream: s\nattributes: {i: int}\nderived: {x: i + 9223372036854775807 * 2}\n")}})
	if want := `s.yaml:3: derived "x": 9223372036854775807 * 2 does not fit into an integer of 64 bits`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The dead letter says which expression it was.
func TestDecode_RejectsAnEventWhoseExpressionOverflows(t *testing.T) {
	t.Parallel()
	catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte(`
stream: s
attributes: {n: int}
derived: {half: n * 500}
aggregations:
  A: {select: {squares: sum(n * n)}, every: hours}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"n": 4000000000}`:        "n * n: 4000000000 * 4000000000 does not fit into an integer of 64 bits",
		`{"n": -9007199254740991}`: "n * n: -9007199254740991 * -9007199254740991 does not fit into an integer of 64 bits",
		`{"n": 3000000000}`:        "",
	} {
		var d event.Decoder
		columns := event.NewColumns(catalog.Stream("s"), event.NewDictionary())
		_, rejects, err := d.Decode(event.Body{Data: []byte(text)}, event.Origin{Stored: 1}, columns)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(rejects) > 0 {
			got = rejects[0].Reason
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
