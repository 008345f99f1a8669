package dashboard_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"weir/pkg/dashboard"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/streams"
)

// empty is a dashboard over a database without events, whose tables are there
// only if it is applied.
func empty(t *testing.T, applied bool) http.Handler {
	t.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{URL: embeddedtest.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if applied {
		if err := db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return dashboard.Handler(dashboard.Config{Server: query.Server{Catalog: catalog, DB: db, Now: now}})
}

func ask(t *testing.T, h http.Handler, address string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler_SaysWhatToRunWhereNothingIsCounted(t *testing.T) {
	t.Parallel()
	got := ask(t, empty(t, true), "/apis")
	if body := got.Body.String(); got.Code != http.StatusOK || !strings.Contains(body, "weir demo") || !strings.Contains(body, "weir replay") {
		t.Errorf("got %d\n%s", got.Code, body)
	}
}

func TestHandler_ShowsASentenceForAPanelThatFails(t *testing.T) {
	t.Parallel()
	got := ask(t, empty(t, false), "/apis")
	if body := got.Body.String(); got.Code != http.StatusOK || !strings.Contains(body, "run `weir apply`") || !strings.Contains(body, "</html>") {
		t.Errorf("got %d\n%s", got.Code, body)
	}
}

func TestHandler_GivesUpAPanelThatTakesTooLong(t *testing.T) {
	t.Parallel()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{URL: embeddedtest.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	h := dashboard.Handler(dashboard.Config{
		Server: query.Server{Catalog: catalog, DB: db, Now: now, State: func(ctx context.Context) (time.Time, error) {
			<-ctx.Done() // a stream that does not answer
			return time.Time{}, ctx.Err()
		}},
		PanelTimeout: time.Nanosecond,
	})
	got := ask(t, h, "/apis")
	body := got.Body.String()
	gaveUp := strings.Contains(body, "was given up") || strings.Contains(body, "turn did not come") // the time may end before one's turn
	if got.Code != http.StatusOK || !gaveUp || !strings.Contains(body, "not known") {
		t.Errorf("got %d\n%s", got.Code, body)
	}
}

func TestHandler_RefusesAddressesWithASentence(t *testing.T) {
	t.Parallel()
	h := empty(t, true)
	for address, want := range map[string]string{
		"/apis?last=soon":                                               "is no length of time",
		"/apis?last=é":                                                  "is no length of time",
		"/apis?last=999999999999y":                                      "is no length of time",
		"/apis?from=2026-03-10":                                         "needs both ends",
		"/apis?from=yesterday&to=2026-03-10":                            "is no time",
		"/apis?from=2026-03-11&to=2026-03-10":                           "not before its end",
		"/apis?per=fortnights":                                          "is no granularity",
		"/apis?last=7d&per=seconds":                                     "more than a page can show",
		"/apis?from=1980-01-01T00:00&to=2190-12-31T00:00&per=hours":     "more than a page can show",
		"/apis?api=%zz":                                                 "not readable",
		"/nowhere":                                                      "There is nothing here",
		"/apis?api=" + strings.Repeat("x", 5000):                        "characters long",
		"/apis?sort.apis=drop%20table&from=2026-03-10&to=2026-03-11":    "Nothing",
		"/apis?from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z&api=x": "is no time between",
		"/apis?from=1971-01-01T00:00:00Z&to=2199-12-31T23:59:59Z&api=x": "Nothing",
	} {
		if got := ask(t, h, address); got.Code >= 500 || !strings.Contains(got.Body.String(), want) {
			t.Errorf("%s: got %d, want %q in\n%s", address, got.Code, want, got.Body)
		}
	}
}

func TestHandler_LeadsFromAPageAboutNothingToTheList(t *testing.T) {
	t.Parallel()
	got := ask(t, empty(t, true), "/apis/one?last=7d")
	if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || to != "/apis?last=7d" {
		t.Errorf("got %d to %q, want 303 to /apis?last=7d", got.Code, to)
	}
}

func TestHandler_ServesAssetsThatMayBeKeptForEver(t *testing.T) {
	t.Parallel()
	h := empty(t, true)
	page := ask(t, h, "/apis")
	csp := page.Header().Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("the policy is %q", csp)
	}
	assets := regexp.MustCompile(`(?:src|href)="(/assets/[^"]*)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(assets) < 4 {
		t.Fatalf("got %v", assets)
	}
	for _, asset := range assets {
		got := ask(t, h, asset[1])
		if got.Code != http.StatusOK || !strings.Contains(got.Header().Get("Cache-Control"), "immutable") || got.Body.Len() == 0 {
			t.Errorf("%s: got %d, %v", asset[1], got.Code, got.Header())
		}
		if again := ask(t, h, asset[1], "If-None-Match", got.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s again: got %d, want 304", asset[1], again.Code)
		}
		old := regexp.MustCompile(`/assets/[^/]*/`).ReplaceAllString(asset[1], "/assets/0000/")
		if got := ask(t, h, old); got.Code != http.StatusOK || strings.Contains(got.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got %d, %v", old, got.Code, got.Header())
		}
	}
	for _, path := range []string{"/assets/x/../dashboard.go", "/assets/x/", "/assets/"} {
		if got := ask(t, h, path); got.Code == http.StatusOK {
			t.Errorf("%s: got %d", path, got.Code)
		}
	}
}

func TestHandler_KeepsTheThemeThatWasChosen(t *testing.T) {
	t.Parallel()
	h := empty(t, true)
	if got := ask(t, h, "/alerts", "Cookie", "weir_theme=dark").Body.String(); !strings.Contains(got, `data-theme="dark"`) {
		t.Errorf("got\n%s", got)
	}
	if got := ask(t, h, "/alerts", "Cookie", `weir_theme=x" onload=alert(1)`).Body.String(); strings.Contains(got, "data-theme") || strings.Contains(got, "onload") {
		t.Errorf("got\n%s", got)
	}
}

func TestUPlot_IsAsItWasPublished(t *testing.T) {
	t.Parallel()
	sums, err := os.ReadFile("assets/uplot/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile("assets/uplot/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s is not the file that was vendored", name)
		}
	}
}
