package definition

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
)

// eventValue resolves the number that an event rule compares. Of the events of a second the
// one that breaks the bound most is told.
func (v *variant) eventValue(rule *alert.Rule, c *alert.Case, from *evidence) {
	value := v.its.figure("value")
	if !value.given() { // reported
		return
	}
	at, kind, err := from.streams[0].resolveRule(value.Value)
	switch {
	case err != nil:
		v.within("value").reportAt(value.Node, err)
		return
	case !kind.Numeric():
		v.bad(value.Node, "value must be a number, %s is %s", value.Value, kind)
	}
	rule.Value = at
	merge := alert.Max
	if rule.Below {
		merge = alert.Min
	}
	c.Inputs[0].Values, c.Merges = []int{at}, []alert.Merge{merge}
	c.Compute = func(_ float64, values []float64) (float64, bool) { return values[0], true }
}

// windowValue makes a case compute an expression over an aggregation's measures, or the ratio of two.
func (v *variant) windowValue(c *alert.Case, from *evidence) {
	m := &measures{def: from.def, c: c, at: map[string]int{}}
	compile := func(name string) computed {
		s := v.its.figure(name)
		if !s.given() { // reported, or of another type
			return nil
		}
		f, err := m.compile(s.Value)
		if err != nil {
			v.within("%s", name).bad(s.Node, "%v", err)
		}
		return f
	}
	value := compile("value")
	if part, of := compile("part"), compile("of"); part != nil && of != nil {
		value = quotient(part, of)
	}
	if value == nil {
		return
	}
	c.Compute = func(n float64, values []float64) (float64, bool) {
		result := value(n, values)
		return result, !math.IsNaN(result) && !math.IsInf(result, 0)
	}
}

// computed is a number that is computed of a window: of the number of its events, and their
// merged values. NaN: there is none, and then there is none of all that is computed of it.
type computed = func(n float64, values []float64) float64

func quotient(a, b computed) computed {
	return func(n float64, values []float64) float64 {
		by := b(n, values)
		if by == 0 {
			return math.NaN()
		}
		return a(n, values) / by
	}
}

// measures are those of an aggregation that expressions name.
type measures struct {
	def *aggregation.Definition
	c   *alert.Case
	at  map[string]int // by name: which of the merged values it is
}

// compile reads an expression of measures, numbers, + - * / and parentheses.
func (m *measures) compile(text string) (computed, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("the expression is empty")
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, readable(err)
	}
	named := false
	f, err := m.node(tree.Node, &named)
	if err == nil && !named {
		err = errors.New("the expression names no measure" + m.known(""))
	}
	return f, err
}

func (m *measures) known(name string) string {
	var names []string
	for _, measure := range m.def.Measures {
		names = append(names, measure.Name)
	}
	return suggest(name, names)
}

func (m *measures) node(n ast.Node, named *bool) (computed, error) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return func(float64, []float64) float64 { return float64(n.Value) }, nil
	case *ast.FloatNode:
		return func(float64, []float64) float64 { return n.Value }, nil
	case *ast.IdentifierNode:
		*named = true
		at := slices.IndexFunc(m.def.Measures, func(of aggregation.Measure) bool { return of.Name == n.Value })
		if at < 0 {
			return nil, fmt.Errorf("column %d: aggregation %s has no measure %q%s", n.Location().From+1, m.def.Name, n.Value, m.known(n.Value))
		}
		return m.use(m.def.Measures[at], at)
	case *ast.UnaryNode:
		f, err := m.node(n.Node, named)
		switch {
		case err != nil:
			return nil, err
		case n.Operator == "-":
			return func(n float64, values []float64) float64 { return -f(n, values) }, nil
		case n.Operator == "+":
			return f, nil
		}
	case *ast.BinaryNode:
		a, err := m.node(n.Left, named)
		if err != nil {
			return nil, err
		}
		b, err := m.node(n.Right, named)
		if err != nil {
			return nil, err
		}
		switch n.Operator {
		case "+":
			return func(n float64, values []float64) float64 { return a(n, values) + b(n, values) }, nil
		case "-":
			return func(n float64, values []float64) float64 { return a(n, values) - b(n, values) }, nil
		case "*":
			return func(n float64, values []float64) float64 { return a(n, values) * b(n, values) }, nil
		case "/":
			return quotient(a, b), nil
		}
	}
	return nil, fmt.Errorf("column %d: an expression here has measures of %s, numbers, + - * / and parentheses only", n.Location().From+1, m.def.Name)
}

// use makes a measure part of the evidence. An average is the sum by the number of events; what
// cannot be merged over steps of time is refused.
func (m *measures) use(measure aggregation.Measure, at int) (computed, error) {
	merge := alert.Sum
	switch measure.Op {
	case aggregation.Count:
		return func(n float64, _ []float64) float64 { return n }, nil
	case aggregation.Sum, aggregation.Avg:
	case aggregation.Min:
		merge = alert.Min
	case aggregation.Max:
		merge = alert.Max
	case aggregation.Last, aggregation.First, aggregation.Distinct, aggregation.Quantile, aggregation.Deviation:
		return nil, fmt.Errorf("%s is %s(%s), which a sliding window cannot hold: use one that is count, sum, avg, min or max", measure.Name, measure.Function(), measure.Arg)
	}
	if !measure.ArgKind.Numeric() {
		return nil, fmt.Errorf("%s is the %s of a %s: it must be of a number", measure.Name, measure.Function(), measure.ArgKind)
	}
	i, ok := m.at[measure.Name]
	if !ok {
		i = len(m.c.Merges)
		m.at[measure.Name] = i
		m.c.Merges = append(m.c.Merges, merge)
		for s, in := range m.def.Inputs {
			m.c.Inputs[s].Values = append(m.c.Inputs[s].Values, in.Args[at])
		}
	}
	return func(n float64, values []float64) float64 {
		switch {
		case measure.Op == aggregation.Sum:
			return values[i]
		case n == 0: // of no events there is no average, nor a least one
			return math.NaN()
		case measure.Op == aggregation.Avg:
			return values[i] / n
		}
		return values[i]
	}, nil
}
