package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"weir/pkg/badinput"
)

// sharedData is the folder of real logs beside the project; it is no part of it.
const sharedData = "../../../shared/data"

// oracle is what an independent script found in a log.
type oracle struct {
	LinesTotal     int64 `json:"lines_total"`
	Records        int64 `json:"records"`
	MalformedLines []struct {
		Line int64 `json:"line"`
	} `json:"malformed_lines"`
	First         time.Time        `json:"first"`
	Last          time.Time        `json:"last"`
	PerHour       map[string]int64 `json:"per_hour_utc"`
	PerDay        map[string]int64 `json:"per_day_utc"`
	PerMonth      map[string]int64 `json:"per_month_utc"`
	PerStatus     map[string]int64 `json:"per_status"`
	PerMethod     map[string]int64 `json:"per_method"`
	DistinctPaths int              `json:"distinct_paths"`
	Clients       int              `json:"distinct_clients"`
	Agents        int              `json:"distinct_user_agents"`
	BytesSum      int64            `json:"bytes_sum"`
}

// realLog opens a log of the shared data and its oracle, or skips the test and says what is missing.
func realLog(t *testing.T, path string) (*Log, oracle) {
	t.Helper()
	path = filepath.Join(sharedData, path)
	truth, err := os.ReadFile(path + ".oracle.json")
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("SKIPPED: the real logs are absent: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var want oracle
	if err := json.Unmarshal(truth, &want); err != nil {
		t.Fatalf("read the oracle: %v", err)
	}
	return openLog(t, path, ""), want
}

func openLog(t *testing.T, path string, format Format) *Log {
	t.Helper()
	log, err := OpenLog(t.Context(), path, nil, format)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// textLog opens a log with this content.
func textLog(t *testing.T, format Format, lines ...string) *Log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return openLog(t, path, format)
}

// readAll is every line of the log.
func readAll(t *testing.T, log *Log, shiftDays int) []Line {
	t.Helper()
	var all []Line
	for line, err := range log.Read("replay", shiftDays) {
		if err != nil {
			t.Fatalf("read %s: %v", log.Name, err)
		}
		all = append(all, line)
	}
	return all
}

func decode(t *testing.T, line Line) requestEvent {
	t.Helper()
	if line.Malformed != "" {
		t.Fatalf("line %d is malformed: %s", line.Number, line.Malformed)
	}
	var event requestEvent
	if err := json.Unmarshal(line.Event, &event); err != nil {
		t.Fatalf("line %d: %v", line.Number, err)
	}
	return event
}

func TestRead_RealLogsEqualTheirOracles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path   string
		format Format
	}{
		{"elastic-apache/apache_logs.gz", Combined},
		{"nasa-http/nasa_19950801.tsv.gz", NASA},
	} {
		t.Run(string(test.format), func(t *testing.T) {
			t.Parallel()
			log, want := realLog(t, test.path)
			if log.Format != test.format || log.Lines != want.LinesTotal || log.Events != want.Records ||
				log.Malformed != int64(len(want.MalformedLines)) || !log.Newest.Equal(want.Last) {
				t.Errorf("survey: got format %s, %d lines, %d events, %d malformed, newest %s; want %s, %d, %d, %d, %s",
					log.Format, log.Lines, log.Events, log.Malformed, log.Newest,
					test.format, want.LinesTotal, want.Records, len(want.MalformedLines), want.Last)
			}
			hours, days, months := map[string]int64{}, map[string]int64{}, map[string]int64{}
			statuses, methods := map[string]int64{}, map[string]int64{}
			paths, clients, agents := map[string]bool{}, map[string]bool{}, map[string]bool{}
			var malformed []int64
			var size int64
			for _, line := range readAll(t, log, 0) {
				if line.Malformed != "" {
					malformed = append(malformed, line.Number)
					if want := "the quote of the user agent is never closed"; line.Malformed != want {
						t.Errorf("line %d: got reason %q, want %q", line.Number, line.Malformed, want)
					}
					continue
				}
				event := decode(t, line)
				at := time.UnixMilli(event.RequestTimestamp).UTC()
				if !at.Equal(line.Time) {
					t.Fatalf("line %d: time %s, but event time %s", line.Number, line.Time, at)
				}
				hours[at.Format("2006-01-02T15")]++
				days[at.Format("2006-01-02")]++
				months[at.Format("2006-01")]++
				statuses[fmt.Sprint(event.ResponseCode)]++
				methods[event.APIMethod]++
				size += event.ResponseSize
				paths[event.APIResourcePath], clients[event.UserIP], agents[event.UserAgent] = true, true, true
			}
			for _, counts := range []struct {
				name      string
				got, want map[string]int64
			}{
				{"per hour", hours, want.PerHour},
				{"per day", days, want.PerDay},
				{"per month", months, want.PerMonth},
				{"per status", statuses, want.PerStatus},
				{"per method", methods, want.PerMethod},
			} {
				if fmt.Sprint(counts.got) != fmt.Sprint(counts.want) {
					t.Errorf("%s: got %v, want %v", counts.name, counts.got, counts.want)
				}
			}
			if size != want.BytesSum || len(clients) != want.Clients {
				t.Errorf("got %d bytes, %d clients; want %d, %d", size, len(clients), want.BytesSum, want.Clients)
			}
			// The oracle of the NASA log counts its urls with their queries, and there are no user agents.
			if log.Format == Combined && (len(paths) != want.DistinctPaths || len(agents) != want.Agents) {
				t.Errorf("got %d paths, %d user agents; want %d, %d", len(paths), len(agents), want.DistinctPaths, want.Agents)
			}
			for i, line := range want.MalformedLines {
				if i >= len(malformed) || malformed[i] != line.Line {
					t.Errorf("malformed lines: got %v, want line %d in them", malformed, line.Line)
				}
			}
		})
	}
}

