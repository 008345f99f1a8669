package dashboard

import (
	"context"
	"fmt"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/audit"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// pipelinePage is where events are on their way, and the proof that each is
// counted once.
func pipelinePage() page {
	return page{
		path: "/pipeline", title: "Pipeline", about: "Where events are on their way, and the proof that each is counted once.", template: "pipeline",
		load: func(ctx context.Context, d *dashboard, s scope) (any, error) { return d.pipeline(ctx, s), nil },
	}
}

// pipelineView is what the page shows. What could not be learned has a problem in
// its place, and the others stay.
type pipelineView struct {
	Audit   auditView
	Figures panelView
	Shards  listView
	Sources listView
	Letters listView
	Open    int64 // dead letters
}

type auditView struct {
	Sentence string
	Green    bool
	Problem  string
	Steps    []auditStep
	Findings []string
}

// auditStep is one link of the proof.
type auditStep struct {
	Title, Text string
	Good        bool
}

// listView is a table that is no question's answer.
type listView struct {
	ID, Title, Problem, Nothing string

	CSV  string // where the HTTP API gives all of it; "": nowhere
	Head []headView
	Rows []rowView
}

func (d *dashboard) pipeline(ctx context.Context, s scope) *pipelineView {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	view := &pipelineView{Audit: d.proof(ctx, s), Figures: d.stages(ctx, s)}
	view.Shards = d.shards(ctx, s)
	view.Sources = d.sources(ctx, s)
	view.Letters = d.letters(ctx, s)
	view.Open, _ = d.DB.CountDeadLetters(ctx, store.DeadLetterFilter{State: "open"}) // letters tells what keeps it
	return view
}

// stages are the stream and the workers' place in it, as figures.
func (d *dashboard) stages(ctx context.Context, s scope) panelView {
	view := panelView{ID: "stream", Title: "Stream", Form: tiles, Wide: true}
	if d.stream == nil {
		view.Problem = "This process has no connection to the stream."
		return view
	}
	state, err := d.stream(ctx)
	if err != nil {
		d.OnError(s.path, fmt.Errorf("ask for the state of the stream: %w", err))
		view.Problem = "The stream does not answer: what is below may be old."
		return view
	}
	view.Rows = []rowView{{Cells: stageCells(state, s.Now)}}
	return view
}

func stageCells(state stream.State, now time.Time) []cellView {
	figure := func(title string, u unit, n uint64, t tone) cellView {
		cell := cellView{Title: title, Number: true, Tone: t}
		cell.Text, cell.Suffix = u.figure(int64(n)) //nolint:gosec // sequences and sizes stay far below 2^63
		if n == 0 {
			cell.Tone = plain
		}
		return cell
	}
	lag := max(0, now.Sub(state.CompleteThrough))
	late := plain
	if lag >= time.Minute {
		late = warn
	}
	return []cellView{
		figure("Messages stored", number, state.Messages, plain),
		figure("Size", octets, state.Bytes, plain),
		figure("Behind", number, state.Behind, plain),
		figure("Waiting", number, state.Pending, plain),
		figure("In hand", number, uint64(max(0, state.AckPending)), plain),
		figure("Redelivered", number, uint64(max(0, state.Redelivered)), warn),
		{Title: "Lag", Text: shortLag(lag), Number: true, Tone: late},
	}
}

func shortLag(lag time.Duration) string {
	if lag < time.Minute {
		return fmt.Sprintf("%.1f s", lag.Seconds())
	}
	return lasted(lag)
}

// proof is the audit as a sentence, about yesterday where there was anything
// then, and the links it is made of.
func (d *dashboard) proof(ctx context.Context, s scope) auditView {
	if d.audit == nil {
		return auditView{Problem: "Whether an auditor works is not known to this process."}
	}
	r, err := d.audit(ctx)
	if err != nil {
		d.OnError(s.path, fmt.Errorf("ask for the report of the audit: %w", err))
		return auditView{Problem: "No auditor has finished a pass yet. `weir up` and `weir demo` have one; elsewhere run `weir auditor`."}
	}
	view := auditView{Sentence: r.Sentence(), Green: r.Green()}
	midnight := s.Now.Truncate(24 * time.Hour)
	if n := d.callsOn(ctx, midnight.AddDate(0, 0, -1)); n > 0 && r.Green() && r.Accepted == 0 && !r.Stream.Through.Before(midnight) {
		view.Sentence = fmt.Sprintf("%s events yesterday: all accounted for, verified %s", audit.Grouped(n), r.At.Format(time.TimeOnly))
	}
	for i := range r.Findings {
		view.Findings = append(view.Findings, r.Findings[i].Detail)
	}
	lost := r.LostBy()
	waiting, absent := 0, int64(0)
	for i := range r.Sources {
		absent += int64(r.Sources[i].Lost) //nolint:gosec // numbers end at 2^62
		if r.Sources[i].Waiting {
			waiting++
		}
	}
	view.Steps = []auditStep{
		{"Source to stream", fmt.Sprintf("%s of what publishers were told is stored is missing%s", audit.Grouped(absent), yet(waiting)), lost["source"] == 0},
		{"Stream to ledger", fmt.Sprintf("verified through %s; %s in flight, %s not folded, %s repaired", clockOf(r.Stream.Through, s.Now),
			audit.Grouped(int64(r.Stream.InFlight)), audit.Grouped(r.Stream.Holes), audit.Grouped(r.Stream.Repaired)), lost["stream"] == 0 && lost["ledger"] == 0}, //nolint:gosec // sequences stay far below 2^63
		{"Ledger to aggregates", fmt.Sprintf("%s folded; %s lost, %s counted twice", audit.Plural(r.Balance.Events, "event", "events"), audit.Grouped(lost["aggregates"]), audit.Grouped(r.Duplicated)), lost["aggregates"] == 0 && r.Duplicated == 0},
	}
	return view
}

func yet(waiting int) string {
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("; %s not verified yet", audit.Plural(int64(waiting), "publisher", "publishers"))
}

// callsOn is how many calls there were on a day, of all kinds; 0 where that is not
// known.
func (d *dashboard) callsOn(ctx context.Context, day time.Time) int64 {
	view := d.show(ctx, &panel{id: "day", form: tiles, of: outcomes, columns: []column{callsColumn()}},
		scope{From: day, Until: day.AddDate(0, 0, 1), Per: aggregation.Days, Now: d.Now().UTC(), path: "/pipeline"})
	if len(view.Rows) == 0 {
		return 0
	}
	var n int64
	for _, r := range view.Rows[0].Cells[0].Text {
		if r >= '0' && r <= '9' {
			n = n*10 + int64(r-'0')
		}
	}
	return n
}

func heads(titles ...string) (all []headView) {
	for _, title := range titles {
		h := headView{Title: title}
		if title[0] == '#' {
			h = headView{Title: title[1:], Number: true}
		}
		all = append(all, h)
	}
	return all
}

func worded(text string, t tone) cellView { return cellView{Text: text, Tone: t} }

func counted(n int64, t tone) cellView {
	cell := cellView{Text: audit.Grouped(n), Number: true, Tone: t, Dim: n == 0}
	if n == 0 {
		cell.Tone = plain
	}
	return cell
}

// listed gives a list a row for each item, or says why there are none to be had.
func listed[T any](ctx context.Context, d *dashboard, s scope, list listView, items []T, err error, row func(*T) []cellView) listView {
	if err != nil {
		list.Problem = d.sentence(ctx, s.path, err)
		return list
	}
	for i := range items {
		list.Rows = append(list.Rows, rowView{Cells: row(&items[i])})
	}
	return list
}

func (d *dashboard) shards(ctx context.Context, s scope) listView {
	list := listView{
		ID: "shards", Title: "Workers and shards", Nothing: "No worker has taken a shard yet: run `weir worker`.",
		Head: heads("Shard", "State", "Worker", "Last flush", "#Events", "#Messages", "#Batches", "#Dead letters", "#Levels behind"),
	}
	shards, err := query.Shards(ctx, d.DB, d.Catalog.Kept())
	return listed(ctx, d, s, list, shards, err, func(shard *query.Shard) []cellView {
		t, flushed := plain, missing
		if shard.State == "live" {
			t = good
		}
		if shard.LastFlush != nil {
			flushed = clockOf(*shard.LastFlush, s.Now)
		}
		return []cellView{
			worded(shard.ShardID, plain), worded(shard.State, t), worded(shard.Owner, plain), worded(flushed, plain),
			counted(shard.Events, plain), counted(shard.Messages, plain), counted(shard.Batches, plain), counted(shard.DeadLetters, bad), counted(int64(shard.Behind), plain),
		}
	})
}

func (d *dashboard) sources(ctx context.Context, s scope) listView {
	list := listView{
		ID: "sources", Title: "Sources", Nothing: "No publisher has said anything of itself yet. `weir gateway`, and Weir's publisher, do so every ten seconds.",
		Head: heads("Source", "State", "Heard", "#Acknowledged up to", "#Given up", "Epoch"),
	}
	sources, err := query.Sources(ctx, d.DB, "", 50)
	return listed(ctx, d, s, list, sources, err, func(source *query.Source) []cellView {
		state, t := "publishing", good
		switch {
		case source.Closed:
			state, t = "ended", plain
		case s.Now.Sub(source.HeardAt) > time.Minute:
			state, t = "silent", warn
		}
		return []cellView{
			worded(source.Source, plain), worded(state, t), worded(clockOf(source.HeardAt, s.Now), plain),
			counted(int64(source.Acked), plain), counted(int64(source.Dropped), bad), worded(shortened(source.Epoch), plain), //nolint:gosec // numbers end at 2^62
		}
	})
}

func shortened(text string) string {
	const most = 12
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

func (d *dashboard) letters(ctx context.Context, s scope) listView {
	list := listView{
		ID: "letters", Title: "Dead letters", Nothing: "No dead letter: everything that came could be folded.",
		CSV:  fmt.Sprintf("/api/v1/deadletters?format=csv&limit=%d", query.MostListed),
		Head: heads("Number", "State", "Time", "Source", "Reason", "Shard"),
	}
	letters, err := d.DB.DeadLetters(ctx, store.DeadLetterFilter{Limit: 20})
	return listed(ctx, d, s, list, letters, err, func(letter *store.DeadLetter) []cellView {
		t := plain
		if letter.State == "open" {
			t = warn
		}
		return []cellView{
			{Text: fmt.Sprint(letter.ID), URL: fmt.Sprintf("/api/v1/deadletters/%d", letter.ID)},
			worded(string(letter.State), t), worded(clockOf(letter.At, s.Now), plain), worded(letter.Source, plain), worded(letter.Reason, plain), worded(letter.ShardID, plain),
		}
	})
}
