package query_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/query"
	"weir/pkg/store"
)

// serve starts the API over the definition.
func serve(t *testing.T, db *store.DB, def *aggregation.Definition, change func(*query.Server)) string {
	t.Helper()
	catalog := catalogOf(def)
	catalog.Rules = []*alert.Rule{{Name: "tier-crossing"}}
	s := query.Server{
		Catalog: catalog, DB: db,
		State: func(context.Context) (time.Time, error) { return time.Date(2026, 11, 22, 10, 0, 0, 500, time.UTC), nil },
	}
	if change != nil {
		change(&s)
	}
	server := httptest.NewServer(query.NewHandler(s))
	t.Cleanup(server.Close)
	return server.URL
}

// get returns status, content type and body.
func get(t *testing.T, method, address string) (status int, contentType, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), string(data)
}

func TestHandler_AnswersQuestions(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).UnixMicro()
	insert(t, raw, def, pack(def, []call{
		{at: at, seq: 1, shard: "a", api: "</x>", bytes: 3, label: "l"}, {at: at + 1, seq: 2, shard: "b", api: "</x>", bytes: 4, load: 0.5, label: "m"},
	}, 1))
	base := serve(t, db, def, nil)
	status, kind, body := get(t, "GET", base+"/api/v1/aggregations/Calls?per=hours&group_by=bucket&select=bucket,sum(hits),apiName,avgBytes&within=2026-11-22+00:00:00,2026-11-23T05:30:00+05:30")
	want := "{\"columns\":[\"bucket\",\"sum(hits)\",\"apiName\",\"avgBytes\"],\"rows\":[\n[\"2026-11-22T10:00:00Z\",2,\"</x>\",3.5]],\"complete_through\":\"2026-11-22T10:00:00.0000005Z\"}\n"
	if status != 200 || kind != "application/json" || body != want {
		t.Errorf("got %d %s %s\nwant %s", status, kind, body, want)
	}
	client := query.Client{URL: base}
	values := url.Values{"within": {"2026-11-22,2026-11-23"}, "per": {"years"}}
	answer, err := client.Ask(t.Context(), "Calls", values)
	if err != nil || len(answer.Rows) != 0 || answer.Rows == nil || answer.CompleteThrough.Year() != 2026 {
		t.Errorf("a bucket that starts before the interval: got %+v, %v, want no rows", answer, err)
	}
	values.Set("per", "days")
	if answer, err = client.Ask(t.Context(), "Calls", values); err != nil {
		t.Fatal(err)
	}
	var again strings.Builder
	if err := answer.WriteJSON(&again); err != nil {
		t.Fatal(err)
	}
	if _, _, body := get(t, "GET", base+"/api/v1/aggregations/Calls?"+values.Encode()); body != again.String() {
		t.Errorf("the client writes %s, the API %s", again.String(), body)
	}
}

