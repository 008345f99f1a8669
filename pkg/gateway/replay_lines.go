package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"
)

const (
	// MaxLine is how long a line of a log may be, in bytes without its end; a longer one is malformed.
	MaxLine = 1 << 20
	// MaxEvent is how long the JSON of an event may be, in bytes, so that it surely fits into a message.
	// The line of a longer one is malformed.
	MaxEvent = 512 << 10
)

// Line is one line of a log: an event, or malformed.
type Line struct {
	Number int64 // in its file, from 1
	// Event is the JSON of a request event; nil when the line is malformed. It belongs to the reader.
	Event []byte
	// Time is the event's, shifted; zero when the line is malformed.
	Time time.Time
	// Replaced says that the line held bytes that no text can hold (broken UTF-8), and that they became U+FFFD.
	Replaced bool
	// Malformed is the reason why the line is no event; "" for an event.
	Malformed string
}

// lineReader cuts a text into lines.
type lineReader struct {
	in     *bufio.Reader
	number int64 // of the line read last, from 1
}

func newLineReader(in io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, MaxLine+len("\r\n"))}
}

// next returns the next line without its end, valid until the next call. A line over MaxLine is
// passed over and tooLong. The error after the last line is io.EOF.
func (r *lineReader) next() (line []byte, tooLong bool, err error) {
	line, err = r.in.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		tooLong = true
		_, err = r.in.ReadSlice('\n')
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0 && !tooLong) {
		return nil, false, err
	}
	r.number++
	if tooLong {
		return nil, true, nil
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if r.number == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff")) // a byte order mark is no part of the text
	}
	if len(line) > MaxLine {
		return nil, true, nil
	}
	return line, false, nil
}

// lines reads all lines of a log: each is an event or malformed. Passed over are only the header of a NASA
// log and the empty lines at the end of the file; an empty line before another one is malformed. An
// error ends the sequence, and is an error of in.
func (r *lineReader) lines(format Format, source string, shift time.Duration) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		empty := int64(0) // empty lines just before this one
		for {
			text, tooLong, err := r.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Line{}, err)
				return
			}
			if len(text) == 0 && !tooLong {
				empty++
				continue
			}
			for ; empty > 0; empty-- {
				if !yield(Line{Number: r.number - empty, Malformed: "empty line"}, nil) {
					return
				}
			}
			if format.isHeader(r.number, text) {
				continue
			}
			line := Line{Number: r.number, Malformed: fmt.Sprintf("longer than %d bytes", MaxLine)}
			if !tooLong {
				line = format.line(text, source, shift)
				line.Number = r.number
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// line reads one line, all but its number.
func (f Format) line(text []byte, source string, shift time.Duration) Line {
	if bytes.IndexByte(text, 0) >= 0 {
		return Line{Malformed: "holds a NUL byte"}
	}
	broken := !utf8.Valid(text)
	if broken {
		text = bytes.ToValidUTF8(text, []byte(replacement))
	}
	event, at, replaced, err := f.read(text, source, shift)
	switch {
	case err != nil:
		return Line{Malformed: err.Error()}
	case len(event) > MaxEvent:
		return Line{Malformed: fmt.Sprintf("its event is longer than %d bytes", MaxEvent)}
	}
	return Line{Event: event, Time: at, Replaced: broken || replaced}
}
