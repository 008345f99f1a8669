package query_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pkg/query"
)

// control says what flushes say beside rows: that so many events of Calls are in a
// quarter of an hour.
func control(t *testing.T, raw *sql.DB, period string, events int) {
	t.Helper()
	exec(t, raw, `INSERT INTO weir.shard (shard_id, owner) VALUES ('a', 'host') ON CONFLICT DO NOTHING`)
	exec(t, raw, `INSERT INTO weir.control (aggregation, shard_id, period, events, checksum) VALUES ('Calls', 'a', $1, $2, $2)
		ON CONFLICT (aggregation, period, shard_id) DO UPDATE SET events = excluded.events, checksum = excluded.checksum`, period, events)
}

func TestLimits_SayWhatIsPossible(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	insert(t, raw, def, pack(def, traffic(3, 300, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), 10))
	control(t, raw, "2026-01-01 00:00:00Z", 300)
	control(t, raw, "2026-01-01 00:15:00Z", 300)
	base := serve(t, db, def, func(s *query.Server) { s.Limits = query.Limits{Buckets: 1000, Rows: 20} })
	const calls = "/api/v1/aggregations/Calls?"
	for _, tt := range []struct {
		question string
		status   int
		detail   string
	}{
		{"within=2026-01-01,2027-01-01&per=seconds&group_by=", 400, "there are about 1,800 buckets of seconds with events, and a question may be about 1,000; per=minutes is possible, or a within of 16m40s"},
		{"within=2026-01-01+00:00:00,2026-01-01+00:16:40&per=seconds&group_by=", 200, ""},
		{"within=2026-01-01+00:00:00,2026-01-01+00:16:41&per=seconds&group_by=", 400, "buckets of seconds"},
		{"within=1990-01-01,2200-01-01&per=minutes&group_by=", 200, ""}, // a hundred million, and thirty with events
		{"within=2026-01-02,2027-01-01&per=seconds&group_by=", 200, ""}, // none with events
		{"within=0001-01-01,9999-12-31&per=minutes&group_by=", 200, ""},
		{"within=2026-01-01,2026-01-02&per=minutes&limit=21", 400, "at most 20 rows"},
		{"within=2026-01-01,2026-01-02&per=minutes&limit=20", 200, ""},
		{"within=2026-01-01,2026-01-02&per=minutes", 400, "and may have 20: ask for fewer with where"},
		{"within=2026-01-01,2026-01-02&per=minutes&format=csv", 400, "and may have 20"},
		{"within=2026-01-01,2026-01-02&per=minutes&group_by=apiName", 200, ""},
	} {
		got := request(t, http.MethodGet, base+calls+tt.question, "")
		if got.status != tt.status || !strings.Contains(got.body, tt.detail) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.question, got.status, got.body, tt.status, tt.detail)
		}
		if tt.status == 400 && got.header.Get("Content-Disposition") != "" {
			t.Errorf("%s: a problem is to be saved", tt.question)
		}
	}
	// As many as there are is not too many, counted without what offset leaves out.
	all := request(t, http.MethodGet, serve(t, db, def, nil)+calls+"within=2026-01-01,2026-01-02&per=minutes&format=ndjson", "")
	rows := strings.Count(all.body, "\n")
	for most, status := range map[int]int{rows: 200, rows - 1: 400} {
		base := serve(t, db, def, func(s *query.Server) { s.Limits.Rows = most })
		if got := request(t, http.MethodGet, base+calls+"within=2026-01-01,2026-01-02&per=minutes", ""); got.status != status {
			t.Errorf("%d rows, at most %d: got %d %.200s, want %d", rows, most, got.status, got.body, status)
		}
		if got := request(t, http.MethodGet, base+calls+"within=2026-01-01,2026-01-02&per=minutes&offset=1", ""); got.status != 200 {
			t.Errorf("%d rows but one, at most %d: got %d %.200s", rows, most, got.status, got.body)
		}
	}
	if _, problem, refused := (query.Server{Catalog: catalogOf(def), DB: db, Limits: query.Limits{Rows: 20}}).Message(t.Context(),
		[]byte(`{"aggregation": "Calls", "within": "2026-01-01,2026-01-02", "per": "minutes"}`), 1<<20); refused == nil || !strings.Contains(string(problem), "may have 20") {
		t.Errorf("over NATS: got %s, %v", problem, refused)
	}
}

