package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxInt is the greatest integer that an event can bring, and -MaxInt the
// least: what survives JSON readers that know only doubles. 2^53 does not, for
// they read 2^53+1 as the same.
const MaxInt = 1<<53 - 1

func notInt(text string) error {
	return fmt.Errorf("%s is no integer from -%d to %d (2^53-1)", text, MaxInt, MaxInt)
}

// earliest is the start of the year 1, in microseconds since 1970 UTC: what
// lies before it Postgres and most of the world write in other ways.
const earliest = -62_135_596_800_000_000

// latest is the end of the year 9999, in microseconds since 1970 UTC.
const latest = 253_402_300_799_999_999

// read turns a JSON token into the attribute's cell.
func (a *Attribute) read(token jsontext.Token, dict *Dictionary) (Cell, error) {
	switch a.Kind {
	case String:
		return readText(token, dict)
	case Int:
		n, err := readInt(token)
		if err == nil {
			err = a.checkMin(float64(n))
		}
		return Cell(n), err
	case Float:
		f, err := readFloat(token)
		if err == nil {
			err = a.checkMin(f)
		}
		return FloatCell(f), err
	case Bool:
		if k := token.Kind(); k != 't' && k != 'f' {
			return 0, wrongKind("true or false", token)
		}
		return BoolCell(token.Bool()), nil
	case Time:
		t, err := a.readTime(token)
		if err == nil && (t < earliest || t > latest) {
			err = fmt.Errorf("%s lies outside the years 1 to 9999", token.String())
		}
		return Cell(t), err
	}
	return 0, fmt.Errorf("attribute kind %d", a.Kind)
}

func (a *Attribute) checkMin(v float64) error {
	if a.Min != nil && v < *a.Min {
		return fmt.Errorf("%v is below %v", v, *a.Min)
	}
	return nil
}

// readText takes strings; numbers and booleans stand for their own text,
// because gateways send codes and ids either way.
func readText(token jsontext.Token, dict *Dictionary) (Cell, error) {
	switch token.Kind() {
	case '"', '0', 't', 'f':
	default:
		return 0, wrongKind("a text", token)
	}
	text := token.String()
	if strings.IndexByte(text, 0) >= 0 {
		return 0, errors.New("holds a NUL byte, which Postgres text cannot store")
	}
	return dict.Intern(text), nil
}

// readInt takes integers, also when written 12.0 or 1.2e3.
func readInt(token jsontext.Token) (int64, error) {
	if token.Kind() != '0' {
		return 0, wrongKind("an integer", token)
	}
	text := token.String()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(text, 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > MaxInt {
			return 0, notInt(text)
		}
		n = int64(f)
	}
	if n > MaxInt || n < -MaxInt {
		return 0, notInt(text)
	}
	return n, nil
}

func readFloat(token jsontext.Token) (float64, error) {
	if token.Kind() != '0' {
		return 0, wrongKind("a number", token)
	}
	f, err := strconv.ParseFloat(token.String(), 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no number that fits a double", token.String())
	}
	if f == 0 {
		f = 0 // not -0, which would be a group of its own
	}
	return f, nil
}

// readTime takes a number in the attribute's unit, or a text.
func (a *Attribute) readTime(token jsontext.Token) (int64, error) {
	switch token.Kind() {
	case '"':
		return ParseTime(token.String())
	case '0':
	default:
		return 0, wrongKind("a time", token)
	}
	text := token.String()
	unit := a.Unit
	if unit == 0 {
		unit = time.Millisecond
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return scale(n, unit)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no time", text)
	}
	f *= float64(unit) / float64(time.Microsecond)
	if math.Abs(f) >= math.MaxInt64 {
		return 0, fmt.Errorf("%s is no time", text)
	}
	return int64(math.Floor(f)), nil
}

// scale turns n units into microseconds.
func scale(n int64, unit time.Duration) (int64, error) {
	if unit < time.Microsecond {
		return n / int64(time.Microsecond/unit), nil
	}
	factor := int64(unit / time.Microsecond)
	if n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return 0, fmt.Errorf("%d is no time", n)
	}
	return n * factor, nil
}

// maxOffset is how far from UTC a time may be written, in seconds: as far as in
// Java. Go takes 24 hours, which nobody means.
const maxOffset = 18 * 60 * 60

// ParseTime reads a time written as text: RFC 3339, or Siddhi's
// `2006-01-02 15:04:05` with optional fraction and offset (` +05:30`); no
// offset means UTC. It returns microseconds since 1970 UTC.
func ParseTime(text string) (int64, error) {
	if t, ok := parseTime(text); ok {
		return t, nil
	}
	return 0, fmt.Errorf("%q is no time: write 2006-01-02T15:04:05Z or 2006-01-02 15:04:05[ +hh:mm]", text)
}

// parseTime tries the layouts that the text may have, by what follows the date.
func parseTime(text string) (int64, bool) {
	layouts := [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"}
	if len(text) > 10 && text[10] == ' ' {
		layouts = [...]string{"2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999 Z07:00"}
	}
	for _, layout := range layouts {
		t, err := time.Parse(layout, text)
		if _, offset := t.Zone(); err == nil && offset >= -maxOffset && offset <= maxOffset {
			return t.UnixMicro(), true
		}
	}
	return 0, false
}

func formatTime(t int64) string {
	return time.UnixMicro(t).UTC().Format("2006-01-02T15:04:05.999999Z")
}

func wrongKind(want string, token jsontext.Token) error {
	return fmt.Errorf("want %s, got %s", want, kindName(token.Kind()))
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a text"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "something else"
}
