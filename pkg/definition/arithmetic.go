package definition

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/vm/runtime"

	"weir/pkg/event"
)

// The integers of expr-lang wrap around silently. Before an expression is
// compiled, checked therefore replaces what can leave 64 bits (+, -, *, sum,
// abs, and int of a number that is none) by calls of functions that fail
// instead, so that the event is rejected.

// An operation is one of these functions, on integers.
type operation struct {
	symbol string
	of     func(a, b int64) (result int64, ok bool)
}

// operations lists those of two operands, and of one (a is 0).
func operations() []operation {
	return []operation{{"+", plus}, {"-", minus}, {"*", times}, {"negate", minus}}
}

func plus(a, b int64) (int64, bool) {
	c := a + b
	return c, (c > a) == (b > 0) // where b is 0, neither holds
}

func minus(a, b int64) (int64, bool) {
	c := a - b
	return c, (c < a) == (b > 0)
}

func times(a, b int64) (int64, bool) {
	high, low := bits.Mul64(uint64(a), uint64(b))
	high -= uint64(a>>63)&uint64(b) + uint64(b>>63)&uint64(a) // of the signed product
	c := int64(low)
	return c, int64(high) == c>>63
}

// apply is one operation on cells; the error names the operands.
func (o operation) apply(a, b event.Cell) (event.Cell, error) {
	if c, ok := o.of(int64(a), int64(b)); ok {
		return event.Cell(c), nil
	}
	return 0, o.overflow(int64(a), int64(b))
}

func (o operation) overflow(a, b int64) error {
	if o.symbol == "negate" {
		return fmt.Errorf("-(%d) does not fit into an integer of 64 bits", b)
	}
	return fmt.Errorf("%d %s %d does not fit into an integer of 64 bits", a, o.symbol, b)
}

// operationOf returns the operation that a call of checked stands for, if its
// operands are known to be integers.
func operationOf(name string) (operation, bool) {
	for _, o := range operations() {
		if name == typed(o.symbol, reflect.TypeFor[int]()) {
			return o, true
		}
	}
	return operation{}, false
}

// typed is the name of the function that stands for the symbol and gives the
// type. It has a space: nobody can write it.
func typed(symbol string, result reflect.Type) string {
	if result == nil {
		result = reflect.TypeFor[any]()
	}
	return result.String() + " " + symbol
}

// arithmetic declares the functions that checked calls.
func arithmetic() []expr.Option {
	functions := map[string]func(args ...any) (any, error){"sum": sumOf, "abs": absOf, "int": intOf}
	for _, o := range operations() {
		functions[o.symbol] = o.run
	}
	var options []expr.Option
	for symbol, f := range functions {
		options = append(options,
			expr.Function(typed(symbol, reflect.TypeFor[int]()), f, new(func(...any) int)),
			expr.Function(typed(symbol, reflect.TypeFor[time.Duration]()), f, new(func(...any) time.Duration)),
			expr.Function(typed(symbol, nil), f, new(func(...any) any)))
	}
	return options
}

// run is the operation on what expr-lang has at run time, of any type; only
// integers and durations are checked.
func (o operation) run(args ...any) (any, error) {
	if o.symbol == "negate" {
		if b, ok := integer(args[0]); ok && b == math.MinInt64 {
			return nil, o.overflow(0, b)
		}
		return runtime.Negate(args[0]), nil
	}
	if a, ok := integer(args[0]); ok {
		if b, ok := integer(args[1]); ok {
			if _, ok := o.of(a, b); !ok {
				return nil, o.overflow(a, b)
			}
		}
	}
	switch o.symbol {
	case "+":
		return runtime.Add(args[0], args[1]), nil
	case "-":
		return runtime.Subtract(args[0], args[1]), nil
	}
	return runtime.Multiply(args[0], args[1]), nil
}

func integer(v any) (int64, bool) {
	if n, ok := v.(int); ok {
		return int64(n), true
	}
	if r := reflect.ValueOf(v); r.IsValid() && r.CanInt() {
		return r.Int(), true
	}
	return 0, false
}

func sumOf(args ...any) (any, error) {
	list := reflect.ValueOf(args[0])
	if k := list.Kind(); k != reflect.Slice && k != reflect.Array {
		return nil, fmt.Errorf("sum needs a list, it got %v", args[0])
	}
	add := operation{"+", plus}
	var total any = 0
	for i := range list.Len() {
		var err error
		if total, err = add.run(total, list.Index(i).Interface()); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func absOf(args ...any) (any, error) {
	if n, ok := integer(args[0]); ok && n == math.MinInt64 {
		return nil, fmt.Errorf("abs(%d) does not fit into an integer of 64 bits", n)
	}
	return builtin.Abs(args[0]), nil
}

func intOf(args ...any) (any, error) {
	if f, ok := args[0].(float64); ok && !(f >= -1<<63 && f < 1<<63) { // no number is neither
		return nil, fmt.Errorf("int(%v) does not fit into an integer of 64 bits", f)
	}
	return builtin.Int(args[0]), nil
}

// checked is the visitor that puts the calls in.
type checked struct {
	err error // of constants that leave 64 bits, which no event could mend
}

func (v *checked) Visit(n *ast.Node) {
	switch x := (*n).(type) {
	case *ast.UnaryNode:
		if x.Operator == "-" {
			v.replace(n, operation{"negate", minus}, x.Node)
		}
	case *ast.BinaryNode:
		for _, o := range operations() {
			if x.Operator == o.symbol {
				v.replace(n, o, x.Left, x.Right)
			}
		}
	case *ast.BuiltinNode:
		switch {
		case x.Name == "abs" || x.Name == "int" && x.Arguments[0].Type() != reflect.TypeFor[int]():
			putCall(n, x.Name, x.Arguments...)
		case x.Name == "sum" && len(x.Arguments) == 1:
			putCall(n, x.Name, x.Arguments[0])
		case x.Name == "sum":
			list := &ast.BuiltinNode{Name: "map", Arguments: x.Arguments}
			list.SetLocation(x.Location())
			putCall(n, x.Name, list)
		}
	}
}

// replace puts the call of an operation, or what it gives of constants, for n.
func (v *checked) replace(n *ast.Node, o operation, operands ...ast.Node) {
	var values [2]int64 // of one operand, the second
	for i, operand := range operands {
		constant, ok := operand.(*ast.IntegerNode)
		if !ok {
			putCall(n, o.symbol, operands...)
			return
		}
		values[2-len(operands)+i] = int64(constant.Value)
	}
	result, err := o.apply(event.Cell(values[0]), event.Cell(values[1]))
	v.err = errors.Join(v.err, err)
	folded := &ast.IntegerNode{Value: int(result)}
	folded.SetType(reflect.TypeFor[int]())
	ast.Patch(n, folded)
}

// putCall puts a call for n where it gives an integer or a duration, or may.
func putCall(n *ast.Node, symbol string, args ...ast.Node) {
	result := (*n).Type()
	switch {
	case result == reflect.TypeFor[int](), result == reflect.TypeFor[time.Duration]():
	case result == nil || result.Kind() == reflect.Interface:
		result = nil
	default:
		return
	}
	callee := &ast.IdentifierNode{Value: typed(symbol, result)}
	callee.SetLocation((*n).Location())
	ast.Patch(n, &ast.CallNode{Callee: callee, Arguments: args})
}
