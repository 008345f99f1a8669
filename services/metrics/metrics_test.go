package metrics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCount_KnowsRoutesAndNeverPaths(t *testing.T) {
	t.Parallel()
	r := New("test")
	inner := http.NewServeMux()
	inner.HandleFunc("GET /api/v1/things/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") == "none" {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	inner.HandleFunc("/", http.NotFound)
	outer := http.NewServeMux()
	outer.Handle("/", inner)
	outer.Handle("GET /metrics", r.Handler())
	served := r.Count(outer)
	for _, request := range []string{"GET /api/v1/things/a", "GET /api/v1/things/b", "GET /api/v1/things/none", "GET /wp-login.php", "BREW /teapot", "GET /metrics"} {
		method, path, _ := strings.Cut(request, " ")
		served.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, nil))
	}
	want := `
		# HELP weir_http_requests_total HTTP requests that were answered, by route, method and status.
		# TYPE weir_http_requests_total counter
		weir_http_requests_total{code="200",method="GET",route="/api/v1/things/{name}"} 2
		weir_http_requests_total{code="200",method="GET",route="/metrics"} 1
		weir_http_requests_total{code="404",method="GET",route="/api/v1/things/{name}"} 1
		weir_http_requests_total{code="404",method="GET",route="other"} 1
		weir_http_requests_total{code="404",method="other",route="other"} 1
	`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "weir_http_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestCount_LetsStreamsFlush(t *testing.T) {
	t.Parallel()
	r := New("test")
	server := httptest.NewServer(r.Count(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-request.Context().Done()
	})))
	defer server.Close()
	answer, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	line := make([]byte, 7)
	if _, err := io.ReadFull(answer.Body, line); err != nil || string(line) != "data: 1" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestProbes_ServesHealthAndMetricsAlone(t *testing.T) {
	t.Parallel()
	handler := New("test").Probes(nil)
	for path, want := range map[string]string{"/healthz": `"status":"ok"`, "/readyz": `"ready":true`, "/metrics": "\nweir_build_info{", "/": "404"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%s: got %d %s", path, answer.Code, answer.Body)
		}
	}
}
