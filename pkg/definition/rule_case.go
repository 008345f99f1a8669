package definition

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
)

// evidence is where a rule's events come from: one stream, or those of an aggregation.
type evidence struct {
	streams []*stream               // one at least
	def     *aggregation.Definition // nil: a stream
}

func (b *builder) evidenceOf(d *document, r reader, kind kindOfRule, text ruleText) *evidence {
	if name := text.figure("aggregation"); name.given() && kind.knows("aggregation") {
		def := b.named(r.within("aggregation"), name)
		if def == nil || len(def.Inputs) == 0 { // reported
			return nil
		}
		from := &evidence{def: def}
		for _, in := range def.Inputs {
			from.streams = append(from.streams, b.streams[in.Stream])
		}
		return from
	}
	if !kind.knows("stream") { // that the aggregation is missing is reported
		return nil
	}
	name := text.figure("stream")
	if !name.given() {
		name = d.stream
	}
	if !name.given() {
		r.bad(text.name.Node, "stream is missing: the file defines none that could be the default")
		return nil
	}
	if s := b.stream(r, name); s != nil {
		return &evidence{streams: []*stream{s}}
	}
	return nil
}

func (v *variant) ruleCase(rule *alert.Rule, kind kindOfRule, from *evidence) alert.Case {
	c := alert.Case{Name: v.text.caseName.text(), Message: strings.TrimSpace(v.text.message.text()), Where: -1}
	for _, s := range from.streams {
		c.Inputs = append(c.Inputs, alert.Input{Stream: s.schema.Name, Where: -1, Member: -1, Hit: -1})
	}
	before := len(*v.problems)
	v.caseWhere(rule, &c, from)
	var shown []string
	switch rule.Type {
	case alert.PerEvent:
		v.eventValue(rule, &c, from)
	case alert.Measured, alert.Changed:
		v.windowValue(&c, from)
	case alert.Unseen:
		shown = append(v.member(rule, &c, from), "unseen")
	case alert.Transition:
		shown = append(v.member(rule, &c, from), "transition")
		c.Inputs[0].States = v.states(from)
	case alert.Interval:
		shown = []string{"usual"}
	case alert.Counted, alert.Absent, alert.Run, alert.Underuse:
	}
	v.caseKey(&c, from, shown)
	if len(*v.problems) > before { // the placeholders may be right
		return c
	}
	v.stakeholder(&c)
	v.message(&c, append(slices.Clone(kind.shows), shown...))
	if from.def == nil {
		c.Where = c.Inputs[0].Where
	}
	return c
}

// caseWhere resolves the filter: of a run, what makes an event count for it.
func (v *variant) caseWhere(rule *alert.Rule, c *alert.Case, from *evidence) {
	in, where := v.within("where"), v.text.where
	if rule.Type == alert.Run && !where.given() {
		v.bad(v.at, "where is missing: what makes an event count for the run")
		return
	}
	for i, s := range from.streams {
		var at int
		var err error
		switch {
		case from.def == nil || from.def.Filter == "":
			at, _, err = s.filter(where, s.resolveRule)
		case !where.given():
			at = from.def.Inputs[i].Where
		default:
			at, err = s.filters(from.def.Filter, where.Value)
		}
		if err != nil {
			in.reportAt(where.Node, err)
			return
		}
		if rule.Type == alert.Run {
			c.Inputs[i].Hit = at
		} else {
			c.Inputs[i].Where = at
		}
	}
}

// filters resolves that two filters hold, of which the first is an aggregation's and checked.
func (s *stream) filters(first, second string) (int, error) {
	e, err := s.compile(second, s.schema.Attributes) // by itself, so that errors are about what is written
	if err == nil && e.kind != event.Bool {
		err = fmt.Errorf("must be true or false, %s is %s", second, e.kind)
	}
	if err != nil {
		return -1, err
	}
	at, _, err := s.resolveRule("(" + first + "\n) && (" + second + "\n)") // a comment ends with its line
	return at, err
}

// caseKey resolves the key, by default that of the aggregation, and the details. What messages
// show has one name each, shown included.
func (v *variant) caseKey(c *alert.Case, from *evidence, shown []string) {
	taken := map[string]string{}
	for _, name := range reserved() {
		taken[name] = "stands for a figure of the rule in messages: derive an attribute of another name"
	}
	for _, name := range shown {
		taken[name] = "is shown by every rule of this type: leave it out"
	}
	if len(v.text.key) == 0 && from.def != nil {
		for k, key := range from.def.Keys {
			in := v.within("key %q, of aggregation %s", key.Name, from.def.Name)
			switch {
			case taken[key.Name] != "":
				in.bad(v.at, "%s; or give a key", taken[key.Name])
			case key.Kind == event.Float:
				in.bad(v.at, "is a float: give a key without it")
			}
			taken[key.Name] = "is listed twice"
			c.Key = append(c.Key, alert.KeyPart{Name: key.Name, Kind: key.Kind, Attribute: -1})
			for i, in := range from.def.Inputs {
				c.Inputs[i].Keys = append(c.Inputs[i].Keys, in.Keys[k])
			}
		}
	}
	for _, s := range v.text.key {
		kind, at, ok := v.shownName("key", s, from, taken)
		if kind == event.Float {
			v.within("key").bad(s.Node, "%q is a float, and what looks equal may differ: derive an int or a text from it", s.Value)
		}
		if !ok {
			continue
		}
		c.Key = append(c.Key, alert.KeyPart{Name: s.Value, Kind: kind, Attribute: at[0]})
		for i := range at {
			c.Inputs[i].Keys = append(c.Inputs[i].Keys, at[i])
		}
	}
	for _, s := range v.text.details {
		if _, at, ok := v.shownName("details", s, from, taken); ok {
			c.Details = append(c.Details, s.Value)
			for i := range at {
				c.Inputs[i].Details = append(c.Inputs[i].Details, at[i])
			}
		}
	}
	for name, list := range map[string][]scalar{"key": v.text.key, "details": v.text.details} {
		if len(list) > maxNames {
			v.within("%s", name).bad(list[maxNames].Node, "there are %d: at most %d", len(list), maxNames)
		}
	}
}

