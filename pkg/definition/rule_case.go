package definition

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
	"go.yaml.in/yaml/v3"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
)

// evidence is where a rule's events come from: one stream, or those of an aggregation.
type evidence struct {
	streams []*stream
	def     *aggregation.Definition // nil: a stream
}

func (b *builder) evidenceOf(d *document, r reader, text ruleText) *evidence {
	if name := text.figures["aggregation"]; name.given() {
		def := b.named(r.within("aggregation"), *name)
		if def == nil {
			return nil
		}
		from := &evidence{def: def}
		for _, in := range def.Inputs {
			from.streams = append(from.streams, b.streams[in.Stream])
		}
		return from
	}
	name := *text.figures["stream"]
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

func (r reader) ruleCase(rule *alert.Rule, from *evidence, at *yaml.Node, text ruleText, ct caseText) alert.Case {
	c := alert.Case{Name: ct.caseName.text(), Message: ct.message.text(), Where: -1}
	for _, s := range from.streams {
		c.Inputs = append(c.Inputs, alert.Input{Stream: s.schema.Name, Where: -1, Member: -1, State: -1, Hit: -1})
	}
	before := len(*r.problems)
	r.caseWhere(rule, &c, from, ct)
	r.caseKey(&c, from, ct)
	var shown []string
	switch rule.Type {
	case alert.PerEvent:
		r.eventValue(rule, &c, from, text)
	case alert.Measured, alert.Changed:
		r.windowValue(&c, from, text)
	case alert.Unseen:
		shown = append(r.member(&c, from, text), "unseen")
	case alert.Transition:
		shown = append(r.member(&c, from, text), r.state(&c, from, text)...)
	case alert.Counted, alert.Absent, alert.Run, alert.Interval, alert.Underuse:
	}
	if len(*r.problems) > before { // the placeholders may be right
		return c
	}
	r.stakeholder(&c, ct)
	r.message(&c, shown, at, ct)
	if from.def == nil {
		c.Where = c.Inputs[0].Where
	}
	return c
}

// caseWhere resolves the filter: of a run, what makes an event count for it.
func (r reader) caseWhere(rule *alert.Rule, c *alert.Case, from *evidence, text caseText) {
	in := r.within("where")
	if rule.Type == alert.Run && !text.where.given() {
		in.bad(text.caseName.Node, "is missing: what makes an event count for the run")
		return
	}
	for i, s := range from.streams {
		where, _, err := s.filter(text.where)
		if err == nil && from.def != nil && from.def.Filter != "" {
			where = from.def.Inputs[i].Where
			if text.where.given() {
				where, _, err = s.resolve("(" + from.def.Filter + ") && (" + text.where.Value + ")")
			}
		}
		if err != nil {
			in.reportAt(text.where.Node, err)
			return
		}
		if rule.Type == alert.Run {
			c.Inputs[i].Hit = where
		} else {
			c.Inputs[i].Where = where
		}
	}
}

// caseKey resolves the key, by default that of the aggregation, and the details.
func (r reader) caseKey(c *alert.Case, from *evidence, text caseText) {
	var names []string
	add := func(of string, s scalar) (kind event.Kind, at []int, ok bool) {
		in := r.within("%s", of)
		switch {
		case slices.Contains(reserved(), s.Value):
			in.bad(s.Node, "%q stands for a figure of the rule in messages: derive an attribute of another name", s.Value)
			return 0, nil, false
		case slices.Contains(names, s.Value):
			in.bad(s.Node, "%q is listed twice", s.Value)
			return 0, nil, false
		}
		names = append(names, s.Value)
		at, kind, ok = across(in, s.Node, from.streams, func(of *stream) (int, event.Kind, error) { return of.attribute(s.Value) })
		return kind, at, ok
	}
	if len(text.key) == 0 && from.def != nil {
		for k, key := range from.def.Keys {
			names = append(names, key.Name)
			c.Key = append(c.Key, alert.KeyPart{Name: key.Name, Kind: key.Kind, Attribute: -1})
			for i, in := range from.def.Inputs {
				c.Inputs[i].Keys = append(c.Inputs[i].Keys, in.Keys[k])
			}
		}
	}
	for _, s := range text.key {
		kind, at, ok := add("key", s)
		if !ok {
			continue
		}
		c.Key = append(c.Key, alert.KeyPart{Name: s.Value, Kind: kind, Attribute: at[0]})
		for i := range at {
			c.Inputs[i].Keys = append(c.Inputs[i].Keys, at[i])
		}
	}
	for _, s := range text.details {
		if _, at, ok := add("details", s); ok {
			c.Details = append(c.Details, s.Value)
			for i := range at {
				c.Inputs[i].Details = append(c.Inputs[i].Details, at[i])
			}
		}
	}
}

func (r reader) stakeholder(c *alert.Case, text caseText) {
	in := r.within("stakeholder")
	if !text.role.given() && !text.user.given() {
		return
	}
	c.Stakeholder = alert.StakeholderOf{Role: alert.Role(text.role.text()), User: text.user.text(), Tenant: text.tenant.text()}
	if role := c.Stakeholder.Role; role != alert.Publisher && role != alert.Subscriber {
		in.bad(cmp.Or(text.role.Node, text.user.Node), "role must be publisher or subscriber, it is %q", role)
	}
	names := slices.Clone(c.Details)
	for _, part := range c.Key {
		names = append(names, part.Name)
	}
	for _, s := range []scalar{text.user, text.tenant} {
		if s.given() && !slices.Contains(names, s.Value) {
			in.bad(s.Node, "%q is neither in the key nor in the details%s", s.Value, suggest(s.Value, names))
		}
	}
}

// eventValue resolves the number that an event rule compares. Of the events of a second the
// one that breaks the bound most is told.
func (r reader) eventValue(rule *alert.Rule, c *alert.Case, from *evidence, text ruleText) {
	value := text.figures["value"]
	if !value.given() {
		return
	}
	at, kind, err := from.streams[0].resolve(value.Value)
	switch {
	case err != nil:
		r.within("value").reportAt(value.Node, err)
		return
	case !kind.Numeric():
		r.bad(value.Node, "value must be a number, %s is %s", value.Value, kind)
	}
	rule.Value = at
	merge := alert.Max
	if rule.Below {
		merge = alert.Min
	}
	c.Inputs[0].Values, c.Merges = []int{at}, []alert.Merge{merge}
	c.Compute = func(_ float64, values []float64) (float64, bool) { return values[0], true }
}

// windowValue compiles what is computed of an aggregation's measures.
func (r reader) windowValue(c *alert.Case, from *evidence, text ruleText) {
	if from.def == nil {
		return // reported: the aggregation is missing
	}
	value := *text.figures["value"]
	source := value.text()
	if part, of := text.figures["part"], text.figures["of"]; part.given() && of.given() {
		value, source = *part, "("+part.Value+") / ("+of.Value+")"
	}
	if !value.given() {
		return
	}
	m := &measures{def: from.def, at: map[string]int{}, c: c}
	if err := m.compile(source); err != nil {
		r.within("value").bad(value.Node, "%v", err)
	}
}

// measures are those of an aggregation that an expression names.
type measures struct {
	def  *aggregation.Definition
	c    *alert.Case
	at   map[string]int // by name: the value that it is computed from; -1: the number of events
	mean map[string]bool
}

// compile makes the case compute an expression over measures. An average is the sum by the
// number of events; what cannot be merged over steps is refused.
func (m *measures) compile(text string) error {
	m.mean = map[string]bool{}
	env := map[string]float64{}
	var names []string
	for _, measure := range m.def.Measures {
		env[measure.Name] = 1
		names = append(names, measure.Name)
	}
	code, err := expr.Compile(text, expr.Env(env), expr.AsFloat64())
	if err != nil {
		return fmt.Errorf("%w; the measures of %s are: %s", readable(err), m.def.Name, strings.Join(names, ", "))
	}
	used := &measureVisitor{}
	root := code.Node()
	ast.Walk(&root, used)
	for _, measure := range m.def.Measures {
		if slices.Contains(used.names, measure.Name) {
			if err := m.use(measure); err != nil {
				return err
			}
		}
	}
	if len(m.at) == 0 {
		return errors.New("the expression names no measure")
	}
	m.c.Compute = m.computing(code)
	return nil
}

type measureVisitor struct{ names []string }

// Visit notes the names.
func (v *measureVisitor) Visit(node *ast.Node) {
	if name, ok := (*node).(*ast.IdentifierNode); ok {
		v.names = append(v.names, name.Value)
	}
}

// use makes a measure part of the evidence.
func (m *measures) use(measure aggregation.Measure) error {
	merge := alert.Sum
	switch measure.Op {
	case aggregation.Count:
		m.at[measure.Name] = -1
		return nil
	case aggregation.Sum:
	case aggregation.Avg:
		m.mean[measure.Name] = true
	case aggregation.Min:
		merge = alert.Min
	case aggregation.Max:
		merge = alert.Max
	case aggregation.Last, aggregation.First, aggregation.Distinct, aggregation.Quantile, aggregation.Deviation:
		return fmt.Errorf("%s is a %s, which a sliding window cannot hold: count, sum, avg, min and max can", measure.Name, measure.Function())
	}
	if !measure.ArgKind.Numeric() {
		return fmt.Errorf("%s is no number", measure.Name)
	}
	m.at[measure.Name] = len(m.c.Merges)
	m.c.Merges = append(m.c.Merges, merge)
	at := slices.IndexFunc(m.def.Measures, func(of aggregation.Measure) bool { return of.Name == measure.Name })
	for i, in := range m.def.Inputs {
		m.c.Inputs[i].Values = append(m.c.Inputs[i].Values, in.Args[at])
	}
	return nil
}

func (m *measures) computing(code *vm.Program) func(float64, []float64) (float64, bool) {
	at, mean := m.at, m.mean
	return func(n float64, values []float64) (float64, bool) {
		own := make(map[string]float64, len(at))
		for name, i := range at {
			switch {
			case i < 0:
				own[name] = n
			case mean[name]:
				own[name] = values[i] / n
			default:
				own[name] = values[i]
			}
		}
		result, err := expr.Run(code, own)
		f, ok := result.(float64)
		if err != nil || !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, false
		}
		return f, true
	}
}

// member and state resolve what sequences and sets of a key are made of: texts.
func (r reader) member(c *alert.Case, from *evidence, text ruleText) []string {
	at := r.textOf(from, "member", *text.figures["member"])
	c.Inputs[0].Member = at
	if !identifier.MatchString(text.figures["member"].Value) {
		return []string{"member"}
	}
	return []string{text.figures["member"].Value}
}

func (r reader) state(c *alert.Case, from *evidence, text ruleText) []string {
	c.Inputs[0].State = r.textOf(from, "state", *text.figures["state"])
	return []string{"transition"}
}

func (r reader) textOf(from *evidence, name string, s scalar) int {
	if !s.given() {
		return -1
	}
	at, kind, err := from.streams[0].resolve(s.Value)
	switch {
	case err != nil:
		r.within("%s", name).reportAt(s.Node, err)
	case kind != event.String:
		r.bad(s.Node, "%s must be a text, %s is %s", name, s.Value, kind)
	}
	return at
}
