package vectors

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"weir/pkg/definition"
	"weir/pkg/query"
)

// parse reads the question as the HTTP API gets it.
func (q *question) parse(catalog *definition.Catalog) (*query.Question, error) {
	name := q.Aggregation
	switch {
	case name != "":
	case len(catalog.Aggregations) > 0:
		name = catalog.Aggregations[0].Name
	default:
		name = "stockAggregation"
	}
	values, err := url.ParseQuery(q.values().Encode())
	if err != nil {
		return nil, err
	}
	return query.Parse(catalog, name, values)
}

func (q *question) values() url.Values {
	values := url.Values{"time": {"ms"}}
	if q.Within != nil {
		var ends []string
		for _, end := range q.Within.AsWritten {
			ends = append(ends, fmt.Sprint(end))
		}
		values.Set("within", strings.Join(ends, ","))
	}
	if q.Per != nil {
		values.Set("per", fmt.Sprint(q.Per))
	}
	if f := q.Filter; f != nil {
		values.Set("where", columnName(f.Field)+" "+f.Op+" "+literal(f.Value))
	}
	if q.GroupBy != nil {
		var names []string
		for _, name := range *q.GroupBy {
			names = append(names, columnName(name))
		}
		values.Set("group_by", strings.Join(names, ","))
	}
	if items := q.items(); len(items) > 0 {
		values.Set("select", strings.Join(items, ", "))
	}
	if len(q.OrderBy) > 0 {
		var terms []string
		for _, term := range q.OrderBy {
			name, direction, _ := strings.Cut(term, " ")
			if q.place(name) < 0 { // else by the name that select gives
				name = columnName(name)
			}
			terms = append(terms, name+" "+direction)
		}
		values.Set("order_by", strings.Join(terms, ", "))
	}
	return values
}

func (q *question) items() []string {
	var items []string
	for _, name := range q.Columns {
		items = append(items, columnName(name))
	}
	for _, c := range q.Select {
		what := ""
		switch c.Fn {
		case "bucket_start":
			what = "bucket"
		case "col":
			what = columnName(c.arg())
		case "const":
			what = literal(c.Value)
		default:
			what = c.Fn + "(" + columnName(c.arg()) + ")"
		}
		items = append(items, what+" as "+c.As)
	}
	return items
}

// columnName is Weir's name of a column.
func columnName(name string) string {
	if name == "AGG_TIMESTAMP" {
		return "bucket"
	}
	return name
}

func literal(value any) string {
	if text, ok := value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(value)
}

// place is where the named column is in a row; -1 if it is not selected.
func (q *question) place(name string) int {
	return slices.IndexFunc(q.Select, func(c column) bool { return c.As == name })
}

// want returns the rows that are right.
func (q *question) want() [][]any {
	if q.CorrectExpected != nil {
		return *q.CorrectExpected
	}
	return q.Expected
}

// wrong says how the rows differ from those that are right; "" where they do
// not. Rows that the question does not order may come in any order.
func (q *question) wrong(got [][]any) string {
	want := q.want()
	if q.RowCount != nil && len(got) != *q.RowCount {
		return fmt.Sprintf("%d rows, want %d", len(got), *q.RowCount)
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		for _, term := range q.OrderBy {
			name, _, _ := strings.Cut(term, " ")
			if at := q.place(name); at >= 0 && !same(got[i][at], want[i][at]) {
				return fmt.Sprintf("row %d is out of order by %s", i+1, name)
			}
		}
	}
	rest := slices.Clone(got)
	for _, row := range want {
		at := slices.IndexFunc(rest, func(r []any) bool { return q.sameRow(r, row) })
		if at < 0 {
			return fmt.Sprintf("no row %v", row)
		}
		rest = slices.Delete(rest, at, at+1)
	}
	return ""
}

func (q *question) sameRow(got, want []any) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		undetermined := i < len(q.Select) && slices.Contains(q.Undetermined, q.Select[i].As)
		if !undetermined && !same(got[i], want[i]) {
			return false
		}
	}
	return true
}

// same compares a cell of an answer with one of a vector: integers exactly,
// floats to 1e-12 of their size.
func same(got, want any) bool {
	number, ok := want.(json.Number)
	if !ok {
		return got == want
	}
	switch got := got.(type) {
	case int64:
		if n, err := number.Int64(); err == nil {
			return got == n
		}
		return near(float64(got), number)
	case *big.Int:
		return got.String() == number.String()
	case float64:
		return near(got, number)
	}
	return false
}

func near(got float64, number json.Number) bool {
	want, err := number.Float64()
	return err == nil && math.Abs(got-want) <= 1e-12*max(math.Abs(got), math.Abs(want))
}
