package query

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf8"
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
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
	}
	var out strings.Builder
	for _, line := range lines {
		out.Reset()
		for i, cell := range line {
			if i > 0 {
				out.WriteString("  ")
			}
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
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

// WriteCSV writes the answer as CSV (RFC 4180) with a line of names. A text
// that a spreadsheet would run as a formula gets an apostrophe before it.
func (a *Answer) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(safe(a.Columns, nil)); err != nil {
		return err
	}
	for _, cells := range a.Rows {
		line := make([]string, len(cells))
		for i, cell := range cells {
			line[i] = text(cell)
		}
		if err := out.Write(safe(line, cells)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// safe defuses what would be a formula; a number is none, though it may begin
// with a minus.
func safe(line []string, cells []any) []string {
	safe := make([]string, len(line))
	for i, cell := range line {
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) && (cells == nil || !isNumber(cells[i])) {
			cell = "'" + cell
		}
		safe[i] = cell
	}
	return safe
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