const combinedLine = `192.0.2.7 - ada [17/May/2015:12:05:03 +0200] "GET /catalog/products/7?x=1#top HTTP/1.1" 200 1234 "-" "curl/8.7.1"`

func TestRead_MapsACombinedLineToARequestEvent(t *testing.T) {
	t.Parallel()
	lines := readAll(t, textLog(t, Combined, combinedLine), 0)
	want := `{"apiName":"catalog","apiContext":"/catalog/1.0.0","apiVersion":"1.0.0",` +
		`"apiResourcePath":"/catalog/products/7","apiResourceTemplate":"/catalog/products/7","apiMethod":"GET",` +
		`"apiHostname":"replay","applicationName":"anonymous","applicationId":"anonymous","applicationOwner":"anonymous",` +
		`"username":"ada","userIp":"192.0.2.7","userAgent":"curl/8.7.1","requestTimestamp":1431857103000,` +
		`"responseCode":200,"responseSize":1234,"responseTime":0}`
	if len(lines) != 1 || string(lines[0].Event) != want {
		t.Errorf("got %+v\nwant one event %s", lines, want)
	}
}

func TestRead_TakesTheAPIFromTheRequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ request, method, api, path string }{
		{`GET / HTTP/1.1`, "GET", "root", "/"},
		{`GET /?a=/b/c HTTP/1.1`, "GET", "root", "/"},
		{`GET ?a HTTP/1.1`, "GET", "root", "/"},
		{`GET //a//b HTTP/1.1`, "GET", "a", "//a//b"},
		{`GET /a#x/y HTTP/1.1`, "GET", "a", "/a"},
		{`GET /a/http://b/c HTTP/1.1`, "GET", "a", "/a/http://b/c"},
		{`GET http://host:80/a/b?c HTTP/1.1`, "GET", "a", "/a/b"},
		{`GET HTTPS://host HTTP/1.1`, "GET", "root", "/"},
		{`GET http://host?a=/b HTTP/1.1`, "GET", "root", "/"},
		{`OPTIONS * HTTP/1.0`, "OPTIONS", "root", "*"},
		{`CONNECT example.com:443 HTTP/1.1`, "CONNECT", "example.com:443", "example.com:443"},
		{`GET /old.html`, "GET", "old.html", "/old.html"}, // HTTP/0.9
		{`GET /a b/c HTTP/1.1`, "GET", "a b", "/a b/c"},
		{`GET /a\"b\\c HTTP/1.1`, "GET", `a"b\c`, `/a"b\c`},
		{`GET /caf\xc3\xa9 HTTP/1.1`, "GET", "café", "/café"},
		{`get /a%2Fb HTTP/1.1`, "get", "a%2Fb", "/a%2Fb"},
		{`-`, "-", "unknown", "-"}, // a client that sent nothing
		{``, "-", "unknown", "-"},
		{`GET`, "-", "unknown", "-"},
		{`GET HTTP/1.1`, "-", "unknown", "-"},
		{`\x16\x03\x01\x02\x00 \x01`, "-", "unknown", "-"}, // TLS on a plain port
	} {
		line := `h - - [17/May/2015:10:05:03 +0000] "` + test.request + `" 400 - "-" "-"`
		event := decode(t, Combined.line([]byte(line), "replay", 0))
		if event.APIMethod != test.method || event.APIName != test.api || event.APIResourcePath != test.path {
			t.Errorf("%s: got %s, API %q, path %q; want %s, %q, %q",
				test.request, event.APIMethod, event.APIName, event.APIResourcePath, test.method, test.api, test.path)
		}
		if event.APIContext != "/"+test.api+"/1.0.0" || event.Username != "anonymous" || event.ResponseSize != 0 {
			t.Errorf("%s: got %+v", test.request, event)
		}
	}
}

