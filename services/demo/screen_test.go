package demo

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// busy are figures as large as a long demo gets.
var busy = figures{
	running: 12*time.Hour + 59*time.Minute + 59*time.Second, published: 123456789, folded: 123456789, rate: 12345,
	lag: 59*time.Minute + 59*time.Second, waiting: 123456, raised: 12345, dead: 12345,
}

func TestFigures_FitTheirPlace(t *testing.T) {
	t.Parallel()
	for _, f := range []figures{{}, busy} {
		for _, line := range f.block() {
			if len(line) >= 80 {
				t.Errorf("on a terminal: %d characters: %q", len(line), line)
			}
		}
	}
	usual := figures{running: time.Hour, published: 2_160_000, folded: 2_159_900, rate: 600, lag: 300 * time.Millisecond, waiting: 20, raised: 900}
	if line := usual.line(); len(line) >= 110 {
		t.Errorf("elsewhere: %d characters: %q", len(line), line)
	}
}

func TestShort_IsALagInTime(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.0s", 340 * time.Millisecond: "0.3s", 12 * time.Second: "12.0s", 125*time.Second + time.Millisecond: "2m5s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestWrap_KeepsEveryWordWithinTheWidth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text  string
		width int
		want  []string
	}{
		{"short", 79, []string{"  short"}},
		{"ALERT   rule: took 5778 ms", 22, []string{"  ALERT   rule: took", "          5778 ms"}},
		{"ALERT a-word-longer-than-all-of-a-line end", 24, []string{
			"  ALERT", "          a-word-longer-", "          than-all-of-a-", "          line end",
		}},
		{"", 79, []string{""}},
	} {
		got := wrap(tt.text, tt.width)
		if !slices.Equal(got, tt.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
	text := strings.Repeat("some words and a-rather-long-word-between-them ", 20)
	for width := 1; width < 120; width++ {
		lines := wrap(text, width)
		if got := strings.Join(strings.Fields(strings.Join(lines, "")), ""); width >= 60 && got != strings.ReplaceAll(text, " ", "") {
			t.Errorf("width %d: words are lost: %q", width, lines)
		}
		for _, line := range lines {
			if len(line) > max(width, 20) {
				t.Errorf("width %d: %q is longer", width, line)
			}
		}
	}
}

func TestScreen_WritesLinesWhereThereIsNoTerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := newScreen(&out)
	s.show(figures{running: 2 * time.Second, published: 7, folded: 5, rate: 2.6})
	s.scroll("ALERT   \x1b[2Jcleared")
	s.print("done")
	want := "     2s  published 7  folded 5  3 events/s  lag 0.0s  waiting 0  alerts 0  dead letters 0\n  ALERT   ·[2Jcleared\ndone\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}
