// Package query answers questions about aggregations: over HTTP ([NewHandler]),
// from Go ([Client]) and on the command line.
//
// A question names an aggregation, an interval (within) and a granularity
// (per). It is about the aggregation's natural rows: one for each bucket and
// each value of the group keys, merged over all shards. [Parse] checks a
// question against the definitions and says in a sentence what would be right
// where it is wrong; [Question.Ask] has package store answer it from one
// snapshot of the database.
//
// # Parameters
//
//	within    START,END: buckets that start in [START, END). Each is RFC 3339,
//	          2006-01-02 15:04:05[.000][ +05:30] (UTC without offset), a date, or
//	          epoch milliseconds. Or one text with wildcards: 2019-06-** **:**:**
//	per       granularity: seconds, minutes, hours, days, months, years
//	join      another aggregation, whose rows are asked together: see Joins
//	join_type full (default), inner, left or right: which rows of the answer
//	          stay where one of the two aggregations has no events
//	select    columns, fn(column), and arithmetic on them, each with an optional
//	          name: bucket, sum(totalRequestCount) as total. fn is sum, min, max,
//	          avg, count or last, over natural rows
//	where     condition on natural rows
//	group_by  columns to group natural rows by; empty for one row over all
//	having    condition on rows of the answer
//	order_by  terms with asc or desc; then by bucket and keys
//	limit, offset
//	time      rfc3339 (default) or ms: how times are written
//
// Without select the answer has the bucket, the keys and the measures; with
// group_by, what is grouped by and the measures.
//
// In a grouped question a bare measure is merged from its parts: an average is
// the sum over all events divided by their number, a last value is that of the
// newest event, a quantile or distinct count that of all events. A bare column that is not grouped by shows its value in the
// newest row. sum(avgX), on the other hand, adds the natural rows' averages,
// because a function is over natural rows; max(p95) is the greatest of theirs.
// Bare, a quantile costs little; in a function, or in the where of a grouped
// question, it is computed for every natural row. If select has a function and there
// is no group_by, the selected bucket, shard_id and keys are grouped by.
//
// The name of an aggregation may be followed by a version, as in Calls@1, where
// its definition changed so much that the rows from before stay apart.
//
// shard_id is a column as well; a question that mentions it is about natural
// rows that are kept apart by shard.
//
// # Joins
//
// With join a natural row has the measures of two aggregations. Its keys are
// the group keys that have one name and one type in both; those that only one
// of them has are no columns. Measures of the joined aggregation are written
// after its name, those of the first may be:
//
//	GET /api/v1/aggregations/ApiVersionPerAppAgg?join=ApiFaultyInvocationAgg&per=hours&within=…
//	    &group_by=bucket,apiContext
//	    &select=bucket, apiContext, ApiFaultyInvocationAgg.totalFaultCount / totalRequestCount as error_rate
//
// Where one of the two has nothing for a row, its counts and sums are 0, its
// distinct counts too, and its other measures null. All else is as for one
// aggregation: bare measures are merged from their parts, on either side.
package query

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/pkg/store"
)

// Question is a question that was understood. It is immutable.
type Question struct {
	// Columns are the names of the answer's columns.
	Columns []string

	plan   store.Question
	millis bool // times are written as epoch milliseconds
}

// parameters are those of a question, in the order of the package comment.
func parameters() []string {
	return []string{"within", "per", "join", "join_type", "select", "where", "group_by", "having", "order_by", "limit", "offset", "time"}
}

// Parse reads a question to the named aggregation. Its errors are of type
// *[Error], a sentence for the person who asked.
func Parse(catalog *definition.Catalog, name string, values url.Values) (*Question, error) {
	def, err := find(catalog, name)
	if err != nil {
		return nil, wrong(err)
	}
	p := &parsing{values: values}
	p.plan.Aggregation = def
	join := func() error { return p.join(catalog) }
	for _, step := range []func() error{
		p.known, join, p.interval, p.selection, p.conditions, p.order, p.natural, p.page,
	} {
		if err := step(); err != nil {
			return nil, wrong(err)
		}
	}
	return &Question{Columns: p.names, plan: p.plan, millis: p.millis}, nil
}

