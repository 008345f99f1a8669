package top

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"weir/services/terminal"
)

// What a terminal is told: the other screen, without a cursor, whose lines do not wrap; and back,
// from an empty one: tmux, once resized, keeps some of its lines.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[H\x1b[J\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// screen is a terminal that shows frames, and whose keys are read as they are typed.
type screen struct {
	in, out *os.File
	before  *term.State
	inside  bool
}

func openScreen(in, out *os.File) (*screen, error) {
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("read the terminal's state: %w", err)
	}
	s := &screen{in: in, out: out, before: before}
	return s, s.enter()
}

// enter also brings back what somebody else has changed meanwhile.
func (s *screen) enter() error {
	if _, err := term.MakeRaw(int(s.in.Fd())); err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	s.inside = true
	_, err := s.out.WriteString(enterScreen)
	return err
}

// leave makes the terminal what it was. It may be called more than once.
func (s *screen) leave() {
	if !s.inside {
		return
	}
	s.inside = false
	_, _ = s.out.WriteString(leaveScreen)      // a terminal that is gone
	_ = term.Restore(int(s.in.Fd()), s.before) // needs neither
}

// draw shows the view, in one write.
func (s *screen) draw(v *view, now time.Time) {
	if !s.inside {
		return
	}
	width, height, _ := terminal.Size(s.out)
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, text := range v.frame(width, height, now) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("\x1b[K" + text) // after it the cursor would still be on a last character
	}
	_, _ = s.out.WriteString(b.String()) // if it cannot be written, the next key tells
}
