package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/query"
)

// askAll asks all panels of a page at once, as many as there are slots, and
// shows their answers in order.
func (d *dashboard) askAll(ctx context.Context, p *page, s scope) []panelView {
	views := make([]panelView, len(p.panels))
	for i, asked := range d.ask(ctx, p, s) {
		views[i] = <-asked
	}
	return views
}

// ask asks the panels in order, as many at once as there are slots. Each of them
// is shown in its channel, also where ctx ends.
func (d *dashboard) ask(ctx context.Context, p *page, s scope) []chan panelView {
	s.contexts = sync.OnceValues(func() ([]string, error) { return d.contexts(ctx, s) })
	views := make([]chan panelView, len(p.panels))
	for i := range views {
		views[i] = make(chan panelView, 1)
	}
	go func() {
		for i := range views {
			select {
			case d.slots <- struct{}{}:
			case <-ctx.Done():
				views[i] <- d.failed(ctx, &p.panels[i], s, ctx.Err())
				continue
			}
			go func() {
				defer func() { <-d.slots }()
				views[i] <- d.show(ctx, &p.panels[i], s)
			}()
		}
	}()
	return views
}

// anything reports whether there is any call in the scope; where that is not
// known the panels say why.
func (d *dashboard) anything(ctx context.Context, s scope) bool {
	p := panel{form: tiles, of: outcomes, columns: []column{callsColumn()}}
	view := newPanelView(&p)
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return d.fill(ctx, &p, s, &view) != nil || !view.Empty
}

// show asks one panel and shows the answer, or why there is none.
func (d *dashboard) show(ctx context.Context, p *panel, s scope) panelView {
	view := newPanelView(p)
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if err := d.fill(ctx, p, s, &view); err != nil {
		return d.failed(ctx, p, s, err)
	}
	return view
}

// failed shows why a panel has no answer.
func (d *dashboard) failed(ctx context.Context, p *panel, s scope, err error) panelView {
	if errors.Is(err, context.DeadlineExceeded) {
		err = &query.Error{Status: 504, Detail: fmt.Sprintf("This took more than %v and was given up. A shorter range, or a coarser granularity, takes less.", d.timeout)}
	}
	view := newPanelView(p)
	view.Problem = d.sentence(ctx, s.path, err)
	return view
}

func (d *dashboard) fill(ctx context.Context, p *panel, s scope, view *panelView) error {
	q, err := d.question(p, s)
	if err != nil {
		return err
	}
	view.CSV = q.csv()
	if q.none {
		return nil
	}
	if p.over() && p.group != "" {
		if err := d.largest(ctx, p, q); err != nil || q.none {
			return err
		}
	}
	answer, err := d.answer(ctx, q)
	if err != nil {
		return err
	}
	switch {
	case p.over():
		view.overTime(p, s, q, answer)
	case p.form == tiles:
		view.tiles(p, answer)
	default:
		view.table(p, s, q, answer)
	}
	return nil
}

// question is what a panel asks of package query.
type question struct {
	of     *aggregation.Definition
	per    aggregation.Granularity
	values url.Values
	where  []string
	rows   int               // of a page of a table
	from   int               // first row of it
	none   bool              // there is nothing to ask about
	names  map[string]string // of the values of a group that have others than themselves
}

// question puts a panel's question together for the scope.
func (d *dashboard) question(p *panel, s scope) (*question, error) {
	q := &question{values: url.Values{}}
	if q.of = d.definition(p.of); q.of == nil {
		return nil, &query.Error{Status: 404, Detail: "The definitions that are in use have no " + p.of + ", which this is made of."}
	}
	q.per = keptBy(q.of, s.Per)
	if err := q.filter(p, s); err != nil {
		return nil, err
	}
	selected := make([]string, 0, len(p.columns)+2)
	group := p.group
	if p.over() {
		selected, group = append(selected, "bucket"), "bucket"
		if p.group != "" {
			selected, group = append(selected, p.group+" as series"), "bucket, "+p.group
		}
	}
	for _, c := range p.columns {
		selected = append(selected, cmp.Or(c.ask, c.name)+" as "+c.name)
	}
	q.values.Set("within", s.within())
	q.values.Set("per", q.per.String())
	q.values.Set("select", strings.Join(selected, ", "))
	q.values.Set("group_by", group)
	q.set("having", p.having)
	if p.form == table {
		return q, q.page(p, s)
	}
	if p.over() {
		q.set("order_by", "bucket")
	}
	return q, nil
}

func (q *question) set(name, value string) {
	if value != "" {
		q.values.Set(name, value)
	}
}

// page orders a table and takes one page of it, as the address says.
func (q *question) page(p *panel, s scope) error {
	q.rows = cmp.Or(p.limit, 10)
	order := p.order
	if by := s.value("sort." + p.id); by != "" {
		name, descending := strings.CutPrefix(by, "-")
		for _, c := range p.columns {
			if c.name == name {
				order = name + " asc"
				if descending {
					order = name + " desc"
				}
			}
		}
	}
	n, err := strconv.Atoi(cmp.Or(s.value("page."+p.id), "1"))
	if err != nil || n < 1 || n > 100_000 {
		return &query.Error{Status: 400, Detail: "There is no such page of this table."}
	}
	q.from = (n - 1) * q.rows
	q.set("order_by", order)
	q.values.Set("offset", strconv.Itoa(q.from))
	q.values.Set("limit", strconv.Itoa(q.rows+1)) // one more tells that there is another page
	return nil
}

