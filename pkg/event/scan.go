package event

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A scanner reads events of one schema in the form in which nearly all come, at
// a tenth of what the exact decoder needs, which says what an event is. Where
// an event is not of that form the scanner gives up, and the exact decoder
// reads it; so it may refuse anything, and must accept nothing that the exact
// one does not accept with the same result.
//
// It guesses the next member: the one that came behind the last one when that
// was met before. Members that the schema does not have are known to it too.
type scanner struct {
	schema  *Schema
	names   *Dictionary // of members; those of attributes are their indexes
	members []member    // by index + 1; [0] stands for the opening brace
	dict    *Dictionary // of the members' last texts
	scratch []byte
	full    bool // of unknown members
}

// member is what the scanner knows of a member of events.
type member struct {
	lead string // its name as it stands in an event, quotes and colon included; "" before it was met
	next int32  // index of the member that followed it the last time; at first 0, which nothing is
	kind Kind   // 0: passed over
	last lastText
	min  *float64
	// Of a time, its unit in microseconds and the greatest number of them; both 0
	// where the exact decoder must scale it.
	factor, most int64
}

const (
	// mostUnknown bounds how many members without an attribute are remembered.
	mostUnknown = 192
	// longestUnknown is the length of the longest name among them, in bytes.
	longestUnknown = 256
)

func newScanner(schema *Schema) *scanner {
	s := &scanner{schema: schema}
	s.reset()
	return s
}

// reset forgets the unknown members, and all texts.
func (s *scanner) reset() {
	s.names, s.members, s.full, s.dict = NewDictionary(), make([]member, 1), false, nil
	for i := range s.schema.Attributes {
		a := &s.schema.Attributes[i]
		s.names.Intern(a.Name)
		m := member{kind: a.Kind, min: a.Min}
		if unit := cmp.Or(a.Unit, time.Millisecond); unit >= time.Microsecond {
			m.factor = int64(unit / time.Microsecond)
			m.most = latest / m.factor
		}
		if a.Derive != nil {
			m.kind = 0
		}
		s.members = append(s.members, m)
	}
}

// use makes the scanner intern texts in dict.
func (s *scanner) use(dict *Dictionary) {
	s.dict = dict
	for i := range s.members {
		s.members[i].last = lastText{}
	}
}

