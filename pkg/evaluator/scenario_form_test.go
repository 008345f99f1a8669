package evaluator

import (
	"strings"
	"testing"
)

// Who writes a scenario is told what is wrong with it, before a server is started.
func TestScenario_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const definitions = `definitions
  stream: call
  time: at
  attributes:
    at: {type: time}
    api: {type: string, required: true}
    took: int
  rules:
    slow:
      type: event
      severity: 3
      value: took
      above: 10
      key: [api]
      message: "{api} took {value}"
`
	const end = "through 1m\n"
	for _, c := range []struct{ what, text, want string }{
		{"nothing", "", "has no end"},
		{"an unknown section", "expects\n", `no "expects"; there are:`},
		{"no stream", "load\n", "line 16: it should be: load STREAM"},
		{"every misspelt", "load call\n  0s x3 evry 1s: api=A took=1\n", "every STEP"},
		{"no count", "load call\n  0s xx every 1s: api=A took=1\n", "TIME xN every STEP"},
		{"no colon", "load call\n  0s api=A\n", "TIME: attribute=value"},
		{"no value", "load call\n  0s: api\n", `"api" is no name=value`},
		{"a value twice", "load call\n  0s: api=A api=B\n", "api is given twice"},
		{"an open quote", "load call\n  0s: api=\"A\n", "a quote is not closed"},
		{"no such stream", end + "load calls\n  0s: api=A\n", `line 18: there is no stream "calls"`},
		{"no such attribute", end + "load call\n  0s: ap=A\n", `line 18: stream call has no attribute "ap"`},
		{"no number", end + "load call\n  0s: api=A took=long\n", `line 18: took of stream call is no text, and "long" is no JSON`},
		{"a dead letter", end + "load call\n  0s: took=1\n", "line 18: the event at 0s would be a dead letter"},
		{"a closing event that is one", end + "load call\n  0s: api=A took=1\n", "the event at 1m10s would be a dead letter"},
		{"no state", "expect\n  slow fires 1s api=A\n", "firing|resolved TIME"},
		{"no time", "expect\n  slow firing api=A\n", "invalid duration"},
		{"too few words", "expect\n  slow firing\n", "firing|resolved TIME"},
		{"no such rule", end + "defaults call api=A\nexpect\n  slower firing 1s\n", `there is no rule "slower"`},
		{"no such case", end + "defaults call api=A\nexpect\n  slow/very firing 1s\n", `rule slow has no case "very"`},
		{"after the end", end + "defaults call api=A\nexpect\n  slow firing 2m\n", "which is after the end"},
		{"no such dimension", "threshold slow 5 apis=A\n", `no dimension "apis"; there are: api, version, resource, method, application, tenant`},
		{"a threshold of no rule", end + "defaults call api=A\nthreshold slower 5\n", "line 18: rule:"},
		{"as many workers as nobody tries", "local with 3: slow 1\n", "1, 2 or 8"},
		{"local alerts of no rule", end + "defaults call api=A\nlocal with 2: slower 1\n", `local: there is no rule "slower"`},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			_, err := parseScenario("wrong", []byte(definitions+c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}

func TestScenario_ReadsEveryDimensionAndDefault(t *testing.T) {
	t.Parallel()
	s, err := parseScenario("right", []byte(`threshold abnormal-response-time 5 api=A version=1 resource=/r method=GET tenant=t.com
defaults request apiName=A
load request
  0s x2 every 1s: responseTime=7 username="a b"
through 1m
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.thresholds[0].Text(), "api=A version=1 resource=/r method=GET tenant=t.com"; got != want {
		t.Errorf("the threshold is for %s, want %s", got, want)
	}
	if got := s.closing().values["apiName"]; got != "A" {
		t.Errorf("the closing event has the name %q, want that of defaults", got)
	}
	if h := s.events[1]; h.values["apiName"] != "A" || h.values["username"] != "a b" || h.at.Sub(epoch).String() != "1s" {
		t.Errorf("the second event is %v", h)
	}
}
