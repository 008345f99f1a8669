package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/streams"
)

func TestGateway_RefusesToStartWhereNothingIsProvisioned(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"HTTP", nil},
		{"simulated", []string{"--simulate", "100"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := Command()
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			cmd.SetArgs(append([]string{"--nats", url, "--listen", "127.0.0.1:0"}, tt.args...))
			if err := cmd.ExecuteContext(ctx); !errors.Is(err, stream.ErrNotProvisioned) {
				t.Errorf("weir gateway = %v, want ErrNotProvisioned", err)
			}
		})
	}
}

func TestGateway_RefusesFlagsThatCouldOnlyFailLater(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--source", "edge.1"}, `--source: "edge.1" is no token`},
		{[]string{"--simulate", "-1"}, "--simulate: -1 should be"},
		{[]string{"--simulate", "NaN"}, "--simulate: NaN should be"},
		{[]string{"--streams", "no-such-directory"}, "no-such-directory"},
	} {
		cmd := Command()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(append([]string{"--nats", "nats://127.0.0.1:1"}, tt.args...))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("weir gateway %q: got error %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestHandler_TakesEventsAndAnswersForItsHealth(t *testing.T) {
	t.Parallel()
	conn, err := stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	ingest, err := gateway.NewIngest(conn, "edge-1", catalog.Streams)
	if err != nil {
		t.Fatal(err)
	}
	asks := func(method, path, body string, status int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		handler(ingest, conn).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		if w.Code != status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s %s: got %d %s, want %d with %s", method, path, w.Code, w.Body, status, text)
		}
	}
	asks(http.MethodGet, "/healthz", "", http.StatusOK, "ok")
	asks(http.MethodGet, "/readyz", "", http.StatusServiceUnavailable, "weir apply")
	if _, err := conn.Provision(t.Context(), stream.Provision{}); err != nil {
		t.Fatal(err)
	}
	asks(http.MethodGet, "/readyz", "", http.StatusOK, `"ready":true`)
	asks(http.MethodPost, "/api/v1/events/request", `{"requestTimestamp":1790000000000}`, http.StatusAccepted, `"events":1`)
	asks(http.MethodPost, "/api/v1/events/requests", `{}`, http.StatusNotFound, "there are fault, request, throttle")
	asks(http.MethodGet, "/metrics", "", http.StatusNotFound, `"status":404`)
}
