package query_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"testing"
	"time"

	"weir/pkg/badinput"
	"weir/pkg/query"
)

// Whatever is asked of two aggregations is a question, or refused with a
// sentence.
func FuzzParse_Join(f *testing.F) {
	catalog := catalogOf(joinable("Calls", "app", time.UTC, "api", "app", "code"), joinable("Faults", "host", time.UTC, "host", "code", "api"))
	f.Add("Faults", "left", "bucket, Faults.n / Calls.n as rate", "code > 1", "bucket, api", "rate desc")
	f.Add("faults", "", "Calls.api, sum(Faults.n)", `api in ["a"] and not (code == 2)`, "Faults.api", "1")
	f.Add("Calls", "outer", "a.b.c", "Faults.n", "Faults.p50", "Other.n")
	f.Fuzz(func(t *testing.T, join, kind, selection, where, groupBy, orderBy string) {
		q, err := query.Parse(catalog, "Calls", url.Values{
			"within": {"2026-01-01,2026-01-02"}, "per": {"hours"}, "join": {join}, "join_type": {kind},
			"select": {selection}, "where": {where}, "group_by": {groupBy}, "order_by": {orderBy},
		})
		var refused *query.Error
		if (q == nil) == (err == nil) || err != nil && (!errors.As(err, &refused) || refused.Error() == "") {
			t.Fatalf("got %v and %T %v, want one of a question and a *query.Error", q, err, err)
		}
	})
}

// Whatever comes over NATS as a question has an answer in JSON, or a problem.
func FuzzMessage(f *testing.F) {
	def := calls(time.UTC)
	db, _ := database(f, def)
	server := query.Server{Catalog: catalogOf(def), DB: db}
	f.Add([]byte(`{"aggregation":"Calls","within":"2026-01-01,2026-01-02","per":"hours"}`))
	f.Add([]byte(`{"aggregation":"Calls","within":"2026-**-** **:**:**","per":"days","limit":3,"where":"apiName == \"x\""}`))
	f.Add([]byte(`{"aggregation":1e400,"aggregation":null}`))
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Body) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		answer, problem, refused := server.Message(t.Context(), request, 1<<20)
		if refused != nil && refused.Status >= 500 || refused == nil && !json.Valid(answer) || refused != nil && !json.Valid(problem) {
			t.Fatalf("%q: answer %q, problem %q, %v", request, answer, problem, refused)
		}
	})
}

// Whatever a server answers is an answer that can be printed, or an error.
func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"columns":["a","b"],"rows":[["x",1],[null,1.5e300]],"complete_through":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"columns":["x"],"rows":[["x"],[{}],[[1]]],"complete_through":null}`))
	f.Add([]byte(`{"columns":[],"rows":[["more cells than columns"]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := query.ReadAnswer(body)
		if err != nil {
			return
		}
		for _, write := range []func(io.Writer) error{answer.WriteTable, answer.WriteCSV, answer.WriteJSON} {
			if err := write(query.TerminalJSON(io.Discard)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
