package replay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
)

const goodLine = `192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /catalog HTTP/1.1" 200 12 "-" "curl/8.7.1"`

// writeLog makes a log file in a directory of the test.
func writeLog(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// provisioned starts NATS with Weir's streams.
func provisioned(t *testing.T) (url string, conn *stream.Conn) {
	t.Helper()
	url = embeddedtest.NATS(t)
	conn, err := stream.Connect(t.Context(), stream.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Provision(t.Context(), stream.Provision{}); err != nil {
		t.Fatal(err)
	}
	return url, conn
}

// weirReplay runs the command.
func weirReplay(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := Command()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out, errs bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// columns is the line of the summary for a file, without time and rate.
func columns(t *testing.T, summary, file string) string {
	t.Helper()
	for line := range strings.Lines(summary) {
		if fields := strings.Fields(line); len(fields) == 8 && fields[7] == file {
			return strings.Join(fields[:5], " ")
		}
	}
	t.Errorf("no line for %s in the summary:\n%s", file, summary)
	return ""
}

func TestReplay_PublishesAndSumsUp(t *testing.T) {
	t.Parallel()
	url, conn := provisioned(t)
	file := writeLog(t, "a.log", goodLine, "what is this", goodLine)
	stdin := `{"apiName":"a","requestTimestamp":1431857103000}`
	stdout, stderr, err := weirReplay(t, stdin, "--nats", url, "--batch", "1", file, "-")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for file, want := range map[string]string{file: "3 2 2 0 1", "stdin": "1 1 1 0 0", "total": "4 3 3 0 1"} {
		if got := columns(t, stdout, file); got != want {
			t.Errorf("%s: got lines, events, messages, known, malformed = %s; want %s", file, got, want)
		}
	}
	if want := file + ":2: malformed: "; !strings.Contains(stderr, want) {
		t.Errorf("no %q on standard error:\n%s", want, stderr)
	}
	again, stderr, err := weirReplay(t, "", "--nats", url, "--batch", "1", "--format", "combined", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if got, want := columns(t, again, "total"), "3 2 2 2 1"; got != want {
		t.Errorf("again: got %s, want %s", got, want)
	}
	if state, err := conn.State(t.Context()); err != nil || state.Messages != 3 {
		t.Errorf("the stream has %d messages, error %v; want 3", state.Messages, err)
	}
}

func TestReplay_ListsTheFirstMalformedLinesOrAll(t *testing.T) {
	t.Parallel()
	url, _ := provisioned(t)
	lines := []string{goodLine}
	for n := range 25 {
		lines = append(lines, fmt.Sprintf("malformed-%d", n))
	}
	file := writeLog(t, "a.log", lines...)
	_, some, err := weirReplay(t, "", "--nats", url, file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(some, ": malformed: "); got != listedLines || !strings.Contains(some, "and 5 more malformed lines") {
		t.Errorf("got %d lines listed in:\n%s", got, some)
	}
	_, all, err := weirReplay(t, "", "--nats", url, "--all-malformed", file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(all, ": malformed: "); got != 25 || strings.Contains(all, "more malformed lines") {
		t.Errorf("--all-malformed: got %d lines listed in:\n%s", got, all)
	}
}

func TestReplay_PublishesNothingUnlessAllFilesCanBeRead(t *testing.T) {
	t.Parallel()
	url, conn := provisioned(t)
	_, _, err := weirReplay(t, "", "--nats", url, writeLog(t, "a.log", goodLine), "no-such-file")
	if err == nil || !strings.Contains(err.Error(), "no-such-file: no such file") {
		t.Errorf("got error %v", err)
	}
	if state, err := conn.State(t.Context()); err != nil || state.Messages != 0 {
		t.Errorf("the stream has %d messages, error %v; want none", state.Messages, err)
	}
}

func TestReplay_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	unprovisioned := embeddedtest.NATS(t)
	file := writeLog(t, "a.log", goodLine)
	for _, test := range []struct {
		want string
		args []string
	}{
		{"combined, nasa or jsonl", []string{"--format", "apache", file}},
		{"is no token", []string{"--source", "a.b", file}},
		{"--batch: 0", []string{"--batch", "0", file}},
		{"--batch: 65537", []string{"--batch", "65537", file}},
		{"--rate", []string{"--rate", "NaN", file}},
		{"--shift-days", []string{"--shift-days", "today", file}},
		{"--shift-days", []string{"--shift-days", "100001", file}},
		{"requires at least 1 arg", nil},
		{"cannot tell the log format", []string{writeLog(t, "b.log", "hello")}},
		{"weir apply", []string{file}},
	} {
		_, _, err := weirReplay(t, "", append([]string{"--nats", unprovisioned}, test.args...)...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got error %v, want %q", test.args, err, test.want)
		}
	}
}

func TestReplay_ShiftsToTheLastDay(t *testing.T) {
	t.Parallel()
	url, _ := provisioned(t)
	_, stderr, err := weirReplay(t, "", "--nats", url, "--shift-days", "auto", writeLog(t, "a.log", goodLine))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr, "combined, 1 events, shifted by ") || strings.Contains(stderr, "shifted by 0 days") {
		t.Errorf("got on standard error:\n%s", stderr)
	}
}
