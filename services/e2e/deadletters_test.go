package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// letter is a dead letter as `weir deadletters list --json` prints it.
type letter struct {
	ID      int64  `json:"id"`
	Reason  string `json:"reason"`
	Subject string `json:"subject"`
	Offset  int    `json:"offset"`
	Payload string `json:"payload"`
}

// requestEvent is a good event of an API, with the fields in place of those it has.
func requestEvent(api, fields string) string {
	return fmt.Sprintf(`{"apiName":%q,"requestTimestamp":1790000000000,"responseCode":200%s}`, api, fields)
}

func TestBadInput_GoesToTheDeadLettersAndTheRestIsCounted(t *testing.T) {
	t.Parallel()
	good := requestEvent("good", "")
	cases := []struct {
		subject, body string
		offset        int    // of what is bad, -1 for all of the message
		reason        string // part of it
		counted       int64  // good events beside it
	}{
		{"events.request.edge", `this is no JSON`, -1, "", 0},
		{"events.request.edge", "[" + good + `,{"apiName":"cut off`, -1, "", 0},
		{"events.nothing.edge", good, -1, "unknown type", 0},
		{"events.request.edge", "[" + good + "," + requestEvent("a\x00b", "") + "," + good + "]", -1, "", 0}, // bare: no JSON
		{"events.request.edge", "[" + good + `,{"apiName":"a\u0000b","requestTimestamp":1790000000000}]`, 1, "NUL", 1},
		{"events.request.edge", "[" + requestEvent("good", `,"responseTime":-1`) + "," + good + "," + good + "]", 0, "responseTime", 2},
		{"events.request.edge", "[" + good + `,{"apiName":"late","requestTimestamp":"tomorrow"}]`, 1, "requestTimestamp", 1},
		{"events.request.edge", "[" + good + `,{"apiName":"far","requestTimestamp":99999999999999999}]`, 1, "requestTimestamp", 1},
		{"events.request.edge", "[" + good + `,{"apiName":"none"}]`, 1, "requestTimestamp", 1},
		{"events.request.edge", "[" + good + `,17]`, 1, "must be a JSON object", 1},
	}
	i := up(t)
	conn, err := nats.Connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for _, c := range cases {
		if _, err := js.Publish(t.Context(), c.subject, []byte(c.body)); err != nil {
			t.Fatalf("publish %q: %v", c.body, err)
		}
		want += c.counted
	}
	i.drain(t)
	if got := i.requests(t); got != want {
		t.Errorf("got %d events counted, want the %d good ones", got, want)
	}

	letters := deadLetters(t, i)
	if len(letters) != len(cases) {
		t.Fatalf("got %d dead letters, want %d: %+v", len(letters), len(cases), letters)
	}
	table := weir(t, "deadletters", "list", "--http", i.http)
	for n, c := range cases {
		l := letters[n]
		if l.Subject != c.subject || l.Offset != c.offset || l.Reason == "" || !strings.Contains(l.Reason, c.reason) {
			t.Errorf("%q: got %+v, want offset %d and %q as the reason", c.body, l, c.offset, c.reason)
		}
		if c.offset < 0 && l.Payload != c.body {
			t.Errorf("got payload %q, want %q", l.Payload, c.body)
		}
		if !strings.Contains(table, c.reason) {
			t.Errorf("no %q in the list:\n%s", c.reason, table)
		}
	}
	shown := weir(t, "deadletters", "show", "--http", i.http, fmt.Sprint(letters[5].ID))
	for _, text := range []string{letters[5].Reason, letters[5].Payload} {
		if !strings.Contains(shown, text) {
			t.Errorf("no %q in:\n%s", text, shown)
		}
	}
	fails(t, 1, []string{"there is no dead letter 4711"}, "deadletters", "show", "--http", i.http, "4711")
}

// deadLetters lists them in the order of the stream.
func deadLetters(t *testing.T, i *instance) []letter {
	t.Helper()
	var letters []letter
	for line := range strings.Lines(weir(t, "deadletters", "list", "--json", "--http", i.http)) {
		var l letter
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		letters = append(letters, l)
	}
	return letters
}
