package definition

import (
	"fmt"
	"math"
	"strings"

	"weir/pkg/event"
)

// resolve returns the attribute that holds the value of the expression: the
// one it names, or a hidden one that all equal expressions share.
func (s *stream) resolve(text string) (int, event.Kind, error) {
	text = strings.TrimSpace(text)
	if at := s.schema.Index(text); at >= 0 && identifier.MatchString(text) {
		return at, s.schema.Attributes[at].Kind, nil
	}
	if s.broken[text] {
		return -1, 0, errReported
	}
	if at := s.schema.Index(event.HiddenPrefix + text); at >= 0 {
		return at, s.schema.Attributes[at].Kind, nil
	}
	e, err := s.compile(text, s.schema.Attributes)
	if err != nil {
		return -1, 0, err
	}
	s.schema.Attributes = append(s.schema.Attributes, event.Attribute{
		Name: event.HiddenPrefix + text, Kind: e.kind, Derive: e.derive,
	})
	return len(s.schema.Attributes) - 1, e.kind, nil
}

// resolveRule is resolve for a rule, which must not refuse events: of one that has no value it gives none, which
// nothing breaks and nothing matches. An integer is a float then.
func (s *stream) resolveRule(text string) (int, event.Kind, error) {
	text = strings.TrimSpace(text)
	if at := s.schema.Index(text); at >= 0 || s.broken[text] {
		return s.resolve(text)
	}
	if at := s.schema.Index(event.HiddenPrefix + text); at >= 0 { // which refuses the event anyway
		return at, s.schema.Attributes[at].Kind, nil
	}
	name := event.HiddenPrefix + event.HiddenPrefix + text
	if at := s.schema.Index(name); at >= 0 {
		return at, s.schema.Attributes[at].Kind, nil
	}
	e, err := s.compile(text, s.schema.Attributes)
	if err != nil {
		return -1, 0, err
	}
	kind := e.kind
	if kind == event.Int {
		kind = event.Float
	}
	s.schema.Attributes = append(s.schema.Attributes, event.Attribute{Name: name, Kind: kind, Derive: e.orNothing()})
	return len(s.schema.Attributes) - 1, kind, nil
}

// orNothing derives no number, no text or false where the expression has no value.
func (e expression) orNothing() event.Eval {
	nothing := map[event.Kind]event.Cell{event.Int: event.FloatCell(math.NaN()), event.Float: event.FloatCell(math.NaN())}[e.kind]
	return func(c *event.Columns, row int) (event.Cell, error) {
		cell, err := e.derive(c, row)
		if err != nil {
			cell = nothing
			if e.kind == event.String {
				cell = c.Dict.Intern("")
			}
		} else if e.kind == event.Int {
			cell = event.FloatCell(float64(cell))
		}
		return cell, nil
	}
}

// filter resolves an expression that must be true or false; -1 where none is
// given.
func (s *stream) filter(where scalar, resolve func(string) (int, event.Kind, error)) (int, event.Kind, error) {
	if !where.given() {
		return -1, event.Bool, nil
	}
	at, kind, err := resolve(where.Value)
	if err != nil {
		return -1, 0, err
	}
	if kind != event.Bool {
		return -1, 0, fmt.Errorf("must be true or false, %s is %s", where.Value, kind)
	}
	return at, kind, nil
}

// attribute finds one by name.
func (s *stream) attribute(name string) (int, event.Kind, error) {
	at := s.schema.Index(name)
	if at < 0 || !identifier.MatchString(name) {
		return -1, 0, s.unknown(name)
	}
	return at, s.schema.Attributes[at].Kind, nil
}
