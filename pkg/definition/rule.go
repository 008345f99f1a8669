package definition

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
)

// What rules may have, so that an alert fits into one message whatever events hold.
const (
	maxMessage = 1000 // bytes
	maxNames   = 20   // in a key, in details, and of labels
	maxLabel   = 200  // bytes of a value
)

// variant is one case of a rule, or all of a simple one, with what holds for it.
type variant struct {
	reader
	at   *yaml.Node // its name
	text caseText
	its  ruleText // with the figures that it has of its own
	own  bool
}

func (b *builder) addRule(d *document, text ruleText) {
	r := d.within("rule %q", text.name.Value).once()
	r.ruleName(text.name)
	b.take(d.reader, text.name.Node, "rule", text.name.Value)
	rule := &alert.Rule{Name: text.name.Value, Doc: text.doc.text(), Severity: r.severity(text), Labels: r.labels(text.labels), Value: -1}
	b.catalog.Rules = append(b.catalog.Rules, rule)
	kind, ok := r.ruleKind(text)
	if !ok {
		return
	}
	rule.Type = kind.of
	variants := r.variants(text)
	r.ruleScope(rule, text, variants)
	outer := r
	if !slices.ContainsFunc(variants, func(v variant) bool { return !v.own }) {
		outer = r.once()
		outer.problems = &problems{} // each case has figures of its own: nothing is decided by these
	}
	outer.figures(rule, kind, text)
	from := b.evidenceOf(d, r, kind, text)
	if from == nil {
		return
	}
	before := len(*r.problems)
	if from.def == nil {
		rule.Stream = from.streams[0].schema.Name
	}
	for _, v := range variants {
		of := rule
		if v.own {
			with := *rule
			of, with.Cases = &with, nil
			v.figures(of, kind, v.its)
		}
		made := v.ruleCase(of, kind, from)
		if v.own {
			made.Own = of
		}
		rule.Cases = append(rule.Cases, made)
	}
	if text.learn.at.given() {
		b.learn(r.within("learn"), rule, text.learn, len(*r.problems) == before)
	}
}

// variants are the cases of a rule; a simple rule is the only one of its own.
func (r reader) variants(text ruleText) (variants []variant) {
	if len(text.cases) == 0 {
		return []variant{{reader: r, at: text.name.Node, text: text.caseText, its: text}}
	}
	outer := slices.Concat([]scalar{text.where, text.message, text.role, text.user, text.tenant}, text.key, text.details)
	if at := slices.IndexFunc(outer, scalar.given); at >= 0 {
		r.bad(outer[at].Node, "where, key, details, message and stakeholder belong to the cases of a rule that has cases")
	}
	for _, c := range text.cases {
		v := variant{reader: r.within("case %q", c.caseName.Value), at: c.caseName.Node, text: c}
		v.its, v.own = text.own(c)
		v.ruleName(c.caseName)
		variants = append(variants, v)
	}
	return variants
}

func (r reader) ruleName(name scalar) {
	if !ruleName.MatchString(name.Value) || len(name.Value) > maxRuleName {
		r.bad(name.Node, "a name is 1 to %d lower-case letters, digits and single hyphens, as in slow-call", maxRuleName)
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

// labels reads what alerts of the rule are labelled with, for whoever routes them.
func (r reader) labels(pairs []pair) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	labels := map[string]string{}
	for _, p := range pairs {
		in, name, value := r.within("label %q", p.name.Value), p.name.Value, p.value.Value
		switch {
		case !attributeName.MatchString(name):
			in.bad(p.name.Node, "a name is 1 to 50 letters, digits and _, and does not begin with a digit")
		case slices.Contains([]string{"alertname", "rule_case", "scope", "severity", "shard_id"}, strings.ToLower(name)):
			in.bad(p.name.Node, "is a label that every alert has by itself: take another name")
		case strings.TrimSpace(value) == "":
			in.bad(p.value.Node, "is empty: give it a value, or leave it out")
		case len(value) > maxLabel:
			in.bad(p.value.Node, "is %d bytes long: at most %d", len(value), maxLabel)
		case !printable(value):
			in.bad(p.value.Node, "holds a control character")
		}
		labels[name] = value
	}
	if len(pairs) > maxNames {
		r.within("labels").bad(pairs[maxNames].name.Node, "there are %d: at most %d", len(pairs), maxNames)
	}
	return labels
}

// printable reports whether a text can be shown in one line.
func printable(text string) bool {
	return storable(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

func (r reader) duration(name string, s scalar) time.Duration {
	d, err := ParseDuration(s.Value)
	if err != nil {
		r.bad(s.Node, "%s: %v", name, err)
	}
	return d
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
