package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// writer writes an answer in one of the formats, row by row.
type writer interface {
	begin(columns []string) error
	row(cells []any) error
	// finish ends the answer; the time is zero where it is not known.
	finish(completeThrough time.Time) error
}

// to returns the writer of the format.
func (f format) to(w io.Writer) writer {
	switch f {
	case formatCSV:
		return &csvWriter{w: w, end: "\r\n"}
	case formatNDJSON:
		return &ndjsonWriter{w: w}
	case formatJSON:
	}
	return &jsonWriter{w: w}
}

// jsonWriter writes one object: the columns, the rows as arrays, and up to when they
// are complete.
type jsonWriter struct {
	w    io.Writer
	out  bytes.Buffer // of one row
	rows int
}

func (j *jsonWriter) begin(columns []string) error {
	j.out.WriteString(`{"columns":`)
	return j.send(columns, `,"rows":[`)
}

func (j *jsonWriter) row(cells []any) error {
	if j.rows > 0 {
		j.out.WriteString(",")
	}
	j.rows++
	j.out.WriteString("\n")
	return j.send(cells, "")
}

func (j *jsonWriter) finish(completeThrough time.Time) error {
	j.out.WriteString(`],"complete_through":`)
	if completeThrough.IsZero() {
		return j.send(nil, "}\n")
	}
	return j.send(completeThrough.UTC(), "}\n")
}

// send writes what is in out, a value, and a text after it.
func (j *jsonWriter) send(value any, after string) error {
	if err := appendJSON(&j.out, value); err != nil {
		return err
	}
	j.out.WriteString(after)
	_, err := j.w.Write(j.out.Bytes())
	j.out.Reset()
	return err
}

func appendJSON(out *bytes.Buffer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	out.Truncate(out.Len() - 1) // the end of the line
	return nil
}

// ndjsonWriter writes a line for each row, an object whose members are the columns
// in their order.
type ndjsonWriter struct {
	w     io.Writer
	out   bytes.Buffer // of one row
	names [][]byte     // of the columns, as JSON
}

func (n *ndjsonWriter) begin(columns []string) error {
	for _, name := range columns {
		var text bytes.Buffer
		if err := appendJSON(&text, name); err != nil {
			return err
		}
		n.names = append(n.names, text.Bytes())
	}
	return nil
}

func (n *ndjsonWriter) row(cells []any) error {
	n.out.Reset()
	for i, cell := range cells {
		n.out.WriteByte("{,"[min(i, 1)])
		n.out.Write(n.names[i])
		n.out.WriteByte(':')
		if err := appendJSON(&n.out, cell); err != nil {
			return err
		}
	}
	n.out.WriteString("}\n")
	_, err := n.w.Write(n.out.Bytes())
	return err
}

func (n *ndjsonWriter) finish(time.Time) error { return nil }

// csvWriter writes CSV (RFC 4180) with a line of names. A text that a spreadsheet
// would run as a formula gets an apostrophe before it, and control characters other
// than tabs and line ends are replaced: CSV is also shown in terminals. An empty
// text is quoted, so that it is not what is absent.
type csvWriter struct {
	w   io.Writer
	end string // of lines
	out strings.Builder
}

func (c *csvWriter) begin(columns []string) error {
	cells := make([]any, len(columns))
	for i, name := range columns {
		cells[i] = name
	}
	return c.row(cells)
}

func (c *csvWriter) row(cells []any) error {
	c.out.Reset()
	for i, cell := range cells {
		if i > 0 {
			c.out.WriteByte(',')
		}
		c.cell(cell, len(cells) == 1)
	}
	c.out.WriteString(c.end)
	_, err := io.WriteString(c.w, c.out.String())
	return err
}

// cell writes one cell; only says that it is the only one of its line, which readers
// would pass over if it were empty.
func (c *csvWriter) cell(cell any, only bool) {
	if cell == nil && !only {
		return
	}
	value := text(cell)
	if !isNumber(cell) {
		value = harmless(value)
	}
	if value != "" && !strings.ContainsAny(value, "\",\r\n") && value == strings.TrimSpace(value) {
		c.out.WriteString(value)
		return
	}
	c.out.WriteByte('"')
	c.out.WriteString(strings.ReplaceAll(value, `"`, `""`))
	c.out.WriteByte('"')
}

func (c *csvWriter) finish(time.Time) error { return nil }

// formulas are the characters with which one begins; the last four are full-width.
const formulas = "=+-@\t\r\n＝＋－＠"

// harmless defuses a text that would be a formula; a number is none, though it may
// begin with a minus.
func harmless(value string) string {
	if first, _ := utf8.DecodeRuneInString(value); value != "" && strings.ContainsRune(formulas, first) {
		value = "'" + value
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) {
			return '\uFFFD'
		}
		return r
	}, value)
}
