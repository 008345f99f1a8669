package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"weir/pkg/aggregation"
	"weir/pkg/badinput"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/streams"
)

// Every case of the corpus, between two good messages, through a real NATS and
// running workers into a real Postgres: it meets the fate that is written beside
// it, and nothing else happens to anybody.
func TestBadInput_MeetsItsFateAndHarmsNobody(t *testing.T) {
	t.Parallel()
	cases, err := badinput.Load()
	if err != nil {
		t.Fatal(err)
	}
	h := newHarnessOn(t, servers{definitions: withProbe(t), ackWait: 10 * time.Minute}) // nothing is delivered again, however slow the machine is
	logs := h.runLogged(2)
	run := publishCorpus(h, cases)
	h.drain()
	t.Logf("%d cases: %d messages taken, %d events to be folded", len(cases), run.taken, run.events)

	for _, level := range h.catalog.Aggregations[0].Granularities {
		run.checkFolded(h, level)
	}
	run.checkHeld(h)
	run.checkDeadLetters(h)
	run.checkConsumer(h)
	if got, want := h.totals(), (store.Totals{Messages: run.counted, Events: run.events, DeadLetters: int64(run.dead)}); got != want {
		t.Errorf("control totals: got %+v, want %+v", got, want)
	}
	checkLogs(t, logs)
}

// withProbe is the default pack and the corpus' own stream.
func withProbe(t *testing.T) fs.FS {
	t.Helper()
	files := fstest.MapFS{"probe.yaml": {Data: badinput.Streams}}
	names, err := fs.Glob(streams.Files, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(streams.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	return files
}

// logBuffer keeps what several workers log.
type logBuffer struct {
	mu    sync.Mutex
	lines []string // a record each
}

func (b *logBuffer) Write(record []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(record))
	return len(record), nil
}

func (b *logBuffer) Sync() error { return nil }

// runLogged starts workers that log everything as a deployment does, as JSON and
// for a terminal.
func (h *harness) runLogged(n int) *logBuffer {
	logs := &logBuffer{}
	config := zap.NewProductionEncoderConfig()
	log := zap.New(zapcore.NewTee(
		zapcore.NewCore(zapcore.NewJSONEncoder(config), logs, zap.DebugLevel),
		zapcore.NewCore(zapcore.NewConsoleEncoder(config), logs, zap.DebugLevel)))
	conn, err := stream.Connect(h.t.Context(), stream.Config{URL: h.servers.nats, Log: log})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(conn.Close)
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{}, n)
	for i := range n {
		w := h.worker(fmt.Sprintf("w%d", i+1))
		w.log, w.conn = log, conn
		go func() {
			if err := w.Run(ctx); err != nil {
				h.failed <- err
			}
			done <- struct{}{}
		}()
	}
	h.t.Cleanup(func() {
		cancel()
		for range n {
			<-done
		}
	})
	return logs
}

// corpusRun is what was sent and has to be found.
type corpusRun struct {
	taken   int              // messages
	counted int64            // messages that the ledger did not have
	events  int64            // to be folded
	dead    int              // letters
	folded  map[string]int64 // by name of the case or neighbour
	letters map[uint64]letters
	held    []badinput.Case // cases that say what is held
	last    uint64          // sequence of the last message
}

// letters are the dead letters of one message.
type letters struct {
	name    string
	reasons map[int]string
}

func publishCorpus(h *harness, cases []badinput.Case) *corpusRun {
	h.t.Helper()
	run := &corpusRun{folded: map[string]int64{}, letters: map[uint64]letters{}}
	raw := &rawPublisher{t: h.t, url: h.servers.nats}
	defer raw.close()
	for n, c := range cases {
		run.publishNeighbour(raw, c.Name+" before", 2*n+1)
		for i, m := range c.Messages {
			if i > 0 {
				h.drain() // what comes first is claimed first, whichever worker takes it
			}
			run.publish(raw, c, m)
		}
		run.publishNeighbour(raw, c.Name+" after", 2*n+2)
	}
	return run
}

