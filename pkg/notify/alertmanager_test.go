package notify

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"weir/pkg/alert"
)

func managed(m *manager) *Target {
	return &Target{Name: "on-call", Type: "alertmanager", Repeat: resendEvery, Timeout: time.Minute, Notifier: NewAlertmanager(AlertmanagerConfig{URL: m.url})}
}

func TestAlertmanager_ListsWhatFiresUntilItIsResolved(t *testing.T) {
	t.Parallel()
	m, db := startManager(t), open(t, database(t))
	start(t, db, fast(), Config{Targets: []*Target{managed(m)}})
	until(t, "the notifier is held", func() bool {
		held, err := db.HoldNotifier(t.Context(), "on-call", nil, "another", time.Millisecond)
		return err == nil && !held
	})
	a := firing("a1")
	write(t, db, a)
	until(t, "Alertmanager lists the alert", m.have(t, 1))
	got := m.alerts(t)[0]
	wantLabels := map[string]string{
		"alertname": "abnormal-response-time", "apiName": "Pizza a1", "apiVersion": "1.0", "scope": "global", "severity": "moderate", "team": "food",
	}
	wantAnnotations := map[string]string{"summary": a.Message, "id": "a1", "value": "7000", "threshold": "5000", "apiCreator": "alice"}
	if !maps.Equal(got.Labels, wantLabels) || !maps.Equal(got.Annotations, wantAnnotations) {
		t.Errorf("listed as %v, %v;\nwant %v, %v", got.Labels, got.Annotations, wantLabels, wantAnnotations)
	}
	if !got.StartsAt.Equal(a.FiredAt) || got.EndsAt.Sub(got.UpdatedAt).Round(time.Minute) != expireAfter {
		t.Errorf("from %s, fired at %s; ends %s after it was told", got.StartsAt, a.FiredAt, got.EndsAt.Sub(got.UpdatedAt))
	}
	write(t, db, resolved(a))
	until(t, "it is over", m.have(t, 0))
}

// Event times are those of the traffic: of logs that are replayed they are years
// old, and clocks of gateways may be ahead.
func TestAlertmanager_TakesEventTimesOfThePastAndOfTheFuture(t *testing.T) {
	t.Parallel()
	m := startManager(t)
	am := NewAlertmanager(AlertmanagerConfig{URL: m.url})
	old, ahead := firing("old"), firing("ahead")
	old.FiredAt, ahead.FiredAt = time.Date(1995, 8, 1, 12, 0, 0, 0, time.UTC), time.Now().Add(24*time.Hour)
	for _, alerts := range [][]alert.Alert{{old, ahead}, {resolved(old), resolved(ahead)}} {
		var notices []Notice
		for _, a := range alerts {
			notices = append(notices, Notice{Alert: a, Now: time.Now()})
		}
		if _, err := am.Send(t.Context(), notices); err != nil {
			t.Fatal(err)
		}
		want := 0
		if alerts[0].State == alert.Firing {
			want = 2
		}
		until(t, "Alertmanager has as many as fire", m.have(t, want))
	}
}

func TestAlertmanager_IsToldAgainOfWhatFiresAndForgetsWhatItHearsNothingOf(t *testing.T) {
	t.Parallel()
	m, db := startManager(t), open(t, database(t))
	target := managed(m)
	target.Repeat = 50 * time.Millisecond
	stop := start(t, db, fast(), Config{Targets: []*Target{target}})
	write(t, db, firing("a1"))
	if err := db.QueueFiring(t.Context(), "on-call"); err != nil { // it may have been written before the notifier was there
		t.Fatal(err)
	}
	until(t, "it is listed", m.have(t, 1))
	first := m.alerts(t)[0]
	until(t, "it is told again, and lasts longer", func() bool { return m.alerts(t)[0].EndsAt.After(first.EndsAt) })
	stop()
	// An Alertmanager that has lost everything knows what fires after the next telling.
	fresh := startManager(t)
	short := NewAlertmanager(AlertmanagerConfig{URL: fresh.url})
	short.expire = 2 * time.Second
	target.Notifier = short
	stop = start(t, db, fast(), Config{Targets: []*Target{target}})
	until(t, "the new one lists it", fresh.have(t, 1))
	begun := time.Now()
	until(t, "it is listed longer than one telling lasts", func() bool {
		all := fresh.alerts(t)
		return len(all) == 1 && all[0].UpdatedAt.Sub(begun) > 2*short.expire
	})
	stop()
	until(t, "it expires", fresh.have(t, 0))
}

