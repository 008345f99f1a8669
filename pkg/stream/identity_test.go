package stream

import (
	"strings"
	"testing"

	"weir/pkg/badinput"
)

func TestParseIdentity_AcceptsNumbersAndRanges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Identity{
		"gw-1/00ff/1":             {"gw-1", "00ff", 1, 1},
		"gw-1/a.b_c-d/7-9":        {"gw-1", "a.b_c-d", 7, 9},
		"g/e/5-5":                 {"g", "e", 5, 5},
		"g/e/1-65536":             {"g", "e", 1, 65536},
		"g/e/4611686018427387904": {"g", "e", MaxNumber, MaxNumber},
	} {
		got, ok := ParseIdentity(text)
		if !ok || got != want {
			t.Errorf("ParseIdentity(%q) = %+v, %v, want %+v", text, got, ok, want)
		}
	}
}

func TestParseIdentity_RefusesEverythingElse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "gw", "gw/e", "gw/e/", "/e/1", "gw//1", "gw/e/0", "gw/e/01", "gw/e/+1", "gw/e/-1", "gw/e/1-", "gw/e/1-0",
		"gw/e/1-2-3", "gw/e/2-1", "gw/e/1-65537", "gw/e/4611686018427387905", "gw/e/99999999999999999999", "gw/e/1/2",
		"g.w/e/1", "g w/e/1", "gw/é/1", "gw/e/1 ", "gw/e/١", "gw/" + strings.Repeat("e", 65) + "/1",
		"3b241101-e2bb-4255-8caf-4136c566a962",
	} {
		if got, ok := ParseIdentity(text); ok {
			t.Errorf("ParseIdentity(%q) = %+v, want none", text, got)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, seed := range []string{"gw-1/00ff/1", "gw-1/e/7-9", "g/e/5-5", "g/e/0", "g//1", "a/b/18446744073709551615"} {
		f.Add(seed)
	}
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Header("Nats-Msg-Id")) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := ParseIdentity(text)
		if !ok {
			return
		}
		if id.First < 1 || id.Last < id.First || id.Last > MaxNumber || id.Count() > MaxRange {
			t.Fatalf("ParseIdentity(%q) = %+v is out of bounds", text, id)
		}
		again, ok := ParseIdentity(id.String())
		if !ok || again != id {
			t.Fatalf("%+v is written %q, which is read as %+v, %v", id, id.String(), again, ok)
		}
		if id.First != id.Last && id.String() != text {
			t.Fatalf("%q has a second spelling %q", text, id.String())
		}
	})
}

// A subject that is taken apart is put together as the same, and fits into an
// identity; all others have no parts.
func FuzzParseEventSubject(f *testing.F) {
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Subject) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		eventType, source, ok := ParseEventSubject(subject)
		if !ok {
			if eventType != "" || source != "" {
				t.Fatalf("%q is refused, with parts %q and %q", subject, eventType, source)
			}
			return
		}
		if EventSubject(eventType, source) != subject || strings.Count(subject, ".") != 2 {
			t.Fatalf("%q has the parts %q and %q", subject, eventType, source)
		}
		id := Identity{Source: source, Epoch: "e", First: 1, Last: 1}
		if again, ok := ParseIdentity(id.String()); !ok || again != id {
			t.Fatalf("%q cannot be an identity's source: %+v, %v", source, again, ok)
		}
	})
}

func TestSubject_RoundTripsAndRefusesOtherShapes(t *testing.T) {
	t.Parallel()
	eventType, source, ok := ParseEventSubject(EventSubject("request", "gw-1"))
	if !ok || eventType != "request" || source != "gw-1" {
		t.Errorf("got %q, %q, %v", eventType, source, ok)
	}
	for _, subject := range []string{"", "events", "events.request", "events.request.", "events..gw", "events.a.b.c", "alerts.a.b", "events.a.*"} {
		if _, _, ok := ParseEventSubject(subject); ok {
			t.Errorf("ParseEventSubject(%q) is ok", subject)
		}
	}
}

func TestValidToken(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"gw-1", "GW_1", "eu:west@1", strings.Repeat("a", 128)} {
		if !ValidToken(token) {
			t.Errorf("ValidToken(%q) = false", token)
		}
	}
	for _, token := range []string{"", "a.b", "a*", ">", "a b", "a/b", "a\x00", "é", strings.Repeat("a", 129)} {
		if ValidToken(token) {
			t.Errorf("ValidToken(%q) = true", token)
		}
	}
}