func (r *corpusRun) publishNeighbour(raw *rawPublisher, name string, n int) {
	r.publish(raw, badinput.Case{Name: name}, badinput.Message{
		Subject: "events.request.gw-good",
		Headers: fmt.Appendf(nil, "NATS/1.0\r\nNats-Msg-Id: gw-good/e/%d\r\n\r\n", n),
		Body:    fmt.Appendf(nil, `{"applicationId":%q,"apiContext":"/good/1","requestTimestamp":%d}`, name, badinput.Time+n),
		Fate:    badinput.Fate{Folded: 1},
	})
}

func (r *corpusRun) publish(raw *rawPublisher, c badinput.Case, m badinput.Message) {
	answer := raw.publish(m.Subject, m.Headers, m.Body)
	fate := m.Fate
	if refused := answer.refusal != ""; refused != fate.Refused || !strings.Contains(answer.refusal, fate.Reason) {
		raw.t.Errorf("%s (%s): the server refuses it: %v with %.200q, want %v with %q", c.Name, c.Why, refused, answer.refusal, fate.Refused, fate.Reason)
	}
	if answer.refusal != "" {
		return
	}
	if ignored := answer.Duplicate || answer.Stream != stream.EventsStream; ignored != fate.Ignored {
		raw.t.Errorf("%s (%s): the server ignores it: %v, want %v", c.Name, c.Why, ignored, fate.Ignored)
		return
	} else if ignored {
		return
	}
	r.taken++
	r.last = answer.Sequence
	r.events += int64(fate.Folded)
	r.dead += len(fate.Dead)
	r.folded[c.Name] += int64(fate.Folded)
	if fate.Folded+len(fate.Dead) > 0 {
		r.counted++
	}
	if len(fate.Dead) > 0 {
		r.letters[answer.Sequence] = letters{c.Name, maps.Clone(fate.Dead)}
	}
	if len(fate.Holds) > 0 {
		r.held = append(r.held, badinput.Case{Name: c.Name, Why: c.Why, Messages: []badinput.Message{m}})
	}
}

