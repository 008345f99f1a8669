package query_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
)

func TestLists_AreDownloadedAsCSVAndNDJSON(t *testing.T) {
	t.Parallel()
	base, db := serveAlerts(t, time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC))
	fired, over := crossing("abc"), crossing("xyz")
	fired.Message = `=HYPERLINK("http://a.example"), or so`
	over.State, over.FiringID, over.ResolvedAt = alert.Resolved, fired.ID, fired.FiredAt.Add(time.Minute)
	record(t, db, fired, over)
	got := request(t, http.MethodGet, base+"/api/v1/alerts?state=all&format=csv", "")
	if name := got.header.Get("Content-Disposition"); got.status != http.StatusOK || name != `attachment; filename="alerts.csv"` {
		t.Errorf("got %d %s, %s", got.status, name, got.body)
	}
	rows, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("got %q, %v", rows, err)
	}
	for _, want := range []string{"2026-01-01T00:00:00Z", "firing", "3", `{"apiName":"Shop & <Söhne>","applicationId":"7"}`, `'=HYPERLINK("http://a.example"), or so`, "abc"} {
		if !slices.ContainsFunc(rows[1:], func(row []string) bool { return slices.Contains(row, want) }) {
			t.Errorf("no cell is %s in %q", want, rows)
		}
	}
	var listed struct {
		Alerts []json.RawMessage `json:"alerts"`
	}
	if err := json.Unmarshal([]byte(request(t, http.MethodGet, base+"/api/v1/alerts?state=all", "").body), &listed); err != nil || len(listed.Alerts) != 2 {
		t.Fatal(listed, err)
	}
	want := string(listed.Alerts[0]) + "\n" + string(listed.Alerts[1]) + "\n"
	if lines := request(t, http.MethodGet, base+"/api/v1/alerts?state=all&format=ndjson", "").body; lines != want {
		t.Errorf("got  %s\nwant %s", lines, want)
	}
	if got := request(t, http.MethodGet, base+"/api/v1/alerts?format=xml", ""); got.status != http.StatusBadRequest {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := request(t, http.MethodGet, base+"/api/v1/deadletters?format=csv", "").body; strings.Count(got, "\r\n") != 1 || !strings.HasPrefix(got, "id,state,reason,") {
		t.Errorf("of none: %q", got)
	}
}
