package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"weir/pkg/alert"
)

func slowAlert(n int) alert.Alert {
	return alert.Alert{
		ID: fmt.Sprintf("id%03d", n), Rule: "slow", Case: "c", Scope: alert.ScopeLocal, State: alert.Firing, Severity: 2, ShardID: "s",
		Key: map[string]string{"api": `"{}\ é ` + fmt.Sprint(n)}, Message: "slow\n" + fmt.Sprint(n), Value: 1.0 / 3, Threshold: 5000,
		FiredAt: time.Date(2024, 5, 17, 12, n, 0, 123456000, time.UTC),
	}
}

func slowAlerts(n int) (alerts []alert.Alert) {
	for i := range n {
		alerts = append(alerts, slowAlert(i))
	}
	return alerts
}

func writeAlerts(t *testing.T, db *DB, alerts ...alert.Alert) {
	t.Helper()
	if err := db.InTx(t.Context(), func(tx *Tx) error { return tx.WriteAlerts(t.Context(), alerts) }); err != nil {
		t.Fatal(err)
	}
}

// publisher collects what is relayed, and fails at the alert it is told to.
type publisher struct {
	failAt string
	ids    []string
}

var errRefused = errors.New("refused by the test")

func (p *publisher) publish(_ context.Context, a alert.Alert) error {
	if a.ID == p.failAt {
		return errRefused
	}
	p.ids = append(p.ids, a.ID)
	return nil
}

func TestAlerts_ReadBackAsWritten(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	other := slowAlert(9)
	other.Rule, other.Scope, other.State = "other", alert.ScopeGlobal, alert.Resolved
	writeAlerts(t, db, slowAlert(1), other, slowAlert(2))
	for _, test := range []struct {
		filter AlertFilter
		want   []alert.Alert
	}{
		{AlertFilter{}, []alert.Alert{other, slowAlert(2), slowAlert(1)}},
		{AlertFilter{Limit: 1}, []alert.Alert{other}},
		{AlertFilter{Rule: "slow", Scope: "local", State: "firing"}, []alert.Alert{slowAlert(2), slowAlert(1)}},
		{AlertFilter{Scope: "global"}, []alert.Alert{other}},
		{AlertFilter{State: "resolved", Rule: "slow"}, []alert.Alert{}},
	} {
		if got, err := db.Alerts(t.Context(), test.filter); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%+v: got %+v, %v; want %+v", test.filter, got, err, test.want)
		}
	}
	var relayed []alert.Alert
	if _, err := db.Relay(t.Context(), 10, func(_ context.Context, a alert.Alert) error { relayed = append(relayed, a); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []alert.Alert{slowAlert(1), other, slowAlert(2)}; !reflect.DeepEqual(relayed, want) {
		t.Errorf("relayed %+v, want %+v", relayed, want)
	}
}

func TestWriteAlerts_SameIDTwiceIsOneOutboxRow(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, slowAlert(1), slowAlert(1))
	writeAlerts(t, db, slowAlert(1))
	p := &publisher{}
	if n, err := db.Relay(t.Context(), 10, p.publish); n != 1 || err != nil {
		t.Errorf("relayed %d, %v; want 1", n, err)
	}
	writeAlerts(t, db, slowAlert(1)) // after it was published
	if n, err := db.Relay(t.Context(), 10, p.publish); n != 0 || err != nil {
		t.Errorf("relayed %d again, %v", n, err)
	}
}

func TestRelay_FailureKeepsTheRestInOrder(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, slowAlerts(6)...)
	p := &publisher{failAt: "id003"}
	for range 2 {
		if _, err := db.Relay(t.Context(), 10, p.publish); !errors.Is(err, errRefused) {
			t.Errorf("got %v", err)
		}
	}
	p.failAt = ""
	if n, err := db.Relay(t.Context(), 2, p.publish); n != 2 || err != nil {
		t.Errorf("relayed %d, %v; want 2", n, err)
	}
	if n, err := db.Relay(t.Context(), 2, p.publish); n != 1 || err != nil {
		t.Errorf("relayed %d, %v; want the last", n, err)
	}
	if want := []string{"id000", "id001", "id002", "id003", "id004", "id005"}; !slices.Equal(p.ids, want) {
		t.Errorf("published %v, want %v", p.ids, want)
	}
}

func TestRelay_TwoAtOnceNeverPublishTheSameAlert(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, slowAlerts(5)...)
	holding, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	first, second := &publisher{}, &publisher{}
	go func() {
		_, err := db.Relay(t.Context(), 3, func(ctx context.Context, a alert.Alert) error {
			if len(first.ids) == 0 {
				close(holding)
				<-release
			}
			return first.publish(ctx, a)
		})
		done <- err
	}()
	<-holding
	if n, err := db.Relay(t.Context(), 10, second.publish); n != 2 || err != nil {
		t.Errorf("beside one that holds three of five: relayed %d, %v", n, err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if want := []string{"id000", "id001", "id002"}; !slices.Equal(first.ids, want) {
		t.Errorf("the first published %v, want %v", first.ids, want)
	}
	if want := []string{"id003", "id004"}; !slices.Equal(second.ids, want) {
		t.Errorf("the second published %v, want %v", second.ids, want)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM weir.alert_outbox`); n != 0 {
		t.Errorf("%d alerts are left in the outbox", n)
	}
}

func TestRelay_AlertThatIsNotCommittedIsNotSeen(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	flush := begin(t.Context(), db, func(tx *Tx) error { return tx.WriteAlerts(t.Context(), slowAlerts(1)) })
	if err := <-flush.did; err != nil {
		t.Fatal(err)
	}
	p := &publisher{}
	if n, err := db.Relay(t.Context(), 10, p.publish); n != 0 || err != nil {
		t.Errorf("before the commit: %d, %v", n, err)
	}
	flush.end <- nil
	<-flush.done //nolint:errcheck // that it has ended is enough here
	if n, err := db.Relay(t.Context(), 10, p.publish); n != 1 || err != nil {
		t.Errorf("after it: %d, %v", n, err)
	}
}

// However slow the stream is, an alert that it has taken leaves the outbox in the
// transaction that read it.
func TestRelay_EndsBeforePostgresEndsItsTransaction(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	db, err := Open(t.Context(), Config{URL: address, IdleInTx: 8 * time.Second}) // a quarter of it is what a machine may be late by
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	writeAlerts(t, db, slowAlerts(4)...)
	var taken []string
	publish := func(ctx context.Context, a alert.Alert) error {
		if len(taken) > 0 { // the stream does not answer any more
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			return ctx.Err()
		}
		taken = append(taken, a.ID)
		return nil
	}
	if _, err := db.Relay(t.Context(), 10, publish); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that publishing was cut off", err)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM weir.alert_outbox`); n != 3 {
		t.Errorf("%d alerts are left in the outbox, want all but the one that the stream has", n)
	}
}
