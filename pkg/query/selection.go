package query

import (
	"fmt"
	"regexp"
	"strings"

	"weir/pkg/store"
)

// item is one column of select.
type item struct {
	name string
	expr store.Expr
}

// items reads select.
func (p *parsing) items() ([]item, error) {
	c := compiler{columns: p.columns, functions: true}
	var items []item
	for _, text := range split(p.values.Get("select")) {
		what, name := cutName(text)
		e, err := c.compile(what)
		if err != nil {
			return nil, fmt.Errorf("select: %w", err)
		}
		if name == "" {
			name = p.columns.nameOf(&e, what)
		}
		items = append(items, item{name, e})
	}
	return items, nil
}

// cutName separates "sum(x) as total".
func cutName(text string) (what, name string) {
	if m := regexp.MustCompile(`(?is)^(.*\S)\s+as\s+([a-z_][a-z0-9_]*)$`).FindStringSubmatch(text); m != nil {
		return m[1], m[2]
	}
	return text, ""
}

// cutDirection separates "sum(x) desc".
func cutDirection(text string) (by string, descending bool) {
	if m := regexp.MustCompile(`(?is)^(.*\S)\s+(asc|desc)$`).FindStringSubmatch(text); m != nil {
		return m[1], strings.EqualFold(m[2], "desc")
	}
	return text, false
}

// nameOf names a column of the answer that was given no name: as the
// definition does, or as it was asked for.
func (cs columns) nameOf(e *store.Expr, text string) string {
	switch {
	case e.Op == store.OpField:
		return cs.of(e.Field).name
	case e.Op.Aggregates() && len(e.Args) == 1 && e.Args[0].Op == store.OpField:
		for name, op := range functions() {
			if op == e.Op {
				return name + "(" + cs.of(e.Args[0].Field).name + ")"
			}
		}
	}
	return text
}
