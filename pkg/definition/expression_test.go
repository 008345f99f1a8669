package definition_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"weir/pkg/definition"
	"weir/pkg/event"
)

// evaluator loads a stream of four attributes with one derived attribute for
// every expression, and returns its schema.
func evaluator(t testing.TB, expressions ...string) *event.Schema {
	t.Helper()
	var b strings.Builder
	b.WriteString("stream: s\nattributes: {i: int, f: float, b: bool, s: string, at: {type: time, unit: ms}}\nderived:\n")
	for i, e := range expressions {
		fmt.Fprintf(&b, "  x%d: %q\n", i, e)
	}
	catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte(b.String())}})
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Stream("s")
}

// row returns columns with one event.
func row(schema *event.Schema, i int64, f float64, b bool, s string, at time.Time) *event.Columns {
	c := event.NewColumns(schema, event.NewDictionary())
	c.Times = append(c.Times, at.UnixMicro())
	for k, cell := range []event.Cell{event.Cell(i), event.FloatCell(f), event.BoolCell(b), c.Dict.Intern(s), event.Cell(at.UnixMicro())} {
		c.Cells[k] = append(c.Cells[k], cell)
	}
	return c
}

func show(c *event.Columns, kind event.Kind, cell event.Cell) string {
	switch kind {
	case event.String:
		return fmt.Sprintf("%q", c.Dict.Text(cell))
	case event.Float:
		return fmt.Sprintf("%g", cell.Float())
	case event.Bool:
		return fmt.Sprint(cell != 0)
	case event.Int, event.Time:
	}
	return fmt.Sprint(int64(cell))
}

func TestExpressions_GiveValuesOfTheInferredKind(t *testing.T) {
	t.Parallel()
	at := time.Date(1969, 12, 31, 23, 59, 59, 999_500_000, time.UTC) // -500 µs
	for _, c := range []struct {
		expression string
		kind       event.Kind
		want       string
	}{
		{"i", event.Int, "503"},
		{"at", event.Time, "-500"},
		{"at + 0", event.Int, "-1"},
		{"at * 1.0", event.Float, "-1"},
		{"7", event.Int, "7"},
		{"-7", event.Int, "-7"},
		{"true", event.Bool, "true"},
		{"'None'", event.String, `"None"`},
		{"2.5", event.Float, "2.5"},
		{"f", event.Float, "1.5"},
		{"b ? 1 : 0", event.Int, "1"},
		{"not b ? 1 : 0", event.Int, "0"},
		{"i >= 500 && i < 600 ? 1 : 0", event.Int, "1"},
		{"i >= 200 and i < 300 or i == 503", event.Bool, "true"},
		{"i in 500..599", event.Bool, "true"},
		{"-i + 3 - 2 * i", event.Int, "-1506"},
		{"i <= 502 || i > 503 || i != 503", event.Bool, "false"},
		{"b == true", event.Bool, "true"},
		{"s == 'GET'", event.Bool, "true"},
		{"s != 'GET'", event.Bool, "false"},
		{"s == 'never seen'", event.Bool, "false"},
		{"b ? s : 'x'", event.String, `"GET"`},
		{"i * f", event.Float, "754.5"},
		{"f > 1", event.Bool, "true"},
		{"i / 2", event.Float, "251.5"},
		{"i % 100", event.Int, "3"},
		{"int(f)", event.Int, "1"},
		{"lower(s) + '-' + string(i)", event.String, `"get-503"`},
		{"len(s) + i", event.Int, "506"},
		{"let h = i * 2; h + 1", event.Int, "1007"},
		{"string(fromJSON('{\"region\": \"eu\"}').region ?? 'None')", event.String, `"eu"`},
		{"9223372036854775807", event.Int, "9223372036854775807"},
		{"os('')", event.String, `"Other"`},
		{"browser(s)", event.String, `"Other"`},
		{"country('192.0.2.1')", event.String, `"Unknown"`},
		{"city(s)", event.String, `"Unknown"`},
		{"template('/a/7?x')", event.String, `"/a/{id}"`},
		{"upper(browser(s))", event.String, `"OTHER"`},
	} {
		t.Run(c.expression, func(t *testing.T) {
			t.Parallel()
			schema := evaluator(t, c.expression)
			columns := row(schema, 503, 1.5, true, "GET", at)
			x := schema.Attributes[schema.Index("x0")]
			cell, err := x.Derive(columns, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(columns, x.Kind, cell); got != c.want || x.Kind != c.kind {
				t.Errorf("got %s %s, want %s %s", x.Kind, got, c.kind, c.want)
			}
		})
	}
}

func TestExpressions_RejectWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"f / 0":                         "the expression gave +Inf, which cannot be stored as float",
		"(f - f) / 0":                   "the expression gave NaN, which cannot be stored as float",
		"i % (i - 503)":                 "column 3: runtime error: integer divide by zero",
		"s + '\\x00'":                   `the expression gave "GÉT\x00", which cannot be stored as string`,
		"s[0:2]":                        `the expression gave "G\xc3", which cannot be stored as string`,
		"b ? nil : s":                   "the expression gave <nil>, which cannot be stored as string",
		"max(i, 504.5)":                 "the expression gave 504.5, which cannot be stored as int",
		"int(s)":                        "column 1: invalid operation: int(GÉT)",
		"string(fromJSON(s).x ?? 'no')": "column 8: invalid character 'G' looking for beginning of value",
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			schema := evaluator(t, expression)
			columns := row(schema, 503, 1.5, true, "GÉT", time.UnixMicro(0))
			cell, err := schema.Attributes[schema.Index("x0")].Derive(columns, 0)
			if err == nil || err.Error() != want {
				t.Errorf("got %d and %v, want the error %s", cell, err, want)
			}
		})
	}
}

