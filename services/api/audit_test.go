package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"weir/pkg/audit"
	"weir/pkg/query"
	"weir/services/metrics"
)

// What an auditor has found, whichever process it is in, is told as `weir audit` tells it.
func TestHandler_TellsHowTheAuditStands(t *testing.T) {
	t.Parallel()
	cfg, catalog, db, conn := connected(t)
	provision(t, cfg, catalog, db, conn)
	serve := func() string { // what is known is kept for a while: each server knows what was when it was asked first
		server := httptest.NewServer(handler(newBinding(t.Context(), catalog, db, conn, zap.NewNop()), conn, metrics.New("api")))
		t.Cleanup(server.Close)
		return server.URL + "/api/v1/audit"
	}
	if status, body := read(t, serve()); status != http.StatusServiceUnavailable || !strings.Contains(body, "no auditor has finished a pass yet") {
		t.Errorf("before the first pass: got %d %s, want 503", status, body)
	}
	report, err := audit.New(db.Pool(), conn, audit.Config{Version: "test"}).Full(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, body := read(t, serve())
	var got query.AuditReport
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s, %v", status, body, err)
	}
	if !got.Green || got.Sentence != report.Sentence() || !got.At.Equal(report.At) || got.Passes != 1 || !strings.Contains(body, `"findings":[]`) {
		t.Errorf("got %s, want %+v", body, report)
	}
	if status, body := read(t, serve()+"?since=1h"); status != http.StatusBadRequest {
		t.Errorf("a parameter: got %d %s, want 400", status, body)
	}
}
