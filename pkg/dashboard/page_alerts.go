package dashboard

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/alert"
	"weir/pkg/query"
	"weir/pkg/store"
)

const (
	mostFiring  = 100 // that are counted
	firingShown = 10  // that are shown at once, each with what is known of it
	mostHistory = 50  // on a page
)

// alertsPage is what fires, what fired, and how each API does. Its forms are in
// alert_forms.go.
func alertsPage() page {
	return page{
		path: "/alerts", title: "Alerts", about: "What fires, what fired, and how each API does.", template: "alerts", last: "7d",
		load: func(ctx context.Context, d *dashboard, s scope) (any, error) { return d.alerts(ctx, s) },
	}
}

// alertsView is what the page shows.
type alertsView struct {
	One      *alertRow // that the address is about
	Firing   []alertRow
	Others   []alertRow // that fire too, and are less severe
	Number   string     // of those that fire
	Board    []boardRow
	Counts   []count
	Silences []silenceRow
	History  []alertRow
	Older    string // the address of what comes after; "" where that is all
	CSV      string // where the HTTP API gives them all
	Selects  []selectView
	Chosen   bool // there are filters
	Back     string
	Scope    scope
}

type count struct {
	Title string
	Tone  tone
	N     int
}

// alertRow is an alert.
type alertRow struct {
	alert.Alert

	At, Clock string // when it fired, or was resolved
	Lasted    string // until it was resolved
	Keys      []pair
	Ack       *alert.Ack
	AckClock  string
	Silenced  string // until when
	Can       bool   // acknowledge and silence it
	Back      string
}

type pair struct{ Name, Value string }

type boardRow struct {
	query.Availability

	Tone  tone
	Clock string // since when
	URL   string
}

type silenceRow struct {
	alert.Silence

	Keys []pair
	Ends string
	Back string
}

// selectView is a field of a form with few words to choose from.
type selectView struct {
	Name, Title string
	Options     []choice
}

func (d *dashboard) alerts(ctx context.Context, s scope) (*alertsView, error) {
	view := &alertsView{Scope: s, Back: strings.TrimPrefix(s.here(), s.path)}
	silences, err := d.DB.Silences(ctx, s.Now, false)
	if err != nil {
		return nil, err
	}
	for _, silence := range silences {
		view.Silences = append(view.Silences, silenceRow{silence, pairs(silence.Match), clockOf(silence.EndsAt, s.Now), view.Back})
	}
	if id := s.value("id"); id != "" {
		if view.One, err = d.oneAlert(ctx, id, silences, s, view.Back); err != nil {
			return nil, err
		}
	}
	firing, err := d.DB.Alerts(ctx, store.AlertFilter{Scope: string(alert.ScopeGlobal), State: string(alert.Firing), Limit: mostFiring})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(firing, func(a, b alert.Alert) int { return a.Severity - b.Severity })
	view.Number = strconv.Itoa(len(firing))
	if len(firing) == mostFiring {
		view.Number += " or more"
	}
	for i := range firing {
		row := showAlert(&firing[i], silences, s.Now, view.Back)
		if i >= firingShown {
			view.Others = append(view.Others, row)
			continue
		}
		record, err := d.DB.Alert(ctx, firing[i].ID)
		if err != nil {
			return nil, err
		}
		row.acknowledged(record.Ack, s.Now)
		view.Firing = append(view.Firing, row)
	}
	if err := d.board(ctx, s, view); err != nil {
		return nil, err
	}
	return view, d.history(ctx, s, silences, view)
}

func (d *dashboard) oneAlert(ctx context.Context, id string, silences []alert.Silence, s scope, back string) (*alertRow, error) {
	known, err := query.DescribeAlert(ctx, d.DB, id, s.Now)
	if err != nil {
		return nil, err
	}
	row := showAlert(&known.Alert, silences, s.Now, back)
	row.acknowledged(known.Ack, s.Now)
	if known.Resolution != nil {
		row.ResolvedAt, row.Can = known.Resolution.ResolvedAt, false
		row.Lasted = lasted(row.ResolvedAt.Sub(row.FiredAt))
	}
	return &row, nil
}

func showAlert(a *alert.Alert, silences []alert.Silence, now time.Time, back string) alertRow {
	at := a.FiredAt
	row := alertRow{Alert: *a, Keys: pairs(a.Key), Can: a.State == alert.Firing, Back: back}
	if a.State == alert.Resolved {
		at = a.ResolvedAt
		row.Lasted = lasted(a.ResolvedAt.Sub(a.FiredAt))
	}
	row.At, row.Clock = at.UTC().Format(time.RFC3339), clockOf(at, now)
	for _, silence := range alert.Silencing(silences, a, now) {
		row.Silenced = clockOf(silence.EndsAt, now)
	}
	return row
}

