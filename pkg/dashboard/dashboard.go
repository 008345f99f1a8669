// Package dashboard serves Weir's pages: what the APIs do now and did before,
// for people. [Handler] is all of its face.
//
// # Pages are data
//
// A page is a list of panels (pages.go and page_*.go). A panel is a title, a
// question and a form: tiles, a table, bars or a chart over time. Its question
// is parsed by package query as those of the HTTP API are, so a panel shows
// nothing that could not be asked there; its CSV link asks it. Adding a panel
// is adding a few lines of data.
//
// A request goes through four steps, a file each: its address becomes a [scope]
// (scope.go: range, granularity, filters), the panels are asked at once
// (ask.go), the answers become cells (view*.go, format.go), and templates turn
// these into HTML. All numbers are in that HTML. The scripts add what needs a
// pointer: charts, which they draw from the tables beside them, and zooming by
// dragging, which goes to another address.
//
// # What is guaranteed
//
// Names in events are whatever a stranger sent. html/template escapes them on
// the server, the scripts make text of them and never HTML, and the
// Content-Security-Policy runs nothing that is not a file of this package.
// A panel that fails, or takes too long, shows a sentence, and the others stay.
package dashboard

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"weir/pkg/audit"
	"weir/pkg/query"
	"weir/pkg/stream"
)

// Config is what the pages are made of.
type Config struct {
	// Server is what is asked: its catalogue, database, clock, state of the
	// stream, and where errors go.
	Server query.Server
	// PanelTimeout bounds the work for one panel; 0 is 5 s.
	PanelTimeout time.Duration
	// Asking is how many panels are asked at once, over all requests; 0 is 6.
	Asking int
	// Stream is how far the workers are, and Audit how things stood after an
	// auditor's last pass, for the page of the pipeline; where one is nil the page
	// says that it is not known.
	Stream func(context.Context) (stream.State, error)
	Audit  func(context.Context) (*audit.Report, error)
}

// dashboard is a Config in use.
type dashboard struct {
	query.Server

	stream func(context.Context) (stream.State, error)
	audit  func(context.Context) (*audit.Report, error)

	timeout   time.Duration
	slots     chan struct{} // one for each panel that is being asked
	pages     []page
	templates *template.Template
	assets    *assets
	live      *live
}

// Handler serves the pages, each at its path ("/", "/apis", …), and what they
// load, at /assets/. Everything else is a page that says 404.
func Handler(cfg Config) http.Handler {
	d := &dashboard{
		Server:  cfg.Server,
		stream:  cfg.Stream,
		audit:   cfg.Audit,
		timeout: cmp.Or(cfg.PanelTimeout, 5*time.Second),
		slots:   make(chan struct{}, cmp.Or(cfg.Asking, 6)),
		pages:   pages(),
		assets:  readAssets(),
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.OnError == nil {
		d.OnError = func(string, error) {}
	}
	d.templates = d.parseTemplates()
	mux := http.NewServeMux()
	mux.Handle("GET "+assetsPath, d.assets)
	for i := range d.pages {
		pattern := "GET " + d.pages[i].path
		if d.pages[i].path == "/" {
			pattern = "GET /{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, &d.pages[i]) })
	}
	d.liveRoutes(mux)
	d.alertRoutes(mux)
	mux.HandleFunc("/", d.notFound)
	return secured(mux)
}

// secured sets what every answer says of itself to the browser.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// serve answers with a page.
func (d *dashboard) serve(w http.ResponseWriter, r *http.Request, p *page) {
	s, err := d.scope(r, p)
	if err != nil {
		d.write(w, r, http.StatusBadRequest, "message", d.frame(r, p, s, message{"That address is not readable", err.Error()}))
		return
	}
	if p.needs != "" && s.value(p.needs) == "" {
		http.Redirect(w, r, s.at(p.otherwise), http.StatusSeeOther)
		return
	}
	if p.load == nil {
		d.send(w, r, p, s)
		return
	}
	var view pageView
	if view.Body, err = p.load(r.Context(), d, s); err != nil {
		view.Problem = d.sentence(r.Context(), r.URL.Path, err)
	}
	d.write(w, r, http.StatusOK, p.template, d.frame(r, p, s, view))
}

// send answers with a page of panels as they become known: the frame at once,
// so that there is something to see, then each panel in its place.
func (d *dashboard) send(w http.ResponseWriter, r *http.Request, p *page, s scope) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	asked := d.ask(ctx, p, s)
	f := d.frame(r, p, s, nothing{})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	parts := sending{d: d, w: w, r: r}
	parts.add("begin", f)
	if !d.anything(ctx, s) {
		parts.add("nothing", nothing{d.elsewhere(ctx, s)})
		parts.add("end", f)
		return
	}
	parts.add("panels", nil)
	for i := range asked {
		parts.add("panel", <-asked[i])
	}
	parts.add("end", f)
}

// sending sends the parts of a page. After an error nothing is sent any more.
type sending struct {
	d   *dashboard
	w   http.ResponseWriter
	r   *http.Request
	err error
}

func (s *sending) add(name string, view any) {
	if s.err != nil {
		return
	}
	var out bytes.Buffer
	if s.err = s.d.templates.ExecuteTemplate(&out, name, view); s.err == nil {
		_, s.err = out.WriteTo(s.w)
	}
	if s.err == nil {
		s.err = http.NewResponseController(s.w).Flush()
	}
	if s.err != nil && s.r.Context().Err() == nil {
		s.d.OnError(s.r.URL.Path, fmt.Errorf("send %s of a page: %w", name, s.err))
	}
}

func (d *dashboard) notFound(w http.ResponseWriter, r *http.Request) {
	p := &page{title: "Not found"}
	s, _ := d.scope(r, p) // what is not readable is left out
	d.write(w, r, http.StatusNotFound, "message", d.frame(r, p, s,
		message{"There is nothing here", "The pages are listed above; the HTTP API is at /api/v1/aggregations."}))
}

// sentence says what an error means to who looks at the page.
func (d *dashboard) sentence(ctx context.Context, request string, err error) string {
	return d.Explain(ctx, request, err).Detail
}
