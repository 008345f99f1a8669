package alert

import (
	"strings"
	"testing"
	"time"
)

func TestSilence_MatchesByRuleKeyAndLabelsWhileItIsInForce(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	long := strings.Repeat("ö", maxText)
	a := Alert{
		Rule: "tier-crossing", Key: map[string]string{"apiName": "Shop", "apiVersion": "", "path": clip(long)},
		Labels: map[string]string{"team": "api", "apiName": "a label beside the key"},
	}
	for _, test := range []struct {
		name  string
		rule  string
		match map[string]string
		want  bool
	}{
		{"its rule", "tier-crossing", nil, true},
		{"another rule", "api-health", nil, false},
		{"a part of its key", "", map[string]string{"apiName": "Shop"}, true},
		{"rule and key", "tier-crossing", map[string]string{"apiName": "Shop"}, true},
		{"another rule with its key", "api-health", map[string]string{"apiName": "Shop"}, false},
		{"several parts", "", map[string]string{"apiName": "Shop", "apiVersion": ""}, true},
		{"one of several parts", "", map[string]string{"apiName": "Shop", "apiVersion": "1"}, false},
		{"a part that it does not have", "", map[string]string{"tenant": ""}, false},
		{"another case", "", map[string]string{"apiName": "shop"}, false},
		{"a label", "", map[string]string{"team": "api"}, true},
		{"a label that the key hides", "", map[string]string{"apiName": "a label beside the key"}, false},
		{"a long value", "", map[string]string{"path": long}, true},
		{"a long value as it is shown", "", map[string]string{"path": clip(long)}, true},
	} {
		s := Silence{Rule: test.rule, Match: test.match, StartsAt: at, EndsAt: at.Add(time.Hour)}
		for _, moment := range []struct {
			at    time.Duration
			force bool
		}{{-1, false}, {0, true}, {time.Hour - 1, true}, {time.Hour, false}} {
			if got := s.Matches(&a, at.Add(moment.at)); got != (test.want && moment.force) {
				t.Errorf("%s, at %s: got %v", test.name, moment.at, got)
			}
		}
		other := Silence{Rule: "x", StartsAt: at, EndsAt: at.Add(time.Hour)}
		if got := Silencing([]Silence{other, s, other}, &a, at); (len(got) == 1) != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestSilence_CheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for want, change := range map[string]func(*Silence){
		"":                        func(*Silence) {},
		"whose alerts are meant":  func(s *Silence) { s.Rule = "" },
		"end after it starts":     func(s *Silence) { s.EndsAt = s.StartsAt },
		"end in the future":       func(s *Silence) { s.StartsAt, s.EndsAt = now.Add(-2*time.Hour), now },
		"at most 366 days":        func(s *Silence) { s.EndsAt = s.StartsAt.Add(MaxSilence + 1) },
		"by is missing":           func(s *Silence) { s.By = "" },
		"comment is missing":      func(s *Silence) { s.Comment = " \n" },
		"comment: 1001":           func(s *Silence) { s.Comment = strings.Repeat("ö", 1001) },
		"by is no text":           func(s *Silence) { s.By = "a\x00" },
		"match is missing":        func(s *Silence) { s.Match = map[string]string{"": "x"} },
		"match a is no text":      func(s *Silence) { s.Match = map[string]string{"a": "\xff"} },
		"match: 21 parts":         func(s *Silence) { s.Match = many(21) },
		"no rule has such a name": func(s *Silence) { s.Rule = "\x00" },
	} {
		s := Silence{Rule: "r", StartsAt: now, EndsAt: now.Add(time.Hour), By: "anna", Comment: "load test"}
		change(&s)
		if err := s.Check(now); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for want, ack := range map[string]Ack{"": {By: "anna"}, "by is missing": {Comment: "x"}, "comment: 1001": {By: "anna", Comment: strings.Repeat("x", 1001)}} {
		if err := ack.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[strings.Repeat("x", i+1)] = ""
	}
	return m
}
