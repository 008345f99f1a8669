package stream

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestIdentify_AgreesWithIdentityOfWhateverCameBefore(t *testing.T) {
	t.Parallel()
	subjects := []string{"events.request.gw-1", "events.request.gw-2", "events.fault.gw-1", "events.request.gw", "alerts.local.r", "events.a.b.c", ""}
	var ids []string
	for _, source := range []string{"gw-1", "gw-2", "gw", ""} {
		for _, epoch := range []string{"e", "f", "e1", ""} {
			for _, numbers := range []string{"1", "7-9", "9-7", "0", "01", "", "x", "1/2", "4611686018427387905"} {
				ids = append(ids, source+"/"+epoch+"/"+numbers)
			}
		}
	}
	ids = append(ids, "", "gw-1", "gw-1/e", "gw-1/e/e/1")
	var known names
	for round := range 3 {
		for i := range len(ids) * len(subjects) {
			i *= []int{1, 7, 11}[round] // other neighbours in each round
			subject, id := subjects[i%len(subjects)], ids[i/len(subjects)%len(ids)]
			m := Message{Subject: subject, headers: headers{msgID: id}}
			known.identify(&m)
			got, ok := m.Identity()
			if want, wantOK := IdentityOf(subject, id); got != want || ok != wantOK {
				t.Fatalf("%q with id %q: got %+v, %v, want %+v, %v", subject, id, got, ok, want, wantOK)
			}
		}
	}
}

func TestIdentify_RemembersAFewSendersOnly(t *testing.T) {
	t.Parallel()
	var known names
	for n := range 3 * maxNames {
		source := fmt.Sprintf("gw-%d", n)
		m := Message{Subject: EventSubject("request", source), headers: headers{msgID: source + "/e/1"}}
		known.identify(&m)
		if id, ok := m.Identity(); !ok || id.Source != source || len(known.bySubject) > maxNames {
			t.Fatalf("%s is %+v, %v; %d are remembered", source, id, ok, len(known.bySubject))
		}
	}
}

func TestHeadersOf_FindsHTTPNamesInEveryCase(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		all  nats.Header
		want headers
	}{
		{nil, headers{}},
		{nats.Header{"Nats-Msg-Id": {"i"}, "Content-Type": {"t"}}, headers{"i", "t", ""}},
		{nats.Header{"Nats-Msg-Id": {"i"}, "Content-Type": {"t"}, "Content-Encoding": {"e"}}, headers{"i", "t", "e"}},
		{nats.Header{"Nats-Msg-Id": {"i"}, "Content-Type": {"t"}, "content-encoding": {"e"}}, headers{"i", "t", "e"}},
		{nats.Header{"content-type": {"t"}, "CONTENT-ENCODING": {"e", "f"}, "X": {"y"}}, headers{"", "t", "e"}},
		{nats.Header{"Content-Type": {"t"}, "content-type": {"u"}}, headers{"", "t", ""}},
		{nats.Header{"nats-msg-id": {"i"}, "Content-Encoding": {""}}, headers{}},
		{nats.Header{"Content-Type": nil, "content-type": {"t"}}, headers{"", "t", ""}},
	} {
		if got := headersOf(tt.all); got != tt.want {
			t.Errorf("%v: got %+v, want %+v", tt.all, got, tt.want)
		}
	}
}