func TestExpressions_MeanTheSameWithAndWithoutTheMachine(t *testing.T) {
	t.Parallel()
	// A let keeps an expression on the virtual machine.
	pairs := []string{
		"i + 2 * i - 1", "i < 0 ? -i : i", "i == 0 || i >= 7 && b", "not (b == (i != 7))",
		"s == 'a' ? s : 'b'", "s != 'a' ? 1 : i", "at - i", "at <= i", "i * i * i",
		"-(i - 1)", "i - -7 * 3", "b && i * i > 0", "b or i + i > 0", "b ? i * 2 : 0", "i + 9223372036854775000 - 9223372036854775000",
	}
	var expressions []string
	for _, e := range pairs {
		expressions = append(expressions, e, "let q = 0; "+e)
	}
	schema := evaluator(t, expressions...)
	for _, i := range []int64{0, 1, 7, -7, 200, 1 << 32, math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, math.MinInt64 + 1} {
		for _, s := range []string{"a", "", "b"} {
			for _, micro := range []int64{0, -1, 999, 1_700_000_000_000_001} {
				columns := row(schema, i, 0, i%2 == 0, s, time.UnixMicro(micro))
				for p, text := range pairs {
					fast, slow := schema.Attributes[5+2*p], schema.Attributes[6+2*p]
					got, err1 := fast.Derive(columns, 0)
					want, err2 := slow.Derive(columns, 0)
					if got != want || (err1 == nil) != (err2 == nil) || fast.Kind != slow.Kind || err1 != nil && !strings.HasSuffix(err2.Error(), err1.Error()) {
						t.Errorf("%s for i %d, s %q, at %d: got %d (%v), the machine gives %d (%v)", text, i, s, micro, got, err1, want, err2)
					}
				}
			}
		}
	}
}

func TestExpressions_MayRunOnManyGoroutines(t *testing.T) {
	t.Parallel()
	schema := evaluator(t, "lower(s) + string(i)", "browser(s)", "os(s)", "i * f", "b ? 1 : 0")
	const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range 200 {
				i := int64(worker*1000 + n)
				columns := row(schema, i, 0.5, n%2 == 0, chrome, time.UnixMicro(0))
				want := []string{
					fmt.Sprintf("%q", fmt.Sprint(strings.ToLower(chrome), i)), `"Chrome"`, `"Linux"`,
					fmt.Sprintf("%g", float64(i)/2), fmt.Sprint(1 - n%2),
				}
				for k, w := range want {
					x := schema.Attributes[5+k]
					cell, err := x.Derive(columns, 0)
					if got := show(columns, x.Kind, cell); err != nil || got != w {
						t.Errorf("x%d: got %s (%v), want %s", k, got, err, w)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestExpressions_EqualOnesShareOneHiddenAttribute(t *testing.T) {
	t.Parallel()
	catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte(`
stream: s
attributes: {price: float, quantity: int}
aggregations:
  A: {where: quantity > 1, select: {last: last(price * quantity), most: max( price * quantity )}, every: hours}
  B: {where: quantity > 1, select: {last: last(price)}, every: hours}
rules:
  r: {type: count, severity: 1, where: quantity > 1, window: 1 hour, more_than: 1, message: "{value} in {window}"}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range catalog.Stream("s").Attributes {
		got = append(got, a.Name+" "+a.Kind.String())
	}
	want := "price float, quantity int, =quantity > 1 bool, =price * quantity float"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
	for _, d := range []int{catalog.Aggregations[0].Inputs[0].Where, catalog.Aggregations[1].Inputs[0].Where, catalog.Rules[0].Cases[0].Where} {
		if d != 2 {
			t.Errorf("where is attribute %d, want 2", d)
		}
	}
}

func BenchmarkDerive(b *testing.B) {
	for _, expression := range []string{"b ? 1 : 0", "i >= 500 && i < 600 ? 1 : 0", "'default'", "i * i", "b ? i + 1 : 0", "browser(s)", "i * f"} {
		b.Run(expression, func(b *testing.B) {
			schema := evaluator(b, expression)
			columns := row(schema, 503, 1.5, true, "curl/8.1", time.UnixMicro(0))
			derive := schema.Attributes[5].Derive
			b.ReportAllocs()
			for b.Loop() {
				if _, err := derive(columns, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