func TestRead_GivesTheReasonForAMalformedLine(t *testing.T) {
	t.Parallel()
	const front = `h - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" `
	for _, test := range []struct {
		format Format
		line   string
		reason string // a part of it
	}{
		{Combined, `h`, "client"},
		{Combined, `h - -`, "[time]"},
		{Combined, `h - - [17/May/2015:10:05:03 +0000 "GET / HTTP/1.1" 200 1 "-" "-"`, "the time is never closed"},
		{Combined, `h - - [17/Mai/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "-"`, "is no time"},
		{Combined, `h - - [31/Feb/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "-"`, "is no time"},
		{Combined, `h - - [17/May/2015:10:05:03] "GET / HTTP/1.1" 200 1 "-" "-"`, "is no time"},
		{Combined, `h - - [17/May/2015:10:05:03 +0000] GET / HTTP/1.1 200 1 "-" "-"`, "request is not in quotes"},
		{Combined, `h - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1`, "request is never closed"},
		{Combined, front + `20 1 "-" "-"`, "no status"},
		{Combined, front + `+20 1 "-" "-"`, "no status"},
		{Combined, front + `200 1`, "common log format"},
		{Combined, front + `200 -1 "-" "-"`, "no number of bytes"},
		{Combined, front + `200 99999999999999999999 "-" "-"`, "no number of bytes"},
		{Combined, front + `200 1 "-"`, "no user agent"},
		{Combined, front + `200 1 "-" "a\"`, "user agent is never closed"},
		{Combined, front + `200 1 "-" "-" "x"`, "something follows"},
		{Combined, "h\x00 - -", "NUL"},
		{NASA, "h\t-\t1\tGET\t/\t200\t1", "7 columns"},
		{NASA, nasaHeader, "is no time"}, // not on line 1
		{NASA, "h\t-\t-1\tGET\t/\t200\t1\t\t", "is no time"},
		{NASA, "h\t-\t253402300800\tGET\t/\t200\t1\t\t", "is no time"},
		{NASA, "h\t-\t1\tGET\t\t200\t1\t\t", "no url"},
		{NASA, "\t-\t1\tGET\t/\t200\t1\t\t", "no host"},
		{NASA, "h\t-\t1\tGET\t/\t2000\t1\t\t", "no status"},
		{NASA, "h\t-\t1\tGET\t/\t200\t\t\t", "no number of bytes"},
		{JSONL, `{"a":1`, "no valid JSON"},
		{JSONL, `{"a":1} {}`, "no valid JSON"},
		{JSONL, `[{}]`, "no JSON object"},
		{JSONL, `   `, "no valid JSON"},
		{JSONL, `[{]`, "no valid JSON"},
		{JSONL, `"text"`, "no JSON object"},
		{JSONL, `{"a":1,"a":2,"requestTimestamp":1}`, "no valid JSON"}, // as for a worker
		{JSONL, `{}`, "requestTimestamp is missing: not a request event of Weir"},
		{JSONL, `{"requestTimestamp":null}`, "requestTimestamp is missing"},
		{JSONL, `{"time":{"requestTimestamp":1}}`, "requestTimestamp is missing"},
		{JSONL, `{"requestTimestamp":"never"}`, `requestTimestamp "never" is no time`},
		{JSONL, `{"requestTimestamp":{}}`, `requestTimestamp "{}" is no time`},
		{JSONL, `{"requestTimestamp":1e300}`, `is no time`},
		{JSONL, `{"requestTimestamp":0}`, "must lie after 1970-01-01"},
		{JSONL, `{"requestTimestamp":-1.5}`, "must lie after 1970-01-01"},
		{JSONL, `{"requestTimestamp":"1969-12-31T23:59:59Z"}`, "must lie after 1970-01-01"},
	} {
		line := test.format.line([]byte(test.line), "replay", 0)
		if !strings.Contains(line.Malformed, test.reason) || line.Malformed == "" || line.Event != nil {
			t.Errorf("%s %q: got reason %q, event %s; want %q", test.format, test.line, line.Malformed, line.Event, test.reason)
		}
	}
}