func (r *alertRow) acknowledged(ack *alert.Ack, now time.Time) {
	if ack != nil {
		r.Ack, r.AckClock = ack, clockOf(ack.At, now)
	}
}

func pairs(m map[string]string) (all []pair) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, pair{name, m[name]})
	}
	return all
}

// lasted writes how long something went on: 45s, 12m, 3h10m, 2d.
func lasted(long time.Duration) string {
	switch {
	case long < time.Minute:
		return long.Round(time.Second).String()
	case long < 24*time.Hour:
		return strings.TrimSuffix(long.Round(time.Minute).String(), "0s")
	}
	return strconv.Itoa(int(long/(24*time.Hour))) + "d"
}

// board is how each API does, those that do badly first.
func (d *dashboard) board(ctx context.Context, s scope, view *alertsView) error {
	all, err := query.Board(ctx, d.Catalog, d.DB, s.Now)
	if err != nil {
		return err
	}
	order := []query.APIState{query.ServerError, query.Silent, query.HighResponse, query.Available}
	tones := map[query.APIState]tone{query.ServerError: bad, query.Silent: bad, query.HighResponse: warn, query.Available: good}
	slices.SortStableFunc(all, func(a, b query.Availability) int { return slices.Index(order, a.State) - slices.Index(order, b.State) })
	counts := map[query.APIState]int{}
	for _, a := range all {
		counts[a.State]++
		row := boardRow{Availability: a, Tone: tones[a.State], URL: s.at("/apis/one", "api", a.APIName, "version", a.APIVersion)}
		if !a.Since.IsZero() {
			row.Clock = clockOf(a.Since, s.Now)
		}
		view.Board = append(view.Board, row)
	}
	for _, state := range order {
		view.Counts = append(view.Counts, count{string(state), tones[state], counts[state]})
	}
	return nil
}

// history is what fired in the range, newest first.
func (d *dashboard) history(ctx context.Context, s scope, silences []alert.Silence, view *alertsView) error {
	chosen := url.Values{"limit": {strconv.Itoa(mostHistory + 1)}, "since": {stamp(s.From)}, "until": {stamp(s.Until)}}
	for _, name := range []string{"rule", "severity", "state", "scope"} {
		if value := s.value(name); value != "" {
			chosen.Set(name, value)
			view.Chosen = true
		}
	}
	for parameter, part := range map[string]string{"api": "apiName", "version": "apiVersion", "app": "applicationId", "tenant": "apiCreatorTenantDomain"} {
		if value := s.value(parameter); value != "" {
			chosen.Add("key", part+"="+value)
		}
	}
	if before := s.value("before"); before != "" {
		chosen.Set("until", before)
	}
	filter, err := query.ParseAlerts(d.Catalog, chosen, s.Now)
	if err != nil {
		return err
	}
	chosen.Set("limit", strconv.Itoa(query.MostListed))
	chosen.Set("format", "csv")
	view.CSV = "/api/v1/alerts?" + chosen.Encode()
	alerts, err := d.DB.Alerts(ctx, filter)
	if err != nil {
		return err
	}
	if len(alerts) > mostHistory {
		alerts = alerts[:mostHistory]
		// Alerts of the same time are shown again rather than left out.
		view.Older = s.here("before", alerts[mostHistory-1].FiredAt.Add(time.Microsecond).UTC().Format(time.RFC3339Nano), "id", "") + "#history"
	}
	for i := range alerts {
		view.History = append(view.History, showAlert(&alerts[i], silences, s.Now, view.Back))
	}
	view.selects(d, s)
	return nil
}

func (v *alertsView) selects(d *dashboard, s scope) {
	field := func(name, title string, options ...[2]string) {
		f := selectView{Name: name, Title: title}
		for _, o := range options {
			f.Options = append(f.Options, choice{Value: o[0], Title: o[1], Current: s.value(name) == o[0]})
		}
		v.Selects = append(v.Selects, f)
	}
	rules := [][2]string{{"", "all"}}
	for _, rule := range d.Catalog.Rules {
		rules = append(rules, [2]string{rule.Name, rule.Name})
	}
	field("rule", "Rule", rules...)
	field("severity", "Severity", [2]string{"", "all"}, [2]string{"1", "severe"}, [2]string{"2", "moderate or worse"}, [2]string{"3", "mild or worse"})
	field("state", "State", [2]string{"", "all"}, [2]string{"firing", "firing"}, [2]string{"resolved", "resolved"})
	field("scope", "Scope", [2]string{"", "all"}, [2]string{"global", "global"}, [2]string{"local", "local"})
}

// Carried are the fields with which a form keeps the range and the filters.
func (s scope) Carried() (all []pair) {
	for _, name := range carried() {
		if value := s.value(name); value != "" {
			all = append(all, pair{name, value})
		}
	}
	return all
}
