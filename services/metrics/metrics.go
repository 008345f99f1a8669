// Package metrics is what every role that listens tells Prometheus: one [Registry] per process, served at /metrics beside
// /healthz and /readyz.
//
// What a package counts is a collector of its own (weir/pkg/worker.Metrics, …), which the role adds. What all of them share is
// here: the build, requests by route, and what NATS and Postgres say of the whole, asked at each scrape.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/services/health"
	"weir/services/version"
)

// Registry is the metrics of one process.
type Registry struct {
	*prometheus.Registry

	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// New returns the metrics of a role: those of the build, of the Go runtime and of the process, and requests.
func New(role string) *Registry {
	r := &Registry{
		Registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_http_requests_total", Help: "HTTP requests that were answered, by route, method and status.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_http_request_seconds", Help: "Time from the head of a request to the end of its answer, by route. Streams are left out.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_build_info", Help: "1, with the role and the build of this process.",
		ConstLabels: prometheus.Labels{"role": role, "version": version.String(), "go_version": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build, r.requests, r.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Probes answers /healthz, /readyz and /metrics: all that a role serves that has no HTTP of its own.
func (r *Registry) Probes(checks []health.Check) http.Handler {
	probes := health.Handler(checks)
	mux := http.NewServeMux()
	mux.Handle("/healthz", probes)
	mux.Handle("/readyz", probes)
	mux.Handle("GET /metrics", r.Handler())
	mux.HandleFunc("/", http.NotFound)
	return r.Count(mux)
}

// Handler serves the metrics in Prometheus's text format, or OpenMetrics where that is asked for. What cannot be collected
// is left out, and the rest is served.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Count counts the requests that next answers. Their route is the pattern of the innermost ServeMux, never the path, which
// is whatever somebody sends.
func (r *Registry) Count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		began, seen := time.Now(), &observed{ResponseWriter: w}
		defer func() {
			route := route(request)
			r.requests.WithLabelValues(route, method(request.Method), strconv.Itoa(seen.status())).Inc()
			if seen.Header().Get("Content-Type") != "text/event-stream" {
				r.seconds.WithLabelValues(route).Observe(time.Since(began).Seconds())
			}
		}()
		next.ServeHTTP(seen, request)
	})
}

// route is the pattern without its method; what no pattern but "/" matches is other.
func route(r *http.Request) string {
	pattern := r.Pattern
	for i, c := range pattern {
		if c == ' ' {
			pattern = pattern[i+1:]
			break
		}
	}
	if pattern == "" || pattern == "/" {
		return "other"
	}
	return pattern
}

func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return name
	}
	return "other"
}

// observed remembers the status of an answer.
type observed struct {
	http.ResponseWriter

	code int
}

func (o *observed) WriteHeader(code int) {
	if o.code == 0 && code >= http.StatusOK { // what is less is not yet the answer
		o.code = code
	}
	o.ResponseWriter.WriteHeader(code)
}

func (o *observed) status() int {
	if o.code == 0 {
		return http.StatusOK
	}
	return o.code
}

// Unwrap is for http.ResponseController, by which streams are flushed.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }
