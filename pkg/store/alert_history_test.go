package store

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
)

// firedAlert fires at minute n; resolvedAlert says a minute later that it is over.
func firedAlert(n int) alert.Alert {
	a := slowAlert(n)
	a.ID, a.Scope, a.ShardID = fmt.Sprintf("fired%03d", n), alert.ScopeGlobal, ""
	return a
}

func resolvedAlert(n int) alert.Alert {
	a := firedAlert(n)
	a.ID, a.FiringID, a.State, a.ResolvedAt = fmt.Sprintf("over%03d", n), a.ID, alert.Resolved, a.FiredAt.Add(time.Minute)
	return a
}

func idsOf(alerts []alert.Alert) string {
	ids := make([]string, len(alerts))
	for i := range alerts {
		ids[i] = alerts[i].ID
	}
	return strings.Join(ids, " ")
}

func TestAlerts_AreChosenByWhatTheFilterSays(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	severe, other := slowAlert(5), slowAlert(6)
	severe.Severity, severe.Key = 1, map[string]string{"api": "x", "tenant": "t"}
	other.Severity, other.Key = 3, map[string]string{"api": "x"}
	writeAlerts(t, db, slowAlert(1), firedAlert(2), firedAlert(3), resolvedAlert(2), severe, other)
	at := func(minute int) time.Time { return slowAlert(minute).FiredAt }
	for _, test := range []struct {
		filter AlertFilter
		want   string
	}{
		{AlertFilter{}, "id006 id005 fired003 fired002 over002 id001"},
		{AlertFilter{State: "all", Limit: 2}, "id006 id005"},
		{AlertFilter{State: "firing"}, "id006 id005 fired003 id001"}, // not what is over
		{AlertFilter{State: "firing", Scope: "global"}, "fired003"},
		{AlertFilter{State: "resolved"}, "over002"},
		{AlertFilter{Severity: 1}, "id005"},
		{AlertFilter{Severity: 2}, "id005 fired003 fired002 over002 id001"},
		{AlertFilter{Severity: 3}, "id006 id005 fired003 fired002 over002 id001"},
		{AlertFilter{Since: at(3)}, "id006 id005 fired003"},
		{AlertFilter{Until: at(3)}, "fired002 over002 id001"},
		{AlertFilter{Since: at(3), Until: at(5)}, "fired003"},
		{AlertFilter{Key: map[string]string{"api": "x"}}, "id006 id005"},
		{AlertFilter{Key: map[string]string{"api": "x", "tenant": "t"}}, "id005"},
		{AlertFilter{Key: map[string]string{"api": `"{}\ é 1`}}, "id001"},
		{AlertFilter{Key: map[string]string{"nothing": ""}}, ""},
	} {
		if got, err := db.Alerts(t.Context(), test.filter); err != nil || idsOf(got) != test.want {
			t.Errorf("%+v: got %s, %v, want %s", test.filter, idsOf(got), err, test.want)
		}
	}
}

