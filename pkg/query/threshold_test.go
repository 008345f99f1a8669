package query_test

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/badinput"
	"weir/pkg/event"
	"weir/pkg/query"
	"weir/pkg/store"
)

// thresholdRules are a simple rule and one with cases.
func thresholdRules() []*alert.Rule {
	key := []alert.KeyPart{{Name: "apiName", Kind: event.String}, {Name: "apiCreatorTenantDomain", Kind: event.String}}
	return []*alert.Rule{
		{Name: "slow", Type: alert.PerEvent, Threshold: 5000, Cases: []alert.Case{{Key: key}}},
		{Name: "crossing", Type: alert.Counted, Threshold: 10, Cases: []alert.Case{{Name: "first", Key: key}, {Name: "second", Key: key[:1]}}},
	}
}

// serveThresholds starts the API over those rules.
func serveThresholds(t testing.TB) (handler http.Handler, db *store.DB) {
	t.Helper()
	def := calls(time.UTC)
	db, _ = database(t, def)
	catalog := catalogOf(def)
	catalog.Rules = thresholdRules()
	return query.NewHandler(query.Server{Catalog: catalog, DB: db, OnError: func(request string, err error) {
		if t.Context().Err() == nil {
			t.Errorf("%s: %v", request, err)
		}
	}}), db
}

func TestThresholds_AreSetListedAndUnsetOverHTTP(t *testing.T) {
	t.Parallel()
	handler, db := serveThresholds(t)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := query.Client{URL: server.URL}
	low := alert.Threshold{Rule: "slow", Dimensions: alert.Dimensions{API: `pi"zza & 50%`, Tenant: "wso2.com"}, Value: 0.25}
	of := alert.Threshold{Rule: "crossing", Case: "first", Dimensions: alert.Dimensions{API: "pizza"}, Value: 3}
	for _, th := range []alert.Threshold{low, of} {
		stored, err := client.SetThreshold(t.Context(), th, "ops & me")
		if err != nil || stored.Threshold != th || stored.By != "ops & me" || time.Since(stored.At) > time.Hour {
			t.Errorf("set %+v: got %+v, %v", th, stored, err)
		}
	}
	if err := db.ReplaceLearned(t.Context(), "slow", []alert.Threshold{{Value: 1}}, store.Learning{}); err != nil {
		t.Fatal(err)
	}
	list := func(rule string) (all []alert.Threshold) {
		t.Helper()
		list, err := client.Thresholds(t.Context(), rule)
		if err != nil {
			t.Fatal(err)
		}
		for _, th := range list {
			all = append(all, th.Threshold)
		}
		return all
	}
	was := alert.Threshold{Rule: "slow", Value: 1, Learned: true}
	if got, want := list(""), []alert.Threshold{of, was, low}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := list("crossing"), []alert.Threshold{of}; !slices.Equal(got, want) {
		t.Errorf("of a rule: got %+v, want %+v", got, want)
	}
	if err := client.UnsetThreshold(t.Context(), low); err != nil {
		t.Error(err)
	}
	if got, want := list("slow"), []alert.Threshold{was}; !slices.Equal(got, want) {
		t.Errorf("after unset: got %+v, want %+v", got, want)
	}
	var refused *query.Error
	if err := client.UnsetThreshold(t.Context(), low); !errors.As(err, &refused) || refused.Status != 404 || !strings.Contains(refused.Detail, "nobody has set a threshold") {
		t.Errorf("unset again: got %v", err)
	}
	if _, err := client.SetThreshold(t.Context(), alert.Threshold{Rule: "slow", Value: math.NaN()}, ""); err == nil {
		t.Error("NaN is set")
	}
	// One of a rule that is not defined any more can be listed, and go.
	gone := alert.Threshold{Rule: "gone", Dimensions: alert.Dimensions{Method: "GET"}, Value: 1}
	if _, err := db.SetThreshold(t.Context(), gone, "x"); err != nil {
		t.Fatal(err)
	}
	if got := list("gone"); !slices.Equal(got, []alert.Threshold{gone}) {
		t.Errorf("got %+v", got)
	}
	if err := client.UnsetThreshold(t.Context(), gone); err != nil {
		t.Error(err)
	}
}

// put sends a request to the handler as from a client on this machine.
func put(t *testing.T, handler http.Handler, method, target, body string, header map[string]string) (status int, detail string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+target, strings.NewReader(body))
	if method == http.MethodPut {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	var problem struct{ Detail string }
	if json.Unmarshal(w.Body.Bytes(), &problem) != nil || problem.Detail == "" {
		return w.Code, w.Body.String()
	}
	return w.Code, problem.Detail
}