// largest narrows a question over time to the values of its group that have
// the most in the whole range.
func (d *dashboard) largest(ctx context.Context, p *panel, q *question) error {
	values := url.Values{
		"within": q.values["within"], "per": q.values["per"], "group_by": {p.group}, "limit": {strconv.Itoa(cmp.Or(p.limit, 6))},
		"select":   {p.group + " as series, " + cmp.Or(p.columns[0].ask, p.columns[0].name) + " as most, " + cmp.Or(p.as, p.group) + " as title"},
		"order_by": {cmp.Or(p.order, "most desc")},
	}
	if where := q.values.Get("where"); where != "" {
		values.Set("where", where)
	}
	answer, err := d.answer(ctx, &question{of: q.of, values: values})
	if err != nil {
		return err
	}
	var names []string
	q.names = map[string]string{}
	for _, row := range answer.Rows {
		title := words(row[2])
		if slices.Contains(slices.Collect(maps.Values(q.names)), title) {
			title += " (" + words(row[0]) + ")" // another of the same name
		}
		q.names[words(row[0])] = title
		if name, ok := row[0].(string); ok {
			names = append(names, strconv.Quote(name))
		} else {
			names = append(names, fmt.Sprint(row[0]))
		}
	}
	q.none = len(names) == 0
	if !q.none {
		q.where = append(q.where, p.group+" in ["+strings.Join(names, ", ")+"]")
		q.values.Set("where", strings.Join(q.where, " and "))
	}
	return nil
}

func (d *dashboard) answer(ctx context.Context, q *question) (*query.Answer, error) {
	parsed, err := query.Parse(d.Catalog, q.of.Name, q.values)
	if err != nil {
		return nil, err
	}
	return parsed.Ask(ctx, d.DB)
}

// csv is where the HTTP API gives the whole answer as CSV.
func (q *question) csv() string {
	values := url.Values{"format": {"csv"}}
	for name, value := range q.values {
		if name != "limit" && name != "offset" {
			values[name] = value
		}
	}
	return "/api/v1/aggregations/" + url.PathEscape(q.of.Name) + "?" + values.Encode()
}

func (d *dashboard) definition(name string) *aggregation.Definition {
	for _, def := range d.Catalog.Aggregations {
		if def.Name == name {
			return def
		}
	}
	return nil
}

// keptBy is the granularity, or the next coarser one that the aggregation keeps.
func keptBy(def *aggregation.Definition, g aggregation.Granularity) aggregation.Granularity {
	for _, kept := range def.Granularities {
		if kept >= g {
			return kept
		}
	}
	return def.Granularities[len(def.Granularities)-1]
}

// kept is for how long rows of each granularity are kept by all aggregations.
func (d *dashboard) kept() map[aggregation.Granularity]time.Duration {
	least := map[aggregation.Granularity]time.Duration{}
	for _, def := range d.Catalog.Aggregations {
		for _, g := range def.Granularities {
			long := def.Retention[g]
			if long == aggregation.Forever {
				long = 1<<63 - 1
			}
			if had, ok := least[g]; !ok || long < had {
				least[g] = long
			}
		}
	}
	return least
}

// elsewhere is the address of the same page over the time that there are events
// of; "" where there are none at all.
func (d *dashboard) elsewhere(ctx context.Context, s scope) string {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	def := d.definition(traffic)
	if def == nil {
		return ""
	}
	for _, per := range []aggregation.Granularity{aggregation.Days, aggregation.Months, aggregation.Years} {
		first, last := d.edge(ctx, def, per, "asc"), d.edge(ctx, def, per, "desc")
		if !first.IsZero() && !last.IsZero() {
			last = time.UnixMicro(per.Next(last.UnixMicro(), time.UTC)).UTC()
			return s.here("last", "", "per", "", "from", stamp(first), "to", stamp(last))
		}
	}
	return ""
}

// edge is the first or last bucket that has events; zero where there is none.
func (d *dashboard) edge(ctx context.Context, def *aggregation.Definition, per aggregation.Granularity, direction string) time.Time {
	answer, err := d.answer(ctx, &question{of: def, values: url.Values{
		"within": {"1971-01-01,2200-01-01"}, "per": {keptBy(def, per).String()}, "group_by": {"bucket"}, "select": {"bucket"},
		"order_by": {"bucket " + direction}, "limit": {"1"},
	}})
	if err != nil || len(answer.Rows) == 0 {
		return time.Time{}
	}
	text, _ := answer.Rows[0][0].(string)
	t, _ := time.Parse(time.RFC3339Nano, text) // zero, where it is none
	return t
}

// stamp is a time as addresses have it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