// shownName resolves an attribute that alerts show under its name.
func (v *variant) shownName(of string, s scalar, from *evidence, taken map[string]string) (event.Kind, []int, bool) {
	in := v.within("%s", of)
	if why := taken[s.Value]; why != "" {
		in.bad(s.Node, "%q %s", s.Value, why)
		return 0, nil, false
	}
	taken[s.Value] = "is listed twice"
	at, kind, ok := across(in, s.Node, from.streams, func(of *stream) (int, event.Kind, error) { return of.attribute(s.Value) })
	return kind, at, ok
}

// member resolves what sequences and sets of a key are made of, and names it.
func (v *variant) member(rule *alert.Rule, c *alert.Case, from *evidence) []string {
	c.Inputs[0].Member = v.textOf(from, "member")
	rule.Member = "member"
	if name := v.its.figure("member").text(); identifier.MatchString(name) {
		rule.Member = name
	}
	if slices.Contains(reserved(), rule.Member) {
		v.bad(v.its.figure("member").Node, "member: %q stands for a figure of the rule in messages: derive an attribute of another name", rule.Member)
	}
	return []string{rule.Member}
}

func (v *variant) textOf(from *evidence, name string) int {
	s := v.its.figure(name)
	if !s.given() { // reported
		return -1
	}
	at, kind, err := from.streams[0].resolveRule(s.Value)
	switch {
	case err != nil:
		v.within("%s", name).reportAt(s.Node, err)
	case kind != event.String:
		v.bad(s.Node, "%s must be a text, %s is %s", name, s.Value, kind)
	}
	return at
}

// states are the texts whose values together are what a step leads to. Where the expression only puts a space
// between attributes, it is not computed of each event.
func (v *variant) states(from *evidence) []int {
	s := v.its.figure("state")
	if !s.given() { // reported
		return nil
	}
	var at []int
	for part := range strings.SplitSeq(s.Value, `+ " " +`) {
		i := from.streams[0].schema.Index(strings.TrimSpace(part))
		if i < 0 || !identifier.MatchString(strings.TrimSpace(part)) || from.streams[0].schema.Attributes[i].Kind != event.String {
			return []int{v.textOf(from, "state")}
		}
		at = append(at, i)
	}
	return at
}

func (v *variant) stakeholder(c *alert.Case) {
	in, role, user, tenant := v.within("stakeholder"), v.text.role, v.text.user, v.text.tenant
	if !role.given() && !user.given() && !tenant.given() {
		return
	}
	at := cmp.Or(role.Node, user.Node, tenant.Node)
	c.Stakeholder = alert.StakeholderOf{Role: alert.Role(role.text()), User: user.text(), Tenant: tenant.text()}
	roles := []string{string(alert.Publisher), string(alert.Subscriber)}
	switch {
	case !role.given():
		in.bad(at, "role is missing: publisher (whose API it is) or subscriber (whose application it is)")
	case !slices.Contains(roles, role.Value):
		in.bad(role.Node, "unknown role %q%s", role.Value, suggest(role.Value, roles))
	}
	if !user.given() {
		in.bad(at, "user is missing: the part of the key, or the detail, that names the user")
	}
	names := slices.Clone(c.Details)
	for _, part := range c.Key {
		names = append(names, part.Name)
	}
	for _, s := range []scalar{user, tenant} {
		if s.given() && !slices.Contains(names, s.Value) {
			in.bad(s.Node, "%q is neither in the key nor in the details%s", s.Value, suggest(s.Value, names))
		}
	}
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// message checks that all placeholders of a case's text stand for something.
func (v *variant) message(c *alert.Case, names []string) {
	at := v.text.message.Node
	switch {
	case c.Message == "":
		v.bad(cmp.Or(at, v.at), "message is missing: the text of the alert")
		return
	case len(c.Message) > maxMessage:
		v.bad(at, "message is %d bytes long: at most %d", len(c.Message), maxMessage)
	case !printable(c.Message):
		v.bad(at, "message holds a line break or another control character: it is one line")
	}
	for _, part := range c.Key {
		names = append(names, part.Name)
	}
	names = append(names, c.Details...)
	for _, m := range placeholder.FindAllStringSubmatch(c.Message, -1) {
		if !slices.Contains(names, m[1]) {
			v.bad(at, "message: {%s} is neither in the key nor in the details nor a figure of such a rule%s", m[1], suggest(m[1], names))
		}
	}
}
