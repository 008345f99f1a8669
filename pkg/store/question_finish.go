package store

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// finishing is how a question about sketched measures of groups is answered;
// those of natural rows, inside a function or a condition on rows, SQL has to
// finish by itself, which takes a hundred times as long. SQL only
// joins their sketches; their values, and everything that is computed from
// them, or filtered or sorted by them, is made here, in Go, from what an
// auxiliary question selects. A question without sketches is its own auxiliary
// question, and nothing is left to do.
type finishing struct {
	sql    Question
	column []evaluate // by column of the answer; nil: as selected
	having evaluate   // nil: SQL filters
	order  []ordering // empty: SQL sorts
	limit  int        // negative: none, or SQL limits
	offset int
}

// evaluate computes a value from a row of the auxiliary question.
type evaluate func(row []any) any

type ordering struct {
	by         evaluate
	descending bool
}

// sketched reports whether the expression is a bare sketched measure.
func (q *Question) sketched(e *Expr) bool {
	return e.Op == OpField && e.Field.Role == MeasureField && q.measure(e.Field).Sketched()
}

// finished reports whether the expression has to be computed in Go: a sketched
// measure that is not the operand of a function is in it.
func (q *Question) finished(e *Expr) bool {
	found := false
	e.Walk(func(e *Expr, inside bool) { found = found || !inside && q.sketched(e) })
	return found
}

func (q *Question) finishing() *finishing {
	f := &finishing{sql: *q, limit: -1}
	inGo := func(e *Expr) bool { return q.finished(e) }
	sorts := slices.ContainsFunc(q.Order, func(o Order) bool { return inGo(&o.By) })
	if !slices.ContainsFunc(q.overGroups(), inGo) {
		return f
	}
	f.sql.Select = nil
	for i := range q.Select {
		f.column = append(f.column, f.compile(&q.Select[i]))
	}
	if q.Having != nil && inGo(q.Having) {
		f.sql.Having, f.having = nil, f.compile(q.Having)
	}
	if sorts {
		for i := range q.Order {
			f.order = append(f.order, ordering{f.compile(&q.Order[i].By), q.Order[i].Descending})
		}
		f.sql.Order = nil
	}
	if sorts || f.having != nil {
		f.limit, f.offset = q.Limit, q.Offset
		f.sql.Limit, f.sql.Offset = -1, 0
	}
	return f
}

// compile has SQL compute what is free of sketches, and the rest here. That
// is about numbers and conditions: no sketched measure has another kind.
func (f *finishing) compile(e *Expr) evaluate {
	switch {
	case e.Op == OpConstant:
		return func([]any) any { return e.Value }
	case !f.sql.finished(e) || e.Op == OpField:
		f.sql.Select = append(f.sql.Select, *e)
		i := len(f.sql.Select) - 1
		return func(row []any) any { return row[i] }
	}
	args := make([]evaluate, len(e.Args))
	for i := range e.Args {
		args[i] = f.compile(&e.Args[i])
	}
	return func(row []any) any {
		values := make([]any, len(args))
		for i, arg := range args {
			values[i] = arg(row)
		}
		return compute(e, values)
	}
}

// errEnough ends the reading of rows.
var errEnough = errors.New("no more rows are wanted")

