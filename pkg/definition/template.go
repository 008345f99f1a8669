package definition

import "strings"

const (
	// longestTemplate bounds a template, in bytes, with the mark that stands
	// for the segments left out.
	longestTemplate = 256
	moreSegments    = "/…"
	// longestSegment is the most of a segment that is no id, in bytes.
	longestSegment = 64
	idSegment      = "{id}"
	// shortestHash is how many hexadecimal digits are no word.
	shortestHash = 16
)

// template returns the path with what names one thing replaced by {id}, so that
// all calls of one resource have one text; the package comment says what
// counts. It is a fixed point: the template of a template is itself.
func template(path string) string {
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	path = cleaned(path)
	var b strings.Builder
	first := true
	for segment := range strings.SplitSeq(path, "/") {
		segment = templateSegment(segment)
		if !first {
			if b.Len()+1+len(segment) > longestTemplate-len(moreSegments) {
				b.WriteString(moreSegments)
				break
			}
			b.WriteByte('/')
		}
		b.WriteString(segment)
		first = false
	}
	return b.String()
}

func templateSegment(segment string) string {
	segment, _, _ = strings.Cut(segment, ";") // parameters, such as jsessionid
	stem, ending := decoded(segment), ""
	if dot := strings.LastIndexByte(stem, '.'); dot > 0 && isEnding(stem[dot+1:]) {
		stem, ending = stem[:dot], stem[dot:]
	}
	switch {
	case isIDs(stem):
		return idSegment + ending
	case len(segment) > longestSegment:
		return idSegment
	}
	return segment
}

// decoded returns the segment without the needless escapes of letters, digits
// and -._~, as %31 for 1. What is too long to be one id stays as it is.
func decoded(segment string) string {
	if len(segment) > 3*longestSegment || strings.IndexByte(segment, '%') < 0 {
		return segment
	}
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' && i+2 < len(segment) && isHex(segment[i+1]) && isHex(segment[i+2]) {
			if d := hexValue(segment[i+1])<<4 | hexValue(segment[i+2]); isUnreserved(d) {
				c = d
				i += 2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// isEnding reports whether the text can be the ending of a file name.
func isEnding(text string) bool {
	return len(text) >= 2 && len(text) <= 5 && !isDigit(text[0]) && all(text, func(c byte) bool {
		return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z'
	})
}

// isIDs reports whether the text is an id, or several with commas between.
func isIDs(text string) bool {
	for id := range strings.SplitSeq(text, ",") {
		if !isNumber(id) && !isHash(id) && !isUUID(id) && !isULID(id) && !isDate(id) {
			return false
		}
	}
	return true
}

// isNumber accepts 7, -7, 12.5 and -0.5. A small number with a point, such as
// 1.0 or 2.13, is rather a version.
func isNumber(text string) bool {
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	switch {
	case whole == "" || !all(whole, isDigit) || !all(fraction, isDigit):
		return false
	case !point:
		return true
	}
	return fraction != "" && (negative || len(whole) > 1 || len(fraction) > 2)
}

func isHash(text string) bool {
	text = strings.TrimPrefix(text, "0x")
	return len(text) >= shortestHash && all(text, isHex)
}

// isUUID accepts 8-4-4-4-12 digits, also in braces or as a URN.
func isUUID(text string) bool {
	const urn = "urn:uuid:"
	switch {
	case len(text) > len(urn) && strings.EqualFold(text[:len(urn)], urn):
		text = text[len(urn):]
	case strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}"):
		text = text[1 : len(text)-1]
	case len(text) > 6 && strings.EqualFold(text[:3], "%7B") && strings.EqualFold(text[len(text)-3:], "%7D"):
		text = text[3 : len(text)-3]
	}
	parts := strings.Split(text, "-")
	if len(text) != len("01234567-89ab-cdef-0123-456789abcdef") || len(parts) != 5 {
		return false
	}
	for i, length := range [...]int{8, 4, 4, 4, 12} {
		if len(parts[i]) != length || !all(parts[i], isHex) {
			return false
		}
	}
	return true
}

// isULID accepts upper and lower case, but no mix of them.
func isULID(text string) bool {
	if len(text) != 26 || text[0] < '0' || text[0] > '7' {
		return false
	}
	upper := strings.ToUpper(text)
	return (text == upper || text == strings.ToLower(text)) && all(upper, func(c byte) bool {
		return isDigit(c) || c >= 'A' && c <= 'Z' && c != 'I' && c != 'L' && c != 'O' && c != 'U'
	})
}

// isDate accepts 2026-11-22, perhaps with a time after it.
func isDate(text string) bool {
	const form = "dddd-dd-dd"
	if len(text) < len(form) {
		return false
	}
	for i := range len(form) {
		if isDigit(text[i]) != (form[i] == 'd') || form[i] == '-' && text[i] != '-' {
			return false
		}
	}
	rest := text[len(form):]
	return rest == "" || rest[0] == 'T' && all(rest[1:], func(c byte) bool {
		return isDigit(c) || strings.IndexByte(":.+-Z", c) >= 0
	})
}

func isUnreserved(c byte) bool {
	return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("-._~", c) >= 0
}

// hexValue is the value of a hexadecimal digit.
func hexValue(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func all(text string, is func(c byte) bool) bool {
	for i := range len(text) {
		if !is(text[i]) {
			return false
		}
	}
	return true
}
