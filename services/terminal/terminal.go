// Package terminal says whether somebody looks at what a command writes, and how much fits.
package terminal

import (
	"io"
	"os"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// Size is the number of columns and lines of the terminal that w is, and whether it is one that can move its
// cursor: files, pipes and dumb terminals are not. One that does not say its size has 80 columns and 24 lines.
func Size(w io.Writer) (width, height int, ok bool) {
	file, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(file.Fd()))
	if err != nil || width < 1 || height < 1 {
		return 80, 24, true
	}
	return width, height, true
}

// Width is the number of columns that a text takes: none for what combines, two for wide characters.
func Width(text string) int { return runewidth.StringWidth(text) }

// Fit makes a text as wide as width says: cut with an ellipsis, or filled up with spaces on the right or, for
// numbers, on the left.
func Fit(text string, width int, right bool) string {
	if Width(text) > width {
		text = runewidth.Truncate(text, width, "…")
	}
	if right {
		return runewidth.FillLeft(text, width)
	}
	return runewidth.FillRight(text, width)
}
