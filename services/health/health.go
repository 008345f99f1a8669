// Package health answers whether a role is alive and whether it can work, for
// whoever restarts it or sends it traffic.
package health

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"weir/services/config"
)

// Check is one thing that must work for the role to be ready.
type Check struct {
	Name  string
	Check func(context.Context) error // nil: it works
}

// checkTimeout bounds all checks of one request. It is below the patience of
// `weir healthcheck`, so that the reason arrives.
const checkTimeout = 2 * time.Second

// Handler answers
//
//	GET /healthz   200 while the process serves
//	GET /readyz    200 when every check succeeds, else 503; the answer names each
//	               check with "ok" or what is wrong with it
func Handler(checks []Check) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, results := run(r.Context(), checks)
		status := http.StatusOK
		if !ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, map[string]any{"ready": ready, "checks": results})
	})
	return mux
}

// run runs all checks at once, so that one that hangs does not fail the others.
func run(ctx context.Context, checks []Check) (ready bool, results map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	failures := make([]error, len(checks))
	var running sync.WaitGroup
	for i, c := range checks {
		running.Go(func() { failures[i] = c.Check(ctx) })
	}
	running.Wait()
	ready, results = true, make(map[string]string, len(checks))
	for i, c := range checks {
		results[c.Name] = "ok"
		if failures[i] != nil {
			ready, results[c.Name] = false, config.Redact(failures[i].Error())
		}
	}
	return ready, results
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // who asked may have gone
}
