package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	liveEvery   = time.Second      // between two states
	liveShare   = 4                // what it takes to ask for a state is at most one part in so many of the time
	liveClients = 200              // at a time
	liveBeat    = 15 * time.Second // between signs of life where there is nothing new
	liveWrite   = 10 * time.Second // for a client to take what is sent, or it is left
	liveRetry   = 2 * time.Second  // after which a client connects again
)

// live is the state of the live page, which all that look at it share: it is
// asked for once a second however many there are, and not at all while there are none.
type live struct {
	d       *dashboard
	clients atomic.Int64

	asking chan struct{} // holds one while somebody asks; it guards what follows
	state  *liveState
	due    time.Time // when there may be another
}

func newLive(d *dashboard) *live { return &live{d: d, asking: make(chan struct{}, 1)} }

// now is the newest state: of this second, or, where it takes long to ask for one,
// a little older.
func (l *live) now(ctx context.Context) (*liveState, error) {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	if l.state != nil && began.Before(l.due) {
		return l.state, nil
	}
	// What one asks for is for all, so it does not end with the one.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*l.d.timeout)
	defer cancel()
	l.state = l.d.look(asking, l.d.Now())
	l.due = began.Add(max(liveEvery*9/10, liveShare*time.Since(began))) // a tick that comes a little early is not in vain
	return l.state, nil
}

// follow sends the states as they come, as server-sent events. The first one is
// whole, then each has what is new since the one before that this client was sent: there
// is no queue, and one that is slow simply misses states. Who comes back after a
// break gets a whole one.
func (l *live) follow(w http.ResponseWriter, r *http.Request) {
	defer l.clients.Add(-1)
	if l.clients.Add(1) > liveClients {
		w.Header().Set("Retry-After", strconv.Itoa(int(liveRetry/time.Second)))
		http.Error(w, fmt.Sprintf("%d pages follow already, and no more can", liveClients), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	send := func(text []byte) bool {
		// The time that the server has for an answer is for those that end: each write has its own.
		if err := control.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		_, err := w.Write(text)
		return err == nil && control.Flush() == nil
	}
	if !send(fmt.Appendf(nil, "retry: %d\n\n", liveRetry.Milliseconds())) {
		return
	}
	l.run(r, send)
}

func (l *live) run(r *http.Request, send func([]byte) bool) {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	var sent *liveState
	told := time.Now()
	for {
		state, err := l.now(r.Context())
		if err != nil {
			return // the client has gone
		}
		var out []byte
		if sent == nil || state.Number > sent.Number {
			data, err := json.Marshal(since(sent, state))
			if err != nil {
				l.d.OnError(r.URL.Path, fmt.Errorf("write the live page's state: %w", err))
				return
			}
			out = fmt.Appendf(nil, "id: %d\ndata: %s\n\n", state.Number, data)
			sent = state
		} else if time.Since(told) >= liveBeat {
			out = []byte(": nothing new\n\n")
		}
		if out != nil {
			if !send(out) {
				return
			}
			told = time.Now()
		}
		select {
		case <-r.Context().Done():
			return
		case <-l.d.Done:
			return
		case <-tick.C:
		}
	}
}

// liveNews is what live.js puts into the page. What is nil has not changed.
type liveNews struct {
	Fresh   fresh        `json:"fresh"`
	Quiet   bool         `json:"quiet"`
	Figures []cellView   `json:"figures,omitempty"`
	Traffic *liveRows    `json:"traffic,omitempty"`
	Speed   *liveRows    `json:"speed,omitempty"`
	Top     *[]rowView   `json:"top,omitempty"`
	Alerts  *[]liveAlert `json:"alerts,omitempty"`
}

// liveRows are the rows of a chart that are new or have changed. Those before From
// are to be dropped.
type liveRows struct {
	From string     `json:"from"`
	Rows [][]string `json:"rows"` // time, label, and a text for each series
}

// since is what a page that shows a state lacks of a newer one; nil is a page that
// shows nothing.
func since(shown, state *liveState) liveNews {
	n := liveNews{Fresh: state.Fresh, Quiet: state.Quiet}
	if shown == nil {
		shown = &liveState{}
	}
	if len(state.Figures.Rows) > 0 && (len(shown.Figures.Rows) == 0 || !sameCells(shown.Figures.Rows[0], state.Figures.Rows[0])) {
		n.Figures = state.Figures.Rows[0].Cells
	}
	n.Traffic, n.Speed = rowsSince(shown.Traffic, state.Traffic), rowsSince(shown.Speed, state.Speed)
	if state.Top.Problem == "" && (shown.Number == 0 || !slices.EqualFunc(shown.Top.Rows, state.Top.Rows, sameCells)) {
		rows := append([]rowView{}, state.Top.Rows...)
		n.Top = &rows
	}
	if state.AlertsProblem == "" && (shown.Number == 0 || !slices.Equal(shown.Alerts, state.Alerts)) {
		alerts := append([]liveAlert{}, state.Alerts...)
		n.Alerts = &alerts
	}
	return n
}

func rowsSince(shown, state panelView) *liveRows {
	if state.Problem != "" || len(state.Rows) == 0 {
		return nil
	}
	known := map[string]rowView{}
	for _, row := range shown.Rows {
		known[row.Time] = row
	}
	news := &liveRows{From: state.Rows[0].Time, Rows: [][]string{}}
	for _, row := range state.Rows {
		if was, ok := known[row.Time]; ok && sameCells(was, row) {
			continue
		}
		texts := []string{row.Time, row.Label}
		for _, cell := range row.Cells {
			texts = append(texts, cell.Text)
		}
		news.Rows = append(news.Rows, texts)
	}
	return news
}

func sameCells(a, b rowView) bool {
	return slices.EqualFunc(a.Cells, b.Cells, func(a, b cellView) bool {
		return a.Text == b.Text && a.Suffix == b.Suffix && a.Tone == b.Tone && a.URL == b.URL && slices.Equal(a.Bar, b.Bar)
	})
}
