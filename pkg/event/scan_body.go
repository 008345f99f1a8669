package event

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// mostScanners bounds how many schemas a decoder remembers: a process has a few,
// and a few more each time that its definitions are read again.
const mostScanners = 64

// scanner returns the one of the schema.
func (d *Decoder) scanner(schema *Schema) *scanner {
	if d.exact {
		return nil
	}
	s := d.scanners[schema]
	if s == nil {
		if d.scanners == nil || len(d.scanners) >= mostScanners {
			d.scanners = map[*Schema]*scanner{}
		}
		s = newScanner(schema)
		d.scanners[schema] = s
	}
	return s
}

// scanEvent appends the event that raw is, and nothing else, with the scanner or
// else exactly. On error nothing is appended.
func (d *Decoder) scanEvent(s *scanner, raw []byte, origin *Origin, offset int, into *Columns) error {
	if i := space(raw, 0); s != nil && i < len(raw) && raw[i] == '{' {
		into.begin()
		if end := s.object(raw, i, into); end > 0 && space(raw, end) == len(raw) {
			return into.complete(origin, offset)
		}
	}
	return d.decodeEvent(raw, origin, offset, into)
}

// scanValues is decodeValues for bodies that are objects, and arrays of them. It
// is not ok where the body is anything else, or broken; rows may have been added
// then.
func (d *Decoder) scanValues(s *scanner, body []byte, origin *Origin, into *Columns) (n int, rejects []Reject, ok bool) {
	for c := (cutter{body: body}); ; n++ {
		if !c.next() {
			return 0, nil, false
		}
		if c.at == len(body) {
			return n, rejects, n > 0
		}
		into.begin()
		var err error
		end := s.object(body, c.at, into)
		if end > 0 {
			err = into.complete(origin, n)
		} else {
			if end = nestedEnd(body, c.at); end < 0 || !isCut(body[c.at:end]) {
				return 0, nil, false
			}
			err = d.decodeEvent(body[c.at:end], origin, n, into)
		}
		if err != nil {
			rejects = append(rejects, Reject{Offset: n, Reason: err.Error(), Payload: bytes.Clone(body[c.at:end])})
		}
		c.at = end
	}
}

// cutter finds the events of a body of objects, and arrays of them.
type cutter struct {
	body   []byte
	at     int  // everything before it is read
	inside bool // an array,
	later  bool // behind one of its events
}

// next goes to the brace of the next event, or to the end of the body. It
// reports false where there is anything else, or a comma too many or too few.
func (c *cutter) next() bool {
	for {
		if c.at = space(c.body, c.at); c.at == len(c.body) {
			return !c.inside
		}
		switch b := c.body[c.at]; {
		case b == '{' && (!c.inside || !c.later):
			c.later = true
			return true
		case b == ',' && c.inside && c.later:
			c.at = space(c.body, c.at+1)
			return c.at < len(c.body) && c.body[c.at] == '{'
		case b == '[' && !c.inside:
			c.inside, c.later = true, false
		case b == ']' && c.inside:
			c.inside = false
		default:
			return false
		}
		c.at++
	}
}

// isCut reports whether the exact decoder cuts the object that raw is out of its
// message as it is.
func isCut(raw []byte) bool {
	return jsontext.Value(raw).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}
