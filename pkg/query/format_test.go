package query_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/pkg/query"
)

// answered is an answer with all that is around it.
type answered struct {
	status int
	header http.Header
	body   string
}

// request asks with headers, written "Name: value", and a body if there is one.
func request(t *testing.T, method, address, body string, headers ...string) answered {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{response.StatusCode, response.Header, string(data)}
}

// asked is an API over three calls of names that are hostile.
func asked(t *testing.T, change func(*query.Server)) (base string) {
	t.Helper()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).UnixMicro()
	insert(t, raw, def, pack(def, []call{
		{at: at, seq: 1, shard: "a", api: "=HYPERLINK(\"x\")", code: -1, bytes: 3, load: -0.5, label: "l"},
		{at: at + 1, seq: 2, shard: "a", api: "a,b\r\n\rc", code: 200, bytes: 4, load: 2, label: "m"},
		{at: at + 2, seq: 3, shard: "a", api: "", code: 200, bytes: 5, load: 3, label: ""},
	}, 1))
	return serve(t, db, def, change)
}

const fewColumns = "/api/v1/aggregations/Calls?within=2026-11-22,2026-11-23&per=hours&group_by=apiName,code&select=apiName,code,-code+as+minus,hits/(code-200)+as+none"

func TestHandler_WritesCSV(t *testing.T) {
	t.Parallel()
	base := asked(t, nil)
	got := request(t, http.MethodGet, base+fewColumns+"&format=csv", "")
	want := "apiName,code,minus,none\r\n" +
		"\"\",200,-200,\r\n" +
		"\"'=HYPERLINK(\"\"x\"\")\",-1,1,-0.004975124378109453\r\n" +
		"\"a,b\r\n\rc\",200,-200,\r\n"
	if got.status != http.StatusOK || got.body != want {
		t.Errorf("got %d\n%q\nwant\n%q", got.status, got.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type":                "text/csv; charset=utf-8; header=present",
		"Content-Disposition":         `attachment; filename="Calls-per-hours-20261122T000000Z-20261123T000000Z.csv"`,
		"Vary":                        "Accept",
		query.HeaderCompleteThrough:   "2026-11-22T10:00:00.0000005Z",
		"X-Content-Type-Options":      "nosniff",
		"Access-Control-Allow-Origin": "",
	} {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	lines, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
	if err != nil || len(lines) != 4 {
		t.Errorf("a reader reads %q, %v", lines, err)
	}
	address, _, _ := strings.Cut(fewColumns, "&group_by")
	for parameters, want := range map[string]string{
		"&select=-code":                   "'-code\r\n1\r\n-200\r\n-200\r\n",
		"&select=hits/(code-200)+as+none": "none\r\n-0.004975124378109453\r\n\"\"\r\n\"\"\r\n",
		"&select=apiName&where=hits>5":    "apiName\r\n",
		"&select=bucket&limit=1&time=ms":  "bucket\r\n1795341600000\r\n",
		"&select=least":                   "least\r\n-0.5\r\n3\r\n2\r\n",
	} {
		if got := request(t, http.MethodGet, base+address+"&format=csv&order_by=code"+parameters, ""); got.body != want {
			t.Errorf("%s: got %q, want %q", parameters, got.body, want)
		}
	}
}

func TestHandler_WritesNDJSON(t *testing.T) {
	t.Parallel()
	base := asked(t, nil)
	got := request(t, http.MethodGet, base+fewColumns, "", "Accept: application/x-ndjson")
	want := `{"apiName":"","code":200,"minus":-200,"none":null}
{"apiName":"=HYPERLINK(\"x\")","code":-1,"minus":1,"none":-0.004975124378109453}
{"apiName":"a,b\r\n\rc","code":200,"minus":-200,"none":null}
`
	if got.status != http.StatusOK || got.body != want || got.header.Get("Content-Type") != "application/x-ndjson" || !strings.Contains(got.header.Get("Content-Disposition"), ".ndjson") {
		t.Errorf("got %d %v\n%s\nwant\n%s", got.status, got.header, got.body, want)
	}
}

// By format, which goes before Accept; by what Accept likes best; as JSON if it says
// nothing.
func TestHandler_WritesWhatIsWanted(t *testing.T) {
	t.Parallel()
	base := asked(t, nil)
	for _, tt := range []struct {
		format, accept, want string
		status               int
	}{
		{"", "", "application/json", 200},
		{"", "*/*", "application/json", 200},
		{"", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", 200},
		{"", "text/csv", "text/csv; charset=utf-8; header=present", 200},
		{"", "text/*, application/json;q=0.5", "text/csv; charset=utf-8; header=present", 200},
		{"", "application/json;q=0.2, application/x-ndjson;q=0.3", "application/x-ndjson", 200},
		{"", "*/*;q=0.1, application/json;q=0", "text/csv; charset=utf-8; header=present", 200},
		{"", "text/html", "application/problem+json", 406},
		{"", "application/json;q=0", "application/problem+json", 406},
		{"", ";;", "application/problem+json", 406},
		{"json", "text/csv", "application/json", 200},
		{"ndjson", "text/html", "application/x-ndjson", 200},
		{"xml", "", "application/problem+json", 400},
		{"CSV", "", "application/problem+json", 400},
		{"csv&format=csv", "", "application/problem+json", 400},
	} {
		address := base + fewColumns
		if tt.format != "" {
			address += "&format=" + tt.format
		}
		got := request(t, http.MethodGet, address, "", "Accept: "+tt.accept)
		if got.status != tt.status || got.header.Get("Content-Type") != tt.want {
			t.Errorf("format %q, Accept %q: got %d %s, want %d %s", tt.format, tt.accept, got.status, got.header.Get("Content-Type"), tt.status, tt.want)
		}
		if tt.status != 200 && (got.header.Get("Content-Disposition") != "" || got.header.Get(query.HeaderCompleteThrough) != "") {
			t.Errorf("format %q, Accept %q: a problem has headers of an answer: %v", tt.format, tt.accept, got.header)
		}
	}
}

// What is sent is answered as what is in an address.
func TestHandler_AnswersQuestionsThatAreSent(t *testing.T) {
	t.Parallel()
	base := asked(t, nil)
	const question = `{"aggregation": "Calls", "within": "2026-11-22,2026-11-23", "per": "hours", "group_by": "apiName,code",
		"select": "apiName,code,-code as minus,hits/(code-200) as none"}`
	for _, format := range []string{"json", "csv", "ndjson"} {
		want := request(t, http.MethodGet, base+fewColumns+"&format="+format, "")
		got := request(t, http.MethodPost, base+"/api/v1/questions?format="+format, question)
		if got.status != http.StatusOK || got.body != want.body || got.header.Get("Content-Type") != want.header.Get("Content-Type") ||
			got.header.Get("Content-Disposition") != want.header.Get("Content-Disposition") ||
			got.header.Get(query.HeaderCompleteThrough) != want.header.Get(query.HeaderCompleteThrough) {
			t.Errorf("%s: got %d %v %s\nwant %d %v %s", format, got.status, got.header, got.body, want.status, want.header, want.body)
		}
	}
	if got := request(t, http.MethodPost, base+"/api/v1/questions", question, "Accept: text/csv"); !strings.HasPrefix(got.body, "apiName,") {
		t.Errorf("Accept: got %s", got.body)
	}
	if got := request(t, http.MethodPost, base+"/api/v1/questions", strings.Replace(question, `"per"`, `"limit": 1, "offset": "1", "per"`, 1)); strings.Count(got.body, "HYPERLINK") != 1 {
		t.Errorf("limit: got %s", got.body)
	}
	for _, tt := range []struct {
		query, body, kind string
		status            int
		detail            string
	}{
		{"", `{}`, "application/json", 400, "aggregation is missing"},
		{"", `[]`, "application/json", 400, "no JSON object"},
		{"", `{"aggregation": "Calls", "per": "hours", "per": "days"}`, "application/json", 400, "every name is there once"},
		{"", `{"aggregation": "Calls", "colour": "red"}`, "application/json", 400, "no parameter \\\"colour\\\""},
		{"", `{"aggregation": "Calls", "format": "csv"}`, "application/json", 400, "no parameter \\\"format\\\""},
		{"", `{"aggregation": "Calls", "group_by": ["a"]}`, "application/json", 400, "write it as a text"},
		{"?per=hours", question, "application/json", 400, "no parameter \\\"per\\\" here"},
		{"", question, "text/plain", 415, "must be JSON"},
		{"", `{"aggregation": "` + strings.Repeat("x", 70_000) + `"}`, "application/json", 413, "over 65536 bytes"},
	} {
		got := request(t, http.MethodPost, base+"/api/v1/questions"+tt.query, tt.body, "Content-Type: "+tt.kind)
		var problem struct{ Detail string }
		if got.status != tt.status || got.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(got.body, tt.detail) || json.Unmarshal([]byte(got.body), &problem) != nil {
			t.Errorf("%.80s: got %d %s, want %d with %s", tt.body, got.status, got.body, tt.status, tt.detail)
		}
	}
}

func TestHandler_SaysUpToWhenDataAreComplete(t *testing.T) {
	t.Parallel()
	base := asked(t, nil)
	for _, path := range []string{"alerts", "silences", "availability", "deadletters", "shards", "sources", "thresholds"} {
		if got := request(t, http.MethodGet, base+"/api/v1/"+path, ""); got.status != 200 || got.header.Get(query.HeaderCompleteThrough) != "2026-11-22T10:00:00.0000005Z" {
			t.Errorf("%s: got %d %v", path, got.status, got.header)
		}
	}
	unknown := asked(t, func(s *query.Server) { s.State = nil })
	if got := request(t, http.MethodGet, unknown+"/api/v1/shards", ""); got.status != 200 || got.header[query.HeaderCompleteThrough] != nil {
		t.Errorf("not known: got %d %v", got.status, got.header)
	}
}

func TestRecently_AsksOnceInAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var fails error
		f := query.Recently(time.Second, func(ctx context.Context) (int, error) {
			n++
			select { // it takes a while
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			return n, fails
		})
		gone, leave := context.WithCancel(t.Context())
		go func() { <-time.After(50 * time.Millisecond); leave() }()
		if _, err := f(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone: got %v", err)
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := f(t.Context()); got != 2 || err != nil { // the first one's failure is nobody's
					t.Errorf("at the same time: got %d, %v, want 2", got, err)
				}
			})
		}
		all.Wait()
		<-time.After(time.Second)
		fails = errors.New("away")
		for range 2 {
			if _, err := f(t.Context()); !errors.Is(err, fails) || n != 3 {
				t.Errorf("a second later: got %v, asked %d times", err, n)
			}
		}
	})
}
