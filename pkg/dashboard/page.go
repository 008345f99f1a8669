package dashboard

import "context"

// page is one page: where it is, and what is on it, in order.
type page struct {
	path  string
	title string // in the navigation
	about string // what it answers, in a sentence
	last  string // the range where the address has none; "" is lastDefault
	// panels are what is asked.
	panels []panel
	// within is the page in the navigation that this one belongs to, where it has
	// no place of its own there: a path.
	within string
	// needs is a parameter without which the page is not about anything, and
	// otherwise the path of the page that is shown then.
	needs, otherwise string
	// template is the page's own; "" is "page", which shows the panels.
	template string
	// load returns what a template of its own needs besides (pageView.Body).
	load func(ctx context.Context, d *dashboard, s scope) (any, error)
}

// form is how an answer is shown.
type form string

const (
	tiles form = "tiles" // one row: a figure for each column
	table form = "table" // a row for each group; sorted, a page at a time
	lines form = "lines" // over time: a line for each column, or each value of group
	stack form = "stack" // over time: columns that add up, stacked
)

// panel is a question and the form of its answer.
type panel struct {
	id    string // in the address and the HTML
	title string
	about string // what the figures are, where the title does not say it
	form  form
	wide  bool // takes the whole width
	// The question: an aggregation, group_by, where, having and order_by, as
	// package query reads them. The columns are its select. What is over time is
	// grouped by its bucket as well.
	of, group, where, having, order string
	columns                         []column
	// as names the values of group in a chart, where they are ids; "" is group.
	as string
	// limit is how many rows a table has before it is continued on another page,
	// and how many values of group are drawn; 0 is 10 and 6.
	limit int
	// split are columns, by name, that each row shows side by side in one bar.
	split []string
}

// column is one column of a panel.
type column struct {
	name  string // in the address and in CSV
	ask   string // an expression; "" is the name
	title string
	unit  unit
	tone  tone
	bar   bool // with a bar as long as the number is large
	// hidden columns are asked for others' sake: links, and split bars.
	hidden bool
	to     *link // where a click on it goes
}

// tone is the meaning that a colour has.
type tone string

const (
	plain tone = ""
	good  tone = "good"
	warn  tone = "warn"
	bad   tone = "bad"
)

// link leads to a page about what a row is about: each parameter of the address
// gets what the named column has.
type link struct {
	path string
	set  map[string]string
}

// over reports whether the panel is over time.
func (p *panel) over() bool { return p.form == lines || p.form == stack }
