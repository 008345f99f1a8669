package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/services/config"
	"weir/services/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestHandler_IsReadyOnceAllIsApplied(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.NATS.URL = config.URL(embeddedtest.NATS(t))
	cfg.Postgres.URL = config.URL(embeddedtest.Postgres(t))
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db, err := wire.Store(t.Context(), cfg, "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := wire.Stream(t.Context(), cfg, "api", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	server := httptest.NewServer(Handler(catalog, db, conn, zap.NewNop()))
	t.Cleanup(server.Close)
	status := func(path string) (int, string) {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if code, body := status("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("before apply: got %d %s, want 503", code, body)
	}
	if code, body := status("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: got %d %s, want 200", code, body)
	}
	if err := db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	plan, err := conn.PlanProvision(t.Context(), wire.Provision(cfg))
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := status("/readyz"); code != http.StatusOK {
		t.Errorf("after apply: got %d %s, want 200", code, body)
	}
	code, body := status("/api/v1/aggregations/ApiVersionPerAppAgg?within=2026-01-01,2026-01-02&per=hours&group_by=")
	if code != http.StatusOK {
		t.Errorf("a question: got %d %s, want 200", code, body)
	}
}
