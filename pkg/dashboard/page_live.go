package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/store"
)

const (
	liveRange  = 5 * time.Minute // that the charts show
	liveNow    = time.Minute     // that the figures are of
	liveAlerts = 8               // that are listed
)

// livePage is what goes on now: the last minutes by event time, of all APIs. It
// has one state at a time, for whoever looks at it (live.go).
func livePage() page {
	return page{
		path: "/", title: "Live", about: "The figures of the last minute, and the last five minutes by the second.", template: "live",
		load: func(ctx context.Context, d *dashboard, _ scope) (any, error) { return d.live.now(ctx) },
	}
}

// liveRoutes are the streams of the live page.
func (d *dashboard) liveRoutes(mux *http.ServeMux) {
	d.live = newLive(d)
	mux.HandleFunc("GET /live/events", d.live.follow)
}

// livePanels are asked every second: the figures of the last minute, which are
// one row of tiles, and what is over the last minutes.
func livePanels() (figures, over []panel) {
	figures = []panel{
		{id: "now", form: tiles, of: outcomes, columns: []column{
			{name: "calls", ask: calls, title: "Calls", unit: number},
			{name: "errors", ask: "100 * (" + failed + ") / (" + calls + ")", title: "Errors", unit: percent, tone: bad},
			{name: "throttled", ask: "throttledCount", title: "Throttled", unit: number, tone: warn},
		}},
		{id: "speed", form: tiles, of: latencies, columns: percentileColumns()},
	}
	traffic, speed := byOutcome(), percentiles(false)
	traffic.wide = true
	return figures, []panel{traffic, speed, {
		id: "top", title: "Busiest APIs", form: table, of: outcomes, group: "apiName, apiVersion", order: "calls desc", limit: 8,
		columns: []column{
			apiColumn(), versionColumn(),
			{name: "calls", ask: calls, title: "Calls", unit: number, bar: true},
			{name: "errors", ask: "100 * (" + failed + ") / (" + calls + ")", title: "Errors", unit: percent, tone: bad},
			{name: "throttled", ask: "throttledCount", title: "Throttled", unit: number, tone: warn},
		},
	}}
}

// liveState is what the page shows at one moment.
type liveState struct {
	Number                       int64 // greater than those before it
	Figures, Traffic, Speed, Top panelView
	Alerts                       []liveAlert
	AlertsProblem                string
	Fresh                        fresh
	Quiet                        bool // there was no call
}

type liveAlert struct {
	ID       string `json:"id"`
	At       string `json:"at"` // RFC 3339
	Clock    string `json:"clock"`
	Rule     string `json:"rule"`
	State    string `json:"state"`
	Severity int    `json:"severity"`
	Scope    string `json:"scope"`
	Message  string `json:"message"`
}

// look asks for the state at a moment.
func (d *dashboard) look(ctx context.Context, now time.Time) *liveState {
	now = now.UTC()
	until := now.Truncate(time.Second).Add(time.Second)
	over := func(long time.Duration) scope {
		return scope{From: until.Add(-long), Until: until, Per: aggregation.Seconds, Now: now, path: "/"}
	}
	figures, charts := livePanels()
	views := d.askAll(ctx, &page{panels: figures}, over(liveNow))
	views = append(views, d.askAll(ctx, &page{panels: charts}, over(liveRange))...)
	s := &liveState{Number: now.UnixMilli(), Figures: views[0], Traffic: views[2], Speed: views[3], Top: views[4], Fresh: d.fresh(ctx, now)}
	s.Quiet = s.Traffic.Empty && s.Traffic.Problem == ""
	if len(s.Figures.Rows) > 0 && len(views[1].Rows) > 0 {
		s.Figures.Rows[0].Cells = append(s.Figures.Rows[0].Cells, views[1].Rows[0].Cells...)
	}
	for _, v := range []*panelView{&s.Traffic, &s.Speed} {
		v.Empty = false // it is drawn all the same: calls may come
	}
	for i := range s.Top.Head {
		s.Top.Head[i].Sort = "" // it is the same for everybody
	}
	s.Top.Next = ""
	alerts, err := d.DB.Alerts(ctx, store.AlertFilter{Since: now.Add(-24 * time.Hour), Limit: liveAlerts})
	if err != nil {
		s.AlertsProblem = d.sentence(ctx, "/", err)
	}
	for i := range alerts {
		s.Alerts = append(s.Alerts, showLive(&alerts[i], now))
	}
	return s
}

func showLive(a *alert.Alert, now time.Time) liveAlert {
	at := a.FiredAt
	if a.State == alert.Resolved {
		at = a.ResolvedAt
	}
	return liveAlert{
		ID: a.ID, At: at.UTC().Format(time.RFC3339), Clock: clockOf(at, now), Rule: a.Rule, State: string(a.State), Severity: a.Severity,
		Scope: string(a.Scope), Message: a.Message,
	}
}

// clockOf is a time, with its day where that is not today's.
func clockOf(t, now time.Time) string {
	if t.IsZero() {
		return missing
	}
	t = t.UTC()
	if t.Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("2 Jan 2006 15:04:05")
}

// severity names how bad an alert is.
func severity(n int) string {
	switch n {
	case 1:
		return "severe"
	case 2:
		return "moderate"
	case 3:
		return "mild"
	}
	return fmt.Sprint(n)
}
