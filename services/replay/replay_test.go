package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	return weirReplayUntil(t.Context(), stdin, args...)
}

// weirReplayUntil runs the command until ctx ends.
func weirReplayUntil(ctx context.Context, stdin string, args ...string) (stdout, stderr string, err error) {
	cmd := Command()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out, errs bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
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
	const samples = "../../../shared/data/"
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"no-such-file"}, []string{"no-such-file: no such file"}},
		{[]string{writeGzip(t, "cut.gz", 20)}, []string{"cut.gz: its gzip data is cut off"}},
		{[]string{writeLog(t, "a.jsonl", `{"a":1}`, `[]`)}, []string{
			"a.jsonl: not one of 2 lines is a jsonl line (line 1: requestTimestamp is missing: not a request event of Weir)",
			"is --format right? known formats: combined, nasa, jsonl",
		}},
		{[]string{samples + "gateway-samples/apisix-http-logger.jsonl"}, []string{"not one of 10 lines is a jsonl line", "requestTimestamp is missing"}},
		{[]string{samples + "gateway-samples/kong-http-log.jsonl"}, []string{"not one of 1 lines is a jsonl line", "requestTimestamp is missing"}},
		{[]string{"--format", "combined", samples + "nasa-http/nasa_19950801.tsv.gz"}, []string{"lines is a combined line", "is --format right?"}},
	} {
		if file := test.args[len(test.args)-1]; strings.HasPrefix(file, samples) {
			if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
				t.Logf("SKIPPED: the real logs are absent: %v", err)
				continue
			}
		}
		args := append([]string{"--nats", url, writeLog(t, "good.log", goodLine)}, test.args...)
		_, _, err := weirReplay(t, "", args...)
		for _, want := range append(test.want, "Nothing was published") {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got error %v, want %q", test.args, err, want)
			}
		}
	}
	if state, err := conn.State(t.Context()); err != nil || state.Messages != 0 {
		t.Errorf("the stream has %d messages, error %v; want none", state.Messages, err)
	}
}

// writeGzip makes a compressed log file that lacks its last bytes.
func writeGzip(t *testing.T, name string, lacking int) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, strings.Repeat(goodLine+"\n", 100)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return writeLog(t, name, packed.String()[:packed.Len()-lacking])
}

func TestReplay_InterruptedSaysHowFarItHasCome(t *testing.T) {
	t.Parallel()
	url, conn := provisioned(t)
	whole, begun := writeLog(t, "whole.log", goodLine), writeLog(t, "begun.log", goodLine+" ", goodLine, goodLine)
	args := []string{"--nats", url, "--rate", "0.001", "--shift-days", "auto", whole, begun, writeLog(t, "late.log", goodLine)}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	stored := make(chan error, 1)
	go func() { // each log's first event goes out at once, its second after a long time
		defer interrupt()
		deadline := time.Now().Add(30 * time.Second)
		for {
			state, err := conn.State(t.Context())
			if err != nil || state.Messages == 2 || time.Now().After(deadline) {
				stored <- err
				return
			}
		}
	}()
	_, _, err := weirReplayUntil(ctx, "", args...)
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	want := "interrupted; the stream has confirmed 2 of 4 events: 1 of 3 files whole, then a part of " + begun +
		". Running the same command again, with --shift-days as printed above and not auto, completes it, and counts nothing twice"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, _, err := weirReplayUntil(ctx, "", args...); err == nil || err.Error() != "interrupted; nothing was published" {
		t.Errorf("interrupted at once: got error %v", err)
	}
}

func TestReplay_SaysThatAFileIsEmpty(t *testing.T) {
	t.Parallel()
	url, _ := provisioned(t)
	file := writeLog(t, "empty.log")
	stdout, stderr, err := weirReplay(t, "", "--nats", url, file, writeLog(t, "a.log", goodLine))
	if err != nil {
		t.Fatal(err)
	}
	if want := file + ": the file is empty; there is nothing to publish\n"; !strings.Contains(stderr, want) {
		t.Errorf("no %q on standard error:\n%s", want, stderr)
	}
	if got, want := columns(t, stdout, "total"), "2 1 1 0 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
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
