package query_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/pkg/query"
	"weir/pkg/store"
)

// alertCatalog has two rules.
func alertCatalog(defs ...*aggregation.Definition) *definition.Catalog {
	key := func(names ...string) (parts []alert.KeyPart) {
		for _, name := range names {
			parts = append(parts, alert.KeyPart{Name: name})
		}
		return parts
	}
	return &definition.Catalog{Aggregations: defs, Rules: []*alert.Rule{
		{Name: "tier-crossing", Cases: []alert.Case{{Name: "a", Key: key("apiName", "applicationId")}, {Name: "b", Key: key("username")}}},
		{Name: "api-health", Cases: []alert.Case{{Name: "slow", Key: key("apiName", "apiVersion")}}},
	}}
}

// serveAlerts starts the API over an empty database, with a clock that stands.
func serveAlerts(t testing.TB, now time.Time, defs ...*aggregation.Definition) (base string, db *store.DB) {
	t.Helper()
	db, _ = database(t, defs...)
	server := httptest.NewServer(query.NewHandler(query.Server{Catalog: alertCatalog(defs...), DB: db, Now: func() time.Time { return now }}))
	t.Cleanup(server.Close)
	return server.URL, db
}

func record(t testing.TB, db *store.DB, alerts ...alert.Alert) {
	t.Helper()
	if err := db.InTx(t.Context(), func(tx *store.Tx) error { return tx.WriteAlerts(t.Context(), alerts) }); err != nil {
		t.Fatal(err)
	}
}