// checkFolded compares what a level says with what was sent: every case and every
// neighbour, and nothing besides.
func (r *corpusRun) checkFolded(h *harness, level aggregation.Granularity) {
	h.t.Helper()
	got := h.counts(fmt.Sprintf(`SELECT applicationid, sum(totalrequestcount)::bigint FROM weir_view.apiuserperappagg_%[1]s GROUP BY 1
		UNION ALL SELECT "case", sum(events)::bigint FROM weir_view.probeagg_%[1]s GROUP BY 1`, level))
	for name, want := range r.folded {
		if got[name] != want {
			h.t.Errorf("%s of %s: %d events, want %d", level, name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		h.t.Errorf("%s hold besides: %v", level, got)
	}
}

// heldIn tells where an attribute is found beside the case that it belongs to.
func heldIn(m badinput.Message, attribute string) (view, column, name string) {
	column = strings.ToLower(attribute)
	switch {
	case strings.HasPrefix(m.Subject, "events.probe."):
		return "probeagg", column, `"case"`
	case attribute == "apiResourceTemplate":
		return "apirespathperapp", column, "applicationid"
	case attribute == "responseCode":
		return "apierroranalysisagg", column, "applicationid"
	}
	return "apiuserperappagg", column, "applicationid"
}

func (r *corpusRun) checkHeld(h *harness) {
	h.t.Helper()
	for _, c := range r.held {
		for attribute, want := range c.Messages[0].Fate.Holds {
			view, column, name := heldIn(c.Messages[0], attribute)
			expression := column + "::text"
			if attribute == "bucket" {
				expression = `to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`
			}
			got := ask[string](h, fmt.Sprintf(`SELECT string_agg(DISTINCT %s, ' and ') FROM weir_view.%s_seconds WHERE %s = $1`, expression, view, name), c.Name)
			if got != want {
				h.t.Errorf("%s (%s): %s holds %.200q, want %q", c.Name, c.Why, attribute, got, want)
			}
		}
	}
}

// checkDeadLetters reads the dead letters in both ways in which they are read.
func (r *corpusRun) checkDeadLetters(h *harness) {
	h.t.Helper()
	stored, err := h.db.DeadLetters(h.t.Context(), store.DeadLetterFilter{Limit: 10_000})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range stored {
		reasons := r.letters[l.Sequence].reasons
		want, ok := reasons[l.Offset]
		if !ok || !strings.Contains(l.Reason, want) {
			h.t.Errorf("dead letter of %q, offset %d: %.200q (payload %.100q), want %q", r.letters[l.Sequence].name, l.Offset, l.Reason, l.Payload, want)
		}
		delete(reasons, l.Offset)
		if at := strings.IndexFunc(l.Reason, func(c rune) bool { return !unicode.IsPrint(c) }); at >= 0 || len(l.Reason) > 1000 {
			h.t.Errorf("dead letter of %q: a reason of %d bytes that does not print from %d on: %.200q", r.letters[l.Sequence].name, len(l.Reason), at, l.Reason)
		}
		if _, err := h.db.DeadLetter(h.t.Context(), l.ID); err != nil {
			h.t.Error(err)
		}
	}
	for _, missing := range r.letters {
		if len(missing.reasons) > 0 {
			h.t.Errorf("%s: no dead letters %v", missing.name, missing.reasons)
		}
	}
	api := httptest.NewServer(query.NewHandler(query.Server{Catalog: h.catalog, DB: h.db}))
	defer api.Close()
	var answer struct {
		DeadLetters []query.DeadLetter `json:"dead_letters"`
	}
	response, err := http.Get(api.URL + "/api/v1/deadletters?limit=10000")
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.DeadLetters) != len(stored) {
		h.t.Errorf("the API shows %d dead letters of %d: %v", len(answer.DeadLetters), len(stored), err)
	}
	for i, l := range answer.DeadLetters {
		if want := query.NewDeadLetter(stored[i]); l != want {
			h.t.Errorf("the API shows %+v, want %+v", l, want)
		}
	}
}

// checkConsumer holds that everything is acknowledged, at the first attempt.
func (r *corpusRun) checkConsumer(h *harness) {
	h.t.Helper()
	nc, err := nats.Connect(h.servers.nats)
	if err != nil {
		h.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		h.t.Fatal(err)
	}
	consumer, err := js.Consumer(h.t.Context(), stream.EventsStream, stream.FoldConsumer)
	if err != nil {
		h.t.Fatal(err)
	}
	info := consumer.CachedInfo()
	if info.AckFloor.Stream != r.last || info.NumAckPending != 0 || info.NumPending != 0 || info.NumRedelivered != 0 {
		h.t.Errorf("ack floor %d of %d, %d to be acknowledged, %d to be delivered, %d delivered again",
			info.AckFloor.Stream, r.last, info.NumAckPending, info.NumPending, info.NumRedelivered)
	}
}

// checkLogs holds that each record is one line that prints.
func checkLogs(t *testing.T, logs *logBuffer) {
	t.Helper()
	logs.mu.Lock()
	defer logs.mu.Unlock()
	if len(logs.lines) == 0 {
		t.Error("nothing was logged at all")
	}
	for _, line := range logs.lines {
		text, ended := strings.CutSuffix(line, "\n")
		odd := strings.IndexFunc(text, func(c rune) bool { return c != '\t' && !unicode.IsPrint(c) })
		if !ended || odd >= 0 || !bytes.Equal([]byte(text), []byte(strings.ToValidUTF8(text, ""))) {
			t.Errorf("a record that does not print: %.300q", line)
		}
		if strings.Contains(line, "trying again") {
			t.Errorf("a batch failed: %.500s", line)
		}
	}
}