func TestThresholds_RefuseWhatIsWrongWithASentence(t *testing.T) {
	t.Parallel()
	handler, db := serveThresholds(t)
	for _, tt := range []struct {
		method, parameters, body string
		status                   int
		detail                   string
	}{
		{"PUT", "", ``, 400, "one JSON object"},
		{"PUT", "", `null`, 400, "one JSON object"},
		{"PUT", "", `[{"rule":"slow","value":1}]`, 400, "one JSON object"},
		{"PUT", "", `{"rule":"slow","value":1}{}`, 400, "one JSON object"},
		{"PUT", "", `{"rule":"slow","value":1,"value":2}`, 400, "every name is there once"},
		{"PUT", "", `{"rule":"slow","value":1,"api":"` + "\xff" + `"}`, 400, "one JSON object"},
		{"PUT", "", `{"rule":"slow","vale":1}`, 400, `no member "vale", did you mean value?`},
		{"PUT", "", `{"Rule":"slow","value":1}`, 400, `no member "Rule", did you mean rule?`},
		{"PUT", "", `{"rule":"slow","value":1,"learned":true}`, 400, `no member "learned"`},
		{"PUT", "", `{"rule":"slow"}`, 400, "value is missing"},
		{"PUT", "", `{"rule":"slow","value":"1"}`, 400, "value: write it as a number"},
		{"PUT", "", `{"rule":"slow","value":null}`, 400, "value: write it as a number"},
		{"PUT", "", `{"rule":"slow","value":1e999}`, 400, "too large"},
		{"PUT", "", `{"rule":"slow","value":1,"api":7}`, 400, "api: write it as a text"},
		{"PUT", "", `{"rule":null,"value":1}`, 400, "rule: write it as a text"},
		{"PUT", "", `{"value":1}`, 400, "rule is missing; there are: slow, crossing"},
		{"PUT", "", `{"rule":"slwo","value":1}`, 400, `there is no "slwo", did you mean slow?`},
		{"PUT", "", `{"rule":"slow","case":"first","value":1}`, 400, "slow has no cases"},
		{"PUT", "", `{"rule":"crossing","case":"frist","value":1}`, 400, `there is no "frist", did you mean first?; there are: first, second`},
		{"PUT", "", `{"rule":"crossing","value":-1}`, 400, "must not be negative"},
		{"PUT", "", `{"rule":"slow","method":"GET","value":1}`, 400, "slow cannot have thresholds by method, because its key has none of apiMethod; it can have them by: api, tenant"},
		{"PUT", "", `{"rule":"crossing","tenant":"x","value":1}`, 400, "the case second of crossing cannot have thresholds by tenant"},
		{"PUT", "", `{"rule":"slow","api":"a\u0000","value":1}`, 400, "no text that can be kept"},
		{"PUT", "", `{"rule":"slow","value":1,"api":"` + strings.Repeat("x", 2001) + `"}`, 400, "may have 2000"},
		{"PUT", "", `{"rule":"slow","value":1,"api":"` + strings.Repeat("x", 70_000) + `"}`, 413, "over 65536 bytes"},
		{"PUT", "?rule=slow", `{"rule":"slow","value":1}`, 400, `no parameter "rule"`},
		{"PUT", "?%zz", `{"rule":"slow","value":1}`, 400, "not readable"},
		{"POST", "", `{"rule":"slow","value":1}`, 405, "there are: DELETE, GET, PUT, HEAD"},
		{"DELETE", "", "", 400, "rule is missing"},
		{"DELETE", "?rule=slwo", "", 400, "did you mean slow?"},
		{"DELETE", "?rule=slow&api=a&api=b", "", 400, "api is given 2 times"},
		{"DELETE", "?rule=slow&ap=a", "", 400, "did you mean api?"},
		{"DELETE", "?rule=slow&value=1", "", 400, `no parameter "value"`},
		{"DELETE", "?rule=slow&method=GET", "", 400, "cannot have thresholds by method"},
		{"DELETE", "?rule=slow&api=%00", "", 400, "no text that can be kept"},
		{"DELETE", "?rule=crossing&case=first&api=a&tenant=b", "", 404, "exactly this: api=a tenant=b of case first of crossing"},
		{"GET", "?rule=slwo", "", 400, "did you mean slow?"},
		{"GET", "?api=x", "", 400, `no parameter "api"`},
	} {
		if status, detail := put(t, handler, tt.method, "/api/v1/thresholds"+tt.parameters, tt.body, nil); status != tt.status || !strings.Contains(detail, tt.detail) {
			t.Errorf("%s %s %.60s: got %d %q, want %d with %q", tt.method, tt.parameters, tt.body, status, detail, tt.status, tt.detail)
		}
	}
	if kept, _, err := db.Thresholds(t.Context()); err != nil || len(kept) != 0 {
		t.Errorf("kept all the same: %+v, %v", kept, err)
	}
}

