package definition

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/pkg/event"
)

// defaultText is what a missing string is, as WSO2 fills it.
const defaultText = "None"

// stream is a schema under construction.
type stream struct {
	reader
	language *language
	schema   *event.Schema
	// later are the derived attributes that are not compiled yet, with their
	// lines; broken are attributes that a problem was reported for; filled are
	// those with an if_empty.
	later  map[string]int
	broken map[string]bool
	filled map[string]bool
	// current is the derived attribute that is being compiled.
	current string
}

func newStream(d *document, l *language) *stream {
	s := &stream{
		reader: d.reader, language: l,
		later: map[string]int{}, broken: map[string]bool{}, filled: map[string]bool{},
		schema: &event.Schema{Name: d.stream.Value, Doc: d.doc.text(), EventTime: -1},
	}
	if !streamName.MatchString(s.schema.Name) {
		s.bad(d.stream.Node, "stream %q: a name is 1 to 40 lower-case letters, digits, - and _, and begins with a letter", s.schema.Name)
	}
	if s.schema.Name == event.HeartbeatType {
		s.bad(d.stream.Node, "stream %q: publishers say under this name which of their messages were stored; take another", s.schema.Name)
	}
	if len(d.attributes) == 0 {
		s.bad(d.stream.Node, "stream %q has no attributes", s.schema.Name)
	}
	for _, text := range d.derived {
		s.later[text.name.Value] = text.name.Line
	}
	for _, text := range d.attributes {
		s.addAttribute(text)
	}
	s.setTime(d)
	for _, text := range d.attributes {
		s.setIfEmpty(text)
	}
	for _, text := range d.derived {
		s.addDerived(text)
	}
	return s
}

// free reports whether the name can be taken, after a problem if not.
func (s *stream) free(r reader, name *yaml.Node) bool {
	switch {
	case !attributeName.MatchString(name.Value):
		r.bad(name, "a name is 1 to 50 letters, digits and _, and does not begin with a digit")
	case slices.Contains(keywords(), name.Value):
		r.bad(name, "%s is a word of the expression language: take another name", name.Value)
	case s.schema.Index(name.Value) >= 0 || s.broken[name.Value]:
		r.bad(name, "the stream has an attribute of that name already")
	default:
		return true
	}
	return false
}

func (s *stream) addAttribute(text attributeText) {
	r, before := s.within("attribute %q", text.name.Value), len(*s.problems)
	if text.malformed {
		s.broken[text.name.Value] = true
		return
	}
	if !s.free(r, text.name.Node) {
		return
	}
	a := event.Attribute{Name: text.name.Value, Doc: text.doc.text(), Kind: r.kind(text)}
	if text.needed.given() {
		a.Required = r.bool("required", text.needed)
	}
	if text.unit.given() && a.Kind != event.Time && a.Kind != 0 {
		r.bad(text.unit.Node, "unit is for times, this is %s", a.Kind)
	}
	if a.Kind == event.Time {
		a.Unit = r.unit(text.unit)
	}
	if text.min.given() {
		if a.Kind != 0 && !a.Kind.Numeric() {
			r.bad(text.min.Node, "min is for numbers, this is %s", a.Kind)
		}
		least := r.float("min", text.min)
		a.Min = &least
	}
	if text.ifEmpty.given() {
		s.filled[a.Name] = true
		r.checkIfEmpty(a, text)
	} else {
		r.setDefault(&a, text.standard, text.name.Node)
	}
	if len(*s.problems) > before {
		s.broken[a.Name] = true
		return
	}
	s.schema.Attributes = append(s.schema.Attributes, a)
}

func (r reader) kind(text attributeText) event.Kind {
	if !text.kind.given() {
		r.bad(text.name.Node, "type is missing: string, int, float, bool or time")
		return 0
	}
	var names []string
	for k := event.String; k <= event.Time; k++ {
		if k.String() == text.kind.Value {
			return k
		}
		names = append(names, k.String())
	}
	r.bad(text.kind.Node, "unknown type %q%s", text.kind.Value, suggest(text.kind.Value, names))
	return 0
}

func (r reader) unit(s scalar) time.Duration {
	switch s.text() {
	case "s":
		return time.Second
	case "", "ms":
		return time.Millisecond
	case "us":
		return time.Microsecond
	case "ns":
		return time.Nanosecond
	}
	r.bad(s.Node, "unknown unit %q: s, ms, us or ns", s.Value)
	return 0
}

// setDefault reads the value that stands in where an event lacks the attribute.
func (r reader) setDefault(a *event.Attribute, s scalar, place *yaml.Node) {
	if !s.given() {
		if a.Kind == event.String {
			a.Default.Text = defaultText
		}
		if a.Min != nil && *a.Min > 0 && !a.Required {
			r.bad(place, "a default is missing, or \"required: true\": 0 is less than min")
		}
		return
	}
	if a.Required {
		r.bad(s.Node, "a required attribute has no default")
		return
	}
	number := 0.0
	switch a.Kind {
	case event.String:
		a.Default.Text = s.Value
		if !storable(s.Value) {
			r.bad(s.Node, "default holds a character that cannot be stored")
		}
	case event.Int:
		a.Default.Cell = event.Cell(r.int("default", s))
		number = float64(a.Default.Cell)
		if a.Default.Cell > event.MaxInt || a.Default.Cell < -event.MaxInt {
			r.bad(s.Node, "default %s is more than an event can bring: from -%d to %d (2^53-1)", s.Value, event.MaxInt, event.MaxInt)
		}
	case event.Float:
		number = r.float("default", s)
		a.Default.Cell = event.FloatCell(number)
	case event.Bool:
		a.Default.Cell = event.BoolCell(r.bool("default", s))
	case event.Time:
		t, err := time.Parse(time.RFC3339, s.Value)
		if err != nil {
			r.bad(s.Node, "default must be a time such as 2006-01-02T15:04:05Z, it is %s", describe(s.Node))
		}
		a.Default.Cell = event.Cell(t.UnixMicro())
	}
	if a.Min != nil && number < *a.Min {
		r.bad(s.Node, "default %s is less than min", s.Value)
	}
}

