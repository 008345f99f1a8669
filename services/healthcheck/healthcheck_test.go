package healthcheck

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheck_SucceedsOnStatus200Only(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		want   string // part of the error; "": none
	}{
		{"ready", http.StatusOK, ""},
		{"not ready", http.StatusServiceUnavailable, "503 Service Unavailable: no connection to Postgres"},
		{"another success", http.StatusNoContent, "204"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte("no connection to Postgres\n"))
			}))
			defer server.Close()
			err := check(t.Context(), server.URL)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("check() = %v, want nil", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("check() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestCheck_FailsWhereNobodyListens(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if err := check(t.Context(), server.URL); err == nil {
		t.Error("check() = nil, want an error")
	}
}