func TestHandler_RefusesWithAProblem(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	base := serve(t, db, def, nil)
	good := "/api/v1/aggregations/Calls?within=2026-01-01,2026-01-02&per=days"
	for _, tt := range []struct {
		method, path string
		status       int
		detail       string
	}{
		{"GET", "/api/v1/aggregations/Nothing?" + strings.SplitAfter(good, "?")[1], 400, "there is no aggregation"},
		{"GET", "/api/v1/aggregations/Nothing", 400, "there is no aggregation"},
		{"GET", good + "&per=hours", 400, "per is given 2 times"},
		{"GET", good + "&select=hit", 400, "did you mean hits?"},
		{"GET", good + "&where=a%zz", 400, "not readable"},
		{"GET", good + "&where=cached+&&+cached", 400, "write & in a condition as %26"},
		{"GET", good + "&where=cached;", 400, "not readable"},
		{"POST", good, 405, "read with GET"},
		{"GET", "/api/v2/aggregations", 404, "there is nothing here"},
		{"GET", "/api/v1/alerts?rule=tier-crosing", 400, "did you mean tier-crossing?"},
		{"GET", "/api/v1/alerts?scope=world", 400, "there are: local, global"},
		{"GET", "/api/v1/alerts?state=on", 400, "there are: firing, resolved, all"},
		{"GET", "/api/v1/alerts?severity=4", 400, "there are: 1, 2, 3"},
		{"GET", "/api/v1/alerts?severity=1&severity=2", 400, "severity is given 2 times"},
		{"GET", "/api/v1/alerts?since=yesterday", 400, "or how long ago, as 2h"},
		{"GET", "/api/v1/alerts?since=1h&until=2h", 400, "since must be before until"},
		{"GET", "/api/v1/alerts?key=apiName", 400, "write it as NAME=VALUE"},
		{"GET", "/api/v1/alerts?key=a=1&key=a=2", 400, "a is given twice"},
		{"GET", "/api/v1/alerts?key=a=%00", 400, "is no text"},
		{"GET", "/api/v1/alerts/nothing", 404, "there is no alert"},
		{"GET", "/api/v1/alerts/%00", 404, "there is no alert"},
		{"GET", "/api/v1/alerts/x/ack", 405, "there are: POST"},
		{"GET", "/api/v1/alerts/stream?state=firing", 400, "there is no parameter"},
		{"GET", "/api/v1/alerts/stream?after=x", 400, "no alert's number"},
		{"GET", "/api/v1/alerts/stream?after=-1", 400, "no alert's number"},
		{"POST", "/api/v1/alerts/stream", 405, "read with GET"},
		{"GET", "/api/v1/silences?state=old", 400, "there are: active, all"},
		{"PATCH", "/api/v1/silences", 405, "GET, POST"},
		{"DELETE", "/api/v1/silences/x", 400, "no silence's number"},
		{"DELETE", "/api/v1/silences/7", 404, "there is no silence 7"},
		{"GET", "/api/v1/availability?state=on", 400, "server error"},
		{"GET", "/api/v1/alerts?limit=0", 400, "a number from 1 to"},
		{"GET", "/api/v1/alerts?sscope=local", 400, "did you mean scope?"},
		{"GET", "/api/v1/deadletters/7", 404, "there is no dead letter 7"},
		{"GET", "/api/v1/deadletters/x", 400, "no dead letter's number"},
	} {
		status, kind, body := get(t, tt.method, base+tt.path)
		var problem struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Errorf("%s: %s: %v", tt.path, body, err)
		}
		if status != tt.status || kind != "application/problem+json" || problem.Status != tt.status || problem.Title == "" || !strings.Contains(problem.Detail, tt.detail) {
			t.Errorf("%s %s: got %d %s %s, want %d with %q", tt.method, tt.path, status, kind, body, tt.status, tt.detail)
		}
	}
	client := query.Client{URL: base}
	var refused *query.Error
	if _, err := client.Ask(t.Context(), "Nothing", url.Values{"per": {"days"}}); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("client: got %v, want a query.Error with status 400", err)
	}

	exec(t, raw, `DROP TABLE weir_data.calls_seconds CASCADE`)
	if status, _, body := get(t, "GET", base+good); status != 503 || !strings.Contains(body, "weir apply") {
		t.Errorf("without tables: got %d %s, want 503", status, body)
	}
}

func TestHandler_TellsWhatKeepsItFromAnswering(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	insert(t, raw, def, pack(def, traffic(6, 300, at), 10))
	errs := make(chan error, 10)
	report := func(_ string, err error) { errs <- err }
	question := "/api/v1/aggregations/Calls?within=2026-01-01,2026-01-02&per=hours"

	slow := serve(t, db, def, func(s *query.Server) { s.OnError, s.Timeout = report, time.Nanosecond })
	if status, _, body := get(t, "GET", slow+question); status != 504 {
		t.Errorf("too slow: got %d %s, want 504", status, body)
	}
	if err := <-errs; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reported %v, want that the deadline was exceeded", err)
	}

	away := serve(t, db, def, func(s *query.Server) {
		s.OnError = report
		s.State = func(context.Context) (time.Time, error) { return time.Time{}, errors.New("NATS is away") }
	})
	status, _, body := get(t, "GET", away+question+"&group_by=&select=count()>0")
	if status != 200 || !strings.Contains(body, `"complete_through":null`) {
		t.Errorf("NATS away: got %d %s, want an answer without complete_through", status, body)
	}
	if err := <-errs; !strings.Contains(err.Error(), "NATS is away") {
		t.Errorf("reported %v, want that NATS is away", err)
	}

	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	closed, err := store.Open(t.Context(), store.Config{URL: "postgres://nobody:secret@127.0.0.1:1/none"})
	if err == nil {
		t.Fatalf("got %v, want no connection", closed)
	}
	if !store.Unavailable(err) {
		t.Errorf("%v: not seen as unavailable", err)
	}
}

