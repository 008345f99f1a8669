package store

import (
	"fmt"
	"strings"

	"weir/pkg/event"
)

// row writes an expression over one natural row.
func (st *statement) row(e *Expr) string {
	return st.expr(e, func(f Field, _ event.Kind) string { return st.rowField(f) })
}

// group writes an expression over all natural rows of a group.
func (st *statement) group(e *Expr) string { return st.expr(e, st.groupField) }

// expr writes an expression; field says what a bare column means in it.
func (st *statement) expr(e *Expr, field func(Field, event.Kind) string) string {
	switch {
	case e.Op.Aggregates():
		return st.aggregate(e)
	case e.Op == OpField:
		return field(e.Field, e.Kind)
	case e.Op == OpConstant:
		return st.arg(e.Value, castType(e.Kind))
	}
	args := make([]string, len(e.Args))
	for i := range e.Args {
		args[i] = st.expr(&e.Args[i], field)
	}
	switch e.Op {
	case OpNot:
		return "(NOT " + args[0] + ")"
	case OpNegate:
		return "(- " + operand(args[0], e.Kind) + ")"
	case OpIn:
		if len(args) == 1 {
			return "false"
		}
		return fmt.Sprintf("(%s IN (%s))", args[0], strings.Join(args[1:], ", "))
	case OpContains:
		return fmt.Sprintf("(strpos(%s, %s) > 0)", args[0], args[1])
	case OpStartsWith:
		return fmt.Sprintf("starts_with(%s, %s)", args[0], args[1])
	case OpEndsWith:
		return fmt.Sprintf("(right(%s, length(%s)) = %[2]s)", args[0], args[1])
	case OpAnd, OpOr:
		return fmt.Sprintf("(%s %s %s)", args[0], infix(e.Op), args[1])
	case OpDivide:
		return fmt.Sprintf("(%s / NULLIF(%s, 0))", operand(args[0], e.Kind), operand(args[1], e.Kind))
	case OpAdd, OpSubtract, OpMultiply:
		return fmt.Sprintf("(%s %s %s)", operand(args[0], e.Kind), infix(e.Op), operand(args[1], e.Kind))
	default:
		return comparison(e, args[0], args[1])
	}
}

func comparison(e *Expr, a, b string) string {
	if e.Args[0].Kind != e.Args[1].Kind { // an Int and a Float
		a, b = operand(a, event.Float), operand(b, event.Float)
	}
	return fmt.Sprintf("(%s %s %s)", a, infix(e.Op), b)
}

func infix(op Op) string {
	switch op {
	case OpAnd:
		return "AND"
	case OpOr:
		return "OR"
	case OpEqual:
		return "="
	case OpNotEqual:
		return "<>"
	case OpLess:
		return "<"
	case OpLessEqual:
		return "<="
	case OpGreater:
		return ">"
	case OpGreaterEqual:
		return ">="
	case OpAdd:
		return "+"
	case OpSubtract:
		return "-"
	case OpMultiply:
		return "*"
	default:
		panic(fmt.Sprintf("store: op %d is not infix", op))
	}
}

// operand makes a number ready for arithmetic: integers are of any size, so
// that no sum or product of them overflows.
func operand(text string, kind event.Kind) string {
	if kind == event.Int {
		return text + "::numeric"
	}
	return text + "::float8"
}

// aggregate writes a function over natural rows.
func (st *statement) aggregate(e *Expr) string {
	if e.Op == OpCount {
		return "count(*)"
	}
	if f := e.Args[0].Field; st.question.merges(e) && f.Role == MeasureField {
		return st.measureField(f)
	}
	switch arg := st.row(&e.Args[0]); e.Op {
	case OpSum:
		return "sum(" + operand(arg, e.Kind) + ")"
	case OpAvg:
		return "avg(" + operand(arg, event.Float) + ")"
	case OpMin:
		return least("min", arg, e.Kind)
	case OpMax:
		return least("max", arg, e.Kind)
	case OpLast:
		return lastOf(arg, e.Kind)
	default:
		panic(fmt.Sprintf("store: op %d is no function", e.Op))
	}
}

// castType is the type of a value of the kind in an expression. Integers there
// are of any size.
func castType(kind event.Kind) string {
	switch kind {
	case event.String:
		return "text"
	case event.Int:
		return "numeric"
	case event.Float, event.Bool, event.Time:
	}
	return sqlType(kind)
}