func TestAlert_TellsAllThatIsKnown(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	fired, over := firedAlert(2), resolvedAlert(2)
	writeAlerts(t, db, fired, firedAlert(22), over)
	fired.ResolvedAt = over.ResolvedAt
	known := func(id string) AlertRecord {
		t.Helper()
		r, err := db.Alert(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	got := known("fired002")
	if !reflect.DeepEqual(got.Alert, fired) || got.Published || !reflect.DeepEqual(got.Resolution, &over) || got.Fired != nil || got.Ack != nil || time.Since(got.RecordedAt) > time.Hour {
		t.Errorf("got %+v, want %+v with its resolution", got, fired)
	}
	if got := known("over"); !reflect.DeepEqual(got.Alert, over) || !reflect.DeepEqual(got.Fired, &fired) || got.Resolution != nil {
		t.Errorf("got %+v, want %+v with what had fired", got, over)
	}
	if got := known("fired022"); got.Resolution != nil || got.Fired != nil {
		t.Errorf("got %+v, want nothing beside it", got)
	}
	if _, err := db.Relay(t.Context(), 10, (&publisher{}).publish); err != nil {
		t.Fatal(err)
	}
	if !known("fired002").Published {
		t.Error("it is published, and said not to be")
	}
	for id, want := range map[string]error{"fired": ErrManyAlerts, "": ErrNoAlert, "fired0022": ErrNoAlert, "%": ErrNoAlert, "x": ErrNoAlert} {
		if _, err := db.Alert(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", id, err, want)
		}
	}
	exact := firedAlert(2)
	exact.ID = "fired0"
	writeAlerts(t, db, exact)
	if got := known("fired0"); got.Alert.ID != "fired0" {
		t.Errorf("got %s for an id that others begin with", got.Alert.ID)
	}
}

func TestAckAlert_LastWordStaysAndIsOfWhatFired(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, firedAlert(1), firedAlert(2), resolvedAlert(2))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, id := range []string{"fired002", "over002", "fired001"} {
		if err := db.AckAlert(t.Context(), id, alert.Ack{By: "anna", Comment: fmt.Sprint(i), At: at}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{"fired002": "1", "over002": "1", "fired001": "2"} {
		r, err := db.Alert(t.Context(), id)
		if err != nil || r.Ack == nil || *r.Ack != (alert.Ack{By: "anna", Comment: want, At: at}) {
			t.Errorf("%s: got %+v, %v, want comment %s", id, r.Ack, err, want)
		}
	}
	if err := db.AckAlert(t.Context(), "nothing", alert.Ack{By: "x", At: at}); !errors.Is(err, ErrNoAlert) {
		t.Errorf("got %v, want that there is none", err)
	}
}

func TestSilences_AreKeptUntilTheyEnd(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	add := func(rule string, from, until time.Duration) alert.Silence {
		t.Helper()
		s := alert.Silence{
			Rule: rule, Match: map[string]string{"a": `"\é`}, StartsAt: now.Add(from), EndsAt: now.Add(until), By: "anna", Comment: "c",
		}
		added, err := db.AddSilence(t.Context(), s)
		s.ID, s.CreatedAt = added.ID, added.CreatedAt
		if err != nil || added.ID == 0 || time.Since(added.CreatedAt) > time.Hour || !reflect.DeepEqual(added, s) {
			t.Fatalf("got %+v, %v, want %+v", added, err, s)
		}
		return added
	}
	list := func(at time.Time, ended bool) (rules string) {
		t.Helper()
		silences, err := db.Silences(t.Context(), at, ended)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range silences {
			rules += s.Rule
		}
		return rules
	}
	add("b", time.Hour, 2*time.Hour) // to come
	first := add("a", 0, time.Hour)
	if got := list(now, false); got != "ab" {
		t.Errorf("got %s, want both", got)
	}
	if got, all := list(now.Add(time.Hour), false), list(now.Add(time.Hour), true); got != "b" || all != "ab" {
		t.Errorf("an hour later: got %s and %s in all, want b and ab", got, all)
	}
	if ended, err := db.EndSilence(t.Context(), first.ID, now.Add(time.Minute)); err != nil || !ended.EndsAt.Equal(now.Add(time.Minute)) || !ended.StartsAt.Equal(now) {
		t.Errorf("got %+v, %v, want that it ends", ended, err)
	}
	if got := list(now.Add(time.Minute), false); got != "b" {
		t.Errorf("after one has ended: got %s, want b", got)
	}
	if _, err := db.EndSilence(t.Context(), first.ID, now.Add(time.Minute)); !errors.Is(err, ErrNoSilence) {
		t.Errorf("a second time: got %v", err)
	}
}

func TestSilenced_TellsByWhatIsInForceNow(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for rule, until := range map[string]time.Duration{"slow": time.Hour, "other": -time.Minute} {
		now := time.Now()
		if _, err := db.AddSilence(t.Context(), alert.Silence{Rule: rule, StartsAt: now.Add(-time.Hour), EndsAt: now.Add(until), By: "x", Comment: "y"}); err != nil {
			t.Fatal(err)
		}
	}
	silenced, err := db.Silenced(t.Context())
	if err != nil || !silenced(alert.Alert{Rule: "slow"}) || silenced(alert.Alert{Rule: "other"}) {
		t.Errorf("got %v, want that slow is silenced, and other is not any more", err)
	}
}

// Old is what was recorded long ago, whenever it fired.
func TestPurgeAlerts_KeepsWhatFiresAndWhatBelongsTogether(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	local, fires := slowAlert(1), firedAlert(1)                                   // old
	longAgo, lately, recent := firedAlert(2), resolvedAlert(2), slowAlert(3)      // old, and resolved lately; not old
	fired, over, withOutbox := firedAlert(4), resolvedAlert(4), resolvedAlert(44) // all old
	withOutbox.FiringID = "gone"
	all := []alert.Alert{local, fires, longAgo, lately, recent, fired, over, withOutbox}
	writeAlerts(t, db, all...)
	if err := db.AckAlert(t.Context(), fired.ID, alert.Ack{By: "anna", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `DELETE FROM weir.alert_outbox WHERE alert_id <> $1`, withOutbox.ID)
	now := time.Now()
	mustExec(t, db, `UPDATE weir.alert SET created_at = $1 WHERE id <> $2 AND id <> $3`, now.Add(-49*time.Hour), lately.ID, recent.ID)
	for i, end := range []time.Duration{-31, -29, 1} {
		if _, err := db.AddSilence(t.Context(), alert.Silence{
			Rule: fmt.Sprint(i), StartsAt: now.Add(-1000 * time.Hour), EndsAt: now.Add(end * 24 * time.Hour), By: "x", Comment: "y",
		}); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := db.PurgeAlerts(t.Context(), now, 0); err != nil || p != (PurgedAlerts{Silences: 1}) {
		t.Errorf("kept for ever: got %+v, %v", p, err)
	}
	if p, err := db.PurgeAlerts(t.Context(), now, 50*time.Hour); err != nil || p != (PurgedAlerts{}) {
		t.Errorf("before anything is old: got %+v, %v", p, err)
	}
	want := PurgedAlerts{Alerts: 4}
	if p, err := db.PurgeableAlerts(t.Context(), now, 48*time.Hour); err != nil || p != want {
		t.Errorf("would be purged: got %+v, %v, want %+v", p, err, want)
	}
	if p, err := db.PurgeAlerts(t.Context(), now, 48*time.Hour); err != nil || p != want {
		t.Errorf("purged %+v, %v, want %+v", p, err, want)
	}
	left, err := db.Alerts(t.Context(), AlertFilter{})
	ids := map[string]bool{}
	for _, a := range left {
		ids[a.ID] = true
	}
	if got, want := slices.Sorted(maps.Keys(ids)), []string{"fired001", "fired002", "id003", "over002"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("left are %v, %v, want %v", got, err, want)
	}
	if n := ask[int](t, db, `SELECT (SELECT count(*) FROM weir.alert_outbox) + (SELECT count(*) FROM weir.alert_ack)`); n != 0 {
		t.Errorf("%d rows of what is gone are left", n)
	}
}

func TestAlertsByAPI_SumsUpWhatCounts(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	make := func(id, rule string, scope alert.Scope, fired, resolved time.Duration, key ...string) alert.Alert {
		a := alert.Alert{ID: id, Rule: rule, Scope: scope, State: alert.Firing, Severity: 1, FiredAt: now.Add(fired), Key: map[string]string{}}
		for i, name := range []string{"apiName", "apiVersion", "apiCreatorTenantDomain"}[:len(key)] {
			a.Key[name] = key[i]
		}
		if resolved != 0 {
			a.ResolvedAt = now.Add(resolved)
		}
		return a
	}
	const global, local = alert.ScopeGlobal, alert.ScopeLocal
	writeAlerts(t, db,
		make("1", "health", global, -5*time.Hour, 0, "pizza", "1", "t"), make("2", "health", global, -3*time.Hour, 0, "pizza", "1", "t"),
		make("3", "health", global, -6*time.Hour, -2*time.Hour, "pizza", "1", "t"), make("4", "health", global, -9*time.Hour, -4*time.Hour, "pizza", "1", "t"),
		make("5", "health", global, -90*time.Hour, -80*time.Hour, "old", "1", "t"),
		make("6", "slow", local, -5*time.Minute, 0, "pizza"), make("7", "slow", local, -3*time.Minute, 0, "pizza"), make("8", "slow", local, -3*time.Hour, 0, "pizza"),
		make("9", "slow", local, -30*time.Hour, 0, "old"), make("10", "slow", local, -time.Minute, 0), make("11", "other", global, -time.Minute, 0, "pizza"))
	got, err := db.AlertsByAPI(t.Context(), []string{"health", "slow"}, now.Add(-24*time.Hour), now.Add(-10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	want := []APIAlerts{
		{Rule: "health", Scope: "global", APIName: "pizza", APIVersion: "1", Tenant: "t", Since: now.Add(-5 * time.Hour), Last: now.Add(-2 * time.Hour)},
		{Rule: "slow", Scope: "local", APIName: "pizza", Since: now.Add(-5 * time.Minute), Last: now.Add(-3 * time.Minute)},
	}
	slices.SortFunc(got, func(a, b APIAlerts) int { return strings.Compare(a.Rule, b.Rule) })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
