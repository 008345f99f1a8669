package store

import (
	"fmt"
	"testing"
	"time"

	"weir/pkg/alert"
)

func globalAlert(n int) alert.Alert {
	a := slowAlert(n)
	a.ID, a.Scope, a.ShardID = fmt.Sprintf("global%03d", n), alert.ScopeGlobal, ""
	return a
}

// resolution ends an alert.
func resolution(of alert.Alert) alert.Alert {
	firing := of.ID
	of.ID, of.FiringID, of.State, of.ResolvedAt = firing+"r", firing, alert.Resolved, of.FiredAt.Add(time.Minute)
	return of
}

func mustHold(t *testing.T, db *DB, notifier string, scopes ...alert.Scope) {
	t.Helper()
	if held, err := db.HoldNotifier(t.Context(), notifier, scopes, "me", time.Hour); !held || err != nil {
		t.Fatalf("hold %s: %v, %v", notifier, held, err)
	}
}

// due are the ids of what a notifier has to look at.
func due(t *testing.T, db *DB, notifier string) (all []Notification, ids string) {
	t.Helper()
	all, err := db.DueNotifications(t.Context(), notifier, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		ids += n.Alert.ID + " "
	}
	return all, ids
}

func mustRecord(t *testing.T, db *DB, n Notification, after After) {
	t.Helper()
	if err := db.RecordNotification(t.Context(), &n, after); err != nil {
		t.Fatal(err)
	}
}

func TestNotifications_AreQueuedWithTheAlertForNotifiersOfItsScope(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, slowAlert(1), globalAlert(1)) // before there is a notifier
	mustHold(t, db, "mail", alert.ScopeGlobal)
	mustHold(t, db, "hook", alert.ScopeGlobal, alert.ScopeLocal)
	writeAlerts(t, db, slowAlert(2), globalAlert(2))
	writeAlerts(t, db, globalAlert(2)) // again: the same decision
	_ = db.InTx(t.Context(), func(tx *Tx) error {
		_ = tx.WriteAlerts(t.Context(), []alert.Alert{globalAlert(3)})
		return errRefused // rolled back
	})
	for notifier, want := range map[string]string{"mail": "global002 ", "hook": "id002 global002 ", "other": ""} {
		if _, got := due(t, db, notifier); got != want {
			t.Errorf("%s has %q, want %q", notifier, got, want)
		}
	}
	// What fires is told to a new notifier, too, however often it is looked for.
	for range 2 {
		if err := db.QueueFiring(t.Context(), "mail"); err != nil {
			t.Fatal(err)
		}
	}
	if _, got := due(t, db, "mail"); got != "global002 global001 " {
		t.Errorf("mail has %q", got)
	}
}

