package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/store"
)

// column is one column of an aggregation's natural rows.
type column struct {
	name  string
	kind  event.Kind
	field store.Field
	// sketched says that the column has a value only for a whole group: see
	// aggregation.Measure.Sketched.
	sketched bool
}

func (c column) expr() store.Expr {
	return store.Expr{Op: store.OpField, Kind: c.kind, Field: c.field}
}

// shardColumn is the column of shards, which an aggregation has by partition_by_id.
const shardColumn = "shard_id"

// columns are all columns of an aggregation: bucket, keys, measures, shard_id.
type columns struct {
	aggregation string
	joined      string // the joined aggregation; "" for none
	all         []column
	// hints say of names in lower case that are no columns why they are not.
	hints map[string]string
}

func columnsOf(def *aggregation.Definition) columns {
	all := []column{{name: "bucket", kind: event.Time, field: store.Field{Role: store.BucketField}}}
	for i, key := range def.Keys {
		all = append(all, column{name: key.Name, kind: key.Kind, field: store.Field{Role: store.KeyField, Index: i}})
	}
	for i, m := range def.Measures {
		all = append(all, column{m.Name, m.Kind(), store.Field{Role: store.MeasureField, Index: i}, m.Sketched()})
	}
	cs := columns{aggregation: def.Name, all: all}
	if def.PartitionByID {
		cs.all = append(cs.all, shardOf())
	} else {
		cs.hints = map[string]string{shardColumn: withoutShards(def)}
	}
	return cs
}

func shardOf() column {
	return column{name: shardColumn, kind: event.String, field: store.Field{Role: store.ShardField}}
}

func withoutShards(def *aggregation.Definition) string {
	return def.Name + " has no column " + shardColumn + ", because its partition_by_id is false; set it to true and `weir apply`, and the rows that are there have it too"
}

// of returns the field's column.
func (cs columns) of(f store.Field) column {
	return cs.all[slices.IndexFunc(cs.all, func(c column) bool { return c.field == f })]
}

// find returns the named column; a name in another case is found where it is
// clear.
func (cs columns) find(name string) (column, bool) {
	var found []column
	for _, c := range cs.all {
		if c.name == name {
			return c, true
		}
		if strings.EqualFold(c.name, name) {
			found = append(found, c)
		}
	}
	if len(found) == 1 {
		return found[0], true
	}
	return cs.qualified(name)
}

// column returns the named column as an expression.
func (cs columns) column(name string) (store.Expr, error) {
	c, ok := cs.find(name)
	if !ok {
		return store.Expr{}, cs.unknown(name)
	}
	return c.expr(), nil
}

func (cs columns) unknown(name string) error {
	bare := name[strings.LastIndex(name, ".")+1:]
	if hint, ok := cs.hints[strings.ToLower(bare)]; ok {
		return errors.New(hint)
	}
	names := make([]string, len(cs.all))
	for i, c := range cs.all {
		names[i] = c.name
	}
	who, its := cs.aggregation, "its"
	if cs.joined != "" {
		who, its = who+" joined with "+cs.joined, "the"
	}
	return fmt.Errorf("%s has no column %q%s; %s columns are %s",
		who, name, didYouMean(name, names), its, strings.Join(names, ", "))
}

// natural lists the columns that tell natural rows apart.
func (cs columns) natural(perShard bool) []store.Field {
	var fields []store.Field
	for _, c := range cs.all {
		switch c.field.Role {
		case store.BucketField, store.KeyField:
			fields = append(fields, c.field)
		case store.ShardField:
			if perShard {
				fields = append(fields, c.field)
			}
		case store.MeasureField:
		}
	}
	return fields
}

// example is a condition that could be asked for.
func (cs columns) example() string {
	for _, c := range cs.all {
		if c.kind == event.String {
			return c.name + ` == "…"`
		}
	}
	return "…"
}

// mentions reports whether a column of the role occurs in the expression.
func mentions(e *store.Expr, role store.Role) bool {
	found := false
	e.Walk(func(e *store.Expr, _ bool) {
		found = found || e.Op == store.OpField && e.Field.Role == role
	})
	return found
}

// sketched returns the first sketched column that the expression mentions.
func (cs columns) sketched(e *store.Expr) (name string, found bool) {
	e.Walk(func(e *store.Expr, _ bool) {
		if e.Op == store.OpField && !found {
			if c := cs.of(e.Field); c.sketched {
				name, found = c.name, true
			}
		}
	})
	return name, found
}

// mentionsShard reports whether the question so far has to do with shards.
func (p *parsing) mentionsShard() bool {
	found := mentions(p.plan.Where, store.ShardField) || mentions(p.plan.Having, store.ShardField) ||
		slices.ContainsFunc(p.plan.Group, func(f store.Field) bool { return f.Role == store.ShardField })
	for i := range p.plan.Select {
		found = found || mentions(&p.plan.Select[i], store.ShardField)
	}
	for i := range p.plan.Order {
		found = found || mentions(&p.plan.Order[i].By, store.ShardField)
	}
	return found
}

func hasFunction(e *store.Expr) bool {
	found := false
	e.Walk(func(e *store.Expr, _ bool) { found = found || e.Op.Aggregates() })
	return found
}

// kindName names a kind in a sentence.
func kindName(kind event.Kind) string {
	switch kind {
	case event.String:
		return "a text"
	case event.Int, event.Float:
		return "a number"
	case event.Bool:
		return "true or false"
	case event.Time:
		return "a time"
	}
	return "nothing"
}

// didYouMean is ", did you mean X?" with the name nearest to a wrong one, or
// nothing where none is near.
func didYouMean(wrong string, names []string) string {
	best, least := "", max(2, len(wrong)/3)+1
	if len(wrong) == 1 { // one letter is near to any other
		return ""
	}
	for _, name := range names {
		if d := distance(strings.ToLower(wrong), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance is the number of letters to insert, remove or replace to make b
// of a.
func distance(a, b string) int {
	if len(a) > 100 { // not a misspelt name
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
