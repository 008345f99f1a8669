package e2e

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// asked is a question in the words of the API, and of the command.
var asked = struct{ api, flags []string }{
	[]string{"within=2026-03-01,2026-03-02", "per=hours", "select=bucket,apiName,sum(totalRequestCount) as calls", "group_by=bucket,apiName", "order_by=calls desc,bucket"},
	[]string{"--within", "2026-03-01,2026-03-02", "--per", "hours", "--select", "bucket,apiName,sum(totalRequestCount) as calls", "--group-by", "bucket,apiName", "--order-by", "calls desc,bucket"},
}

func TestQuery_PrintsWhatTheAPIAnswers(t *testing.T) {
	t.Parallel()
	i := up(t)
	weir(t, "replay", "--nats", i.nats, accessLog(t, "calc", 3), accessLog(t, "shop", 2))
	i.drain(t)
	want := i.ask(t, "ApiVersionPerAppAgg", asked.api...)
	if len(want.Rows) != 5 || !reflect.DeepEqual(want.Columns, []string{"bucket", "apiName", "calls"}) {
		t.Fatalf("got %+v, want five rows of bucket, apiName and calls", want)
	}
	command := append([]string{"query", "ApiVersionPerAppAgg"}, asked.flags...)
	for _, from := range [][]string{{"--http", i.http}, {"--postgres", i.postgres}, {"--nats", i.nats}} {
		got := parseAnswer(t, weir(t, append(append(command, from...), "--json")...))
		if !reflect.DeepEqual(got.Columns, want.Columns) || !reflect.DeepEqual(got.Rows, want.Rows) {
			t.Errorf("--json %s: got %+v, want %+v", from[0], got, want)
		}
		records, err := csv.NewReader(strings.NewReader(weir(t, append(append(command, from...), "--csv")...))).ReadAll()
		if err != nil || !reflect.DeepEqual(records, want.text()) {
			t.Errorf("--csv %s: got %q (%v), want %q", from[0], records, err, want.text())
		}
		var table [][]string
		for line := range strings.Lines(weir(t, append(command, from...)...)) {
			table = append(table, strings.Fields(line))
		}
		if !reflect.DeepEqual(table, want.text()) {
			t.Errorf("table of %s: got %q, want %q", from[0], table, want.text())
		}
	}
	joined := weir(t, "query", "ApiVersionPerAppAgg", "--join", "ApiFaultyInvocationAgg", "--join-type", "left", "--last", "3650d", "--per", "years", "--nats", i.nats, "--csv",
		"--group-by", "", "--select", "totalRequestCount as calls, ApiFaultyInvocationAgg.totalFaultCount / totalRequestCount as error_rate")
	if joined != "calls,error_rate\n5,0\n" {
		t.Errorf("a join over NATS: got %q", joined)
	}
	t.Run("refuses", func(t *testing.T) { refusesWrongQuestions(t, i) })
}

// text is the answer as lines of texts, the names first.
func (a answer) text() [][]string {
	lines := [][]string{a.Columns}
	for _, row := range a.Rows {
		var line []string
		for _, cell := range row {
			line = append(line, fmt.Sprint(cell))
		}
		lines = append(lines, line)
	}
	return lines
}

// refusesWrongQuestions: each is a 400 with a sentence that says what would be right, and the command says it too.
func refusesWrongQuestions(t *testing.T, i *instance) {
	const within = "within=2026-03-01,2026-03-02"
	for _, c := range []struct {
		name       string
		parameters []string
		sentence   string // part of it
	}{
		{"ApiVersionPerApAgg", []string{within, "per=hours"}, "ApiVersionPerAppAgg"},
		{"ApiVersionPerAppAgg", []string{within, "per=weeks"}, "days"},
		{"ApiVersionPerAppAgg", []string{within, "per=hours", "select=totalRequestCont"}, "totalRequestCount"},
		{"ApiVersionPerAppAgg", []string{within, "per=hours", "where=apiNam == \"calc\""}, "apiName"},
		{"ApiVersionPerAppAgg", []string{"within=2026-03-02,2026-03-01", "per=hours"}, "earlier"},
		{"ApiVersionPerAppAgg", []string{"within=yesterday,today", "per=hours"}, "2026-11-22T10:00:00Z"},
		{"ApiVersionPerAppAgg", []string{"per=hours"}, "within is missing"},
		{"ApiVersionPerAppAgg", []string{within, "per=hours", "limit=many"}, "limit"},
	} {
		status, body := get(t, i.question(c.name, c.parameters...))
		if status != http.StatusBadRequest || !strings.Contains(body, c.sentence) {
			t.Errorf("GET %s %q: got %d %s, want 400 with %q", c.name, c.parameters, status, body, c.sentence)
		}
		args := []string{"query", c.name, "--http", i.http}
		for _, p := range c.parameters {
			args = append(args, "--"+strings.ReplaceAll(p, "_", "-"))
		}
		fails(t, 2, []string{c.sentence}, args...)
	}
	if status, body := get(t, i.question("ApiVersionPerAppAgg", within, "per=hours", "grup_by=apiName")); status != http.StatusBadRequest || !strings.Contains(body, "group_by") {
		t.Errorf("a parameter that does not exist: got %d %s, want 400 with group_by", status, body)
	}
}
