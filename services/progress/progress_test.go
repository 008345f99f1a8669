package progress

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// onTerminal returns what a bar writes to a terminal.
func onTerminal(t *testing.T, off bool) string {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ptmx.Close()
	written := make(chan string)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, ptmx) // ends with an error when nobody has the terminal any more
		written <- all.String()
	}()
	work(t, New(tty, off, 4))
	_ = tty.Close()
	return <-written
}

// work does four things, and says a line in between.
func work(t *testing.T, b *Bar) {
	t.Helper()
	b.Start()
	b.Add(1)
	if _, err := b.Write([]byte("a line\n")); err != nil {
		t.Error(err)
	}
	b.Set(4, 4)
	b.Finish()
}

func TestBar_IsShownOnATerminal(t *testing.T) {
	t.Parallel()
	got := onTerminal(t, false)
	for _, want := range []string{"4 / 4", "100.00%", "\r\x1b[Ka line\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestBar_IsNotShownElsewhereOrWhereItIsNotWanted(t *testing.T) {
	t.Parallel()
	if got := onTerminal(t, true); got != "a line\r\n" {
		t.Errorf("with --no-progress: got %q", got)
	}
	var file bytes.Buffer
	work(t, New(&file, false, 4))
	if file.String() != "a line\n" {
		t.Errorf("in a file: got %q", file.String())
	}
}