func find(catalog *definition.Catalog, name string) (*aggregation.Definition, error) {
	var names []string
	for _, def := range catalog.Aggregations {
		if strings.EqualFold(def.Name, name) || strings.EqualFold(def.Versioned(), name) {
			return def, nil
		}
		names = append(names, def.Name)
	}
	for _, def := range slices.Backward(catalog.Earlier) { // the last version of what is not defined any more
		if strings.EqualFold(def.Name, name) || strings.EqualFold(def.Versioned(), name) {
			return def, nil
		}
	}
	return nil, fmt.Errorf("there is no aggregation %q%s; GET /api/v1/aggregations lists them", name, didYouMean(name, names))
}

// parsing is a question under construction.
type parsing struct {
	columns columns
	values  url.Values
	plan    store.Question
	names   []string
	millis  bool
	grouped bool // not about natural rows as they are
}

func (p *parsing) known() error {
	for name, given := range p.values {
		if !slices.Contains(parameters(), name) {
			return fmt.Errorf("there is no parameter %q%s; a question has %s (write & in a condition as %%26, or as and)",
				name, didYouMean(name, parameters()), strings.Join(parameters(), ", "))
		}
		if len(given) > 1 {
			return fmt.Errorf("%s is given %d times; give it once, with commas where it is a list", name, len(given))
		}
	}
	return nil
}

func (p *parsing) interval() error {
	var err error
	if p.plan.From, p.plan.Until, err = parseWithin(p.values.Get("within")); err != nil {
		return err
	}
	defs := []*aggregation.Definition{p.plan.Aggregation}
	list := bothKeep(defs[0], nil)
	if p.plan.Join != nil {
		defs = append(defs, p.plan.Join.With)
		list = bothKeep(defs[0], defs[1])
	}
	per := p.values.Get("per")
	if per == "" {
		return fmt.Errorf("per is missing: give the granularity; %s", list)
	}
	if p.plan.Per, err = aggregation.ParseGranularity(per); err != nil {
		return fmt.Errorf("per: %q is no granularity; %s", per, list)
	}
	for _, def := range defs {
		if !def.Keeps(p.plan.Per) {
			return fmt.Errorf("per: %s does not keep %s; %s", def.Name, p.plan.Per, list)
		}
	}
	return nil
}

// selection reads select and group_by, which decide together what a column
// means.
func (p *parsing) selection() error {
	items, err := p.items()
	if err != nil {
		return err
	}
	functions := false
	for _, item := range items {
		p.plan.Select = append(p.plan.Select, item.expr)
		p.names = append(p.names, item.name)
		functions = functions || hasFunction(&item.expr)
	}
	for i, name := range p.names {
		if slices.Contains(p.names[:i], name) {
			return fmt.Errorf("select: two columns are called %s; give one of them another name with as", name)
		}
	}
	switch {
	case p.values.Has("group_by"):
		return p.groupBy(items)
	case functions:
		p.grouped = true
		for _, item := range items {
			if f := item.expr.Field; item.expr.Op == store.OpField && f.Role != store.MeasureField {
				p.plan.Group = append(p.plan.Group, f)
			}
		}
	}
	return nil
}

func (p *parsing) groupBy(items []item) error {
	p.grouped = true
	for _, text := range split(p.values.Get("group_by")) {
		e, err := p.columns.column(text)
		if err != nil {
			return fmt.Errorf("group_by: %w", err)
		}
		if name, ok := p.columns.sketched(&e); ok {
			return fmt.Errorf("group_by: %s has a value only when rows are merged, so they cannot be grouped by it", name)
		}
		if !slices.Contains(p.plan.Group, e.Field) {
			p.plan.Group = append(p.plan.Group, e.Field)
		}
	}
	if len(items) > 0 {
		return nil
	}
	for _, f := range p.plan.Group {
		p.add(f)
	}
	p.addMeasures()
	return nil
}