// bound reads how far an event time may lie from its arrival; 0 is no bound.
func (s *stream) bound(name string, text scalar, d *document) time.Duration {
	if !text.given() {
		return 0
	}
	if !d.time.given() {
		s.bad(text.Node, "%s bounds an event time, and the stream has none: set time", name)
	}
	if text.Value == "all" {
		return 0
	}
	length, err := ParseDuration(text.Value)
	switch {
	case err != nil:
		s.bad(text.Node, "%s: %v", name, err)
	case length == 0:
		s.bad(text.Node, "%s must be longer than nothing: leave it out for no bound", name)
	}
	return length
}

// setTime finds the event time among the sent attributes.
func (s *stream) setTime(d *document) {
	s.schema.Future = s.bound("future", d.future, d)
	s.schema.Past = s.bound("past", d.past, d)
	if !d.time.given() || s.broken[d.time.Value] {
		return
	}
	at := s.schema.Index(d.time.Value)
	switch {
	case at < 0 && s.later[d.time.Value] > 0:
		s.bad(d.time.Node, "time: %q is derived: the event time must be an attribute that is sent", d.time.Value)
		return
	case at < 0:
		s.bad(d.time.Node, "time: %v", s.unknown(d.time.Value))
		return
	case s.schema.Attributes[at].Kind != event.Time:
		s.bad(d.time.Node, "time: %q is %s: the event time must be of type time", d.time.Value, s.schema.Attributes[at].Kind)
		return
	}
	for _, text := range d.attributes {
		if text.name.Value != d.time.Value {
			continue
		}
		if text.standard.given() {
			s.bad(text.standard.Node, "attribute %q: the event time has no default", d.time.Value)
		}
		if text.needed.given() && text.needed.Value == "false" {
			s.bad(text.needed.Node, "attribute %q: the event time is always required", d.time.Value)
		}
	}
	s.schema.EventTime = at
	s.schema.Attributes[at].Required = true
	s.schema.Attributes[at].Default = event.Value{}
}

func (s *stream) addDerived(text derivedText) {
	r := s.within("derived %q", text.name.Value)
	s.current = text.name.Value
	defer func() {
		delete(s.later, s.current)
		s.current = ""
	}()
	if !s.free(r, text.name.Node) {
		return
	}
	if !text.value.given() {
		r.bad(text.name.Node, "value is missing: an expression over the attributes before it")
		s.broken[text.name.Value] = true
		return
	}
	e, err := s.compile(text.value.Value, s.schema.Attributes)
	if err != nil {
		r.reportAt(text.value.Node, err)
		s.broken[text.name.Value] = true
		return
	}
	s.schema.Attributes = append(s.schema.Attributes, event.Attribute{
		Name: text.name.Value, Doc: text.doc.text(), Kind: e.kind, Derive: e.derive,
	})
}

// errReported stands for a problem whose cause was reported before.
var errReported = errors.New("reported before")

func (r reader) reportAt(n *yaml.Node, err error) {
	if !errors.Is(err, errReported) {
		r.bad(n, "%v", err)
	}
}

// unknown is the error for an attribute that does not exist.
func (s *stream) unknown(name string) error {
	switch line, later := s.later[name]; {
	case s.broken[name]:
		return errReported
	case name == s.current:
		return fmt.Errorf("%q is computed from itself: an expression uses the attributes before it", name)
	case s.filled[name]:
		return fmt.Errorf("%q has an if_empty itself: such an expression uses attributes that are taken as they are sent", name)
	case slices.Contains(impure(), name):
		return fmt.Errorf("%s is left out: an expression must give the same value whenever it runs on the same event", name)
	case later:
		return fmt.Errorf("%q is derived only in line %d: an expression uses the attributes before it", name, line)
	}
	return fmt.Errorf("stream %q has no attribute %q%s", s.schema.Name, name, suggest(name, s.names()))
}

// names lists the attributes that definitions can use.
func (s *stream) names() []string {
	var names []string
	for _, a := range s.schema.Attributes {
		if !strings.HasPrefix(a.Name, event.HiddenPrefix) {
			names = append(names, a.Name)
		}
	}
	return names
}

// compile prepares an expression over attributes of the stream, all or the
// first of them.
func (s *stream) compile(text string, attributes []event.Attribute) (expression, error) {
	if name := strings.TrimSpace(text); identifier.MatchString(name) {
		at := slices.IndexFunc(attributes, func(a event.Attribute) bool { return a.Name == name })
		if at >= 0 { // also keeps a time a time
			return expression{kind: attributes[at].Kind, derive: func(c *event.Columns, row int) (event.Cell, error) {
				return c.Cells[at][row], nil
			}}, nil
		}
	}
	e, err := s.language.compile(text, attributes)
	var unknown *nameError
	if !errors.As(err, &unknown) {
		return e, err
	}
	cause := s.unknown(unknown.name)
	if unknown.called(text) && s.later[unknown.name] == 0 && !slices.Contains(impure(), unknown.name) && !s.broken[unknown.name] && s.schema.Index(unknown.name) < 0 {
		cause = fmt.Errorf("there is no function %q%s", unknown.name, suggest(unknown.name, s.language.names()))
	}
	if strings.TrimSpace(text) == unknown.name || errors.Is(cause, errReported) {
		return e, cause
	}
	return e, fmt.Errorf("column %d: %w", unknown.column, cause)
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
