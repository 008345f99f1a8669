package store

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// errArray means that a text is not that of an array of one dimension.
var errArray = errors.New("not an array of one dimension")

// arrayReader goes through the text of a Postgres array of one dimension, as the
// server writes it.
type arrayReader struct {
	rest    []byte // without the outer braces
	more    bool   // an element has to follow
	scratch []byte // the last element that had escapes
}

// open begins another array.
func (a *arrayReader) open(text []byte) error {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return errArray
	}
	a.rest = text[1 : len(text)-1]
	a.more = len(a.rest) > 0
	return nil
}

// next returns the next element, which is good until the next call; nil is NULL.
// Ask only while there is more.
func (a *arrayReader) next() ([]byte, error) {
	if len(a.rest) > 0 && a.rest[0] == '"' {
		return a.quoted()
	}
	end := 0
	for end < len(a.rest) && a.rest[end] != ',' {
		switch a.rest[end] {
		case '{', '}', '"', '\\':
			return nil, errArray
		}
		end++
	}
	element := a.rest[:end]
	if end == 0 {
		return nil, errArray
	}
	if string(element) == "NULL" {
		element = nil
	}
	return element, a.past(end)
}

// quoted returns an element that begins with a quote.
func (a *arrayReader) quoted() ([]byte, error) {
	from := 1
	escaped := false
	for at := from; at < len(a.rest); at++ {
		switch a.rest[at] {
		case '"':
			element := a.rest[from:at]
			if escaped {
				a.scratch = append(a.scratch, element...)
				element = a.scratch
			}
			return element, a.past(at + 1)
		case '\\':
			if !escaped {
				escaped, a.scratch = true, a.scratch[:0]
			}
			a.scratch = append(a.scratch, a.rest[from:at]...)
			from = at + 1 // whatever follows stands for itself
			at++
		}
	}
	return nil, errArray
}

// past goes on after so many bytes and the comma, if one follows.
func (a *arrayReader) past(n int) error {
	a.rest = a.rest[n:]
	a.more = len(a.rest) > 0
	if !a.more {
		return nil
	}
	if a.rest[0] != ',' {
		return errArray
	}
	a.rest = a.rest[1:]
	return nil
}

// appendUnnumbered appends the numbers that appendNumbers wrote.
func appendUnnumbered(numbers []int32, text []byte) ([]int32, error) {
	width := int(text[0]) - '0'
	if width < 1 || width > 4 || (len(text)-1)%width != 0 {
		return numbers, fmt.Errorf("%.10q does not say which group has which", text)
	}
	text = text[1:]
	if width == 1 { // as a rule
		for _, digit := range text {
			numbers = append(numbers, int32(digit&63))
		}
		return numbers, nil
	}
	for ; len(text) > 0; text = text[width:] {
		number := int32(0)
		for _, digit := range text[:width] {
			number = number<<6 | int32(digit&63)
		}
		numbers = append(numbers, number)
	}
	return numbers, nil
}

// parseInt reads a whole number. Nearly all are short.
func parseInt(text []byte) (int64, error) {
	digits := bytes.TrimPrefix(text, []byte{'-'})
	if len(digits) == 0 || len(digits) > 18 {
		return strconv.ParseInt(string(text), 10, 64)
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%.30q is not a number", text)
		}
		n = 10*n + int64(c-'0')
	}
	if len(digits) < len(text) {
		n = -n
	}
	return n, nil
}
