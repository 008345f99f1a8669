package dashboard

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/query"
)

// pageView is what the template of a page of its own shows.
type pageView struct {
	// Body is what the page has loaded, and Problem why that failed.
	Body    any
	Problem string
}

// nothing is shown where there is no call in the scope. Elsewhere is the address
// of the same page over the time that there are calls of; "" if there are none.
type nothing struct{ Elsewhere string }

// message is a page that only says something.
type message struct{ Title, Text string }

// panelView is one panel as its template shows it.
type panelView struct {
	ID, Title, About string
	Form             form
	Wide             bool
	Problem          string // why there is no answer
	Empty            bool
	Unit             unit // of what is over time
	Head             []headView
	Rows             []rowView
	Split            []headView // legend of split bars
	CSV              string
	Previous, Next   string // addresses of other pages of the table
	Place            string // which rows these are
	Partial          bool   // the last bucket is not over
}

// headView is the head of a column.
type headView struct {
	Title, Unit string
	Tone        tone
	Number, Bar bool
	Place       int    // among the series, from 1
	Sort        string // the address that sorts by it; "" where there is none
	Sorted      string // ascending, descending, or "" (aria-sort)
}

type rowView struct {
	Time  string     `json:"-"` // RFC 3339, of what is over time
	Label string     `json:"-"` // the same to be read
	Cells []cellView `json:"cells"`
	Split []segment  `json:"-"`
}

type cellView struct {
	Text   string    `json:"text"`
	Suffix string    `json:"suffix,omitempty"`
	Full   string    `json:"-"` // where Text is cut
	Number bool      `json:"number,omitempty"`
	Dim    bool      `json:"dim,omitempty"`
	URL    string    `json:"url,omitempty"`
	Bar    []segment `json:"bar,omitempty"`
	Title  string    `json:"title,omitempty"` // of a tile
	Tone   tone      `json:"tone,omitempty"`
	About  string    `json:"-"`
}

// segment is a part of a bar, in hundredths of its width.
type segment struct {
	X     string `json:"x"`
	Width string `json:"width"`
	Place int    `json:"place"`
	Tone  tone   `json:"tone,omitempty"`
	Title string `json:"-"`
}

func newPanelView(p *panel) panelView {
	v := panelView{ID: p.id, Title: p.title, About: p.about, Form: p.form, Wide: p.wide, Empty: true}
	if len(p.columns) > 0 {
		v.Unit = p.columns[0].unit
	}
	return v
}

// tiles shows one row as figures.
func (v *panelView) tiles(p *panel, answer *query.Answer) {
	var row rowView
	for i, c := range p.columns {
		var value any
		if len(answer.Rows) > 0 {
			value = answer.Rows[0][i]
		}
		if n, ok := float(value); ok && n != 0 {
			v.Empty = false
		}
		cell := cellView{Title: c.title, Number: true, Tone: c.tone}
		cell.Text, cell.Suffix = c.unit.figure(value)
		if n, _ := float(value); n == 0 {
			cell.Tone = plain
		}
		row.Cells = append(row.Cells, cell)
	}
	v.Rows = []rowView{row}
}

// table shows a page of rows.
func (v *panelView) table(p *panel, s scope, q *question, answer *query.Answer) {
	rows := answer.Rows
	if len(rows) > q.rows {
		rows = rows[:q.rows]
		v.Next = s.here("page."+p.id, strconv.Itoa(q.from/q.rows+2)) + "#" + p.id
	}
	if q.from > 0 {
		v.Previous = s.here("page."+p.id, strconv.Itoa(q.from/q.rows)) + "#" + p.id
	}
	v.Empty = len(rows) == 0 && q.from == 0
	v.Place = fmt.Sprintf("rows %d to %d", q.from+1, q.from+len(rows))
	v.head(p, s, q)
	most := make([]float64, len(p.columns))
	for i := range p.columns {
		for _, row := range rows {
			n, _ := float(row[i])
			most[i] = max(most[i], n)
		}
	}
	for _, row := range rows {
		shown := rowView{}
		for i, c := range p.columns {
			if c.hidden {
				continue
			}
			shown.Cells = append(shown.Cells, c.show(s, p, row, i, most[i]))
		}
		v.Rows = append(v.Rows, shown)
	}
	v.split(p, rows)
}

