package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// screen writes to a terminal, whose last lines are figures that are redrawn
// in place, or to anything else, line after line. It is safe for concurrent use.
type screen struct {
	terminal *os.File // nil: out is none

	mu    sync.Mutex // guards what follows
	out   io.Writer
	block []string // the figures that end the terminal now
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.terminal = f
	}
	return s
}

// show shows figures in place of the former.
func (s *screen) show(f figures) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal == nil {
		_, _ = fmt.Fprintln(s.out, f.line())
		return
	}
	s.above("", f.block())
}

// scroll adds a text of others above the figures, indented, and wrapped to the
// width of the terminal.
func (s *screen) scroll(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text = printable(text)
	if s.terminal == nil {
		_, _ = fmt.Fprintln(s.out, "  "+text)
		return
	}
	var lines strings.Builder
	for _, line := range wrap(text, s.width()-1) {
		lines.WriteString(line + "\n")
	}
	s.above(lines.String(), s.block)
}

// print leaves the figures where they are for good, and adds a text below.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.block = nil
	_, _ = fmt.Fprintln(s.out, text)
}

// above replaces the figures by the text and the figures of block, in one
// write. The cursor ends on the line below, where what the terminal echoes (^C)
// harms nothing.
func (s *screen) above(text string, block []string) {
	var b strings.Builder
	b.WriteString("\r")
	if len(s.block) > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", len(s.block))
	}
	b.WriteString("\x1b[J" + text)
	width := s.width() - 1
	for _, line := range block {
		b.WriteString(cut(line, width) + "\n") // a wrapped line could not be redrawn
	}
	s.block = block
	_, _ = io.WriteString(s.out, b.String())
}

// width is the number of columns, 80 where the terminal does not say.
func (s *screen) width() int {
	width, _, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil || width < 1 {
		return 80
	}
	return width
}

// cut shortens a line to a width.
func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:max(0, width)])
	}
	return line
}

// indents of the first line of a wrapped text, and of the others.
const (
	firstIndent = "  "
	nextIndent  = "          "
)

// wrap breaks a text into lines of a width at most, between words where it can.
func wrap(text string, width int) []string {
	width = max(width, len(nextIndent)+10)
	lines, line := []string(nil), firstIndent
	room := func() int { return width - len([]rune(line)) }
	for _, word := range strings.SplitAfter(text, " ") {
		for len([]rune(strings.TrimRight(word, " "))) > room() {
			if strings.TrimSpace(line) == "" { // longer than a line: break the word
				runes := []rune(word)
				n := min(room(), len(runes))
				line, word = line+string(runes[:n]), string(runes[n:])
			}
			lines, line = append(lines, strings.TrimRight(line, " ")), nextIndent
		}
		line += word
	}
	return append(lines, strings.TrimRight(line, " "))
}

// printable keeps what events say from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, text)
}