func TestHandler_DescribesWhatThereIs(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	exec(t, raw, `INSERT INTO weir.alert (id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, shard_id)
		SELECT 'id' || i, 'tier-crossing', '', 'local', 'firing', '{"user":"u"}', 2, 'm', i, 1, '2026-01-01'::timestamptz + i * interval '1 s', 'w1' FROM generate_series(1, 3) i`)
	exec(t, raw, `INSERT INTO weir.dead_letter (reason, source, subject, msg_id, sequence, event_offset, stored_at, shard_id, payload, payload_size)
		VALUES ('bad time', 'gw', 'events.request.gw', 'gw/e/1', 5, 2, '2026-01-01Z', 'w1', '{"a":"<"}', 9), ('not JSON', 'gw', 'events.request.gw', '', 6, -1, '2026-01-01Z', 'w1', '\xff', 1)`)
	base := serve(t, db, def, nil)
	client := query.Client{URL: base + "/"}

	list, err := client.Aggregations(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v, want one aggregation", list, err)
	}
	got := fmt.Sprintf("%+v", list[0])
	for _, want := range []string{"Name:Calls", "{Name:code Type:int}", "{Name:avgBytes Op:avg Arg:bytes Type:float}", "Granularities:[seconds minutes", "seconds:72h0m0s years:forever", "Zone:UTC"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %q in it", got, want)
		}
	}
	exec(t, raw, `INSERT INTO weir.shard (shard_id, owner, events, last_batch, retired_at) VALUES ('a', 'host', 7, 3, '2026-01-01Z')`)
	status, _, shards := get(t, http.MethodGet, base+"/api/v1/shards")
	if want := `"shard_id":"a","state":"retired"`; status != http.StatusOK || !strings.Contains(shards, want) || !strings.Contains(shards, `"events":7`) ||
		!strings.Contains(shards, `"levels_behind":5,"levels":5,"retired_at":"2026-01-01T00:00:00Z"`) {
		t.Errorf("got %d %s, want %s", status, shards, want)
	}
	alerts, err := client.Alerts(t.Context(), store.AlertFilter{Rule: "tier-crossing", Scope: "local", State: "firing", Limit: 2})
	if err != nil || len(alerts) != 2 || alerts[0].ID != "id3" || alerts[0].Key["user"] != "u" {
		t.Errorf("got %v, %v, want the newest two alerts", alerts, err)
	}
	if alerts, err := client.Alerts(t.Context(), store.AlertFilter{Scope: "global"}); err != nil || len(alerts) != 0 {
		t.Errorf("got %v, %v, want no global alerts", alerts, err)
	}
	letters, err := client.DeadLetters(t.Context(), "", "", "", 0)
	if err != nil || len(letters) != 2 || letters[0].PayloadBase64 != "/w==" || letters[1].Payload != `{"a":"<"}` {
		t.Errorf("got %+v, %v, want both dead letters", letters, err)
	}
	if letter, err := client.DeadLetter(t.Context(), letters[1].ID); err != nil || letter != letters[1] {
		t.Errorf("got %+v, %v, want %+v", letter, err, letters[1])
	}
	for path, want := range map[string]string{
		"/api/v1/":                    "Calls by API, &lt;status&gt; &amp; cache",
		"/api/v1/aggregations/calls":  `"name":"Calls"`,
		"/api/v1/alerts?rule=&limit=": `"alerts":[{"id":"id3"`,
	} {
		if status, _, body := get(t, "GET", base+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %s, want %q in it", path, status, body, want)
		}
	}
}

func TestHandler_RefusesNumbersThatAreTooLarge(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	insert(t, raw, def, pack(def, []call{{at: at, seq: 1, shard: "a", api: "x", load: 1e308}}, 1))
	base := serve(t, db, def, nil)
	status, _, body := get(t, "GET", base+"/api/v1/aggregations/Calls?within=2026-01-01,2026-01-02&per=seconds&select=most*10")
	if status != 400 || !strings.Contains(body, "too large") {
		t.Errorf("got %d %s, want 400", status, body)
	}
}

// An answer of 60 MB is more than the sockets on its way hold: Postgres is
// still sending it when the session is ended.
func TestHandler_BreaksOffAnAnswerThatFailsHalfWay(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	exec(t, raw, `
		INSERT INTO weir_data.calls_seconds
			(bucket, shard_id, batch_no, apiname, code, cached, weir_events, weir_checksum, bytes, avgbytes, least, most, label, seenat, weir_last_time, weir_last_seq)
		SELECT '2026-01-01Z', 'a', 1, ARRAY[''] || array_agg(repeat('x', 300) || i), array_agg(i), array_agg(true), array_agg(i), 0, array_agg(i), array_agg(i),
			array_agg(0.5), array_agg(0.5), ARRAY[''] || array_agg(''::text), array_agg('2026-01-01Z'::timestamptz), ARRAY[''] || array_agg(i::text), ARRAY[''] || array_agg(i::text)
		FROM generate_series(1::bigint, 200000) i`)
	errs := make(chan error, 10)
	base := serve(t, db, def, func(s *query.Server) { s.OnError = func(_ string, err error) { errs <- err } })
	response, err := http.Get(base + "/api/v1/aggregations/Calls?within=2026-01-01,2026-01-02&per=seconds")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.ReadFull(response.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	exec(t, raw, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	n, err := io.Copy(io.Discard, response.Body)
	if response.StatusCode != 200 || err == nil {
		t.Errorf("got status %d, %d bytes and error %v, want an answer that is visibly broken off", response.StatusCode, n, err)
	}
	if err := <-errs; !store.Unavailable(err) {
		t.Errorf("reported %v, want that Postgres went away", err)
	}
}