func crossing(id string) alert.Alert {
	return alert.Alert{
		ID: id, Rule: "tier-crossing", Case: "a", Scope: alert.ScopeGlobal, State: alert.Firing, Severity: 3, Message: "m",
		Key: map[string]string{"apiName": "Shop & <Söhne>", "applicationId": "7"}, FiredAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func refusal(err error) (status int) {
	var refused *query.Error
	if errors.As(err, &refused) {
		status = refused.Status
	}
	return status
}

func TestAlerts_AreFoundShownAndAcknowledged(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	base, db := serveAlerts(t, now)
	client := query.Client{URL: base}
	fired, other := crossing("abc1"), crossing("abd2")
	other.Key, other.FiredAt = map[string]string{"username": "anna"}, now.Add(-time.Hour)
	over := fired
	over.ID, over.FiringID, over.State, over.ResolvedAt = "xyz", fired.ID, alert.Resolved, now.Add(-time.Minute)
	record(t, db, fired, other, over)

	for _, test := range []struct {
		values url.Values
		want   string
	}{
		{url.Values{}, "abd2 abc1 xyz"},
		{url.Values{"state": {"firing"}}, "abd2"},
		{url.Values{"state": {"all"}, "severity": {"2"}}, ""},
		{url.Values{"key": {"apiName=Shop & <Söhne>", "applicationId=7"}}, "abc1 xyz"},
		{url.Values{"since": {"90m"}}, "abd2"},
		{url.Values{"since": {"2026-01-01"}, "until": {"2026-01-01T00:30:00Z"}}, "abc1 xyz"},
		{url.Values{"rule": {"tier-crossing"}, "scope": {"global"}, "limit": {"1"}}, "abd2"},
	} {
		alerts, err := client.AlertsBy(t.Context(), test.values)
		var ids []string
		for _, a := range alerts {
			ids = append(ids, a.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != test.want {
			t.Errorf("%v: got %s, %v, want %s", test.values, got, err, test.want)
		}
	}

	known, err := client.Alert(t.Context(), "abc")
	if err != nil || known.Alert.ID != "abc1" || known.Resolution == nil || !reflect.DeepEqual(*known.Resolution, over) || known.Ack != nil || known.Published || known.Silences == nil || known.Notifications == nil {
		t.Errorf("got %+v, %v", known, err)
	}
	acked, err := client.AckAlert(t.Context(), "xyz", "anna", "<looking>")
	if want := (alert.Ack{By: "anna", Comment: "<looking>", At: now}); err != nil || acked.Ack == nil || *acked.Ack != want || acked.Fired == nil || acked.Fired.ID != "abc1" {
		t.Errorf("got %+v, %v, want %+v", acked, err, want)
	}
	if known, err = client.Alert(t.Context(), "abc1"); err != nil || known.Ack == nil || known.Ack.By != "anna" {
		t.Errorf("got %+v, %v, want who acknowledged it", known, err)
	}
	for id, want := range map[string]int{"ab": 400, "nothing": 404, "a/b": 404} {
		if _, err := client.Alert(t.Context(), id); refusal(err) != want {
			t.Errorf("show %s: got %v, want status %d", id, err, want)
		}
		if _, err := client.AckAlert(t.Context(), id, "anna", ""); refusal(err) != want {
			t.Errorf("ack %s: got %v, want status %d", id, err, want)
		}
	}
	if _, err := client.AckAlert(t.Context(), "abc1", "", "by nobody"); refusal(err) != 400 || !strings.Contains(err.Error(), "by is missing") {
		t.Errorf("by nobody: got %v", err)
	}
	login := query.Client{URL: strings.Replace(base, "http://", "http://berta:secret@", 1)}
	if acked, err := login.AckAlert(t.Context(), "abc1", "", ""); err != nil || acked.Ack.By != "berta" {
		t.Errorf("by who is logged in: got %+v, %v", acked.Ack, err)
	}
}

func TestSilences_AreMadeShownAndEnded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	base, db := serveAlerts(t, now)
	client := query.Client{URL: base}
	record(t, db, crossing("abc1"))
	silence := alert.Silence{Rule: "tier-crossing", Match: map[string]string{"apiName": "Shop & <Söhne>"}, EndsAt: now.Add(time.Hour), By: "anna", Comment: "load test"}
	added, err := client.AddSilence(t.Context(), silence)
	if err != nil || added.ID == 0 || !added.StartsAt.Equal(now) || !added.EndsAt.Equal(silence.EndsAt) || !reflect.DeepEqual(added.Match, silence.Match) {
		t.Fatalf("got %+v, %v, want %+v from now on", added, err, silence)
	}
	if list, err := client.Silences(t.Context(), false); err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], added) {
		t.Errorf("got %+v, %v, want %+v", list, err, added)
	}
	if known, err := client.Alert(t.Context(), "abc1"); err != nil || len(known.Silences) != 1 || known.Silences[0].ID != added.ID {
		t.Errorf("got %+v, %v, want the silence", known.Silences, err)
	}
	ended, err := client.EndSilence(t.Context(), added.ID)
	if err != nil || !ended.EndsAt.Equal(now) {
		t.Errorf("got %+v, %v, want that it ends now", ended, err)
	}
	if _, err := client.EndSilence(t.Context(), added.ID); refusal(err) != 404 {
		t.Errorf("ended twice: got %v", err)
	}
	active, err := client.Silences(t.Context(), false)
	all, err2 := client.Silences(t.Context(), true)
	if err = errors.Join(err, err2); err != nil || len(active) != 0 || len(all) != 1 {
		t.Errorf("got %v of %v, %v, want one that has ended", active, all, err)
	}
}

// send sends a body as a program or, with headers, a browser does.
func send(t testing.TB, method, address, body string, headers ...string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		}
		request.Header.Set(headers[i], headers[i+1])
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
	return response.StatusCode, string(data)
}

