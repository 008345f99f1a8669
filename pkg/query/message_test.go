package query_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"weir/pkg/query"
)

func TestMessage_RefusesWhatIsTooLargeOrTakesTooLong(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	insert(t, raw, def, pack(def, traffic(6, 300, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), 10))
	server := query.Server{Catalog: catalogOf(def), DB: db}
	question := query.NewMessage("calls", valuesOf("within=2025-01-01,2027-01-01\nper=seconds"))
	answer, _, refused := server.Message(t.Context(), question, 1<<20)
	if refused != nil {
		t.Fatal(refused)
	}
	rows, err := query.ReadAnswer(answer)
	if err != nil || len(rows.Rows) < 100 {
		t.Fatalf("got %d rows, %v", len(rows.Rows), err)
	}
	if exact, _, refused := server.Message(t.Context(), question, len(answer)); refused != nil || len(exact) != len(answer) {
		t.Errorf("an answer that just fits: %v", refused)
	}
	_, problem, refused := server.Message(t.Context(), question, len(answer)-1)
	if refused == nil || refused.Status != http.StatusRequestEntityTooLarge || !strings.Contains(refused.Detail, "limit and offset, or over HTTP") || !strings.Contains(string(problem), `"status":413`) {
		t.Errorf("got %v %s, want that it is too large", refused, problem)
	}
	var reported error
	server.Timeout, server.OnError = time.Nanosecond, func(_ string, err error) { reported = err }
	if _, _, refused := server.Message(t.Context(), question, 1<<20); refused == nil || refused.Status != http.StatusGatewayTimeout || reported == nil {
		t.Errorf("too slow: got %v, reported %v", refused, reported)
	}
	server.Timeout, reported = 0, nil
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, refused := server.Message(gone, question, 1<<20); refused == nil || reported != nil {
		t.Errorf("nobody waits: got %v, reported %v", refused, reported)
	}
}
