package query

import (
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// WriteTable writes the answer in aligned columns for people: a line of
// names, then the rows, numbers to the right.
func (a *Answer) WriteTable(w io.Writer) error {
	right := make([]bool, len(a.Columns))
	lines := [][]string{append([]string(nil), a.Columns...)}
	for _, cells := range a.Rows {
		line := make([]string, len(cells))
		for i, cell := range cells {
			line[i] = text(cell)
			right[i] = right[i] || isNumber(cell)
		}
		lines = append(lines, line)
	}
	return WriteAligned(w, lines, right)
}

// WriteAligned writes lines of cells in columns; right tells which columns are
// aligned to the right. Characters that do not print are replaced.
func WriteAligned(w io.Writer, lines [][]string, right []bool) error {
	widths := make([]int, len(right))
	for _, line := range lines {
		for i := range line {
			line[i] = printable(line[i])
			widths[i] = max(widths[i], runewidth.StringWidth(line[i]))
		}
	}
	var out strings.Builder
	for _, line := range lines {
		out.Reset()
		for i, cell := range line {
			if i > 0 {
				out.WriteString("  ")
			}
			padding := strings.Repeat(" ", widths[i]-runewidth.StringWidth(cell))
			if right[i] {
				out.WriteString(padding + cell)
			} else {
				out.WriteString(cell + padding)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(out.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

func isNumber(cell any) bool {
	switch cell.(type) {
	case int64, float64, *big.Int, json.Number:
		return true
	}
	return false
}

// text writes a cell as in JSON, but texts without quotes and nothing for nil.
func text(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		b, err := json.Marshal(v)
		if err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(cell)
}

// TerminalJSON returns a writer for JSON that may be shown in a terminal: what
// does not print is escaped. It takes whole values at a time, as encoders write
// them.
func TerminalJSON(w io.Writer) io.Writer { return terminalJSON{w} }

type terminalJSON struct{ w io.Writer }

// Write relies on JSON having such characters inside texts only.
func (t terminalJSON) Write(value []byte) (int, error) {
	out := make([]byte, 0, len(value))
	for rest := value; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\n' || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			out = append(out, rest[:size]...)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(value), nil
}

// printable keeps what came over the network from moving the cursor or
// breaking the table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