func TestRead_NumbersLinesAndPassesOverOnlyTheEmptyEnd(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxLine+1)
	log := textLog(t, Combined, "\ufeff"+combinedLine+"\r", "", "", long, combinedLine, "broken", "", "")
	var got []string
	for _, line := range readAll(t, log, 0) {
		got = append(got, fmt.Sprintf("%d %s", line.Number, line.Malformed))
	}
	want := []string{
		"1 ", "2 empty line", "3 empty line", "4 longer than 1048576 bytes", "5 ",
		"6 does not begin with a client and a space",
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if log.Lines != 7 || log.Events != 2 || log.Malformed != 4 {
		t.Errorf("got %d lines, %d events, %d malformed; want 7, 2, 4", log.Lines, log.Events, log.Malformed)
	}
}

func TestRead_ReplacesWhatNoTextCanHold(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"raw bytes":     strings.Replace(combinedLine, "curl", "c\xe4\xe5rl", 1),
		"escaped bytes": strings.Replace(combinedLine, "curl", `c\xe4\xe5rl`, 1),
		"escaped NUL":   strings.Replace(combinedLine, "curl", `c\x00rl`, 1),
	} {
		read := Combined.line([]byte(line), "replay", 0)
		if event := decode(t, read); !read.Replaced || event.UserAgent != "c\ufffdrl/8.7.1" {
			t.Errorf("%s: got user agent %q, replaced %v", name, event.UserAgent, read.Replaced)
		}
	}
}

func TestRead_RefusesAnEventThatFitsIntoNoMessage(t *testing.T) {
	t.Parallel()
	line := Combined.line([]byte(strings.Replace(combinedLine, "/catalog", "/"+strings.Repeat("x", MaxEvent/4), 1)), "replay", 0)
	if !strings.Contains(line.Malformed, "its event is longer than") {
		t.Errorf("got reason %q", line.Malformed)
	}
}

func TestRead_TakesAJSONEventAsItIs(t *testing.T) {
	t.Parallel()
	const event = `{ "apiName":"a", "nested":{"requestTimestamp":5}, "requestTimestamp": 1431857103000 , "x":"\u0000"}`
	for _, test := range []struct {
		shift int
		event string
		want  string
	}{
		{0, event, event},
		{2, event, strings.Replace(event, "1431857103000", "1432029903000", 1)},
		{-1, `{"requestTimestamp":"2015-05-17 12:05:03 +02:00"}`, `{"requestTimestamp":1431770703000}`},
		{1, `{"requestTimestamp":1431857103000.5}`, `{"requestTimestamp":1431943503000}`},
		{1, `{"requestTimestamp":1.431857103e12}`, `{"requestTimestamp":1431943503000}`},
	} {
		line := JSONL.line([]byte(test.event), "replay", time.Duration(test.shift)*day)
		if got := string(line.Event) + line.Malformed; got != test.want {
			t.Errorf("%s by %d days: got %s, want %s", test.event, test.shift, got, test.want)
		}
	}
}

func FuzzCombined(f *testing.F) {
	f.Add(combinedLine)
	f.Add(`h - "" [17/May/2015:10:05:03 +0000] "\x16\x03" 400 - "\"" "\\"`)
	f.Fuzz(func(t *testing.T, text string) { checkLine(t, Combined, text) })
}

func FuzzNASA(f *testing.F) {
	f.Add("host\t-\t807256800\tGET\t/images/a.gif\t200\t1713\t\t")
	f.Add(nasaHeader)
	f.Fuzz(func(t *testing.T, text string) { checkLine(t, NASA, text) })
}

func FuzzJSONL(f *testing.F) {
	f.Add(`{"requestTimestamp":1431857103000}`)
	f.Add(`{"requestTimestamp":"2015-05-17T12:05:03Z","a":{"b":[1,null]}}`)
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(string(m.Body)) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) { checkLine(t, JSONL, text) })
}

// checkLine holds that a line is either malformed, or an event that is one line of valid JSON, and that reading
// it again gives the same.
func checkLine(t *testing.T, format Format, text string) {
	line := format.line([]byte(text), "replay", day)
	if (line.Malformed == "") == (line.Event == nil) {
		t.Fatalf("neither event nor malformed: %+v", line)
	}
	if at := strings.IndexFunc(line.Malformed, func(r rune) bool { return !unicode.IsPrint(r) }); at >= 0 {
		t.Fatalf("the reason moves the cursor: %q", line.Malformed)
	}
	if line.Event != nil && (!json.Valid(line.Event) || bytes.IndexByte(line.Event, 0) >= 0) {
		t.Fatalf("no JSON: %q", line.Event)
	}
	if again := format.line([]byte(text), "replay", day); string(again.Event) != string(line.Event) || again.Malformed != line.Malformed {
		t.Fatalf("read again: got %+v, first %+v", again, line)
	}
}