func TestAlertmanager_GetsManyInFewRequests(t *testing.T) {
	t.Parallel()
	m, db := startManager(t), open(t, database(t))
	write(t, db, numbered(600)...) // before it is there: what fires is queued for it
	start(t, db, fast(), Config{Targets: []*Target{managed(m)}})
	until(t, "all are listed", m.have(t, 600))
}

// Alertmanager refuses names with other characters, empty alerts, and whole
// batches for one of them.
func TestAlertmanager_TakesWhateverNamesAndValuesAlertsHave(t *testing.T) {
	t.Parallel()
	m := startManager(t)
	am := NewAlertmanager(AlertmanagerConfig{URL: m.url})
	var notices []Notice
	for _, name := range []string{"", "9", "a-b", "ü", "a.b", "alertname", "severity", "__name__", "\xff"} {
		for _, value := range []string{"", "\xff", "a\nb", "\x00", "ü\u202e"} {
			a := firing("x")
			a.Rule += name + value // an alert of its own
			a.Key, a.Labels, a.Details = map[string]string{name: value}, map[string]string{name + "l": value}, map[string]string{name: value, "id": value}
			a.Message, a.Reason = value, value
			notices = append(notices, Notice{Alert: a, Now: time.Now()})
		}
	}
	if _, err := am.Send(t.Context(), notices); err != nil {
		t.Fatal(err)
	}
	for _, got := range m.alerts(t) {
		if got.Labels["severity"] != "moderate" || got.Annotations["id"] != "x" {
			t.Errorf("what Weir says of every alert is overwritten: %v, %v", got.Labels, got.Annotations)
		}
	}
}

func TestAlertmanager_LocalAlertsAreShownForAWhile(t *testing.T) {
	t.Parallel()
	am := NewAlertmanager(AlertmanagerConfig{URL: "http://127.0.0.1:1"})
	a := firing("a")
	a.Scope, a.ShardID = alert.ScopeLocal, "w1"
	now := time.Now()
	if p := am.postable(&Notice{Alert: a, Now: now}); p.EndsAt.Sub(now) != localFor || p.Labels["shard_id"] != "w1" {
		t.Errorf("got %+v", p)
	}
}

// One alert that is refused for whatever reason keeps no other from it.
func TestAlertmanager_WhatIsRefusedTogetherIsSentOneByOne(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	taken := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var alerts []postableAlert
		if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil || r.URL.Path != "/am/api/v2/alerts" || r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("asked for %s with %v, %v", r.URL, r.Header, err)
		}
		for _, a := range alerts {
			if a.Annotations["id"] == "a0001" {
				http.Error(w, "bad alert", http.StatusBadRequest)
				return
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range alerts {
			taken[a.Annotations["id"]] = true
		}
	}))
	t.Cleanup(server.Close)
	db := open(t, database(t))
	target := &Target{Name: "am", Notifier: NewAlertmanager(AlertmanagerConfig{URL: server.URL + "/am/", Token: NewSecret("token")})}
	registered(t, db, target)
	write(t, db, numbered(5)...)
	q := &queue{Sender: New(db, Config{}, nopLog()), target: target, log: nopLog()}
	due, err := db.DueNotifications(t.Context(), "am", 100)
	if err != nil || len(due) != 5 || !q.sendAll(t.Context(), t.Context(), due) {
		t.Fatalf("%d were due, %v", len(due), err)
	}
	for _, id := range []string{"a0000", "a0001", "a0002", "a0003", "a0004"} {
		want := "am sent; "
		if id == "a0001" {
			want = "am waiting; "
		}
		if all, got := states(t, db, id); got != want || (id == "a0001") != (all[0].Attempts == 1) {
			t.Errorf("%s is recorded as %+v", id, all)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(taken) != 4 {
		t.Errorf("taken are %v", taken)
	}
}