func TestWrites_AreRefusedWhereTheyAreWrongOrFromAnotherSite(t *testing.T) {
	t.Parallel()
	base, db := serveAlerts(t, time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC))
	record(t, db, crossing("abc1"))
	const good = `{"rule": "tier-crossing", "for": "1h", "by": "anna", "comment": "x"}`
	for _, test := range []struct {
		path, body string
		headers    []string
		status     int
		detail     string
	}{
		{"silences", good, nil, 201, `"id":`},
		{"silences", good, []string{"Origin", base, "Sec-Fetch-Site", "same-origin"}, 201, `"id":`},
		{"silences", good, []string{"Content-Type", "text/plain"}, 415, "must be JSON"},
		{"silences", good, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "must be JSON"},
		{"silences", good, []string{"Content-Type", ""}, 415, "must be JSON"},
		{"silences", good, []string{"Sec-Fetch-Site", "cross-site"}, 403, "another site"},
		{"silences", good, []string{"Sec-Fetch-Site", "same-site"}, 403, "another site"},
		{"silences", good, []string{"Origin", "https://evil.example"}, 403, "another site"},
		{"silences", good, []string{"Origin", "null"}, 403, "another site"},
		{"silences", good, []string{"Host", "evil.example", "Origin", "http://evil.example"}, 403, "evil.example"}, // by DNS
		{"alerts/abc1/ack", `{"by": "anna"}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, "another site"},
		{"alerts/abc1/ack", `{"by": "anna"}`, []string{"Content-Type", "text/plain"}, 415, "must be JSON"},
		{"alerts/abc1/ack", `{"by": "anna", "name": "x"}`, nil, 400, `there is no member \"name\"`},
		{"alerts/abc1/ack?by=anna", `{"by": "anna"}`, nil, 400, "there is no parameter"},
		{"silences", ``, nil, 400, "must be one JSON object"},
		{"silences", `null`, nil, 400, "must be one JSON object"},
		{"silences", `[]`, nil, 400, "must be one JSON object"},
		{"silences", good + good, nil, 400, "must be one JSON object"},
		{"silences", `{"rule": "x", "rule": "y"}`, nil, 400, "duplicate"},
		{"silences", `{"by": 7}`, nil, 400, "by is of another kind"},
		{"silences", `{"match": {"a": 1}}`, nil, 400, "match/a is of another kind"},
		{"silences", `{"ends_at": "tomorrow"}`, nil, 400, "ends_at: "},
		{"silences", `{"colour": "red"}`, nil, 400, `there is no member \"colour\"`},
		{"silences", strings.Repeat(" ", 64<<10) + good, nil, 413, "over 65536 bytes"},
		{"silences", `{"rule": "tier-crosing", "for": "1h", "by": "a", "comment": "x"}`, nil, 400, "did you mean tier-crossing?"},
		{"silences", `{"match": {"apiname": "x"}, "for": "1h", "by": "a", "comment": "x"}`, nil, 400, "did you mean apiName?"},
		{"silences", `{"rule": "api-health", "match": {"username": "x"}, "for": "1h", "by": "a", "comment": "x"}`, nil, 400, "not of api-health"},
		{"silences", `{"for": "1h", "by": "a", "comment": "x"}`, nil, 400, "whose alerts are meant"},
		{"silences", `{"rule": "api-health", "by": "a", "comment": "x"}`, nil, 400, "must end"},
		{"silences", `{"rule": "api-health", "for": "1h", "ends_at": "2026-01-02T00:00:00Z", "by": "a", "comment": "x"}`, nil, 400, "not both"},
		{"silences", `{"rule": "api-health", "for": "-1h", "by": "a", "comment": "x"}`, nil, 400, "write it as 2h"},
		{"silences", `{"rule": "api-health", "for": "9000h", "by": "a", "comment": "x"}`, nil, 400, "at most 366 days"},
		{"silences", `{"rule": "api-health", "ends_at": "2026-01-01T00:00:00Z", "by": "a", "comment": "x"}`, nil, 400, "end after it starts"},
		{"silences", `{"rule": "api-health", "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z", "by": "a", "comment": "x"}`, nil, 400, "in the future"},
		{"silences", `{"rule": "api-health", "for": "1h", "comment": "x"}`, nil, 400, "by is missing"},
		{"silences", `{"rule": "api-health", "for": "1h", "by": "x"}`, nil, 400, "comment is missing"},
	} {
		status, answer := send(t, http.MethodPost, base+"/api/v1/"+test.path, test.body, test.headers...)
		if status != test.status || !strings.Contains(answer, test.detail) || !json.Valid([]byte(answer)) {
			t.Errorf("%s %.200s %v: got %d %s, want %d with %q", test.path, test.body, test.headers, status, answer, test.status, test.detail)
		}
	}
	if status, answer := send(t, http.MethodDelete, base+"/api/v1/silences/1", "", "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("DELETE from another site: got %d %s", status, answer)
	}
	if list, err := (&query.Client{URL: base}).Silences(t.Context(), true); err != nil || len(list) != 2 {
		t.Errorf("got %v, %v, want the two that were not refused", list, err)
	}
}

