package definition

import (
	"github.com/expr-lang/expr/ast"

	"weir/pkg/event"
)

// A node is an expression as a chain of Go functions over cells. Most
// expressions of a definition are a name, a constant, a call of one name, or
// comparisons of integers; as a chain they cost a tenth of what the virtual
// machine needs, and no memory. Their meaning is the same to the last bit:
// whatever could differ (floats, division, concatenation) is left to the
// machine.
type node struct {
	kind event.Kind
	cell func(c *event.Columns, row int) event.Cell
}

// direct translates a checked expression, or reports that it cannot.
func (l *language) direct(n ast.Node, attributes []event.Attribute, index map[string]int) (node, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		at, ok := index[n.Value]
		if !ok { // a let variable
			return node{}, false
		}
		return attributeNode(attributes[at].Kind, at)
	case *ast.IntegerNode:
		return constantNode(event.Int, event.Cell(n.Value)), true
	case *ast.BoolNode:
		return constantNode(event.Bool, event.BoolCell(n.Value)), true
	case *ast.StringNode:
		return textNode(n.Value)
	case *ast.UnaryNode:
		return l.unary(n, attributes, index)
	case *ast.BinaryNode:
		left, ok := l.direct(n.Left, attributes, index)
		if !ok {
			return node{}, false
		}
		right, ok := l.direct(n.Right, attributes, index)
		if !ok || left.kind != right.kind {
			return node{}, false
		}
		return binary(n.Operator, left.kind, left.cell, right.cell)
	case *ast.ConditionalNode:
		return l.conditional(n, attributes, index)
	case *ast.CallNode:
		return l.call(n, attributes, index)
	}
	return node{}, false
}

func attributeNode(kind event.Kind, at int) (node, bool) {
	switch kind {
	case event.Float:
		return node{}, false
	case event.Time:
		return node{event.Int, func(c *event.Columns, row int) event.Cell { return milliseconds(c.Cells[at][row]) }}, true
	case event.String, event.Int, event.Bool:
	}
	return node{kind, func(c *event.Columns, row int) event.Cell { return c.Cells[at][row] }}, true
}

func constantNode(kind event.Kind, cell event.Cell) node {
	return node{kind, func(*event.Columns, int) event.Cell { return cell }}
}

func textNode(text string) (node, bool) {
	return node{event.String, func(c *event.Columns, _ int) event.Cell { return c.Dict.Intern(text) }}, storable(text)
}

func (l *language) unary(n *ast.UnaryNode, attributes []event.Attribute, index map[string]int) (node, bool) {
	inner, ok := l.direct(n.Node, attributes, index)
	if !ok {
		return node{}, false
	}
	f := inner.cell
	switch {
	case (n.Operator == "not" || n.Operator == "!") && inner.kind == event.Bool:
		return node{event.Bool, func(c *event.Columns, row int) event.Cell { return 1 - f(c, row) }}, true
	case n.Operator == "-" && inner.kind == event.Int:
		return node{event.Int, func(c *event.Columns, row int) event.Cell { return -f(c, row) }}, true
	}
	return node{}, false
}

// binary joins two operands of one kind. Texts of one dictionary are equal
// exactly when their cells are.
func binary(operator string, kind event.Kind, l, r func(*event.Columns, int) event.Cell) (node, bool) {
	compare := func(holds func(a, b event.Cell) bool) (node, bool) {
		return node{event.Bool, func(c *event.Columns, row int) event.Cell {
			return event.BoolCell(holds(l(c, row), r(c, row)))
		}}, true
	}
	switch operator {
	case "==":
		return compare(func(a, b event.Cell) bool { return a == b })
	case "!=":
		return compare(func(a, b event.Cell) bool { return a != b })
	}
	if kind == event.Bool {
		switch operator {
		case "&&", "and":
			return node{kind, func(c *event.Columns, row int) event.Cell { return l(c, row) & r(c, row) }}, true
		case "||", "or":
			return node{kind, func(c *event.Columns, row int) event.Cell { return l(c, row) | r(c, row) }}, true
		}
	}
	if kind != event.Int {
		return node{}, false
	}
	switch operator {
	case "<":
		return compare(func(a, b event.Cell) bool { return a < b })
	case "<=":
		return compare(func(a, b event.Cell) bool { return a <= b })
	case ">":
		return compare(func(a, b event.Cell) bool { return a > b })
	case ">=":
		return compare(func(a, b event.Cell) bool { return a >= b })
	case "+":
		return node{kind, func(c *event.Columns, row int) event.Cell { return l(c, row) + r(c, row) }}, true
	case "-":
		return node{kind, func(c *event.Columns, row int) event.Cell { return l(c, row) - r(c, row) }}, true
	case "*":
		return node{kind, func(c *event.Columns, row int) event.Cell { return l(c, row) * r(c, row) }}, true
	}
	return node{}, false
}

func (l *language) conditional(n *ast.ConditionalNode, attributes []event.Attribute, index map[string]int) (node, bool) {
	when, ok := l.direct(n.Cond, attributes, index)
	if !ok || when.kind != event.Bool {
		return node{}, false
	}
	then, ok := l.direct(n.Exp1, attributes, index)
	if !ok {
		return node{}, false
	}
	other, ok := l.direct(n.Exp2, attributes, index)
	if !ok || then.kind != other.kind {
		return node{}, false
	}
	return node{then.kind, func(c *event.Columns, row int) event.Cell {
		if when.cell(c, row) != 0 {
			return then.cell(c, row)
		}
		return other.cell(c, row)
	}}, true
}

func (l *language) call(n *ast.CallNode, attributes []event.Attribute, index map[string]int) (node, bool) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok || len(n.Arguments) != 1 {
		return node{}, false
	}
	function := l.functions[callee.Value]
	argument, ok := l.direct(n.Arguments[0], attributes, index)
	if function == nil || !ok || argument.kind != event.String {
		return node{}, false
	}
	return node{event.String, func(c *event.Columns, row int) event.Cell {
		return c.Dict.Intern(function.get(c.Dict.Text(argument.cell(c, row))))
	}}, true
}
