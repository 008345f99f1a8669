package stream

import (
	"context"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
)

func publishAlert(t testing.TB, conn *Conn, scope, rule, id string) {
	t.Helper()
	if _, _, err := conn.Publish(testContext(t), Outgoing{Subject: AlertSubject(scope, rule), MsgID: id, Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
}

func TestSubscribeAlerts_FiltersAndReadsThePast(t *testing.T) {
	t.Parallel()
	conn := provisioned(t, Provision{})
	start := time.Now().Add(-time.Minute)
	publishAlert(t, conn, ScopeLocal, "tier-crossing", "a")
	publishAlert(t, conn, ScopeGlobal, "tier-crossing", "b")
	publishAlert(t, conn, ScopeLocal, "abnormal-response-time", "c")

	for _, c := range []struct {
		filter AlertFilter
		want   []string
	}{
		{AlertFilter{Since: start}, []string{"a", "b", "c"}},
		{AlertFilter{Since: start, Scope: ScopeLocal}, []string{"a", "c"}},
		{AlertFilter{Since: start, Rule: "tier-crossing"}, []string{"a", "b"}},
	} {
		ctx, stop := context.WithCancel(testContext(t))
		var got []string
		err := conn.SubscribeAlerts(ctx, c.filter, func(a AlertMessage) {
			if got = append(got, a.MsgID); len(got) == len(c.want) {
				stop()
			}
		})
		if err != nil {
			t.Errorf("%+v: %v", c.filter, err)
		}
		for i := range c.want {
			if i >= len(got) || got[i] != c.want[i] {
				t.Errorf("%+v: got %v, want %v", c.filter, got, c.want)
				break
			}
		}
	}
}

func TestSubscribeAlerts_MissesNothingWhileNATSRestarts(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	conn := connect(t, server.url())
	provision(t, conn, Provision{})
	publishAlert(t, conn, ScopeLocal, "r", "old")
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	alerts := make(chan AlertMessage, 10)
	ended := make(chan error, 1)
	go func() { ended <- conn.SubscribeAlerts(ctx, AlertFilter{}, func(a AlertMessage) { alerts <- a }) }()
	eventually(t, "a subscription", func() bool {
		s, err := conn.js.Stream(ctx, AlertsStream)
		return err == nil && s.CachedInfo().State.Consumers > 0
	})
	server.stop()
	server.start(t)
	publishAlert(t, conn, ScopeLocal, "r", "new")
	if a := <-alerts; a.MsgID != "new" || a.Scope != ScopeLocal || a.Rule != "r" {
		t.Errorf("got %+v", a)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSubscribeAlerts_SaysWhenThereIsNoStream(t *testing.T) {
	t.Parallel()
	conn := connect(t, embeddedtest.NATS(t))
	if err := conn.SubscribeAlerts(testContext(t), AlertFilter{}, func(AlertMessage) {}); err == nil {
		t.Error("no error")
	}
}