// hits is the aggregation that knows the APIs.
func hits() *aggregation.Definition {
	def := &aggregation.Definition{
		Name: "APIM_ReqCountAgg", Granularities: aggregation.Granularities(), Zone: time.UTC,
		Measures: []aggregation.Measure{{Name: "hits", Op: aggregation.Count}},
	}
	for _, name := range []string{"apiName", "apiVersion", "apiCreator", "apiCreatorTenantDomain", "applicationName"} {
		def.Keys = append(def.Keys, aggregation.Key{Name: name, Kind: event.String})
	}
	return def
}

func TestAvailability_FollowsTheAlerts(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	def := hits()
	db, raw := database(t, def)
	var groups []packed
	call := func(ago time.Duration, name, version, tenant string) {
		bucket := now.Add(-ago).Truncate(time.Second).UnixMicro()
		groups = append(groups, packed{bucket: bucket, shard: "a", batch: 1, keys: []any{name, version, "c", tenant, "app"}, events: 1})
	}
	call(time.Minute, "pizza", "1", "t")
	call(2*time.Minute, "pizza", "1", "u")
	call(23*time.Hour, "pizza", "2", "t")
	call(26*time.Hour, "gone", "1", "t")
	for _, name := range []string{"ended", "local", "former", "better", "silent"} {
		call(time.Hour, name, "1", "t")
	}
	insert(t, raw, def, groups)

	n := 0
	add := func(rule, of string, scope alert.Scope, fired, resolved time.Duration, key ...string) {
		n++
		a := alert.Alert{
			ID: fmt.Sprint(n), Rule: rule, Case: of, Scope: scope, State: alert.Firing, Severity: 2, FiredAt: now.Add(-fired),
			Key: map[string]string{"apiName": key[0], "apiVersion": key[1], "apiCreatorTenantDomain": key[2]},
		}
		record(t, db, a)
		if resolved > 0 {
			a.ID, a.FiringID, a.State, a.ResolvedAt = fmt.Sprint(n, "r"), a.ID, alert.Resolved, now.Add(-resolved)
			record(t, db, a)
		}
	}
	const global, local = alert.ScopeGlobal, alert.ScopeLocal
	add("api-health", "error", global, 3*time.Minute, 0, "pizza", "1", "t")
	add("api-health", "slow", global, 9*time.Minute, 0, "pizza", "1", "t")
	add("api-health", "slow", global, 2*time.Hour, 0, "pizza", "2", "t")
	add("abnormal-response-time", "", global, 3*time.Hour, 0, "pizza", "2", "t")
	add("api-health", "error", global, 9*time.Hour, 2*time.Hour, "ended", "1", "t")
	add("api-health", "slow", global, 9*time.Hour, time.Hour, "ended", "1", "t")
	add("abnormal-response-time", "", local, 9*time.Minute, 0, "local", "1", "t")
	add("abnormal-response-time", "", local, time.Minute, 0, "local", "1", "t")
	add("abnormal-response-time", "", local, 15*time.Minute, 0, "former", "1", "t")
	add("abnormal-response-time", "", local, 5*time.Minute, 0, "better", "1", "t")
	add("abnormal-response-time", "", global, 6*time.Minute, 2*time.Minute, "better", "1", "t")
	add("api-silent", "", global, 30*time.Minute, 0, "silent", "1", "t")
	add("api-silent", "", global, 40*time.Hour, 0, "unknown", "3", "t")
	add("tier-crossing", "", global, time.Minute, 0, "pizza", "1", "u")

	server := httptest.NewServer(query.NewHandler(query.Server{Catalog: alertCatalog(def), DB: db, Now: func() time.Time { return now }}))
	t.Cleanup(server.Close)
	client := query.Client{URL: server.URL}
	apis, err := client.Availability(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	since := func(ago time.Duration) time.Time { return now.Add(-ago) }
	want := []query.Availability{
		{"better", "1", "t", query.Available, since(2 * time.Minute), ""},
		{"ended", "1", "t", query.Available, since(time.Hour), ""},
		{"former", "1", "t", query.Available, since(5 * time.Minute), ""},
		{"local", "1", "t", query.HighResponse, since(9 * time.Minute), "abnormal-response-time"},
		{"pizza", "1", "t", query.ServerError, since(3 * time.Minute), "api-health"},
		{"pizza", "1", "u", query.Available, time.Time{}, ""},
		{"pizza", "2", "t", query.HighResponse, since(3 * time.Hour), "abnormal-response-time"},
		{"silent", "1", "t", query.Silent, since(30 * time.Minute), "api-silent"},
		{"unknown", "3", "t", query.Silent, since(40 * time.Hour), "api-silent"},
	}
	if len(apis) != len(want) {
		t.Errorf("got %d APIs, want %d", len(apis), len(want))
	}
	for i := range min(len(apis), len(want)) {
		if apis[i] != want[i] {
			t.Errorf("got %+v\nwant %+v", apis[i], want[i])
		}
	}
	if apis, err := client.Availability(t.Context(), "t", query.Silent); err != nil || len(apis) != 2 {
		t.Errorf("silent ones of t: got %v, %v", apis, err)
	}
	_, _, body := get(t, http.MethodGet, server.URL+"/api/v1/availability?tenant=u")
	if want := `"counts":{"available":1,"high response time":0,"server error":0,"silent":0}`; !strings.Contains(body, want) {
		t.Errorf("got %s, want %s", body, want)
	}
	if apis, err := query.Board(t.Context(), alertCatalog(), db, now); err != nil || len(apis) != 6 {
		t.Errorf("without the aggregation: got %v, %v, want those of which alerts tell", apis, err)
	}
}

// Whatever parameters a list of alerts has, they are a filter that can be asked
// again, or refused with a sentence.
func FuzzParseAlerts(f *testing.F) {
	f.Add("rule=tier-crossing&scope=global&state=firing&severity=2&since=2h&until=2026-01-01&key=apiName=Shop&key=a==b&limit=5")
	f.Add("key=a%00=&key=%ff=1&since=-1h&until=9223372036854775807ns")
	f.Add("since=99999-01-01&limit=1e3&severity=+1")
	catalog, now := alertCatalog(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		filter, err := query.ParseAlerts(catalog, values, now)
		if err != nil {
			if refusal(err) != 400 || err.Error() == "" {
				t.Fatalf("%q: got %v, want a sentence", text, err)
			}
			return
		}
		again, err := query.ParseAlerts(catalog, query.AlertValues(filter), now)
		if err != nil || !again.Since.Equal(filter.Since) || !again.Until.Equal(filter.Until) {
			t.Fatalf("%q: got %+v, and again %+v, %v", text, filter, again, err)
		}
		again.Since, again.Until = filter.Since, filter.Until
		if !reflect.DeepEqual(again, filter) {
			t.Fatalf("%q: got %+v, and again %+v", text, filter, again)
		}
	})
}

// Whatever is sent to make a silence or to acknowledge an alert is done, and can be
// read back, or is refused with a sentence.
func FuzzWrites(f *testing.F) {
	now := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	db, _ := database(f)
	handler := query.NewHandler(query.Server{Catalog: alertCatalog(), DB: db, Now: func() time.Time { return now }})
	record(f, db, crossing("abc1"))
	f.Add([]byte(`{"rule": "tier-crossing", "match": {"apiName": "é\u0000"}, "for": "1h", "by": "anna", "comment": "x"}`))
	f.Add([]byte(`{"match": {"username": "\ud83d\ude00"}, "starts_at": "2026-01-01T00:00:00+14:00", "ends_at": "9999-12-31T23:59:59Z", "by": "a", "comment": "x"}`))
	f.Add([]byte(`{"by": "anna", "comment": "\ud800"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/api/v1/silences", "/api/v1/alerts/abc1/ack"} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body)))
			request.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			if answer.Code >= 500 || !json.Valid(answer.Body.Bytes()) {
				t.Fatalf("%s %q: got %d %s", path, body, answer.Code, answer.Body)
			}
		}
	})
}
