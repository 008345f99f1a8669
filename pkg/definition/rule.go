package definition

import (
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/pkg/alert"
)

// defaultSuppress is how long WSO2 keeps a key quiet after an alert.
const defaultSuppress = 10 * time.Minute

// unset is the bound of a rule that has none until thresholds are set.
const unset = "unset"

func (b *builder) addRule(d *document, text ruleText) {
	r := d.within("rule %q", text.name.Value)
	r.ruleName(text.name)
	b.take(d.reader, text.name.Node, "rule", text.name.Value)
	rule := &alert.Rule{
		Name: text.name.Value, Doc: text.doc.text(), Class: r.class(text),
		Severity: r.severity(text), Value: -1, Suppress: defaultSuppress,
	}
	if text.suppress.given() {
		rule.Suppress = r.duration("suppress", text.suppress)
	}
	b.catalog.Rules = append(b.catalog.Rules, rule)
	s := b.ruleStream(d, r, text)
	if s != nil {
		rule.Stream = s.schema.Name
	}
	switch rule.Class {
	case alert.PerEvent:
		r.perEvent(rule, s, text)
	case alert.Counted:
		r.counted(rule, text)
	}
	if s == nil {
		return
	}
	if len(text.cases) == 0 {
		rule.Cases = []alert.Case{r.ruleCase(rule.Class, s, text.name.Node, text.caseText)}
		return
	}
	for _, outer := range append([]scalar{text.where, text.message}, text.key...) {
		if outer.given() {
			r.bad(outer.Node, "where, key and message belong to the cases of a rule that has cases")
			break
		}
	}
	for _, c := range text.cases {
		in := r.within("case %q", c.caseName.Value)
		in.ruleName(c.caseName)
		rule.Cases = append(rule.Cases, in.ruleCase(rule.Class, s, c.caseName.Node, c))
	}
}

func (r reader) ruleName(name scalar) {
	if !ruleName.MatchString(name.Value) || len(name.Value) > maxRuleName {
		r.bad(name.Node, "a name is 1 to %d lower-case letters, digits and single hyphens, as in slow-call", maxRuleName)
	}
}

func (b *builder) ruleStream(d *document, r reader, text ruleText) *stream {
	name := text.stream
	if !name.given() {
		name = d.stream
	}
	if !name.given() {
		r.bad(text.name.Node, "stream is missing: the file defines none that could be the default")
		return nil
	}
	return b.stream(r, name)
}

func (r reader) class(text ruleText) alert.Class {
	switch text.class.text() {
	case alert.PerEvent.String():
		return alert.PerEvent
	case alert.Counted.String():
		return alert.Counted
	case "":
		r.bad(text.name.Node, "class is missing: event (one event decides) or counted (many within a window)")
	default:
		r.bad(text.class.Node, "unknown class %q%s", text.class.Value,
			suggest(text.class.Value, []string{alert.PerEvent.String(), alert.Counted.String()}))
	}
	return 0
}

func (r reader) severity(text ruleText) int {
	if !text.severity.given() {
		r.bad(text.name.Node, "severity is missing: 1 (severe), 2 (moderate) or 3 (mild)")
		return 0
	}
	severity := r.int("severity", text.severity)
	if text.severity.Tag == "!!int" && (severity < 1 || severity > 3) {
		r.bad(text.severity.Node, "severity must be 1 (severe), 2 (moderate) or 3 (mild), it is %d", severity)
	}
	return int(severity)
}

func (r reader) duration(name string, s scalar) time.Duration {
	d, err := parseDuration(s.Value)
	if err != nil {
		r.bad(s.Node, "%s: %v", name, err)
	}
	return d
}

// refuse reports fields that belong to the other class.
func (r reader) refuse(class alert.Class, names []string, fields ...scalar) {
	for i, s := range fields {
		if s.given() {
			r.bad(s.Node, "%s has no place in a rule of class %s", names[i], class)
		}
	}
}

func (r reader) perEvent(rule *alert.Rule, s *stream, text ruleText) {
	r.refuse(rule.Class, []string{"window", "more_than"}, text.window, text.moreThan)
	if !text.above.given() {
		r.bad(text.name.Node, "above is missing: the bound that the value must exceed")
	} else if rule.Unset = text.above.Value == unset; !rule.Unset {
		rule.Threshold = r.float("above", text.above)
	}
	if !text.value.given() {
		r.bad(text.name.Node, "value is missing: the number to compare with above")
		return
	}
	if s == nil {
		return
	}
	at, kind, err := s.resolve(text.value.Value)
	switch {
	case err != nil:
		r.within("value").reportAt(text.value.Node, err)
	case !kind.Numeric():
		r.bad(text.value.Node, "value must be a number, %s is %s", text.value.Value, kind)
	}
	rule.Value = at
}

func (r reader) counted(rule *alert.Rule, text ruleText) {
	r.refuse(rule.Class, []string{"value", "above"}, text.value, text.above)
	if !text.moreThan.given() {
		r.bad(text.name.Node, "more_than is missing: the number of events that must be exceeded")
	} else if rule.Unset = text.moreThan.Value == unset; !rule.Unset {
		n := r.int("more_than", text.moreThan)
		if n < 0 {
			r.bad(text.moreThan.Node, "more_than must not be negative, it is %d", n)
		}
		rule.Threshold = float64(n)
	}
	if !text.window.given() {
		r.bad(text.name.Node, "window is missing: the time in which events are counted, as in \"1 hour\"")
		return
	}
	before := len(*r.problems)
	rule.Window = r.duration("window", text.window)
	if rule.Window == 0 && len(*r.problems) == before {
		r.bad(text.window.Node, "window must be longer than nothing")
	}
}

// figures are the placeholders of a message that are no key parts.
func figures(class alert.Class) []string {
	if class == alert.Counted {
		return []string{"value", "threshold", "window"}
	}
	return []string{"value", "threshold"}
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

func (r reader) ruleCase(class alert.Class, s *stream, at *yaml.Node, text caseText) alert.Case {
	c := alert.Case{Name: text.caseName.text(), Message: text.message.text()}
	before := len(*r.problems)
	where, _, err := s.filter(text.where)
	if err != nil {
		r.within("where").reportAt(text.where.Node, err)
	}
	c.Where = where
	names := figures(class)
	for _, key := range text.key {
		part, kind, err := s.attribute(key.Value)
		switch {
		case err != nil:
			r.within("key").reportAt(key.Node, err)
		case slices.Contains(figures(alert.Counted), key.Value):
			r.bad(key.Node, "key: %q stands for a figure of the rule in messages: derive an attribute of another name", key.Value)
		case slices.Contains(names, key.Value):
			r.bad(key.Node, "key: %q is listed twice", key.Value)
		}
		names = append(names, key.Value)
		c.Key = append(c.Key, alert.KeyPart{Name: key.Value, Kind: kind, Attribute: part})
	}
	if c.Message == "" {
		r.bad(at, "message is missing: the text of the alert")
	}
	if len(*r.problems) > before { // the placeholders may be right
		return c
	}
	for _, m := range placeholder.FindAllStringSubmatch(c.Message, -1) {
		if !slices.Contains(names, m[1]) {
			r.bad(text.message.Node, "message: {%s} is neither in the key nor a figure of the rule%s", m[1], suggest(m[1], names))
		}
	}
	return c
}
