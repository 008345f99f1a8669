package api

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"weir/services/health"
	"weir/services/metrics"
)

// front answers while the role waits for Postgres and NATS: with its health, and
// that all else is to be asked again later. Then it is the handler that was put.
type front struct{ now atomic.Pointer[http.Handler] }

func newFront(checks []health.Check, registry *metrics.Registry) *front {
	probes := health.Handler(checks)
	mux := http.NewServeMux()
	mux.Handle("/healthz", probes)
	mux.Handle("/readyz", probes)
	mux.Handle("GET /metrics", registry.Handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(map[string]any{ // who asked may have gone
			"type": "about:blank", "status": http.StatusServiceUnavailable, "title": http.StatusText(http.StatusServiceUnavailable),
			"detail": "this process still waits for Postgres and NATS; /readyz says for which. Ask again later",
		})
	})
	f := &front{}
	f.put(mux)
	return f
}

func (f *front) put(handler http.Handler) { f.now.Store(&handler) }

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*f.now.Load()).ServeHTTP(w, r) }
