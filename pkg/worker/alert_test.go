package worker

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/relay/relaytest"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// published returns every alert of a rule that the stream ALERTS holds.
func (h *harness) published(rule string) (alerts []alert.Alert) {
	h.t.Helper()
	h.until("the outbox is empty", func() (bool, error) {
		return ask[int](h, `SELECT count(*) FROM weir.alert_outbox`) == 0, nil
	})
	end := fmt.Sprint("end-", time.Now().UnixNano()) // after all of them
	h.publish(stream.AlertSubject(stream.ScopeLocal, end), "", "", "{}")
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	err := h.conn.SubscribeAlerts(ctx, stream.AlertFilter{Since: time.Unix(1, 0)}, func(m stream.AlertMessage) {
		if m.Rule == end {
			cancel()
		}
		if m.Rule != rule {
			return
		}
		a, err := alert.Decode(m.Data)
		if err == nil {
			err = relaytest.BySchema(m.Data)
		}
		if err != nil || a.ID != m.MsgID || m.Scope != string(a.Scope) || m.Rule != a.Rule {
			h.t.Errorf("alert %s on scope %s: %s, %v", m.MsgID, m.Scope, m.Data, err)
		}
		alerts = append(alerts, a)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return alerts
}

// Who looks at the stream with the tools of NATS sees an alert a line, as people
// wrote its texts.
func TestAlert_IsPublishedAsPeopleReadIt(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	h.publish("events.request.gw", "gw/e/1", "", call(1, `,"responseTime":5001,"apiCreator":"Söhne & <Co>"`))
	h.drain()
	if got := h.published("abnormal-response-time"); len(got) != 1 || got[0].Key["apiCreator"] != "Söhne & <Co>" {
		t.Fatalf("published %+v", got)
	}
	var body []byte
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := h.conn.SubscribeAlerts(ctx, stream.AlertFilter{Since: time.Unix(1, 0)}, func(m stream.AlertMessage) {
		if body == nil {
			body = m.Data
			cancel()
		}
	})
	if err != nil || !bytes.Contains(body, []byte(`"apiCreator":"Söhne & <Co>"`)) || bytes.Contains(body, []byte("\n")) {
		t.Errorf("published %s, %v", body, err)
	}
}

func TestAlert_IsRecordedAndPublishedOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	h.publish("events.request.gw", "gw/e/1", "", call(1, `,"responseTime":5001,"apiMethod":"GET"`))
	h.drain()
	h.publish("events.request.gw", "gw/e/1-1", "", call(1, `,"responseTime":5001,"apiMethod":"GET"`)) // the same
	h.publish("events.request.gw", "gw/e/2", "", call(2, `,"responseTime":9000,"apiMethod":"GET"`))   // suppressed
	h.publish("events.request.gw", "gw/e/3", "", call(3, `,"responseTime":5000,"apiMethod":"PUT"`))   // not above
	h.drain()
	got := h.published("abnormal-response-time")
	if len(got) != 1 || got[0].Value != 5001 || got[0].Key["apiMethod"] != "GET" || got[0].ShardID != "w1" ||
		!got[0].FiredAt.Equal(time.Date(2024, 5, 17, 12, 0, 1, 0, time.UTC)) {
		t.Fatalf("published %+v", got)
	}
	recorded, err := h.db.Alerts(t.Context(), store.AlertFilter{Rule: "abnormal-response-time"})
	if err != nil || !reflect.DeepEqual(recorded, got) {
		t.Errorf("recorded %+v, published %+v, %v", recorded, got, err)
	}
	// A relay that died between publishing and its commit publishes again.
	if _, err := h.sql.ExecContext(t.Context(), `INSERT INTO weir.alert_outbox (alert_id) SELECT id FROM weir.alert`); err != nil {
		t.Fatal(err)
	}
	if again := h.published("abnormal-response-time"); len(again) != 1 {
		t.Errorf("published again: %+v", again)
	}
}

func TestAlert_CountedRuleFiresAfterItsThreshold(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	for n := 1; n <= 12; n++ {
		at := time.Date(2024, 5, 17, 12, 0, n, 0, time.UTC).UnixMilli()
		h.publish("events.throttle.gw", fmt.Sprintf("gw/e/%d", n), "", fmt.Sprintf(
			`{"apiName":"pizza","apiVersion":"1","applicationId":"7","throttledOutReason":"SUBSCRIPTION_LIMIT_EXCEEDED","throttledOutTimestamp":%d}`, at))
		if n == 10 {
			h.drain()
			if got := h.published("tier-crossing"); len(got) != 0 {
				t.Errorf("after ten: %+v", got)
			}
		}
	}
	h.drain()
	got := h.published("tier-crossing")
	if len(got) != 1 || got[0].Value != 11 || got[0].Case != "subscription" || got[0].Key["applicationId"] != "7" ||
		got[0].Message != "application 7 exceeded its subscription to pizza 1 11 times within 1h" {
		t.Errorf("after twelve: %+v", got)
	}
}

func TestAlert_OfABatchThatIsRolledBackIsRaisedWhenItIsFolded(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w, other := h.idle("w1"), h.idle("w2")
	slow := `,"responseTime":6000`
	h.publish("events.request.gw", "gw/e/1", "", call(1, ""))
	h.publish("events.request.gw", "gw/e/2", "", call(2, slow))
	messages := h.take(w, 2)
	h.process(other, messages[0])
	h.process(w, messages...) // claims too much, is rolled back, and tried again with the second only
	alerts, err := h.db.Alerts(t.Context(), store.AlertFilter{})
	if err != nil || len(alerts) != 1 || alerts[0].ShardID != "w1" {
		t.Errorf("got %+v, %v; want the one alert", alerts, err)
	}
	h.wantCalls("both", 2)
}

func TestAlert_OfABatchThatIsNotCommittedIsNotPublished(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publish("events.request.gw", "gw/e/1", "", call(1, `,"responseTime":6000`))
	messages := h.take(w, 1)
	release := h.holdLedger()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := w.process(ctx, messages); ended <- err }()
	h.waitForFlush() // all is written but the claim
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("the batch is committed")
	}
	release()
	if got := h.published("abnormal-response-time"); len(got) != 0 {
		t.Errorf("published %+v", got)
	}
}

// However large what an event holds is: its alert can be published, and those
// behind it too.
func TestAlert_OfAHugeEventDoesNotBlockTheOutbox(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	huge := make([]byte, 900_000)
	for i := range huge {
		huge[i] = 'x'
	}
	h.publish("events.request.gw", "gw/e/1", "", `{"apiName":"`+string(huge)+`","responseTime":6000,"requestTimestamp":1715947200000}`)
	h.publish("events.request.gw", "gw/e/2", "", call(2, `,"responseTime":7000`))
	h.drain()
	if got := h.published("abnormal-response-time"); len(got) != 2 {
		t.Errorf("published %d alerts, want 2", len(got))
	}
}