// object reads the event whose brace is b[i] into the columns' open row, and
// returns where it ends; -1 where the exact decoder must read it.
func (s *scanner) object(b []byte, i int, into *Columns) int {
	if s.full {
		s.reset()
	}
	if s.dict != into.Dict {
		s.use(into.Dict)
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	cells, seen, row := into.Cells, into.seen, into.Len()
	for last := 0; ; {
		which := int(s.members[last].next)
		m := &s.members[which]
		if lead := m.lead; lead != "" && len(b)-i >= len(lead) && string(b[i:i+len(lead)]) == lead {
			i += len(lead)
		} else {
			if which, i = s.name(b, i); i < 0 {
				return -1
			}
			s.members[last].next = int32(which)
			m = &s.members[which]
		}
		last = which
		at := which - 1
		if seen[at>>6]&(1<<(at&63)) != 0 {
			return -1 // twice
		}
		seen[at>>6] |= 1 << (at & 63)
		if i = space(b, i); i >= len(b) {
			return -1
		}
		if m.kind == 0 {
			i = s.skip(b, i)
		} else if end := m.last.at(b, i); end > 0 {
			cells[at][row], i = m.last.cell, end
		} else {
			cells[at][row], i = s.value(b, i, at, m, into)
		}
		if i < 0 {
			return -1
		}
		if i = space(b, i); i >= len(b) {
			return -1
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			i = space(b, i+1)
		default:
			return -1
		}
	}
}

// name reads the name at b[i], with its colon, and returns which member it is.
func (s *scanner) name(b []byte, i int) (which, end int) {
	if i >= len(b) || b[i] != '"' {
		return 0, -1
	}
	end, hash, ok := s.names.hashing.text(b, i+1)
	if !ok {
		return 0, -1
	}
	name := b[i+1 : end]
	at := s.names.find(name, hash)
	if at < 0 {
		s.full = len(s.members) > len(s.schema.Attributes)+mostUnknown
		if s.full || len(name) > longestUnknown {
			return 0, -1
		}
		at = s.names.add(name, hash)
		s.members = append(s.members, member{})
	}
	if m := &s.members[at+1]; m.lead == "" {
		m.lead = `"` + s.names.Text(at) + `":`
	}
	if end = space(b, end+1); end >= len(b) || b[end] != ':' {
		return 0, -1
	}
	return int(at) + 1, end + 1
}

// lastText is the text that an attribute had the last time, as it stands in an
// event. Many have the same again.
type lastText struct {
	text  string
	first uint64 // the first eight bytes, or fewer, of the text in its quotes
	mask  uint64 // which of them count; 0 where there is no text
	cell  Cell
}

// at returns where the last text ends if it stands at b[i], else -1.
func (l *lastText) at(b []byte, i int) int {
	if i+8 > len(b) || l.mask == 0 || (binary.LittleEndian.Uint64(b[i:])^l.first)&l.mask != 0 {
		return -1
	}
	end := i + 1 + len(l.text)
	if len(l.text) > 6 && (end >= len(b) || b[end] != '"' || string(b[i+8:end]) != l.text[7:]) {
		return -1
	}
	return end + 1
}

// set remembers the text that begins at b[i], behind its quote.
func (l *lastText) set(b []byte, i int, text string, cell Cell) {
	if i+7 > len(b) {
		return
	}
	l.text, l.cell = text, cell
	l.first, l.mask = binary.LittleEndian.Uint64(b[i-1:]), ^uint64(0)
	if n := len(text) + 2; n < 8 {
		l.mask = 1<<(8*n) - 1
	}
}

// value reads the value of the attribute at b[i], which is inside b.
func (s *scanner) value(b []byte, i, at int, m *member, into *Columns) (Cell, int) {
	switch m.kind {
	case String:
		if b[i] == '"' {
			if end, hash, ok := into.Dict.hashing.text(b, i+1); ok {
				cell := into.Dict.intern(b[i+1:end], hash)
				m.last.set(b, i+1, into.Dict.texts[cell], cell)
				return cell, end + 1
			}
		}
	case Int:
		if n, end := integer(b, i); end > 0 {
			if n > MaxInt || n < -MaxInt || m.min != nil && float64(n) < *m.min {
				return 0, -1
			}
			return Cell(n), end
		}
	case Time:
		if n, end := integer(b, i); end > 0 && n <= m.most && n >= -m.most {
			return inYears(n*m.factor, end)
		}
	case Bool:
		if end := literal(b, i, "true"); end > 0 {
			return 1, end
		}
		if end := literal(b, i, "false"); end > 0 {
			return 0, end
		}
	case Float:
		if end := number(b, i); end > 0 {
			f, err := strconv.ParseFloat(string(b[i:end]), 64)
			if err != nil || m.min != nil && f < *m.min {
				return 0, -1
			}
			if f == 0 {
				f = 0 // not -0
			}
			return FloatCell(f), end
		}
	}
	return s.odd(b, i, at, m, into)
}

// odd is value for the forms that are met less often.
func (s *scanner) odd(b []byte, i, at int, m *member, into *Columns) (Cell, int) {
	switch {
	case b[i] == 'n' && !into.Schema.Attributes[at].Required:
		return into.defaults[at], literal(b, i, "null")
	case m.kind == String && b[i] == '"':
		end := s.unquote(b, i)
		if end < 0 || bytes.IndexByte(s.scratch, 0) >= 0 {
			return 0, -1
		}
		return into.Dict.InternBytes(s.scratch), end
	case m.kind == String:
		if end := s.skip(b, i); end > 0 && (b[i] == 't' || b[i] == 'f' || b[i] == '-' || b[i]-'0' <= 9) {
			return into.Dict.InternBytes(b[i:end]), end
		}
	case m.kind == Time && b[i] == '"':
		if end, _, ok := into.Dict.hashing.text(b, i+1); ok {
			if t, ok := parseTime(string(b[i+1 : end])); ok {
				return inYears(t, end+1)
			}
		}
	case m.kind == Time: // of many digits, or in ns
		if end := number(b, i); end > 0 {
			n, err := strconv.ParseInt(string(b[i:end]), 10, 64)
			if err != nil {
				return 0, -1
			}
			if t, err := scale(n, cmp.Or(into.Schema.Attributes[at].Unit, time.Millisecond)); err == nil {
				return inYears(t, end)
			}
		}
	}
	return 0, -1
}

// inYears is where a time ends if it may be one.
func inYears(t int64, end int) (Cell, int) {
	if t < earliest || t > latest {
		return 0, -1
	}
	return Cell(t), end
}

// unquote reads the string at b[i] into scratch and returns where it ends.
func (s *scanner) unquote(b []byte, i int) int {
	end := stringEnd(b, i+1)
	if end < 0 || end-i > mostKept {
		return -1
	}
	var err error
	if s.scratch, err = jsontext.AppendUnquote(s.scratch[:0], b[i:end]); err != nil {
		return -1
	}
	return end
}

// skip passes over the value at b[i], which is inside b, and returns where it
// ends.
func (s *scanner) skip(b []byte, i int) int {
	switch b[i] {
	case '"':
		if end, _, ok := s.names.hashing.text(b, i+1); ok {
			return end + 1
		}
		return s.unquote(b, i)
	case 't':
		return literal(b, i, "true")
	case 'f':
		return literal(b, i, "false")
	case 'n':
		return literal(b, i, "null")
	case '{', '[':
		end := nestedEnd(b, i)
		if end < 0 || !jsontext.Value(b[i:end]).IsValid() {
			return -1
		}
		return end
	}
	return number(b, i)
}
