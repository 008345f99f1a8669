package query

import (
	"testing"
	"time"
)

func TestParseLong_TakesDaysAsRulesDo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"2h": 2 * time.Hour, "1h30m": 90 * time.Minute, "3d": 72 * time.Hour, "3 days": 72 * time.Hour, "1 day 2 hours": 26 * time.Hour,
		"": 0, "0s": 0, "-2h": 0, "d": 0, "-3d": 0, "0d": 0, "soon": 0, "3 moons": 0,
	} {
		if got, err := ParseLong(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestOneOf_SuggestsNoneOfTheNumbers(t *testing.T) {
	t.Parallel()
	const want = `severity: there is no "7"; there are: 1, 2, 3`
	if err := oneOf("severity", "7", []string{"1", "2", "3"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
