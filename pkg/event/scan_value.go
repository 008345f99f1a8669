package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// What follows reads JSON values of the common forms. It takes a part of what
// the exact decoder takes, and that part exactly as it does.

// repeated is a word whose bytes all are c.
func repeated(c byte) uint64 { return 0x0101010101010101 * uint64(c) }

// special marks, with the highest bit of its byte, the first byte of the word
// that cannot stand in a string as it is: a quote, a backslash, a control
// character. Bytes after it may be marked without cause.
func special(w uint64) uint64 {
	quote, backslash := w^repeated('"'), w^repeated('\\')
	return ((quote-repeated(1))&^quote | (backslash-repeated(1))&^backslash | (w-repeated(' '))&^w) & repeated(0x80)
}

// text passes over the string that begins at b[i], behind its quote, and returns
// where it ends, and its hash. It is not ok where the string does not stand for
// itself.
func (h hashing) text(b []byte, i int) (end int, hash uint64, ok bool) {
	from, sum, all := i, h.start, uint64(0)
	var w, stop uint64
	for {
		if i+8 <= len(b) {
			w = binary.LittleEndian.Uint64(b[i:])
		} else {
			w = word(b[min(i, len(b)):]) // ends in zeros, control characters
		}
		if stop = special(w); stop != 0 {
			break
		}
		sum = h.add(sum, w)
		all |= w
		i += 8
	}
	n := bits.TrailingZeros64(stop) &^ 7
	w &= 1<<n - 1
	all |= w
	i += n / 8
	if i >= len(b) || b[i] != '"' {
		return i, 0, false
	}
	if all&repeated(0x80) != 0 && !utf8.Valid(b[from:i]) {
		return i, 0, false
	}
	return i, h.add(h.add(sum, w), uint64(i-from)), true
}

// space returns where the white space at b[i] ends.
func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// digits returns where the digits at b[i] end.
func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// mostDigits of an integer surely fit into 64 bits.
const mostDigits = 18

// integer reads the integer at b[i]. What ends it is for the caller to check:
// neither a point nor an exponent. end is -1 where there is none.
func integer(b []byte, i int) (n int64, end int) {
	negative := i < len(b) && b[i] == '-'
	if negative {
		i++
	}
	from := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		n = n*10 + int64(b[i]-'0')
	}
	switch length := i - from; {
	case length == 0, length > mostDigits, length > 1 && b[from] == '0':
		return 0, -1
	case negative:
		return -n, i
	}
	return n, i
}

// number returns where the number at b[i] ends, -1 where there is none.
func number(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	from := i
	i = digits(b, i)
	if i == from || i > from+1 && b[from] == '0' {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		from = i + 1
		if i = digits(b, from); i == from {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		from = i + 1
		if from < len(b) && (b[from] == '+' || b[from] == '-') {
			from++
		}
		if i = digits(b, from); i == from {
			return -1
		}
	}
	return i
}

// literal returns where the word ends that b[i] must begin, -1 where it does not.
func literal(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// stringEnd returns where the string that begins at b[i], behind its quote,
// ends, behind its closing quote; -1 where it does not.
func stringEnd(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// mostBrackets of one value surely nest less deep than JSON readers allow.
const mostBrackets = 1000

// nestedEnd returns where the object or array that begins at b[i] ends, if it is
// valid JSON; -1 where it does not end, or has many brackets.
func nestedEnd(b []byte, i int) int {
	depth, brackets := 0, 0
	for i < len(b) && brackets < mostBrackets {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i+1); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
			brackets++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}
