package gateway

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pack compresses with gzip.
func pack(t *testing.T, content string) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

func TestOpenLog_KnowsALogByItsContent(t *testing.T) {
	t.Parallel()
	content := []byte(combinedLine + "\n" + combinedLine + "\n")
	packed := []byte(pack(t, string(content)))
	dir := t.TempDir()
	for name, data := range map[string][]byte{"plain.gz": content, "packed.log": packed} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := openLog(t, filepath.Join(dir, "plain.gz"), "")
	want := plain.Epoch(0)
	if len(want) != 32 || strings.Trim(want, "0123456789abcdef") != "" {
		t.Errorf("epoch %q is not 32 hex digits", want)
	}
	if got := openLog(t, filepath.Join(dir, "packed.log"), Combined).Epoch(0); got != want {
		t.Errorf("gzip: got epoch %s, want that of the plain file, %s", got, want)
	}
	for name, in := range map[string]io.Reader{"stdin": bytes.NewReader(content), "gzip on stdin": bytes.NewReader(packed)} {
		log, err := OpenLog(t.Context(), "-", in, "")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer func() { _ = log.Close() }()
		if log.Epoch(0) != want || log.Events != 2 || len(readAll(t, log, 0)) != 2 || len(readAll(t, log, 0)) != 2 {
			t.Errorf("%s: got %+v with epoch %s, want 2 events of epoch %s", name, log, log.Epoch(0), want)
		}
	}
	others := map[string]string{
		"shift":   plain.Epoch(1),
		"format":  (&Log{Format: NASA, digest: plain.digest}).Epoch(0),
		"content": textLog(t, Combined, combinedLine).Epoch(0),
	}
	for name, epoch := range others {
		if epoch == want {
			t.Errorf("another %s has the same epoch", name)
		}
	}
}

// The epoch is a contract: what a former build published must be recognised by this one.
func TestEpoch_StaysTheSameOverReleases(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		format     Format
		line, want string
	}{
		{Combined, combinedLine, "55958cf1fead3780f6c8f203ed3fea95"},
		{JSONL, `{"requestTimestamp":1431857103000}`, "12d4091c7d2a36001d0b89c0272eff8a"},
	} {
		if got := textLog(t, test.format, test.line).Epoch(-3); got != test.want {
			t.Errorf("%s: got epoch %s, want %s: if lines are read in another way on purpose, change identityVersion and this",
				test.format, got, test.want)
		}
	}
}

func TestOpenLog_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	packed := pack(t, strings.Repeat(combinedLine+"\n", 100))
	damaged := strings.Clone(packed[:len(packed)-8]) + "\x00\x00\x00\x00" + packed[len(packed)-4:]
	for _, test := range []struct {
		path   string
		format Format
		want   string
	}{
		{filepath.Join(dir, "none"), "", "no such file"},
		{dir, "", "is a directory"},
		{write("text", "hello\nworld\n"), "", "cannot tell the log format: none of the first 2 lines"},
		{write("mixture", combinedLine+"\n{}\n"), "", "it has lines of combined and jsonl"},
		{write("header.gz", "\x1f\x8b\x08\x00"), "", "header.gz: its gzip data is cut off: unexpected EOF"},
		{write("cut.gz", packed[:len(packed)-20]), "", "cut.gz: its gzip data is cut off: unexpected EOF"},
		{write("damaged.gz", damaged), "", "damaged.gz: its gzip data is damaged (gzip: invalid checksum)"},
		{write("tail.gz", packed+"and something else"), "", "tail.gz: not all of it is gzip data"},
		{write("method.gz", "\x1f\x8b\x07\x00\x00\x00\x00\x00\x00\x00"), "", "method.gz: not all of it is gzip data"},
		{
			write("foreign", `{"a":1}`+"\n\n"+`{"requestTimestamp":null}`+"\n"), "",
			"not one of 3 lines is a jsonl line (line 1: requestTimestamp is missing: not a request event of Weir)",
		},
		{write("tabs", "h\t-\t1\tGET\t/\t200\t1\t\t\n"), Combined, "not one of 1 lines is a combined line (line 1: does not begin with"},
	} {
		if _, err := OpenLog(t.Context(), test.path, nil, test.format); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", test.path, err, test.want)
		}
	}
	if log := openLog(t, write("header", nasaHeader+"\n\n"), NASA); log.Lines != 2 || log.Events != 0 {
		t.Errorf("a header alone: got %d lines, %d events", log.Lines, log.Events)
	}
	if log := openLog(t, write("empty", ""), ""); log.Lines != 0 || len(readAll(t, log, 0)) != 0 {
		t.Errorf("an empty file: got %d lines", log.Lines)
	}
}

func TestRead_NoticesAChangedFile(t *testing.T) {
	t.Parallel()
	log := textLog(t, Combined, combinedLine, "")
	for name, content := range map[string]string{
		"other": strings.Replace(combinedLine, "7", "8", 1) + "\n",
		"cut":   combinedLine[:20],
	} {
		if err := os.WriteFile(log.Name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range log.Read("replay", 0) {
			last = err
		}
		if !errors.Is(last, ErrChanged) {
			t.Errorf("%s: got error %v, want ErrChanged", name, last)
		}
	}
	if err := os.WriteFile(log.Name, []byte(combinedLine+"\n"+combinedLine+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := len(readAll(t, log, 0)); got != 1 { // a line was appended: it belongs to another log
		t.Errorf("appended: got %d lines, want the 1 that was there", got)
	}
}

func TestAutoShift_BringsTheNewestEventToTheLastDay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		newest time.Time
		want   time.Time
	}{
		{time.Date(1995, 8, 1, 18, 52, 1, 0, time.UTC), time.Date(2026, 11, 21, 18, 52, 1, 0, time.UTC)},
		{time.Date(2015, 5, 20, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)},
		{now, now},
		{now.Add(time.Second), now.Add(time.Second - day)},
		{now.Add(day), now},
	} {
		log := &Log{Newest: test.newest}
		if got := test.newest.Add(time.Duration(log.AutoShift(now)) * day); !got.Equal(test.want) {
			t.Errorf("newest %s: shifted to %s, want %s", test.newest, got, test.want)
		}
	}
	if got := new(Log).AutoShift(now); got != 0 {
		t.Errorf("without times: got a shift of %d days", got)
	}
}