// Whoever is on this machine, or the browser of somebody who is, reaches the API.
func TestThresholds_AreNotWrittenByPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	handler, db := serveThresholds(t)
	server := httptest.NewServer(handler) // on the loopback address
	t.Cleanup(server.Close)
	own := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := strings.Cut(own, ":")
	const kind = "application/json"
	for _, tt := range []struct {
		what   string
		header map[string]string
		status int
	}{
		{"a program", map[string]string{"Content-Type": kind}, 200},
		{"a program that names the encoding", map[string]string{"Content-Type": "Application/JSON; charset=utf-8"}, 200},
		{"its own page", map[string]string{"Content-Type": kind, "Sec-Fetch-Site": "same-origin", "Origin": server.URL}, 200},
		{"its own page, in an old browser", map[string]string{"Content-Type": kind, "Origin": server.URL}, 200},
		{"its own page as localhost", map[string]string{"Content-Type": kind, "Origin": "http://localhost:" + port, "Host": "localhost:" + port}, 200},
		{"a program under another name", map[string]string{"Content-Type": kind, "Host": "weir.example"}, 200},
		{"without a type", nil, 415},
		{"a form", map[string]string{"Content-Type": "text/plain"}, 415},
		{"another form", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		{"another site", map[string]string{"Content-Type": kind, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403},
		{"another site that hides", map[string]string{"Content-Type": kind, "Sec-Fetch-Site": "cross-site"}, 403},
		{"another port", map[string]string{"Content-Type": kind, "Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, 403},
		{"another site, in an old browser", map[string]string{"Content-Type": kind, "Origin": "https://evil.example"}, 403},
		{"a sandbox", map[string]string{"Content-Type": kind, "Origin": "null"}, 403},
		{"a name that was rebound", map[string]string{"Content-Type": kind, "Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example:" + port, "Host": "evil.example:" + port}, 403},
		{"a name that was rebound, in an old browser", map[string]string{"Content-Type": kind, "Origin": "http://evil.example:" + port, "Host": "evil.example:" + port}, 403},
	} {
		for _, method := range []string{http.MethodPut, http.MethodDelete} {
			if _, err := db.SetThreshold(t.Context(), alert.Threshold{Rule: "slow", Value: 1}, "test"); err != nil {
				t.Fatal(err)
			}
			address, body, want := server.URL+"/api/v1/thresholds", `{"rule":"slow","value":2}`, tt.status
			if method == http.MethodDelete {
				address, body = address+"?rule=slow", ""
				if want == 415 { // nothing is sent
					want = 200
				}
			}
			request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.header {
				request.Header.Set(name, value)
			}
			if host := tt.header["Host"]; host != "" {
				request.Host = host
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			kept, _, err := db.Thresholds(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			unchanged := len(kept) == 1 && kept[0].Value == 1
			if response.StatusCode != want || unchanged != (want != 200) {
				t.Errorf("%s, %s: got %d %s, want %d; kept %+v", tt.what, method, response.StatusCode, answer, want, kept)
			}
		}
	}
}

func TestThresholds_SayWhoSetThem(t *testing.T) {
	t.Parallel()
	handler, db := serveThresholds(t)
	for _, tt := range []struct {
		body string
		user string
		want string
	}{
		{`{"rule":"slow","value":1,"by":"ann"}`, "bob", "ann"},
		{`{"rule":"slow","value":1}`, "bob", "bob"},
		{`{"rule":"slow","value":1}`, "", "192.0.2.1"}, // of httptest
	} {
		header := map[string]string{}
		if tt.user != "" {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.SetBasicAuth(tt.user, "secret")
			header["Authorization"] = r.Header.Get("Authorization")
		}
		if status, answer := put(t, handler, "PUT", "/api/v1/thresholds", tt.body, header); status != 200 || !strings.Contains(answer, `"by":"`+tt.want+`"`) {
			t.Errorf("%+v: got %d %s", tt, status, answer)
		}
		if kept, _, err := db.Thresholds(t.Context()); err != nil || len(kept) != 1 || kept[0].By != tt.want {
			t.Errorf("%+v: kept %+v, %v", tt, kept, err)
		}
	}
}

// Whatever is sent is set as it says, or refused with a sentence; nothing is an
// error of the server's.
func FuzzPutThreshold(f *testing.F) {
	handler, db := serveThresholds(f)
	f.Add([]byte(`{"rule":"slow","api":"pizza","tenant":"wso2.com","value":2.5,"by":"me"}`))
	f.Add([]byte(`{"rule":"crossing","case":"first","value":1e-400}`))
	f.Add([]byte(`{"rule":"slow","value":-0,"api":"\ud800","version":"\u0000"}`))
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Body) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		status, answer := put(t, handler, http.MethodPut, "/api/v1/thresholds", string(body), nil)
		if status != http.StatusOK {
			if status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge || answer == "" {
				t.Fatalf("%q: %d %q", body, status, answer)
			}
			return
		}
		var sent struct {
			alert.Threshold

			By string
		}
		var stored query.Threshold
		if err := errors.Join(json.Unmarshal(body, &sent), json.Unmarshal([]byte(answer), &stored)); err != nil || stored.Threshold != sent.Threshold {
			t.Fatalf("%q is stored as %s: %v", body, answer, err)
		}
		values := url.Values{"rule": {stored.Rule}, "case": {stored.Case}}
		for i, text := range stored.Values() {
			values.Set(alert.DimensionNames()[i], text)
		}
		if status, answer := put(t, handler, http.MethodDelete, "/api/v1/thresholds?"+values.Encode(), "", nil); status != http.StatusOK {
			t.Fatalf("%q cannot be unset: %d %s", body, status, answer)
		}
		if left, _, err := db.Thresholds(t.Context()); err != nil || len(left) != 0 {
			t.Fatalf("%q: left %+v, %v", body, left, err)
		}
	})
}
