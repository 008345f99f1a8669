package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/metrics"
	"weir/services/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// connected has a catalog, and servers that are not provisioned.
func connected(t *testing.T) (config.Config, *definition.Catalog, *store.DB, *stream.Conn) {
	t.Helper()
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
	return cfg, catalog, db, conn
}

func provision(t *testing.T, cfg config.Config, catalog *definition.Catalog, db *store.DB, conn *stream.Conn) {
	t.Helper()
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
}

func TestHandler_IsReadyOnceAllIsApplied(t *testing.T) {
	t.Parallel()
	cfg, catalog, db, conn := connected(t)
	server := httptest.NewServer(handler(newBinding(t.Context(), catalog, db, conn, zap.NewNop()), conn, metrics.New("api")))
	t.Cleanup(server.Close)
	status := func(path string) (int, string) { return read(t, server.URL+path) }
	if code, body := status("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("before apply: got %d %s, want 503", code, body)
	}
	if code, body := status("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: got %d %s, want 200", code, body)
	}
	provision(t, cfg, catalog, db, conn)
	if code, body := status("/readyz"); code != http.StatusOK {
		t.Errorf("after apply: got %d %s, want 200", code, body)
	}
	code, body := status("/api/v1/aggregations/ApiVersionPerAppAgg?within=2026-01-01,2026-01-02&per=hours&group_by=")
	if code != http.StatusOK {
		t.Errorf("a question: got %d %s, want 200", code, body)
	}
}

// Roles that run, or start, with the former definition go on while a newer one
// has added a measure and a level.
func TestHandler_StaysReadyWithFormerDefinitions(t *testing.T) {
	t.Parallel()
	cfg, catalog, db, conn := connected(t)
	provision(t, cfg, catalog, db, conn)
	running := handler(newBinding(t.Context(), catalog, db, conn, zap.NewNop()), conn, metrics.New("api"))
	status := func(h http.Handler, path string) string {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		body, _, _ := strings.Cut(answer.Body.String(), `"complete_through"`) // which moves on
		return fmt.Sprintf("%d %s", answer.Code, body)
	}
	const question = "/api/v1/aggregations/ApiVersionPerAppAgg?within=2026-01-01,2026-01-02&per=hours&group_by="
	before := status(running, question)

	newer := slices.Clone(catalog.Aggregations)
	at := slices.IndexFunc(newer, func(d *aggregation.Definition) bool { return d.Name == "ApiVersionPerAppAgg" })
	grown := *newer[at]
	grown.Measures = append(slices.Clone(grown.Measures), aggregation.Measure{Name: "zz", Op: aggregation.Max, Arg: "requestTimestamp", ArgKind: event.Time})
	newer[at] = &grown
	if err := db.Apply(t.Context(), newer, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	for what, h := range map[string]http.Handler{"running": running, "started after it": handler(newBinding(t.Context(), catalog, db, conn, zap.NewNop()), conn, metrics.New("api"))} {
		if got := status(h, "/readyz"); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: readyz answers %s, want 200", what, got)
		}
		if got := status(h, question); got != before || !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: a question is answered with %s, before with %s", what, got, before)
		}
	}
	if overtaken, err := db.Overtaken(t.Context(), catalog.Aggregations); err != nil || !strings.Contains(overtaken, "ApiVersionPerAppAgg (measure zz)") {
		t.Errorf("overtaken: %q, %v", overtaken, err)
	}
}
