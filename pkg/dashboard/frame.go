package dashboard

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"weir/pkg/aggregation"
)

// frame is what surrounds every page.
type frame struct {
	Title, About string
	Within       choice // the page that this one is a part of; none where its title is ""
	Nav          []choice
	Scope        scope
	Filters      []filterView
	Presets      []choice
	Granularity  []choice
	// Earlier, Later and Wider are addresses of the same page over other ranges.
	Earlier, Later, Wider string
	Clear                 string // the address without filters; "" where there are none
	Fresh                 fresh
	Theme                 string // light, dark, or "" for that of the system
	View                  any
}

// choice is one of a few addresses.
type choice struct {
	Title, URL, Value, Key string
	Current                bool
}

type filterView struct {
	Name, Title, Value string
	Without            string // the address without it
}

// fresh is up to when everything stored in the stream is counted.
type fresh struct {
	Known  bool   `json:"known"`
	Time   string `json:"time"` // RFC 3339
	Clock  string `json:"clock"`
	Behind string `json:"behind"` // by how much that is less than now; "" below a few seconds
	Late   bool   `json:"late"`
}

func (d *dashboard) frame(r *http.Request, p *page, s scope, view any) frame {
	f := frame{Title: p.title, About: p.about, Scope: s, View: view, Fresh: d.fresh(r.Context(), s.Now)}
	if p.needs != "" {
		f.Title = s.value(p.needs)
	}
	if cookie, err := r.Cookie("weir_theme"); err == nil && (cookie.Value == "light" || cookie.Value == "dark") {
		f.Theme = cookie.Value
	}
	for i := range d.pages {
		other := &d.pages[i]
		if other.within == "" {
			f.Nav = append(f.Nav, choice{Title: other.title, URL: s.at(other.path), Key: fmt.Sprint(len(f.Nav) + 1), Current: other.path == p.path || other.path == p.within})
		}
	}
	for _, n := range f.Nav {
		if p.within != "" && n.Current {
			f.Within = choice{Title: n.Title, URL: s.at(p.within, p.needs, "", "version", "")}
		}
	}
	for _, x := range filters() {
		f.Filters = append(f.Filters, filterView{x.parameter, x.title, s.value(x.parameter), s.here(x.parameter, "")})
		if s.value(x.parameter) != "" {
			f.Clear = s.here("tenant", "", "api", "", "version", "", "app", "")
		}
	}
	for _, preset := range [][2]string{{"15m", "15 min"}, {"1h", "1 hour"}, {"6h", "6 hours"}, {"24h", "24 hours"}, {"7d", "7 days"}, {"30d", "30 days"}, {"90d", "90 days"}, {"1y", "1 year"}} {
		f.Presets = append(f.Presets, choice{Title: preset[1], Value: preset[0], Current: s.Last == preset[0], URL: s.here("last", preset[0], "from", "", "to", "", "per", "")})
	}
	for _, g := range aggregation.Granularities() {
		f.Granularity = append(f.Granularity, choice{Title: g.String(), Value: g.String(), Current: s.value("per") == g.String()})
	}
	long := s.Until.Sub(s.From)
	between := func(from, until time.Time) string {
		return s.here("last", "", "per", "", "from", stamp(from), "to", stamp(until))
	}
	f.Earlier = between(s.From.Add(-long), s.From)
	f.Wider = between(s.From.Add(-long), s.Until.Add(long))
	if s.Until.Before(s.Now) {
		f.Later = between(s.Until, s.Until.Add(long))
	}
	return f
}

// fresh asks the stream, for a moment: no page waits for it.
func (d *dashboard) fresh(ctx context.Context, now time.Time) fresh {
	if d.State == nil {
		return fresh{}
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	through, err := d.State(ctx)
	if err != nil || through.IsZero() {
		return fresh{}
	}
	through = through.UTC()
	f := fresh{Known: true, Time: through.Format(time.RFC3339Nano), Clock: through.Format(time.TimeOnly)}
	behind := now.Sub(through)
	if behind >= 24*time.Hour {
		f.Clock = through.Format(time.DateTime)
	}
	if behind >= 5*time.Second {
		f.Behind, f.Late = behind.Round(time.Second).String()+" behind", behind >= time.Minute
	}
	return f
}

// Range is the range as it is read.
func (s scope) Range() string {
	from, until := s.From, s.Until
	const day = "2 Jan 2006"
	clock := "15:04"
	if s.Per == aggregation.Seconds {
		clock = time.TimeOnly
	}
	if midnight(from) && midnight(until) {
		last := until.AddDate(0, 0, -1)
		if from.Equal(last) {
			return from.Format(day)
		}
		return from.Format(day) + " – " + last.Format(day)
	}
	if from.Format(time.DateOnly) == until.Format(time.DateOnly) {
		return from.Format(day+", "+clock) + " – " + until.Format(clock)
	}
	return from.Format(day+", "+clock) + " – " + until.Format(day+", "+clock)
}

func midnight(t time.Time) bool { return t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0 }

// label names a bucket, as short as the range allows.
func (s *scope) label(t time.Time, per aggregation.Granularity) string {
	switch per {
	case aggregation.Years:
		return t.Format("2006")
	case aggregation.Months:
		return t.Format("Jan 2006")
	case aggregation.Days:
		return t.Format("Mon 2 Jan 2006")
	case aggregation.Seconds:
		return t.Format("2 Jan 15:04:05")
	default:
	}
	return t.Format("2 Jan 15:04")
}

// FromField and UntilField are the range as fields of a form have it; empty
// where it follows the clock.
func (s scope) FromField() string  { return s.field(s.From) }
func (s scope) UntilField() string { return s.field(s.Until) }

func (s scope) field(t time.Time) string {
	if s.Last != "" {
		return ""
	}
	return t.Format("2006-01-02T15:04:05")
}

// parseTemplates reads the templates, which are in the binary.
func (d *dashboard) parseTemplates() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{"asset": d.assets.url, "severity": severity}).ParseFS(files, "templates/*.html"))
}

// write sends a page. It is made as a whole first, so that one that cannot be
// made is no half page.
func (d *dashboard) write(w http.ResponseWriter, r *http.Request, status int, name string, f frame) {
	var out bytes.Buffer
	if err := d.templates.ExecuteTemplate(&out, name, f); err != nil {
		d.OnError(r.URL.Path, fmt.Errorf("make the page %s: %w", name, err))
		http.Error(w, "something went wrong here; the log of the server says what", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := out.WriteTo(w); err != nil && r.Context().Err() == nil {
		d.OnError(r.URL.Path, fmt.Errorf("send a page: %w", err))
	}
}

// Interval is the range for programs, as ISO 8601 has it.
func (s scope) Interval() string { return stamp(s.From) + "/" + stamp(s.Until) }
