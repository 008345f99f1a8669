package definition

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
)

// What is learned of where a rule does not say.
const (
	defaultLearnOver    = 7 * day // as WSO2 2.x
	defaultLearnAtLeast = 500
)

// learn reads of what a rule learns the bounds of its keys. The cases are checked if they are right
// so far.
func (b *builder) learn(r reader, rule *alert.Rule, text learnText, cases bool) {
	switch {
	case text.at.Kind != yaml.MappingNode: // reported
		return
	case rule.Type != alert.PerEvent:
		r.bad(text.at.Node, "has no place in a rule of type %s: bounds are learned for rules of type event", rule.Type)
		return
	}
	learn := &alert.Learn{Over: defaultLearnOver, AtLeast: defaultLearnAtLeast}
	if text.over.given() {
		before := len(*r.problems)
		learn.Over = r.duration("over", text.over)
		if len(*r.problems) == before && (learn.Over < day || learn.Over%day != 0) {
			r.bad(text.over.Node, "over must be whole days, one at least")
		}
	}
	if text.atLeast.given() {
		learn.AtLeast = r.count("at_least", text.atLeast, 1)
	}
	if !text.aggregation.given() {
		r.bad(text.at.Node, "aggregation is missing: one that keeps days, and is grouped by what the key has")
	}
	if !text.value.given() {
		r.bad(text.at.Node, "value is missing: the measure of the aggregation that becomes the bound, as one that is p95(responseTime)")
	}
	if !text.aggregation.given() || !text.value.given() {
		return
	}
	def := b.named(r.within("aggregation"), text.aggregation)
	if def == nil || len(def.Inputs) == 0 { // reported
		return
	}
	learn.Of = def
	if !r.learnOf(learn, text) || !cases {
		return
	}
	rule.Learn = learn
	for i := range rule.Cases {
		in, c := r, &rule.Cases[i]
		if c.Name != "" {
			in = r.within("case %q", c.Name)
		}
		if _, err := learn.Keys(c); err != nil {
			in.bad(text.at.Node, "%v", err)
		}
		if own := c.Own; own != nil {
			own.Learn = learn
		}
	}
}

// learnOf checks that the aggregation keeps the days, and finds its measure.
func (r reader) learnOf(learn *alert.Learn, text learnText) bool {
	def := learn.Of
	var names []string
	for _, m := range def.Measures {
		names = append(names, m.Name)
	}
	learn.Measure = def.MeasureIndex(text.value.Value)
	if learn.Measure < 0 {
		r.bad(text.value.Node, "value: aggregation %s has no measure %q%s", def.Name, text.value.Value, suggest(text.value.Value, names))
		return false
	}
	ok := true
	if m := def.Measures[learn.Measure]; !m.Kind().Numeric() {
		r.bad(text.value.Node, "value: a bound is a number, %s of aggregation %s is %s", m.Name, def.Name, m.Kind())
		ok = false
	}
	if keep := def.Retention[aggregation.Days]; !def.Keeps(aggregation.Days) {
		var levels []string
		for _, level := range def.Granularities {
			levels = append(levels, level.String())
		}
		r.bad(text.aggregation.Node, "aggregation: %s keeps %s and no days, which bounds are learned of: add days to every", def.Name, strings.Join(levels, ", "))
		ok = false
	} else if keep != aggregation.Forever && learn.Over > keep {
		r.bad(text.at.Node, "over is %d days, and aggregation %s keeps its days for %d", learn.Over/day, def.Name, keep/day)
		ok = false
	}
	return ok
}
