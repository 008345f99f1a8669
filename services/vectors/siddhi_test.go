package vectors

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"weir/pkg/definition"
	"weir/pkg/query"
)

// TestSiddhiVectors runs every vector. Where Siddhi is wrong itself, which the
// vector says, Weir is held to what is right.
func TestSiddhiVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t) {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			switch v.Kind {
			case "definition_error":
				v.testDefinitionError(t)
			case "definition_ok":
				newSystem(t, v, v.mustLoad(t)) // accepted, and its tables can be made
			case "query_error":
				catalog := v.mustLoad(t)
				for _, q := range v.Queries {
					_, err := q.parse(catalog)
					v.wantRefused(t, q, err)
				}
			case "query", "query_ok":
				s := newSystem(t, v, v.mustLoad(t))
				for _, step := range v.script() {
					s.do(step)
				}
			default:
				t.Fatalf("there is no kind of vector %q", v.Kind)
			}
		})
	}
}

func (v *vector) mustLoad(t *testing.T) *definition.Catalog {
	t.Helper()
	catalog, err := v.load()
	if err != nil {
		t.Fatalf("the definition is refused: %v", err)
	}
	return catalog
}

// testDefinitionError wants the definition refused, with the line that is
// wrong. A node without a shard id is no affair of definitions: there the
// worker must be refused.
func (v *vector) testDefinitionError(t *testing.T) {
	catalog, err := v.load()
	if v.needsShardID() {
		if err != nil {
			t.Fatalf("the definition is refused: %v", err)
		}
		err = newSystem(t, v, catalog).worker("").Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "shard id") {
			t.Errorf("a worker without a shard id: got error %v, want one about it", err)
		}
		return
	}
	var problem *definition.Problem
	if !errors.As(err, &problem) || problem.Line == 0 {
		t.Fatalf("got error %v, want the definition refused with its line: %s", err, v.Expect.Reason)
	}
	v.wantHelp(t, err)
}

// wantRefused wants the question refused, with a message that says which part
// of it is wrong.
func (v *vector) wantRefused(t *testing.T, q *question, err error) {
	t.Helper()
	if q.ExpectError != nil && !*q.ExpectError {
		if err != nil {
			t.Errorf("%s: refused: %v", q.ID, err)
		}
		return
	}
	var refusal *query.Error
	if !errors.As(err, &refusal) {
		t.Errorf("%s: got error %v, want the question %v refused: %s", q.ID, err, q.values(), v.Expect.Reason)
		return
	}
	if !regexp.MustCompile(`^(within|per|select|where|group_by|order_by)\b|^there is no aggregation `).MatchString(refusal.Detail) {
		t.Errorf("%s: %q does not say which part of the question is wrong", q.ID, refusal.Detail)
	}
	v.wantHelp(t, err)
}

// wantHelp checks what the message of a refusal says.
func (v *vector) wantHelp(t *testing.T, err error) {
	t.Helper()
	t.Log(err)
	want := map[string]string{
		"val-def-max-noarg":  `max needs an argument, as in max(`,
		"val-def-min-string": `min needs a number or a time, symbol is string`,
		"val-def-no-stream":  `from: unknown stream`,
		"val-def-sum-noarg":  `sum needs an argument, as in sum(`,
		"val-def-sum-string": `sum needs a number, symbol is string`,
		"val-def-timezone":   `unknown time zone "Asia/Singapo"`,
		"val-def-week":       `unknown granularity "week"; did you mean "weeks"?`,

		"val-query-no-agg":          `there is no aggregation "stockAggregation"`,
		"val-query-no-within":       `within is missing: give the interval as START,END`,
		"val-query-pattern-tail":    `"2017-06-** **:**:**:1000" is neither START,END nor a time with wildcards`,
		"val-query-per-number":      `"1000" is no granularity; stockAggregation keeps seconds, minutes, hours`,
		"val-query-per-unkept":      `does not keep days; stockAggregation keeps seconds, minutes, hours`,
		"val-query-single-number":   `a single value must be a text with wildcards, not the number 1513578087000`,
		"val-query-start-after-end": `not before its end`,
		"val-query-unknown-column":  `has no column "AGG_TIMESTAMP2"; its columns are`,
	}[v.ID]
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got error %q, want one with %s", err, want)
	}
}