// addMeasures selects the measures that are not selected yet.
func (p *parsing) addMeasures() {
	for _, c := range p.columns.all {
		if c.field.Role == store.MeasureField && !slices.Contains(p.plan.Group, c.field) {
			p.add(c.field)
		}
	}
}

// add selects a column.
func (p *parsing) add(f store.Field) {
	c := p.columns.of(f)
	p.plan.Select = append(p.plan.Select, c.expr())
	p.names = append(p.names, c.name)
}

func (p *parsing) conditions() error {
	var err error
	if p.plan.Where, err = p.condition("where", compiler{columns: p.columns}); err != nil {
		return err
	}
	p.plan.Having, err = p.condition("having", p.overGroups())
	return err
}

func (p *parsing) condition(name string, c compiler) (*store.Expr, error) {
	text := strings.TrimSpace(p.values.Get(name))
	if text == "" {
		return nil, nil //nolint:nilnil // no condition
	}
	e, err := c.compile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if e.Kind != event.Bool {
		return nil, fmt.Errorf("%s: %s is %s, not a condition; compare it, for example %s", name, text, kindName(e.Kind), p.columns.example())
	}
	return &e, nil
}

func and(a, b *store.Expr) *store.Expr {
	if b == nil {
		return a
	}
	return &store.Expr{Op: store.OpAnd, Kind: event.Bool, Args: []store.Expr{*a, *b}}
}

// overGroups compiles what is evaluated per row of the answer: the names that
// select gave come before those of columns.
func (p *parsing) overGroups() compiler {
	c := compiler{columns: p.columns, functions: p.grouped, aliases: map[string]store.Expr{}}
	for i, name := range p.names {
		c.aliases[name] = p.plan.Select[i]
	}
	return c
}

func (p *parsing) order() error {
	c := p.overGroups()
	for _, text := range split(p.values.Get("order_by")) {
		by, descending := cutDirection(text)
		e, err := c.compile(by)
		if err != nil {
			return fmt.Errorf("order_by: %w", err)
		}
		p.plan.Order = append(p.plan.Order, store.Order{By: e, Descending: descending})
	}
	return nil
}

// natural makes a question about natural rows as they are one that groups by
// all they have, and adds to the order what makes it the same every time.
func (p *parsing) natural() error {
	p.plan.PerShard = p.mentionsShard()
	if !p.grouped {
		p.plan.Group = p.columns.natural(p.plan.PerShard)
		if len(p.plan.Select) == 0 {
			for _, f := range p.columns.natural(false) {
				p.add(f)
			}
			p.addMeasures()
		}
		if mentions(p.plan.Where, store.MeasureField) { // a row is a group now
			p.plan.Where, p.plan.Having = nil, and(p.plan.Where, p.plan.Having)
		}
	}
	rest := slices.Clone(p.plan.Group)
	slices.SortStableFunc(rest, func(a, b store.Field) int { return rank(a) - rank(b) })
	for _, f := range rest {
		p.plan.Order = append(p.plan.Order, store.Order{By: p.columns.of(f).expr()})
	}
	return nil
}

// rank puts the bucket before all else.
func rank(f store.Field) int {
	if f.Role == store.BucketField {
		return 0
	}
	return 1
}

func (p *parsing) page() error {
	var err error
	if p.plan.Limit, err = p.number("limit", -1); err != nil {
		return err
	}
	if p.plan.Offset, err = p.number("offset", 0); err != nil {
		return err
	}
	switch format := p.values.Get("time"); format {
	case "", "rfc3339":
	case "ms":
		p.millis = true
	default:
		return fmt.Errorf("time: %q is no format; it is rfc3339 or ms", format)
	}
	return nil
}

func (p *parsing) number(name string, missing int) (int, error) {
	text := p.values.Get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is no number of rows; it is 0, 1, 2, …", name, text)
	}
	return n, nil
}
