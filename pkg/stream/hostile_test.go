package stream

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// pretend stores an empty message with the header by which NATS tells its own notices.
func pretend(t testing.TB, conn *Conn, status string) {
	t.Helper()
	m := nats.NewMsg(EventSubject("request", "gw-1"))
	m.Header.Set("Status", status)
	m.Header.Set("Description", "Consumer Deleted")
	if _, err := conn.nc.RequestMsgWithContext(testContext(t), m); err != nil {
		t.Fatal(err)
	}
}

// statuses are those of all notices of NATS.
func statuses() []string {
	return []string{"100", "400", "404", "408", "409", "412", "423", "500", "503"}
}

func TestHistory_ReadsMessagesThatPretendToBeNoticesOfNATS(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	for _, status := range statuses() {
		pretend(t, conn, status)
		publish(t, conn, 1, 1)
	}
	batch, err := history(t, conn).Read(testContext(t), 1, Limits{}, []string{"request"})
	if want := len(statuses()) + 1; err != nil || len(batch) != want { // the good one is stored once
		t.Errorf("got messages %s, %v, want 1 to %d", sequenceOf(batch), err, want)
	}
}

func TestParseDelivery_TellsMessagesFromNotices(t *testing.T) {
	t.Parallel()
	want := delivery{deliveries: 2, sequence: 30, number: 44, stored: time.Unix(0, 1700000000000000001).UTC(), pending: 6}
	for _, reply := range []string{
		"$JS.ACK.EVENTS.fold.2.30.44.1700000000000000001.6",
		"$JS.ACK._.ACC1HASH.EVENTS.fold.2.30.44.1700000000000000001.6",
		"$JS.ACK.hub.ACC1HASH.EVENTS.fold.2.30.44.1700000000000000001.6.r4nd0m",
	} {
		if got, ok := parseDelivery(reply); !ok || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", reply, got, ok, want)
		}
	}
	for _, reply := range []string{
		"", "$JS.ACK.", "_INBOX.abc", "$JS.ACK.EVENTS.fold.2.30.44.1700000000000000001", "$JS.ACK.EVENTS.fold.2.30.44.x.6",
		"$JS.ACK.a.EVENTS.fold.2.30.44.1700000000000000001.6", "$JS.FC.EVENTS.fold.2.30.44.17.6", string(bytes.Repeat([]byte("."), 20)),
	} {
		if got, ok := parseDelivery(reply); ok {
			t.Errorf("%q: got %+v, want nothing", reply, got)
		}
	}
}
