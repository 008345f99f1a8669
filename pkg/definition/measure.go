package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

var (
	call = regexp.MustCompile(`(?s)^([A-Za-z_][A-Za-z0-9_.]*)\s*\((.*)\)$`)
	// quantile is the short name of one: p50, p99.9.
	quantile = regexp.MustCompile(`^p([0-9]+(\.[0-9]+)?)$`)
)

// parseMeasure reads "op(argument)": all of a measure but its name and kind.
func parseMeasure(text string) (m aggregation.Measure, err error) {
	text = strings.TrimSpace(text)
	parts := call.FindStringSubmatch(text)
	switch {
	case parts == nil && identifier.MatchString(text):
		return m, fmt.Errorf("%q is no measure; did you mean \"last(%s)\"?", text, text)
	case parts == nil || !balanced(parts[2]):
		return m, fmt.Errorf("%q is no measure: write one call, as in sum(responseTime)", text)
	}
	name := parts[1]
	m.Arg = strings.TrimSpace(parts[2])
	var ok bool
	if m.Op, ok = aggregation.ParseOp(name); ok && m.Op == aggregation.Quantile {
		if m, err = parsePercentile(m); err != nil {
			return m, err
		}
	} else if short := quantile.FindStringSubmatch(name); short != nil {
		m.Op, ok = aggregation.Quantile, true
		if m.Percent, err = percent(short[1]); err != nil {
			return m, err
		}
	}
	if !ok {
		return m, unknownMeasure(name)
	}
	switch {
	case m.Op == aggregation.Count && m.Arg != "":
		return m, errors.New("count() takes no argument: it counts events; to count some of them, sum a derived 0 or 1")
	case m.Op != aggregation.Count && m.Arg == "":
		return m, fmt.Errorf("%s needs an argument, as in %s(responseTime)", name, name)
	}
	return m, nil
}

func unknownMeasure(name string) error {
	var names []string
	for _, op := range aggregation.Ops() {
		names = append(names, op.String())
	}
	return fmt.Errorf("unknown measure %q%s", name, suggest(name, append(names, "p50", "p95")))
}

// parsePercentile cuts the percent from "argument, percent".
func parsePercentile(m aggregation.Measure) (aggregation.Measure, error) {
	comma := strings.LastIndexByte(m.Arg, ',')
	if comma < 0 {
		return m, errors.New("percentile needs an argument and a percent, as in percentile(responseTime, 99.9)")
	}
	var err error
	m.Percent, err = percent(strings.TrimSpace(m.Arg[comma+1:]))
	m.Arg = strings.TrimSpace(m.Arg[:comma])
	return m, err
}

func percent(text string) (float64, error) {
	p, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no percent: give a number, as in percentile(responseTime, 99.9)", text)
	case p > 100 && p < 1000:
		return 0, fmt.Errorf("a percent is above 0 and below 100, it is %s: 99.9 has a point, as in p99.9(responseTime)", text)
	case !(p > 0 && p < 100):
		return 0, fmt.Errorf("a percent is above 0 and below 100, it is %s: the ends are min and max", text)
	}
	return p, nil
}

// shares names the measure whose sketch also holds what m needs.
func shares(def *aggregation.Definition, m aggregation.Measure) string {
	if m.Op != aggregation.Quantile {
		return ""
	}
	for _, other := range def.Measures {
		if other.Op == m.Op && other.Arg == m.Arg && other.Stored() {
			return other.Name
		}
	}
	return ""
}

// balanced reports whether no parenthesis of the text closes one outside it.
func balanced(text string) bool {
	depth, quote := 0, rune(0)
	for _, c := range text {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return true
}

// checkArgument reports an argument of a kind that the op cannot take.
func checkArgument(m aggregation.Measure) error {
	switch m.Op {
	case aggregation.Sum, aggregation.Avg, aggregation.Quantile, aggregation.Deviation:
		if !m.ArgKind.Numeric() {
			return fmt.Errorf("%s needs a number, %s is %s", m.Function(), m.Arg, m.ArgKind)
		}
	case aggregation.Min, aggregation.Max:
		if !m.ArgKind.Numeric() && m.ArgKind != event.Time {
			return fmt.Errorf("%s needs a number or a time, %s is %s", m.Op, m.Arg, m.ArgKind)
		}
	case aggregation.Count, aggregation.First, aggregation.Last, aggregation.Distinct:
	}
	return nil
}
