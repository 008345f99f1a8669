package store

import (
	"fmt"
	"slices"
	"strings"

	"weir/pkg/event"
)

// shape is what questions have in common that differ only in which text one of their group keys is to be, as those about one API or another: they read
// the same rows, and Postgres reads them once for all of them.
type shape struct {
	question Question // without the condition on the key, and without limits
	key      Field
	limit    int // negative: none
	offset   int
}

// shape returns what others may have in common with the question, and what is its own. It is false where nothing is: the question has to be
// asked as it is.
func (q *Question) shape() (s shape, want string, ok bool) {
	if q.Where == nil {
		return s, "", false
	}
	s = shape{question: *q, limit: q.Limit, offset: q.Offset}
	s.question.Limit, s.question.Offset = -1, 0
	rest, key, want, ok := without(q.Where)
	s.question.Where, s.key = rest, key
	return s, want, ok
}

// without takes the first condition that a group key is a text out of what must all hold.
func without(e *Expr) (rest *Expr, key Field, want string, ok bool) {
	switch e.Op {
	case OpEqual:
		field, constant := e.Args[0], e.Args[1]
		if field.Op == OpConstant {
			field, constant = constant, field
		}
		text, isText := constant.Value.(string)
		if field.Op == OpField && field.Field.Role == KeyField && field.Kind == event.String && constant.Op == OpConstant && isText {
			return nil, field.Field, text, true
		}
	case OpAnd:
		for i := range e.Args {
			left, key, want, ok := without(&e.Args[i])
			if !ok {
				continue
			}
			all := slices.Delete(slices.Clone(e.Args), i, i+1)
			if left != nil {
				all = slices.Insert(all, i, *left)
			}
			if len(all) == 1 {
				return &all[0], key, want, true
			}
			return &Expr{Op: OpAnd, Kind: event.Bool, Args: all}, key, want, true
		}
	default:
	}
	return nil, Field{}, "", false
}

// of is the question for these texts; the last column says which.
func (s *shape) of(wanted []string) *Question {
	q := s.question
	key := Expr{Op: OpField, Kind: event.String, Field: s.key}
	among := Expr{Op: OpIn, Kind: event.Bool, Args: []Expr{key}}
	for _, text := range wanted {
		among.Args = append(among.Args, Expr{Op: OpConstant, Kind: event.String, Value: text})
	}
	if q.Where == nil {
		q.Where = &among
	} else {
		q.Where = &Expr{Op: OpAnd, Kind: event.Bool, Args: []Expr{among, *q.Where}}
	}
	if !slices.Contains(q.Group, s.key) {
		q.Group = append(slices.Clone(q.Group), s.key)
	}
	q.Select = append(slices.Clone(q.Select), key)
	return &q
}

// within hands on the rows that the question's own limits let through.
func (s *shape) within(row func([]any) error) func([]any) error {
	n := 0
	return func(values []any) error {
		if n++; n <= s.offset || s.limit >= 0 && n > s.offset+s.limit {
			return nil
		}
		return row(values)
	}
}

// identity is the same for two questions if their answers from one snapshot are. Ranges that hold the same buckets are the same.
func (q *Question) identity() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d %d %t %d %d", q.Aggregation.ID(), q.Per,
		q.Per.Ceil(q.From, q.Aggregation.Zone), q.Per.Ceil(q.Until, q.Aggregation.Zone), q.PerShard, q.Limit, q.Offset)
	if j := q.Join; j != nil {
		fmt.Fprintf(&b, " join %s %v %t %t", j.With.ID(), j.Keys, j.NeedFirst, j.NeedSecond) // fmt sorts the keys
	}
	fmt.Fprintf(&b, " group %v where", q.Group)
	q.Where.write(&b)
	b.WriteString(" having")
	q.Having.write(&b)
	for i := range q.Select {
		q.Select[i].write(&b)
	}
	for i := range q.Order {
		fmt.Fprintf(&b, " order %t", q.Order[i].Descending)
		q.Order[i].By.write(&b)
	}
	return b.String()
}

// write writes all of the expression, with the types of its constants.
func (e *Expr) write(b *strings.Builder) {
	if e == nil {
		b.WriteString(" none")
		return
	}
	fmt.Fprintf(b, " (%d %d %v %T %q", e.Op, e.Kind, e.Field, e.Value, fmt.Sprint(e.Value))
	for i := range e.Args {
		e.Args[i].write(b)
	}
	b.WriteString(")")
}
