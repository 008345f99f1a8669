package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/pkg/aggregation"
)

// Learn says of what the bounds of a rule's keys are learned: of each key, what a measure of an
// aggregation came to in the last days. It may be any number; of a percentile the events of all
// shards and days are merged, and no distribution is assumed.
type Learn struct {
	Of      *aggregation.Definition // keeps days
	Measure int                     // of Of: a number
	Over    time.Duration           // whole days
	AtLeast int64                   // how many events a key must have had in them; 1 at least
}

// Keys returns, by dimension in the order of [DimensionNames], which group key of the
// aggregation it is learned by; -1 where the case's key has no such dimension. What cannot
// be learned of the case is an error.
func (l *Learn) Keys(c *Case) (keys [dimensions]int, err error) {
	some := false
	for d := range keys {
		keys[d] = -1
		parts := c.parts(d)
		if len(parts) == 0 {
			continue
		}
		if part := c.Key[parts[0]]; len(parts) > 1 {
			return keys, fmt.Errorf("the key has both %s and %s, and a bound by %s could be of either: move one to details",
				part.Name, c.Key[parts[1]].Name, DimensionNames()[d])
		} else if keys[d] = l.Of.KeyIndex(part.Name); keys[d] < 0 {
			return keys, fmt.Errorf("aggregation %s is not grouped by %s, which the key has: add it to group_by", l.Of.Name, part.Name)
		} else if of := l.Of.Keys[keys[d]].Kind; of != part.Kind {
			return keys, fmt.Errorf("%s is %s in the key and %s in aggregation %s", part.Name, part.Kind, of, l.Of.Name)
		}
		some = true
	}
	if !some {
		var names []string
		for d := range dimensions {
			names = append(names, partsOf(d)...)
		}
		return keys, fmt.Errorf("the key has nothing that bounds can be learned by: add one of %s", strings.Join(names, ", "))
	}
	return keys, nil
}

// Interval returns the whole days before a moment that are learned of, from the first instant to the one
// after the last, microseconds since 1970 UTC. Days are those of the aggregation's zone.
func (l *Learn) Interval(now time.Time) (from, until int64) {
	const half = 12 * time.Hour // so that a day of 23 or 25 hours makes no difference
	until = aggregation.Days.Truncate(now.UnixMicro(), l.Of.Zone)
	return aggregation.Days.Truncate(until-(l.Over-half).Microseconds(), l.Of.Zone), until
}

// DimensionsOf returns the dimensions with these values, in the order of [DimensionNames]. It
// fails for what no bound can be learned for: where the key has a dimension, an empty value
// would choose any, and that of [aggregation.OtherGroup] stands for many keys.
func (l *Learn) DimensionsOf(keys [dimensions]int, values [dimensions]string) (Dimensions, bool) {
	for d, key := range keys {
		if key >= 0 && (values[d] == "" || values[d] == aggregation.OtherGroup && l.Of.MaxGroups > 0) {
			return Dimensions{}, false
		}
	}
	return Dimensions{API: values[0], Version: values[1], Resource: values[2], Method: values[3], Application: values[4], Tenant: values[5]}, true
}

// What names what bounds are learned of, by which keys of the rule's cases. Where that
// changes, what was learned before holds no more.
func (l *Learn) What(rule *Rule) string {
	m := l.Of.Measures[l.Measure]
	text := fmt.Sprintf("%s(%s) of %s where %q over %s, at least %d", m.Function(), m.Arg, l.Of.Versioned(), l.Of.Filter, l.Over, l.AtLeast)
	for i := range rule.Cases {
		c := &rule.Cases[i]
		var names []string
		for _, part := range c.Key {
			names = append(names, part.Name)
		}
		slices.Sort(names)
		text += fmt.Sprintf("; %s by %s", c.Name, strings.Join(names, ", "))
	}
	return text
}