// head are the heads of a table, which sort it.
func (v *panelView) head(p *panel, s scope, q *question) {
	by, descending := strings.CutSuffix(q.values.Get("order_by"), " desc")
	by = strings.TrimSuffix(by, " asc")
	for _, c := range p.columns {
		if c.hidden {
			continue
		}
		h := headView{Title: c.title, Unit: c.unit.heading(), Number: c.unit.isNumber(), Tone: c.tone, Bar: c.bar}
		target := c.name
		if h.Number {
			target = "-" + c.name // the largest is what is looked for first
		}
		if by == c.name {
			h.Sorted, target = "ascending", "-"+c.name
			if descending {
				h.Sorted, target = "descending", c.name
			}
		}
		h.Sort = s.here("sort."+p.id, target, "page."+p.id, "") + "#" + p.id
		v.Head = append(v.Head, h)
	}
}

// show is one cell of a table.
func (c *column) show(s scope, p *panel, row []any, i int, most float64) cellView {
	cell := cellView{Text: c.unit.cell(row[i]), Number: c.unit.isNumber(), Tone: c.tone}
	n, isNumber := float(row[i])
	cell.Dim = cell.Number && n == 0 || row[i] == nil
	if cell.Dim {
		cell.Tone = plain
	}
	if c.bar && isNumber && most > 0 {
		cell.Bar = []segment{{X: "0", Width: hundredths(n, most), Tone: c.tone, Place: 1}}
	}
	if c.to != nil {
		var changes []string
		for parameter, name := range c.to.set {
			at := slices.IndexFunc(p.columns, func(c column) bool { return c.name == name })
			value, _ := row[at].(string)
			changes = append(changes, parameter, value)
		}
		cell.URL = s.at(c.to.path, changes...)
	}
	return cell
}

// split adds to each row the bar of the columns that are parts of one.
func (v *panelView) split(p *panel, rows [][]any) {
	if len(p.split) == 0 {
		return
	}
	var at []int
	for place, name := range p.split {
		i := slices.IndexFunc(p.columns, func(c column) bool { return c.name == name })
		at = append(at, i)
		v.Split = append(v.Split, headView{Title: p.columns[i].title, Place: place + 1, Tone: p.columns[i].tone})
	}
	sum := func(row []any) (total float64) {
		for _, i := range at {
			n, _ := float(row[i])
			total += n
		}
		return total
	}
	most := 0.0
	for _, row := range rows {
		most = max(most, sum(row))
	}
	for r, row := range rows {
		x := 0.0
		for place, i := range at {
			n, _ := float(row[i])
			if n > 0 {
				c := p.columns[i]
				v.Rows[r].Split = append(v.Rows[r].Split, segment{
					X: hundredths(x, most), Width: hundredths(n, most), Place: place + 1, Tone: c.tone,
					Title: c.title + ": " + c.unit.cell(row[i]) + " " + c.unit.heading(),
				})
			}
			x += n
		}
	}
}

func hundredths(n, most float64) string { return strconv.FormatFloat(100*n/most, 'f', 2, 64) }

// overTime shows a row for each bucket, those without events too.
func (v *panelView) overTime(p *panel, s scope, q *question, answer *query.Answer) {
	type at struct {
		bucket int64
		series string
	}
	values := map[at][]any{}
	series, first := []string{""}, 1
	if p.group != "" {
		series, first = nil, 2
	}
	for _, row := range answer.Rows {
		bucket, _ := row[0].(string)
		t, err := time.Parse(time.RFC3339Nano, bucket)
		if err != nil {
			continue // what the store gives is one
		}
		name := ""
		if p.group != "" {
			name = cmp.Or(q.names[words(row[1])], words(row[1]))
		}
		if !slices.Contains(series, name) {
			series = append(series, name)
		}
		values[at{t.UnixMicro(), name}] = row[first:]
		v.Empty = false
	}
	slices.Sort(series)
	place := 0
	for _, name := range series {
		for _, c := range p.columns {
			place++
			v.Head = append(v.Head, headView{Title: cmp.Or(name, c.title), Unit: c.unit.heading(), Number: true, Tone: c.tone, Place: place})
		}
	}
	until := min(s.Until.UnixMicro(), s.Now.UnixMicro()+1)
	for b := s.From.UnixMicro(); b < until; b = q.per.Next(b, q.of.Zone) {
		row := rowView{Time: stamp(time.UnixMicro(b)), Label: s.label(time.UnixMicro(b).UTC(), q.per)}
		for _, name := range series {
			cells := values[at{b, name}]
			for i, c := range p.columns {
				var value any
				switch {
				case cells != nil:
					value = cells[i]
				case c.unit == number || c.unit == octets:
					value = int64(0) // nothing happened, and that is how much
				}
				row.Cells = append(row.Cells, cellView{Text: c.unit.cell(value), Number: true})
			}
		}
		v.Rows = append(v.Rows, row)
	}
	v.Partial = s.Until.After(s.Now)
}
