package query

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/store"
)

// only refuses parameters other than those named.
func only(values url.Values, names ...string) error {
	for name := range values {
		if !slices.Contains(names, name) {
			return wrong(fmt.Errorf("there is no parameter %q here%s; there are: %s", name, didYouMean(name, names), strings.Join(append(names, "none other"), ", ")))
		}
	}
	return nil
}

// oneOf checks a parameter that is empty or one of few words.
func oneOf(name, given string, words []string) error {
	if given == "" || slices.Contains(words, given) {
		return nil
	}
	return fmt.Errorf("%s: there is no %q%s; there are: %s", name, given, didYouMean(given, words), strings.Join(words, ", "))
}

// Shard is how the API shows a shard. Its counts are control totals: what its
// flushes, and the shards merged into it, have folded.
type Shard struct {
	ShardID     string     `json:"shard_id"`
	State       string     `json:"state"` // live, idle, retired, or moved: its rows are in moved_to
	Owner       string     `json:"owner"` // who leased it last
	LastFlush   *time.Time `json:"last_flush"`
	Batches     int64      `json:"batches"`
	Events      int64      `json:"events"`
	Messages    int64      `json:"messages"`
	DeadLetters int64      `json:"dead_letters"`
	// OtherEvents count in the group __other__, at some level at least, because their
	// bucket had max_groups groups: for each aggregation anew.
	OtherEvents int64 `json:"other_events"`
	// Behind is how many of the coarser Levels of all aggregations do not have its
	// last batch yet. Answers are complete all the same.
	Behind    int        `json:"levels_behind"`
	Levels    int        `json:"levels"`
	RetiredAt *time.Time `json:"retired_at,omitempty"`
	MovedTo   string     `json:"moved_to,omitempty"`
}

// Shards describes all shards of a database that has the aggregations.
func Shards(ctx context.Context, db *store.DB, defs []*aggregation.Definition) ([]Shard, error) {
	behind, levels, err := db.Behind(ctx, defs)
	if err != nil {
		return nil, err
	}
	stored, err := db.Shards(ctx)
	shards := []Shard{}
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	for _, s := range stored {
		shards = append(shards, Shard{
			ShardID: s.ShardID, State: s.State(), Owner: s.Owner, LastFlush: moment(s.FlushedAt), Batches: s.LastBatch,
			Events: s.Events, Messages: s.Messages, DeadLetters: s.DeadLetters, OtherEvents: s.OtherEvents,
			Behind: behind[s.ShardID], Levels: levels, RetiredAt: moment(s.RetiredAt), MovedTo: s.MovedTo,
		})
	}
	return shards, err
}

// Shards describes all shards, by id.
func (c *Client) Shards(ctx context.Context) ([]Shard, error) {
	var answer struct {
		Shards []Shard `json:"shards"`
	}
	err := c.get(ctx, "shards", nil, &answer)
	return answer.Shards, err
}

func (s *Server) shards(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	shards, err := Shards(r.Context(), s.DB, s.Catalog.Kept())
	if err != nil {
		return err
	}
	return s.json(w, r, map[string]any{"shards": shards})
}

// index is a page of links for who opens the address in a browser.
func (s *Server) index(w http.ResponseWriter, _ *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	page, err := template.New("index").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Weir</title>
<h1>Weir</h1>
<ul>
<li><a href="/openapi.json">OpenAPI</a></li>
<li><a href="/api/v1/catalogue">Catalogue</a>: streams, aggregations and rules, as JSON</li>
<li><a href="/api/v1/aggregations">Aggregations</a>
<ul>{{range .}}<li><a href="/api/v1/aggregations/{{.Name}}">{{.Name}}</a>: {{.Doc}}</li>
{{end}}</ul></li>
<li><a href="/api/v1/alerts">Alerts</a>, <a href="/api/v1/alerts?state=firing">what fires now</a>, <a href="/api/v1/alerts/stream">as they come</a></li>
<li><a href="/api/v1/availability">Availability of the APIs</a></li>
<li><a href="/api/v1/silences">Silences</a></li>
<li><a href="/api/v1/thresholds">Thresholds</a></li>
<li><a href="/api/v1/deadletters">Dead letters</a></li>
<li><a href="/api/v1/shards">Shards</a></li>
<li><a href="/api/v1/sources">Sources</a></li>
<li><a href="/api/v1/audit">Audit</a></li>
<li><a href="/readyz">Ready?</a></li>
</ul>
<p>A question: <code>GET /api/v1/aggregations/NAME?within=START,END&amp;per=hours&amp;select=…&amp;where=…&amp;group_by=…&amp;order_by=…&amp;limit=…</code>, and <code>format=csv</code> or <code>ndjson</code></p>
</html>
`)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return page.Execute(w, s.Catalog.Aggregations)
}
