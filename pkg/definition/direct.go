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
	cell evaluate
	// constant is its cell, if that is the same for every row; attribute is the
	// index of the one that it is, + 1. Knowing either spares calls.
	constant  *event.Cell
	attribute int
}

// evaluate computes a cell of one row. It fails where an integer would leave 64
// bits.
type evaluate = func(c *event.Columns, row int) (event.Cell, error)

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
		return l.binary(n, attributes, index)
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
		return node{kind: event.Int, cell: func(c *event.Columns, row int) (event.Cell, error) { return milliseconds(c.Cells[at][row]), nil }}, true
	case event.String, event.Int, event.Bool:
	}
	return node{kind: kind, attribute: at + 1, cell: func(c *event.Columns, row int) (event.Cell, error) { return c.Cells[at][row], nil }}, true
}

func constantNode(kind event.Kind, cell event.Cell) node {
	return node{kind: kind, constant: &cell, cell: func(*event.Columns, int) (event.Cell, error) { return cell, nil }}
}

func textNode(text string) (node, bool) {
	return node{kind: event.String, cell: func(c *event.Columns, _ int) (event.Cell, error) { return c.Dict.Intern(text), nil }}, storable(text)
}

func (l *language) unary(n *ast.UnaryNode, attributes []event.Attribute, index map[string]int) (node, bool) {
	inner, ok := l.direct(n.Node, attributes, index)
	if !ok {
		return node{}, false
	}
	if n.Operator != "not" && n.Operator != "!" || inner.kind != event.Bool {
		return node{}, false
	}
	return node{kind: event.Bool, cell: func(c *event.Columns, row int) (event.Cell, error) {
		v, err := inner.cell(c, row)
		return 1 - v, err
	}}, true
}

// binary joins two operands of one kind. Texts of one dictionary are equal
// exactly when their cells are.
func (l *language) binary(n *ast.BinaryNode, attributes []event.Attribute, index map[string]int) (node, bool) {
	left, ok := l.direct(n.Left, attributes, index)
	if !ok {
		return node{}, false
	}
	right, ok := l.direct(n.Right, attributes, index)
	if !ok || left.kind != right.kind {
		return node{}, false
	}
	compare := func(holds func(a, b event.Cell) bool) (node, bool) {
		if at := left.attribute - 1; at >= 0 && right.constant != nil {
			b := *right.constant
			return node{kind: event.Bool, cell: func(c *event.Columns, row int) (event.Cell, error) {
				return event.BoolCell(holds(c.Cells[at][row], b)), nil
			}}, true
		}
		return both(event.Bool, left.cell, right.cell, func(a, b event.Cell) (event.Cell, error) {
			return event.BoolCell(holds(a, b)), nil
		}), true
	}
	switch n.Operator {
	case "==":
		return compare(func(a, b event.Cell) bool { return a == b })
	case "!=":
		return compare(func(a, b event.Cell) bool { return a != b })
	}
	if left.kind == event.Bool {
		switch n.Operator {
		case "&&", "and":
			return shortened(0, left.cell, right.cell), true
		case "||", "or":
			return shortened(1, left.cell, right.cell), true
		}
	}
	if left.kind != event.Int {
		return node{}, false
	}
	switch n.Operator {
	case "<":
		return compare(func(a, b event.Cell) bool { return a < b })
	case "<=":
		return compare(func(a, b event.Cell) bool { return a <= b })
	case ">":
		return compare(func(a, b event.Cell) bool { return a > b })
	case ">=":
		return compare(func(a, b event.Cell) bool { return a >= b })
	}
	return node{}, false
}

// both computes from two operands.
func both(kind event.Kind, l, r evaluate, of func(a, b event.Cell) (event.Cell, error)) node {
	return node{kind: kind, cell: func(c *event.Columns, row int) (event.Cell, error) {
		a, err := l(c, row)
		if err != nil {
			return 0, err
		}
		b, err := r(c, row)
		if err != nil {
			return 0, err
		}
		return of(a, b)
	}}
}

// shortened asks the right operand only if the left one does not decide: so an
// operand can guard another that fails.
func shortened(decides event.Cell, l, r evaluate) node {
	return node{kind: event.Bool, cell: func(c *event.Columns, row int) (event.Cell, error) {
		if v, err := l(c, row); err != nil || v == decides {
			return v, err
		}
		return r(c, row)
	}}
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
	if then.constant != nil && other.constant != nil {
		return choice(then.kind, when.cell, *then.constant, *other.constant), true
	}
	return node{kind: then.kind, cell: func(c *event.Columns, row int) (event.Cell, error) {
		holds, err := when.cell(c, row)
		switch {
		case err != nil:
			return 0, err
		case holds != 0:
			return then.cell(c, row)
		}
		return other.cell(c, row)
	}}, true
}

// choice is the conditional of two constants.
func choice(kind event.Kind, when evaluate, then, other event.Cell) node {
	return node{kind: kind, cell: func(c *event.Columns, row int) (event.Cell, error) {
		holds, err := when(c, row)
		if holds != 0 {
			return then, err
		}
		return other, err
	}}
}

func (l *language) call(n *ast.CallNode, attributes []event.Attribute, index map[string]int) (node, bool) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return node{}, false
	}
	arguments := make([]node, len(n.Arguments))
	for i := range arguments {
		if arguments[i], ok = l.direct(n.Arguments[i], attributes, index); !ok {
			return node{}, false
		}
	}
	if o, ok := operationOf(callee.Value); ok {
		return o.direct(arguments)
	}
	function := l.functions[callee.Value]
	if function == nil || len(arguments) != 1 || arguments[0].kind != event.String {
		return node{}, false
	}
	argument, remembered := arguments[0].cell, &function.TextFunc
	return node{kind: event.String, cell: func(c *event.Columns, row int) (event.Cell, error) {
		text, err := argument(c, row)
		if err != nil {
			return 0, err
		}
		return c.Dict.Apply(remembered, text), nil
	}}, true
}

// direct is the operation as a node.
func (o operation) direct(operands []node) (node, bool) {
	if len(operands) == 1 {
		operands = append([]node{constantNode(event.Int, 0)}, operands...)
	}
	if operands[0].kind != event.Int || operands[1].kind != event.Int {
		return node{}, false
	}
	return both(event.Int, operands[0].cell, operands[1].cell, o.apply), true
}