// each calls row for each row of the answer. A question sorted by a sketched
// measure has its whole answer in memory, before the limit.
func (f *finishing) each(rows *sql.Rows, row func([]any) error) error {
	if f.column == nil {
		return eachRow(rows, &f.sql, row)
	}
	var unsorted []sortable
	err := eachRow(rows, &f.sql, func(selected []any) error {
		if f.having != nil && f.having(selected) != true {
			return nil
		}
		values := make([]any, len(f.column))
		for i, column := range f.column {
			values[i] = column(selected)
		}
		if f.order == nil {
			return f.page(values, row)
		}
		keys := make([]any, len(f.order))
		for i := range f.order {
			keys[i] = f.order[i].by(selected)
		}
		unsorted = append(unsorted, sortable{keys, values})
		return nil
	})
	slices.SortStableFunc(unsorted, f.compare)
	for i := 0; i < len(unsorted) && err == nil; i++ {
		err = f.page(unsorted[i].values, row)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

type sortable struct{ keys, values []any }

func (f *finishing) compare(a, b sortable) int {
	for i, o := range f.order {
		x, y := a.keys[i], b.keys[i]
		switch {
		case x == nil && y == nil:
			continue
		case x == nil:
			return 1 // absent values come last, whatever the direction
		case y == nil:
			return -1
		}
		c := compare(x, y)
		if o.descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// page passes on the rows that the limit and the offset let through.
func (f *finishing) page(values []any, row func([]any) error) error {
	switch {
	case f.limit == 0:
		return errEnough
	case f.offset > 0:
		f.offset--
		return nil
	case f.limit > 0:
		f.limit--
	}
	return row(values)
}

// finish turns joined sketches into the measure's value. No sketches at all
// are no value; sketches of nothing are a distinct count of 0.
func finish(m aggregation.Measure, raw any) (any, error) {
	if raw == nil {
		return nil, nil
	}
	blocks, ok := raw.([]byte)
	if !ok {
		return nil, fmt.Errorf("unexpected %T for a sketch", raw)
	}
	cell, ok, err := m.Finish(blocks)
	switch {
	case err != nil || !ok:
		return nil, err
	case m.Kind() == event.Int:
		return int64(cell), nil
	}
	return cell.Float(), nil
}

// compute does what SQL would do with the operands, absent ones included.
func compute(e *Expr, args []any) any {
	switch e.Op { //nolint:exhaustive // the rest is absent if an operand is
	case OpAnd, OpOr:
		decides := e.Op == OpOr // whichever operand is this, the outcome is
		switch {
		case args[0] == decides || args[1] == decides:
			return decides
		case args[0] == nil || args[1] == nil:
			return nil
		}
		return !decides
	case OpIn:
		return among(args[0], args[1:])
	}
	if slices.Contains(args, nil) {
		return nil
	}
	switch e.Op { //nolint:exhaustive // the rest are comparisons
	case OpNot:
		return args[0] == false
	case OpNegate:
		return arithmetic(OpSubtract, e.Kind, int64(0), args[0])
	case OpAdd, OpSubtract, OpMultiply, OpDivide:
		return arithmetic(e.Op, e.Kind, args[0], args[1])
	}
	c := compare(args[0], args[1])
	switch e.Op { //nolint:exhaustive // nothing else is computed from numbers
	case OpEqual:
		return c == 0
	case OpNotEqual:
		return c != 0
	case OpLess:
		return c < 0
	case OpLessEqual:
		return c <= 0
	case OpGreater:
		return c > 0
	case OpGreaterEqual:
		return c >= 0
	}
	panic(fmt.Sprintf("store: op %d is not for sketched measures", e.Op))
}

func among(value any, list []any) any {
	if value == nil {
		return nil
	}
	var otherwise any = false
	for _, v := range list {
		switch {
		case v == nil:
			otherwise = nil
		case compare(value, v) == 0:
			return true
		}
	}
	return otherwise
}

func arithmetic(op Op, kind event.Kind, a, b any) any {
	if kind == event.Int {
		x, y, z := integer(a), integer(b), new(big.Int)
		switch op {
		case OpAdd:
			z.Add(x, y)
		case OpSubtract:
			z.Sub(x, y)
		default:
			z.Mul(x, y)
		}
		if z.IsInt64() {
			return z.Int64()
		}
		return z
	}
	x, y := float(a), float(b)
	switch op { //nolint:exhaustive // there are four
	case OpAdd:
		return x + y
	case OpSubtract:
		return x - y
	case OpMultiply:
		return x * y
	}
	if y == 0 {
		return nil
	}
	return x / y
}

// compare orders two values of one kind, or two numbers.
func compare(a, b any) int {
	switch x := a.(type) {
	case string:
		return strings.Compare(x, fmt.Sprint(b))
	case bool:
		return cmp.Compare(fmt.Sprint(x), fmt.Sprint(b)) // false before true
	case time.Time:
		y, _ := b.(time.Time) // the kinds were checked
		return x.Compare(y)
	case float64:
		return cmp.Compare(x, float(b))
	}
	if y, ok := b.(float64); ok {
		return cmp.Compare(float(a), y)
	}
	return integer(a).Cmp(integer(b))
}

func integer(v any) *big.Int {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v)
	case *big.Int:
		return v
	}
	panic(fmt.Sprintf("store: %T is no integer", v))
}

func float(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f
	}
	panic(fmt.Sprintf("store: %T is no number", v))
}
