package definition

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
)

// defaultSuppress is how long WSO2 keeps a key quiet after an alert.
const defaultSuppress = 10 * time.Minute

// kindOfRule is what a type of rules takes beside what all of them have.
type kindOfRule struct {
	name  string
	of    alert.Type
	needs []string // figures; a|b: one of them
	takes []string
}

func kindsOfRules() []kindOfRule {
	bound, life := "above|below", []string{"for", "keep_firing_for", "suppress"}
	with := func(more ...string) []string { return append(more, life...) }
	return []kindOfRule{
		{"event", alert.PerEvent, []string{"value", bound}, []string{"stream", "keep_firing_for", "suppress"}},
		{"count", alert.Counted, []string{"more_than|fewer_than", "window"}, with("stream", "aggregation", "forget")},
		{"threshold", alert.Measured, []string{"aggregation", "value", bound, "window"}, with("at_least", "forget")},
		{"ratio", alert.Measured, []string{"aggregation", "part", "of", bound, "window"}, with("at_least", "forget")},
		{"absence", alert.Absent, []string{"window"}, []string{"stream", "aggregation", "forget", "suppress"}},
		{"change", alert.Changed, []string{"aggregation", "value", bound, "window"}, with("before", "at_least")},
		{"unseen", alert.Unseen, []string{"member"}, []string{"stream", "at_least", "forget"}},
		{"transition", alert.Transition, []string{"member", "state", "below"}, []string{"stream", "at_least", "forget", "suppress"}},
		{"run", alert.Run, []string{"in_a_row"}, []string{"stream", "keep_firing_for", "suppress"}},
		{"interval", alert.Interval, []string{"window"}, []string{"stream", "at_least", "lower", "upper", "suppress"}},
		{"underuse", alert.Underuse, []string{"window", "at_least", "lower"}, []string{"stream", "aggregation", "suppress"}},
	}
}