func TestHoldNotifier_OneHolderUntilItReleasesOrIsLate(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	hold := func(holder string, d time.Duration) bool {
		t.Helper()
		held, err := db.HoldNotifier(t.Context(), "mail", []alert.Scope{alert.ScopeGlobal}, holder, d)
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	if !hold("a", time.Hour) || hold("b", time.Hour) || !hold("a", time.Hour) {
		t.Error("not held by the first one alone")
	}
	if err := db.ReleaseNotifier(t.Context(), "mail", "b"); err != nil || hold("b", time.Hour) {
		t.Errorf("released by another one, %v", err)
	}
	if err := db.ReleaseNotifier(t.Context(), "mail", "a"); err != nil || !hold("b", time.Millisecond) {
		t.Errorf("not free after its release, %v", err)
	}
	until(t, "it may be held by another one", func() bool { return hold("c", time.Hour) })
}

func TestNotifications_ThatItIsResolvedComesAfterThatItFiresAndEndsBoth(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustHold(t, db, "mail", alert.ScopeGlobal)
	fired := globalAlert(1)
	writeAlerts(t, db, fired)
	writeAlerts(t, db, resolution(fired))
	all, ids := due(t, db, "mail")
	if ids != "global001 " || all[0].Alert.ResolvedAt.IsZero() {
		t.Fatalf("due is %q, want the one that fired, which is over: %+v", ids, all)
	}
	mustRecord(t, db, all[0], After{State: NotificationWaiting, Error: "no answer", Again: time.Hour})
	if _, ids = due(t, db, "mail"); ids != "" {
		t.Errorf("%q is due while the one that fired is tried", ids)
	}
	mustExec(t, db, `UPDATE weir.notification SET due_at = now() WHERE due_at IS NOT NULL`)
	all, _ = due(t, db, "mail")
	if all[0].Attempts != 1 || all[0].FailingSince.IsZero() || all[0].LastError != "no answer" {
		t.Errorf("the failure reads as %+v", all[0])
	}
	mustRecord(t, db, all[0], After{State: NotificationSent, Sent: true, Again: time.Millisecond})
	mustExec(t, db, `UPDATE weir.notification SET due_at = now() WHERE due_at IS NOT NULL`)
	all, ids = due(t, db, "mail")
	if ids != "global001r " || !all[0].FiringTold {
		t.Fatalf("due is %q, told %v; want the resolution, and no repeat of what is over", ids, all[0].FiringTold)
	}
	mustRecord(t, db, all[0], After{State: NotificationSent, Sent: true})
	if open := ask[int](t, db, `SELECT count(*) FROM weir.notification WHERE due_at IS NOT NULL`); open != 0 {
		t.Errorf("%d are still open", open)
	}
	told, err := db.Notifications(t.Context(), "global001")
	if err != nil || len(told) != 1 || told[0].Sends != 1 || told[0].Attempts != 0 || told[0].SentAt.IsZero() || !told[0].DueAt.IsZero() || told[0].State != NotificationSent {
		t.Errorf("recorded is %+v, %v", told, err)
	}
}

func TestRecordNotification_AFailureDoesNotUndoWhatAnotherHasRecorded(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustHold(t, db, "mail", alert.ScopeGlobal)
	writeAlerts(t, db, globalAlert(1))
	all, _ := due(t, db, "mail")
	mustRecord(t, db, all[0], After{State: NotificationSent, Sent: true, Again: time.Hour})
	mustRecord(t, db, all[0], After{State: NotificationWaiting, Error: "late", Again: time.Nanosecond}) // of a process that hung
	if _, ids := due(t, db, "mail"); ids != "" {
		t.Errorf("%q is due again", ids)
	}
	mustRecord(t, db, all[0], After{State: NotificationSent, Sent: true, Again: time.Hour})
	told, err := db.Notifications(t.Context(), "global001")
	if err != nil || told[0].Sends != 2 || told[0].State != NotificationSent {
		t.Errorf("what was sent twice is recorded as %+v, %v", told, err)
	}
}

func TestPurgeNotifications_KeepsWhatIsOpenAndForgetsNotifiersOfNobody(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for _, name := range []string{"mail", "gone"} {
		mustHold(t, db, name, alert.ScopeGlobal)
	}
	writeAlerts(t, db, globalAlert(1), globalAlert(2), globalAlert(3))
	all, _ := due(t, db, "mail")
	mustRecord(t, db, all[0], After{State: NotificationSent, Sent: true})
	mustRecord(t, db, all[1], After{State: NotificationSent, Sent: true, Again: 100 * 365 * 24 * time.Hour})
	mustRecord(t, db, all[2], After{State: NotificationSent, Sent: true})
	mustExec(t, db, `UPDATE weir.notification SET created_at = now() - interval '31 days' WHERE alert_id <> 'global003'`)
	mustExec(t, db, `UPDATE weir.notifier SET held_until = now() - interval '8 days' WHERE name = 'gone'`)
	const day = 24 * time.Hour
	gone, err := db.PurgeNotifications(t.Context(), time.Now().Add(-30*day), time.Now().Add(-7*day))
	if err != nil || gone != 1+3 {
		t.Errorf("purged %d, %v; want one that is done and the queue of the notifier that is gone", gone, err)
	}
	if left := ask[string](t, db, `SELECT string_agg(notifier || ' ' || alert_id, ', ' ORDER BY alert_id) FROM weir.notification`); left != "mail global002, mail global003" {
		t.Errorf("left is %s", left)
	}
	// An alert takes its notifications along.
	mustExec(t, db, `DELETE FROM weir.alert_outbox`)
	mustExec(t, db, `DELETE FROM weir.alert`)
	if left := ask[int](t, db, `SELECT count(*) FROM weir.notification`); left != 0 {
		t.Errorf("%d are left of alerts that are gone", left)
	}
}