func TestETag_ChangesWithTheNumbers(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	insert(t, raw, def, pack(def, []call{{at: at.UnixMicro(), seq: 1, shard: "a", api: "x", bytes: 3, label: "l"}}, 1))
	control(t, raw, "2026-11-20 10:00:00Z", 1)
	base := serve(t, db, def, nil) // complete through 22 November, 10:00
	const question = "/api/v1/aggregations/Calls?within=2026-11-20,2026-11-21&per=days&select=hits"
	first := request(t, http.MethodGet, base+question, "")
	tag := first.header.Get("ETag")
	if first.status != 200 || !strings.HasPrefix(tag, `W/"`) || first.header.Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("got %d %v", first.status, first.header)
	}
	same := func(what, question, tag string, want int) answered {
		t.Helper()
		got := request(t, http.MethodGet, base+question, "", "If-None-Match: "+tag)
		if got.status != want || want == 304 && (got.body != "" || got.header.Get(query.HeaderCompleteThrough) == "") {
			t.Errorf("%s: got %d %s %v, want %d", what, got.status, got.body, got.header, want)
		}
		return got
	}
	same("the same", question, tag, 304)
	same("one of several", question, `"x", `+tag, 304)
	same("another format", question+"&format=csv", tag, 200)
	same("another question", strings.Replace(question, "hits", "bytes", 1), tag, 200)
	same("another range", strings.Replace(question, "11-20,", "11-19,", 1), tag, 200)

	control(t, raw, "2026-11-19 23:45:00Z", 1)
	control(t, raw, "2026-11-21 00:00:00Z", 1)
	same("events before and after", question, tag, 304)
	insert(t, raw, def, pack(def, []call{{at: at.Add(time.Hour).UnixMicro(), seq: 2, shard: "b", api: "x", bytes: 3, label: "l"}}, 1))
	control(t, raw, "2026-11-20 11:00:00Z", 1)
	late := same("a late event", question, tag, 200)
	if !strings.Contains(late.body, "[2]") || late.header.Get("ETag") == tag {
		t.Errorf("a late event: got %s %v", late.body, late.header)
	}
	exec(t, raw, `INSERT INTO weir.purged (aggregation, level, before) VALUES ('Calls', 'seconds', '2026-11-20 11:00:00Z')`)
	same("purged", question, late.header.Get("ETag"), 200)

	for what, question := range map[string]string{
		"its time is not over":        strings.Replace(question, "11-21", "11-23", 1),
		"its last bucket is not over": "/api/v1/aggregations/Calls?within=2026-11-01,2026-11-21&per=months&select=hits",
	} {
		if got := same(what, question, "*", 200); got.header.Get("ETag") != "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %v", what, got.header)
		}
	}
	for _, path := range []string{"/openapi.json", "/api/v1/catalogue", "/api/v1/aggregations", "/api/v1/aggregations/Calls"} {
		tag := request(t, http.MethodGet, base+path, "").header.Get("ETag")
		if got := request(t, http.MethodGet, base+path, "", "If-None-Match: "+tag); tag == "" || got.status != 304 || got.body != "" {
			t.Errorf("%s, tag %s: got %d %s, want 304", path, tag, got.status, got.body)
		}
	}
}

// waitFor waits until there are so many statements of questions in Postgres.
func waitFor(t *testing.T, raw *sql.DB, what string, want int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var n int
		err := raw.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%weir_data%'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d questions are being answered, want %d", what, n, want)
		}
	}
}

