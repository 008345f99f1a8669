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

func TestFetch_HandsOutMessagesThatPretendToBeNoticesOfNATS(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{AckWait: time.Hour})
	want := 0
	for i, status := range statuses() {
		publish(t, conn, i+1, i+1)
		pretend(t, conn, status)
		want += 2
	}
	publish(t, conn, len(statuses())+1, len(statuses())+1)
	want++
	consumer := openConsumer(t, conn)
	var got []Message
	for len(got) < want {
		got = append(got, fetch(t, consumer, Limits{Messages: 5})...)
	}
	for i, m := range got {
		if m.Sequence != uint64(i+1) {
			t.Fatalf("got messages %s, want 1 to %d", sequenceOf(got), want)
		}
		if i%2 == 1 && (len(m.Data) > 0 || m.MsgID() != "") {
			t.Errorf("message %d: %+v, want an empty one", i+1, m)
		}
	}
	ackAll(t, got)
	eventually(t, "all acknowledged", func() bool { return state(t, conn).Behind == 0 })
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

func TestMeaning_CoversTheNoticesOfNATS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]meaning{
		"100 Idle Heartbeat":                    alive,
		"404 No Messages":                       ended,
		"408 Request Timeout":                   ended,
		"408 Interest Expired":                  ended,
		"408 Requests Pending":                  ended,
		"409 Batch Completed":                   completed,
		"409 Message Size Exceeds MaxBytes":     tooLarge,
		"409 Leadership Change":                 lost,
		"409 Server Shutdown":                   lost,
		"409 Consumer Deleted":                  deleted,
		"409 Consumer is push based":            refused,
		"409 Exceeded MaxRequestBatch of 5":     refused,
		"409 Exceeded MaxRequestMaxBytes of 5":  refused,
		"400 Bad Request - batch size negative": refused,
		"412 Required Api Level":                refused,
		"409 Exceeded MaxWaiting":               unheard,
		"423 Nats-Wrong-Pin-Id":                 unheard,
		"503 ":                                  unheard,
		"999 Something New":                     unheard,
	} {
		n := notice{status: text[:3], text: text[4:]}
		if got := n.meaning(); got != want {
			t.Errorf("%s: got %d, want %d", n, got, want)
		}
	}
}
