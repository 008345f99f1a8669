package dashboard

import (
	"fmt"
	"math"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// unit is what a number counts, and so how it is written.
type unit string

const (
	text    unit = ""  // no number
	number  unit = "n" // how many
	millis  unit = "ms"
	percent unit = "%"
	octets  unit = "bytes"
	moment  unit = "time"
	status  unit = "status" // of HTTP
)

const missing = "–" // there is no value

// cell writes a value of an answer in a table: numbers of a column have the
// same places, so that they can be compared by eye.
func (u unit) cell(value any) string {
	n, ok := float(value)
	switch {
	case u == status && ok:
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", n, http.StatusText(int(n))))
	case !u.isNumber():
		return words(value)
	case !ok:
		return missing
	}
	switch u {
	case number, octets:
		return grouped(strconv.FormatFloat(math.Round(n), 'f', 0, 64))
	case percent:
		return strconv.FormatFloat(n, 'f', 2, 64)
	case millis, text, moment, status:
	}
	return grouped(strconv.FormatFloat(n, 'f', 1, 64))
}

// figure writes a value that stands alone, with its unit.
func (u unit) figure(value any) (figure, suffix string) {
	n, ok := float(value)
	if !ok {
		if u.isNumber() {
			return missing, ""
		}
		return words(value), ""
	}
	switch {
	case u == millis && n >= 10_000:
		return strconv.FormatFloat(n/1000, 'f', 1, 64), "s"
	case u == millis && n >= 100:
		return strconv.FormatFloat(n, 'f', 0, 64), "ms"
	case u == millis:
		return strconv.FormatFloat(n, 'f', 1, 64), "ms"
	case u == octets:
		return size(n)
	case u == percent && n != 0 && n < 0.01:
		return "< 0.01", "%"
	case u == percent:
		return strconv.FormatFloat(n, 'f', 2, 64), "%"
	}
	return u.cell(value), ""
}

func size(n float64) (figure, suffix string) {
	for _, step := range []string{"B", "kB", "MB", "GB", "TB"} {
		if n < 1000 || step == "TB" {
			return strconv.FormatFloat(n, 'f', map[bool]int{true: 0, false: 1}[step == "B"], 64), step
		}
		n /= 1000
	}
	return missing, ""
}

func words(value any) string {
	switch v := value.(type) {
	case nil:
		return missing
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return t.UTC().Format("2006-01-02 15:04:05")
		}
		if strings.TrimSpace(v) == "" {
			return "(empty)"
		}
		return v
	}
	return fmt.Sprint(value)
}

// float is the value as a number; false where it is none.
func float(value any) (float64, bool) {
	switch v := value.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	}
	return 0, false
}

// grouped puts a comma between groups of three digits.
func grouped(digits string) string {
	whole, rest, _ := strings.Cut(digits, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	var out strings.Builder
	for i, r := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(r)
	}
	if rest != "" {
		rest = "." + rest
	}
	return sign + out.String() + rest
}

// heading names a unit in the head of a column; "" where it goes without saying.
func (u unit) heading() string {
	switch u {
	case millis, percent, octets:
		return string(u)
	case text, number, moment, status:
	}
	return ""
}

func (u unit) isNumber() bool { return u != text && u != moment && u != status }