// Postgres works for nobody: neither on an answer that is not begun, nor on one that
// it is sending.
func TestHandler_StopsPostgresWhenTheClientGoes(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	exec(t, raw, `
		INSERT INTO weir_data.calls_seconds
			(bucket, shard_id, batch_no, apiname, code, cached, weir_events, weir_checksum, bytes, avgbytes, least, most, label, seenat, weir_last_time, weir_last_seq)
		SELECT '2026-01-01Z', 'a', 1, ARRAY[''] || array_agg(repeat('x', 300) || i), array_agg(i), array_agg(true), array_agg(i), 0, array_agg(i), array_agg(i),
			array_agg(0.5), array_agg(0.5), ARRAY[''] || array_agg(''::text), array_agg('2026-01-01Z'::timestamptz), ARRAY[''] || array_agg(i::text), ARRAY[''] || array_agg(i::text)
		FROM generate_series(1::bigint, 200000) i`)
	base := serve(t, db, def, nil)
	const question = "/api/v1/aggregations/Calls?within=2026-01-01,2026-01-02&per=seconds"
	const sent = `{"aggregation": "Calls", "within": "2026-01-01,2026-01-02", "per": "seconds"}`
	ask := func(ctx context.Context, method, address, body string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, method, base+address, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		return http.DefaultClient.Do(r)
	}

	response, err := ask(t.Context(), http.MethodGet, question, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, raw, "while it is sent", 1)
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, raw, "half is sent, and the client has gone", 0)

	lock, err := raw.BeginTx(t.Context(), nil) // makes any question take for ever
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.ExecContext(t.Context(), `LOCK TABLE weir_data.calls_seconds`); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][3]string{{http.MethodGet, question, ""}, {http.MethodPost, "/api/v1/questions", sent}} {
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			response, err := ask(ctx, r[0], r[1], r[2])
			if err == nil {
				err = response.Body.Close()
			}
			gone <- err
		}()
		waitFor(t, raw, r[0]+" waits", 1)
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", r[0], err)
		}
		waitFor(t, raw, r[0]+": the client has gone", 0)
	}
}

// What takes too long is ended in Postgres too.
func TestHandler_StopsPostgresWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	lock, err := raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.ExecContext(t.Context(), `LOCK TABLE weir_data.calls_seconds`); err != nil {
		t.Fatal(err)
	}
	base := serve(t, db, def, func(s *query.Server) { s.Timeout = 300 * time.Millisecond })
	got := request(t, http.MethodGet, base+"/api/v1/aggregations/Calls?within=2026-01-01,2026-01-02&per=seconds", "")
	if got.status != http.StatusGatewayTimeout || !strings.Contains(got.body, "a shorter interval") {
		t.Errorf("got %d %s, want 504", got.status, got.body)
	}
	waitFor(t, raw, "the time is over", 0)
}

// No more questions than there is room for are answered at a time, and those whose
// turn does not come are told so.
func TestHandler_AnswersQuestionsInTurn(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	lock, err := raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.ExecContext(t.Context(), `LOCK TABLE weir_data.calls_seconds`); err != nil {
		t.Fatal(err)
	}
	question := func(n int) string { // no two are answered by one statement
		return fmt.Sprintf("/api/v1/aggregations/Calls?within=2026-01-01,2026-01-%02d&per=seconds", n+2)
	}
	base := serve(t, db, def, nil)
	hasty := serve(t, db, def, func(s *query.Server) { s.Timeout = 100 * time.Millisecond })
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			if got := request(t, http.MethodGet, base+question(n), ""); got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	waitFor(t, raw, "ten are asked", 4)
	if got := request(t, http.MethodGet, hasty+question(20), ""); got.status != 503 || !strings.Contains(got.body, "turn did not come") {
		t.Errorf("who waits too long: got %d %s, want 503", got.status, got.body)
	}
	if got := request(t, http.MethodGet, base+"/api/v1/shards", ""); got.status != 200 {
		t.Errorf("what is no question: got %d %s", got.status, got.body)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}
