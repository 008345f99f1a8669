package dashboard

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"weir/pkg/query"
)

// filter is what a page can be narrowed to: a parameter of the address and the
// column that it is about.
type filter struct{ parameter, column, title, what string }

func filters() []filter {
	return []filter{
		{"tenant", "apiCreatorTenantDomain", "Tenant", "tenant"},
		{"api", "apiName", "API", "API"},
		{"version", "apiVersion", "Version", "version"},
		{"app", "applicationId", "Application", "application"},
	}
}

// filter narrows the question to what the scope is about.
//
// Aggregations that are grouped by the context of an API have its name, version
// and tenant only as last values, which costs much to ask for: there the
// contexts are found out first, from an aggregation with few groups.
func (q *question) filter(p *panel, s scope) error {
	if p.where != "" {
		q.where = append(q.where, p.where)
	}
	byContext := q.of.KeyIndex(contextKey) >= 0 && s.aboutAPIs() && s.contexts != nil
	if byContext {
		contexts, err := s.contexts()
		if err != nil {
			return err
		}
		if byContext = contexts != nil; byContext {
			q.where = append(q.where, contextKey+" in ["+strings.Join(contexts, ", ")+"]")
			q.none = len(contexts) == 0
		}
	}
	for _, f := range filters() {
		value := s.value(f.parameter)
		if value == "" || byContext && f.parameter != "app" {
			continue
		}
		if q.of.KeyIndex(f.column) < 0 && q.of.MeasureIndex(f.column) < 0 {
			return &query.Error{Status: 400, Detail: fmt.Sprintf("This is not counted by %s, so it cannot be shown for one alone.", f.what)}
		}
		q.where = append(q.where, f.column+" == "+strconv.Quote(value))
	}
	q.set("where", strings.Join(q.where, " and "))
	return nil
}

const (
	contextKey   = "apiContext"
	mostContexts = 100
	mostText     = 3000 // of a condition; package query reads no more than 4,096
)

// aboutAPIs reports whether the scope is narrowed to some APIs.
func (s *scope) aboutAPIs() bool {
	return s.value("api") != "" || s.value("version") != "" || s.value("tenant") != ""
}

// contexts are those of the APIs that the scope is about, quoted; nil where
// there are more than a condition can hold.
func (d *dashboard) contexts(ctx context.Context, s scope) ([]string, error) {
	def := d.definition(traffic)
	if def == nil {
		return nil, nil
	}
	var having []string
	for _, f := range filters() {
		if value := s.value(f.parameter); value != "" && f.parameter != "app" {
			having = append(having, f.column+" == "+strconv.Quote(value))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	answer, err := d.answer(ctx, &question{of: def, values: url.Values{
		"within": {s.within()}, "per": {keptBy(def, s.Per).String()}, "group_by": {contextKey}, "select": {contextKey},
		"having": {strings.Join(having, " and ")}, "limit": {strconv.Itoa(mostContexts + 1)},
	}})
	if err != nil || len(answer.Rows) > mostContexts {
		return nil, err
	}
	contexts, length := []string{}, 0
	for _, row := range answer.Rows {
		text, _ := row[0].(string)
		contexts = append(contexts, strconv.Quote(text))
		length += len(contexts[len(contexts)-1]) + 2
	}
	if length > mostText {
		return nil, nil
	}
	return contexts, nil
}
