package event

import (
	"strings"
	"testing"
)

func TestHeartbeat_IsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := Heartbeat{Source: "gw-1", Epoch: "5c0a", Next: 42, Acked: 40, Dropped: 7, Closed: true}
	if body, text := string(want.Body()), `{"source":"gw-1","epoch":"5c0a","next":42,"acked":40,"dropped":7,"closed":true}`; body != text {
		t.Errorf("got %s, want %s", body, text)
	}
	if got, err := ParseHeartbeat(want.Body()); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got, err := ParseHeartbeat([]byte(` {"closed":false,"dropped":0,"acked":0,"next":1,"epoch":"e","source":"s"}` + "\n")); err != nil || got != (Heartbeat{Source: "s", Epoch: "e", Next: 1}) {
		t.Errorf("in another order: got %+v, %v", got, err)
	}
}

func TestHeartbeat_RefusesAllElse(t *testing.T) {
	t.Parallel()
	const good = `{"source":"s","epoch":"e","next":3,"acked":2,"dropped":0,"closed":false}`
	change := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for body, reason := range map[string]string{
		"":                                  "heartbeat",
		"null":                              "should have",
		"[]":                                "heartbeat",
		"{}":                                "should have",
		good + good:                         "heartbeat",
		change(`,"closed":false`, ``):       "should have",
		change(`false`, `null`):             "should have",
		change(`false`, `"false"`):          "closed",
		change(`"closed"`, `"Closed"`):      "Closed",
		change(`{`, `{"more":1,`):           "more",
		change(`{`, `{"next":3,`):           "next",
		change(`3`, `-3`):                   "next",
		change(`3`, `3.5`):                  "next",
		change(`3`, `"3"`):                  "next",
		change(`"next":3`, `"next":0`):      "acked 2 is not below next 0",
		change(`2`, `3`):                    "acked 3 is not below next 3",
		change(`3`, `18446744073709551616`): "next",
		change(`3`, `9223372036854775807`):  "2^62",
		change(`"dropped":0`, `"dropped":9223372036854775807`): "2^62",
		change(`"s"`, "\"\xff\""):                              "UTF-8",
		change(`"s"`, `"`+strings.Repeat("s", 1024)+`"`):       "bytes",
		strings.Repeat(`{"source":`, 50):                       "heartbeat",
	} {
		if h, err := ParseHeartbeat([]byte(body)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.100s: got %+v, %v; want an error with %q", body, h, err, reason)
		}
	}
}

func FuzzParseHeartbeat(f *testing.F) {
	f.Add([]byte(`{"source":"s","epoch":"e","next":3,"acked":2,"dropped":0,"closed":false}`))
	f.Add([]byte(`{"source":"s","epoch":"e","next":4611686018427387905,"acked":0,"dropped":4611686018427387905,"closed":true}`))
	f.Add([]byte(`{"source":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := ParseHeartbeat(body)
		if err != nil {
			return
		}
		if h.Acked >= h.Next || int64(h.Next) < 1 || int64(h.Dropped) < 0 { //nolint:gosec // that is what is asked
			t.Errorf("%q was read as %+v, which cannot be stored", body, h)
		}
		if again, err := ParseHeartbeat(h.Body()); err != nil || again != h {
			t.Errorf("%+v was written and read as %+v, %v", h, again, err)
		}
	})
}
