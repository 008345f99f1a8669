package definition

import (
	"slices"
	"strings"

	"weir/pkg/alert"
)

// kindOfRule is what rules of a type take beside what all of them have.
type kindOfRule struct {
	name  string
	of    alert.Type
	needs []string // figures; a|b: one of them
	takes []string
	shows []string // of reserved: what stands for something in its messages
}

// knows reports whether a figure has a place in the type.
func (k kindOfRule) knows(figure string) bool {
	return slices.Contains(k.takes, figure) ||
		slices.ContainsFunc(k.needs, func(needed string) bool { return slices.Contains(strings.Split(needed, "|"), figure) })
}

// reserved are the placeholders of a message that are no attributes.
func reserved() []string { return []string{"value", "threshold", "window"} }

func kindsOfRules() []kindOfRule {
	bound, life := "above|below", []string{"for", "keep_firing_for", "suppress"}
	with := func(more ...string) []string { return append(more, life...) }
	both, judged := []string{"value", "threshold"}, reserved()
	return []kindOfRule{
		{"event", alert.PerEvent, []string{"value", bound}, []string{"stream", "keep_firing_for", "suppress"}, both},
		{"count", alert.Counted, []string{"more_than|fewer_than", "window"}, with("stream", "aggregation", "forget"), judged},
		{"threshold", alert.Measured, []string{"aggregation", "value", bound, "window"}, with("at_least", "forget"), judged},
		{"ratio", alert.Measured, []string{"aggregation", "part", "of", bound, "window"}, with("at_least", "forget"), judged},
		{"absence", alert.Absent, []string{"window"}, []string{"stream", "aggregation", "forget", "suppress"}, []string{"value", "window"}},
		{"change", alert.Changed, []string{"aggregation", "value", bound, "window"}, with("before", "at_least"), judged},
		{"unseen", alert.Unseen, []string{"member"}, []string{"stream", "at_least", "forget"}, both},
		{"transition", alert.Transition, []string{"member", "state", "below"}, []string{"stream", "at_least", "forget", "suppress"}, both},
		{"run", alert.Run, []string{"in_a_row"}, []string{"stream", "keep_firing_for", "suppress"}, both},
		{"interval", alert.Interval, []string{"window"}, []string{"stream", "at_least", "lower", "upper", "suppress"}, judged},
		{"underuse", alert.Underuse, []string{"window", "at_least", "lower"}, []string{"stream", "aggregation", "suppress"}, judged},
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
		r.bad(text.name.Node, "type is missing: one of %s", strings.Join(names, ", "))
	} else {
		r.bad(text.kind.Node, "unknown type %q%s", text.kind.Value, suggest(text.kind.Value, names))
	}
	return kindOfRule{}, false
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

// figure is one as it is written; one that is not has no node.
func (t ruleText) figure(name string) scalar {
	if s := t.figures[name]; s != nil {
		return *s
	}
	return scalar{}
}

func (t ruleText) has(name string) bool { return t.figure(name).given() }

// own is the rule with the figures that a case has in place of the rule's, and whether it has any.
func (t ruleText) own(c caseText) (ruleText, bool) {
	figures, some := map[string]*scalar{}, false
	for name, s := range t.figures {
		figures[name] = s
	}
	for name, s := range c.figures {
		if !s.given() {
			continue
		}
		some = true
		figures[name] = s
		if other := opposite(name); other != "" && !c.figures[other].given() {
			delete(figures, other) // fewer_than of a case is in place of the rule's more_than
		}
	}
	t.figures = figures
	return t, some
}

func opposite(bound string) string {
	return map[string]string{"above": "below", "below": "above", "more_than": "fewer_than", "fewer_than": "more_than"}[bound]
}

// complete checks that a rule has what its type needs, and nothing that it does not know.
func (r reader) complete(kind kindOfRule, text ruleText) {
	for _, needed := range kind.needs {
		names := strings.Split(needed, "|")
		given := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !text.has(name) })
		switch {
		case len(given) == 0:
			r.bad(text.name.Node, "%s is missing: %s", strings.Join(names, " or "), hint(names[0], kind))
		case len(given) > 1:
			r.bad(text.figure(given[1]).Node, "has both %s: give one", strings.Join(given, " and "))
		}
	}
	for _, name := range ruleFigures() {
		if s := text.figure(name); s.given() && !kind.knows(name) {
			r.bad(s.Node, "%s has no place in a rule of type %s", name, kind.name)
		}
	}
	if text.has("stream") && text.has("aggregation") && kind.knows("stream") && kind.knows("aggregation") {
		r.bad(text.figure("aggregation").Node, "has both stream and aggregation: give one, whose events the rule looks at")
	}
}

// hint says what a missing figure is, for a person who has never seen it.
func hint(name string, kind kindOfRule) string {
	if name == "window" && kind.of == alert.Absent {
		return "how long nothing must have been heard, as in \"10 minutes\""
	}
	if name == "below" && kind.of == alert.Transition {
		return "the probability, from 0 to 1, up to which a step is abnormal"
	}
	if kind.of == alert.Underuse {
		switch name {
		case "at_least":
			return "how many days in a row must have fewer events than those before them"
		case "window":
			return "the days that are looked at, as in \"30 days\""
		}
	}
	return map[string]string{
		"value":       "the number to compare with the bound",
		"above":       "the bound that the value must exceed, or fall below",
		"more_than":   "the number of events that must be exceeded, or not be reached",
		"window":      "the time in which events are looked at, as in \"1 hour\"",
		"aggregation": "whose measures a rule of type " + kind.name + " computes with",
		"part":        "the measure, or what is computed of some, that is a part of the other",
		"of":          "the measure, or what is computed of some, that part is a part of",
		"member":      "the attribute that tells what belongs to a key, as in userIp",
		"state":       "the text that tells where a step leads to",
		"in_a_row":    "how many events of a key in a row must match",
		"lower":       "the percentile, above 0 and below 100, that must not be reached",
	}[name]
}
