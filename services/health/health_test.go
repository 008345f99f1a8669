package health

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler_IsReadyWhenEveryCheckSucceeds(t *testing.T) {
	t.Parallel()
	works := Check{"nats", func(context.Context) error { return nil }}
	fails := Check{"postgres", func(context.Context) error { return errors.New("connect to postgres://u:hidden@h/d: refused") }}
	hangs := Check{"slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	for _, tt := range []struct {
		name, method, path string
		checks             []Check
		status             int
		texts              []string
	}{
		{"alive", "GET", "/healthz", []Check{fails}, 200, []string{`"status":"ok"`}},
		{"ready", "GET", "/readyz", []Check{works}, 200, []string{`"ready":true`, `"nats":"ok"`}},
		{"nothing to check", "GET", "/readyz", nil, 200, []string{`"ready":true`}},
		{"one fails", "GET", "/readyz", []Check{works, fails}, 503, []string{`"ready":false`, `"nats":"ok"`, `refused`}},
		{"one hangs", "GET", "/readyz", []Check{works, hangs}, 503, []string{`"nats":"ok"`, `"slow":"context deadline exceeded"`}},
		{"head", "HEAD", "/readyz", []Check{fails}, 503, nil},
		{"another method", "POST", "/readyz", nil, 405, nil},
		{"another path", "GET", "/", nil, 404, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			recorder := httptest.NewRecorder()
			Handler(tt.checks).ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, http.NoBody))
			body, _ := io.ReadAll(recorder.Result().Body)
			if recorder.Code != tt.status {
				t.Errorf("got %d %s, want %d", recorder.Code, body, tt.status)
			}
			for _, text := range tt.texts {
				if !strings.Contains(string(body), text) {
					t.Errorf("no %s in %s", text, body)
				}
			}
			if strings.Contains(string(body), "hidden") {
				t.Errorf("the answer shows a password: %s", body)
			}
		})
	}
}
