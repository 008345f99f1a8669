package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap"

	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/httpserver"
	"weir/services/metrics"
)

// Whatever is asked over NATS is answered as over HTTP: answers, refusals, and
// what keeps the server from answering.
func TestServe_AnswersOverNATSAsOverHTTP(t *testing.T) {
	t.Parallel()
	_, catalog, db, conn := connected(t)
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, catalog, db, conn, metrics.New("api"), zap.NewNop()) }()
	base := httpserver.URL(listener) + "/api/v1/aggregations"

	overHTTP := func(message string) (int, string) {
		var values map[string]string
		if err := json.Unmarshal([]byte(message), &values); err != nil {
			t.Fatal(err)
		}
		parameters := url.Values{}
		for name, value := range values {
			if name != "aggregation" {
				parameters.Set(name, value)
			}
		}
		return read(t, base+"/"+url.PathEscape(values["aggregation"])+"?"+parameters.Encode())
	}
	overNATS := func(subject, message string) (int, string) {
		for {
			answer, err := conn.Request(t.Context(), subject, []byte(message))
			var refusal *stream.Refusal
			switch {
			case errors.Is(err, stream.ErrNobodyAnswers) && ctx.Err() == nil:
				continue // it is starting
			case errors.As(err, &refusal):
				return refusal.Code, string(refusal.Body)
			case err != nil:
				t.Fatal(err)
			}
			return http.StatusOK, string(answer)
		}
	}
	same := func(message string, status int, part string) {
		t.Helper()
		wantStatus, want := overHTTP(message)
		gotStatus, got := overNATS(query.QuestionSubject, message)
		if gotStatus != wantStatus || got != want || wantStatus != status || !strings.Contains(want, part) {
			t.Errorf("%s\nover NATS %d %s\nover HTTP %d %s\nwant %d with %s", message, gotStatus, got, wantStatus, want, status, part)
		}
	}
	const question = `"aggregation": "ApiVersionPerAppAgg", "within": "2026-01-01,2026-01-02", "per": "hours"`
	same("{"+question+"}", http.StatusServiceUnavailable, "weir apply")
	if err := db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	same("{"+question+"}", http.StatusOK, `{"columns":["bucket","apiContext",`)
	same("{"+question+`, "select": "bucket, ApiFaultyInvocationAgg.totalFaultCount as n", "join": "apifaultyinvocationagg", "limit": "3"}`, http.StatusOK, `{"columns":["bucket","n"],`)
	same("{"+question+`, "select": "nothing"}`, http.StatusBadRequest, `no column \"nothing\"`)
	same(`{"aggregation": "ApiVersionPerApAgg", "per": "hours"}`, http.StatusBadRequest, "ApiVersionPerAppAgg")
	same(`{"aggregation": "ApiVersionPerAppAgg", "per": "hours"}`, http.StatusBadRequest, "within is missing")
	same("{"+question+`, "colour": "red"}`, http.StatusBadRequest, `there is no parameter \"colour\"`)
	for message, want := range map[string]string{
		"": "no JSON object", "[1]": "no JSON object", "null": "no JSON object", "{} {}": "no JSON object", "{}": "aggregation is missing",
		"{" + question + `, "group_by": ["bucket"]}`: "group_by: write it as a text",
	} {
		if status, body := overNATS(query.QuestionSubject, message); status != http.StatusBadRequest || !strings.Contains(body, want) || !json.Valid([]byte(body)) {
			t.Errorf("%s: got %d %s, want 400 with %s", message, status, body, want)
		}
	}
	if status, body := overNATS(query.QuestionSubject, "{"+question+`, "limit": 0, "offset": 2}`); status != http.StatusOK {
		t.Errorf("numbers: got %d %s, want an answer", status, body)
	}
	_, want := read(t, base)
	if _, got := overNATS(query.CatalogueSubject, ""); got != want || !strings.Contains(got, "ApiExeTime") {
		t.Errorf("the catalogue: got %s, want %s", got, want)
	}
	if _, info := overNATS("$SRV.INFO."+query.MessageService, ""); !strings.Contains(info, `"subject":"weir.query"`) || !strings.Contains(info, `"subject":"weir.aggregations"`) {
		t.Errorf("discovery: got %s", info)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	status, body := overNATS(query.QuestionSubject, "{"+question+"}")
	if wantStatus, want := overHTTP("{" + question + "}"); status != wantStatus || body != want || status < 500 {
		t.Errorf("without a database: got %d %s, want %d %s", status, body, wantStatus, want)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func read(t *testing.T, address string) (int, string) {
	t.Helper()
	response, err := http.Get(address)
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