// ruleFigures are the fields of rules that some types have.
func ruleFigures() (names []string) {
	for _, kind := range kindsOfRules() {
		for _, needed := range kind.needs {
			names = append(names, strings.Split(needed, "|")...)
		}
		names = append(names, kind.takes...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// caseFigures are those that the cases of a rule may have of their own.
func caseFigures() []string {
	return []string{"above", "below", "more_than", "fewer_than", "value", "window", "for", "keep_firing_for", "suppress", "at_least", "in_a_row"}
}

// own is the rule as a case has it, where that has figures of its own.
func (t ruleText) own(c caseText) (ruleText, bool) {
	some := false
	figures := map[string]*scalar{}
	for name, s := range t.figures {
		figures[name] = s
		if of := c.figures[name]; of != nil && of.given() {
			figures[name], some = of, true
		}
	}
	t.figures = figures
	return t, some
}

func (b *builder) addRule(d *document, text ruleText) {
	r := d.within("rule %q", text.name.Value)
	r.ruleName(text.name)
	b.take(d.reader, text.name.Node, "rule", text.name.Value)
	rule := &alert.Rule{Name: text.name.Value, Doc: text.doc.text(), Severity: r.severity(text), Value: -1, Suppress: defaultSuppress}
	b.catalog.Rules = append(b.catalog.Rules, rule)
	for _, label := range text.labels {
		if rule.Labels == nil {
			rule.Labels = map[string]string{}
		}
		rule.Labels[label.name.Value] = label.value.Value
	}
	kind, ok := r.ruleKind(text)
	if !ok {
		return
	}
	rule.Type = kind.of
	r.ruleScope(rule, text)
	if !slices.ContainsFunc(text.cases, func(c caseText) bool { _, some := text.own(c); return some }) {
		r.figures(kind, text)
	}
	r.times(rule, text)
	r.bound(rule, text)
	from := b.evidenceOf(d, r, text)
	if from == nil {
		return
	}
	if from.def == nil {
		rule.Stream = from.streams[0].schema.Name
	}
	cases := text.cases
	if len(cases) == 0 {
		cases = []caseText{text.caseText}
	} else if outer := slices.Concat([]scalar{text.where, text.message, text.role}, text.key, text.details); slices.ContainsFunc(outer, scalar.given) {
		at := outer[slices.IndexFunc(outer, scalar.given)]
		r.bad(at.Node, "where, key, details, message and stakeholder belong to the cases of a rule that has cases")
	}
	for _, c := range cases {
		in, at := r, text.name.Node
		if len(text.cases) > 0 {
			in, at = r.within("case %q", c.caseName.Value), c.caseName.Node
			in.ruleName(c.caseName)
		}
		of, its := rule, text
		if with, some := text.own(c); some {
			own := *rule
			of, its = &own, with
			in.figures(kind, its)
			in.times(of, its)
			in.bound(of, its)
		}
		made := in.ruleCase(of, from, at, its, c)
		if of != rule {
			of.Cases, made.Own = nil, of
		}
		rule.Cases = append(rule.Cases, made)
	}
}

func (r reader) ruleName(name scalar) {
	if !ruleName.MatchString(name.Value) || len(name.Value) > maxRuleName {
		r.bad(name.Node, "a name is 1 to %d lower-case letters, digits and single hyphens, as in slow-call", maxRuleName)
	}
}

func (r reader) ruleKind(text ruleText) (kindOfRule, bool) {
	var names []string
	for _, kind := range kindsOfRules() {
		if kind.name == text.kind.text() {
			return kind, true
		}
		names = append(names, kind.name)
	}
	if !text.kind.given() {
		r.bad(text.name.Node, "type is missing: %s", strings.Join(names, ", "))
	} else {
		r.bad(text.kind.Node, "unknown type %q%s; there are: %s", text.kind.Value, suggest(text.kind.Value, names), strings.Join(names, ", "))
	}
	return kindOfRule{}, false
}

// ruleScope reads whose traffic the rule is decided on; both where it can be.
func (r reader) ruleScope(rule *alert.Rule, text ruleText) {
	canBeLocal := rule.Type == alert.PerEvent || rule.Type == alert.Counted
	canBeLocal = canBeLocal && !text.figures["aggregation"].given() && !text.figures["below"].given() && !text.figures["fewer_than"].given()
	switch text.scope.text() {
	case "":
		rule.Local, rule.Global = canBeLocal, true
	case "global":
		rule.Global = true
	case "local", "both":
		if !canBeLocal {
			r.bad(text.scope.Node, "scope must be global: one worker's share of the traffic can decide only event and count rules with an upper bound, of a stream")
		}
		rule.Local, rule.Global = true, text.scope.Value == "both"
	default:
		r.bad(text.scope.Node, "unknown scope %q%s: local, global or both", text.scope.Value, suggest(text.scope.Value, []string{"local", "global", "both"}))
	}
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

// figures checks that a rule has what its type needs, and nothing that it does not know.
func (r reader) figures(kind kindOfRule, text ruleText) {
	known := slices.Clone(kind.takes)
	for _, needed := range kind.needs {
		names := strings.Split(needed, "|")
		known = append(known, names...)
		given := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !text.figures[name].given() })
		switch {
		case len(given) == 0:
			r.bad(text.name.Node, "%s is missing: %s", strings.Join(names, " or "), figureHint(names[0], kind.name))
		case len(given) > 1:
			r.bad(text.figures[given[1]].Node, "has both %s: give one", strings.Join(given, " and "))
		}
	}
	for _, name := range ruleFigures() {
		if s := text.figures[name]; s.given() && !slices.Contains(known, name) {
			r.bad(s.Node, "%s has no place in a rule of type %s", name, kind.name)
		}
	}
	if text.figures["stream"].given() && text.figures["aggregation"].given() {
		r.bad(text.figures["aggregation"].Node, "a rule is of a stream or of an aggregation, not of both")
	}
}

func figureHint(name, kind string) string {
	return map[string]string{
		"value":       "the number to compare with the bound",
		"above":       "the bound that the value must not exceed, or not fall below",
		"more_than":   "the number of events that must be exceeded, or not be reached",
		"window":      "the time in which events are looked at, as in \"1 hour\"",
		"aggregation": "whose measures a rule of type " + kind + " computes with",
		"part":        "the measure of the events that matter",
		"of":          "the measure of all events",
		"member":      "the attribute that tells what belongs to a key",
		"state":       "where a step leads to",
		"below":       "the probability up to which a step is abnormal",
		"in_a_row":    "how many events of a key in a row must match",
		"at_least":    "how many there must be",
		"lower":       "the percentile that must not be reached",
	}[name]
}

// times reads the durations of a rule, and what they are where none are given.
func (r reader) times(rule *alert.Rule, text ruleText) {
	get := func(name string, standard time.Duration) time.Duration {
		if s := text.figures[name]; s.given() {
			return r.duration(name, *s)
		}
		return standard
	}
	rule.Suppress = get("suppress", defaultSuppress)
	rule.For, rule.Window = get("for", 0), get("window", 0)
	if s := text.figures["window"]; s.given() && s.Node != nil && rule.Window == 0 {
		if _, err := parseDuration(s.Value); err == nil {
			r.bad(s.Node, "window must be longer than nothing")
		}
	}
	keep, forget := time.Duration(0), time.Duration(0)
	switch rule.Type {
	case alert.PerEvent: // an event holds no condition: its alert lasts until none has come for as long
		rule.Window, keep = time.Second, rule.Suppress
	case alert.Run:
		keep = rule.Suppress
	case alert.Absent:
		forget = 24 * time.Hour
	case alert.Unseen:
		forget = 30 * 24 * time.Hour
	case alert.Transition:
		forget = time.Hour
	case alert.Changed:
		rule.Before = get("before", 7*24*time.Hour)
	case alert.Counted, alert.Measured:
		if text.figures["below"].given() || text.figures["fewer_than"].given() {
			forget = 24 * time.Hour
		}
	case alert.Interval, alert.Underuse:
	}
	rule.KeepFiring, rule.Forget = get("keep_firing_for", keep), get("forget", forget)
	rule.Step = stepOf(rule)
	if rule.Type == alert.Changed && rule.Before < rule.Window {
		r.bad(text.name.Node, "before must be as long as window at least: else the two windows overlap")
	}
	if rule.Forget > 0 && rule.Forget < rule.Window {
		r.bad(text.name.Node, "forget must be as long as window at least: else a key is forgotten before it is judged")
	}
}

// stepOf is the resolution in which a rule's window slides: a sixtieth of it, but a second at
// least and ten seconds at most; of windows that are compared with another, a quarter.
func stepOf(rule *alert.Rule) time.Duration {
	switch rule.Type {
	case alert.Transition, alert.Run, alert.Interval:
		return 0 // each event by itself
	case alert.Changed:
		return max(time.Second, rule.Window/4)
	case alert.Unseen, alert.PerEvent:
		return time.Second
	case alert.Underuse:
		return 24 * time.Hour
	case alert.Counted, alert.Measured, alert.Absent:
	}
	for _, step := range []time.Duration{10 * time.Second, 5 * time.Second, 2 * time.Second} {
		if rule.Window >= 60*step && rule.Window%step == 0 {
			return step
		}
	}
	return time.Second
}

// unset says that a rule has no bound but where one is set at run time.
const unset = "unset"

// bound reads what a rule compares with.
func (r reader) bound(rule *alert.Rule, text ruleText) {
	for _, name := range []string{"above", "below", "more_than", "fewer_than"} {
		if s := text.figures[name]; s.given() && s.Value == unset {
			rule.Unset, rule.Below = true, name == "below" || name == "fewer_than"
		}
	}
	for _, name := range []string{"above", "below"} {
		if s := text.figures[name]; s.given() && s.Value != unset {
			rule.Threshold, rule.Below = r.float(name, *s), name == "below"
		}
	}
	count := func(name string, least int64) int64 {
		s := text.figures[name]
		if !s.given() {
			return 0
		}
		n := r.int(name, *s)
		if n < least && s.Tag == "!!int" {
			r.bad(s.Node, "%s must be %d at least, it is %d", name, least, n)
		}
		return n
	}
	for _, name := range []string{"more_than", "fewer_than"} {
		if s := text.figures[name]; s.given() && s.Value != unset {
			rule.Threshold, rule.Below = float64(count(name, 0)), name == "fewer_than"
		}
	}
	rule.AtLeast = count("at_least", 0)
	if text.figures["in_a_row"].given() {
		rule.Threshold = float64(count("in_a_row", 1))
	}
	for name, to := range map[string]*float64{"lower": &rule.Lower, "upper": &rule.Upper} {
		if s := text.figures[name]; s.given() {
			if *to = r.float(name, *s); *to <= 0 || *to >= 100 {
				r.bad(s.Node, "%s is a percentile: above 0 and below 100, it is %g", name, *to)
			}
		}
	}
}

// reserved are the placeholders of a message that are no attributes.
func reserved() []string { return []string{"value", "threshold", "window"} }

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// message checks that all placeholders of a case's text stand for something.
func (r reader) message(c *alert.Case, shown []string, at *yaml.Node, text caseText) {
	if c.Message == "" {
		r.bad(at, "message is missing: the text of the alert")
	}
	names := append(reserved(), shown...)
	for _, part := range c.Key {
		names = append(names, part.Name)
	}
	names = append(names, c.Details...)
	for _, m := range placeholder.FindAllStringSubmatch(c.Message, -1) {
		if !slices.Contains(names, m[1]) {
			r.bad(text.message.Node, "message: {%s} is neither in the key nor in the details nor a figure of the rule%s", m[1], suggest(m[1], names))
		}
	}
}

// named finds an aggregation of the catalogue.
func (b *builder) named(r reader, name scalar) *aggregation.Definition {
	var names []string
	for _, def := range b.catalog.Aggregations {
		if def.Name == name.Value {
			return def
		}
		names = append(names, def.Name)
	}
	r.bad(name.Node, "there is no aggregation %q%s", name.Value, suggest(name.Value, names))
	return nil
}
