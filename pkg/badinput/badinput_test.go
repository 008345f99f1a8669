package badinput

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

func TestLoad_HasEveryCaseWithItsFate(t *testing.T) {
	t.Parallel()
	cases, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 300 {
		t.Errorf("there are %d cases, the promise is 300", len(cases))
	}
	folded, dead, refused, ignored := 0, 0, 0, 0
	for _, c := range cases {
		for _, m := range c.Messages {
			folded += m.Fate.Folded
			dead += len(m.Fate.Dead)
			switch {
			case m.Fate.Refused:
				refused++
			case m.Fate.Ignored:
				ignored++
			}
		}
	}
	t.Logf("%d cases: %d events folded, %d dead letters, %d messages refused, %d ignored", len(cases), folded, dead, refused, ignored)
}

func TestParse_MakesWhatACaseSays(t *testing.T) {
	t.Parallel()
	cases, err := parse("x.yaml", []byte(`
- {name: a, why: w, subject: events.probe.gw, headers: {X: [a, {repeat: b, times: 3}]}, fields: '"s":"x"', fate: folded}
- {name: b, why: w, headers: {status: " 503", lines: "Odd\r\n"}, body: ['[', {nested: 2}, ',$event', {hex: "00 ff"}, {cut: -1, of: abc}], fate: {folded: 2, dead: {all: "r $case", 3..4: q}},
   then: [{body: {gzip: zipped}, fate: ignored}, {fate: {refused: no}}]}
`), false)
	if err != nil {
		t.Fatal(err)
	}
	first, second := cases[0].Messages[0], cases[1].Messages
	if got := string(first.Headers) + string(first.Body); got != "NATS/1.0\r\nX: abbb\r\n\r\n"+`{"case":"a","at":1715947200000,"s":"x"}` || first.Fate.Folded != 1 || first.Header("x") != "abbb" {
		t.Errorf("got %q, %+v", got, first.Fate)
	}
	want := `[[[]],{"applicationId":"b","apiContext":"/bad/1","requestTimestamp":1715947200000}` + "\x00\xffab"
	if f := second[0].Fate; string(second[0].Body) != want || string(second[0].Headers) != "NATS/1.0 503\r\nOdd\r\n\r\n" || f.Folded != 2 || f.Dead[-1] != "r b" || f.Dead[3]+f.Dead[4] != "qq" || len(f.Dead) != 3 {
		t.Errorf("got %q, %+v", second[0].Body, f)
	}
	r, err := gzip.NewReader(bytes.NewReader(second[1].Body))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(r); err != nil || string(plain) != "zipped" || !second[1].Fate.Ignored || second[2].Fate.Reason != "no" {
		t.Errorf("got %q, %v, %+v", plain, err, second[2].Fate)
	}
}

func TestParse_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`- {name: a, fate: folded}`:                               "needs a name and a why",
		`- {name: a, why: w}`:                                     "fate: write folded",
		`- {name: a, why: w, fate: eaten}`:                        "fate: write folded",
		`- {name: a, why: w, body: {x: 1}, fate: folded}`:         "none of repeat",
		`- {name: a, why: w, body: x, fields: y, fate: folded}`:   "give one of them",
		`- {name: a, why: w, bodi: x, fate: folded}`:              "field bodi not found",
		`- {name: a, why: w, body: {hex: zz}, fate: folded}`:      "invalid byte",
		`- {name: a, why: w, fate: {dead: {first: broken}}}`:      `"first" is no offset`,
		`- {name: a, why: w, headers: {A: {x: 1}}, fate: folded}`: "headers: none of repeat",
		`- {name: a, why: w, headers: lines, fate: folded}`:       "write names and their values",
	} {
		if _, err := parse("x.yaml", []byte(text), false); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.yaml") {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
