package notify

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/store"
)

// registered has the queues of the targets begin, without a sender.
func registered(t *testing.T, db *store.DB, targets ...*Target) {
	t.Helper()
	for _, target := range targets {
		held, err := db.HoldNotifier(t.Context(), target.Name, target.Match.scopes(), "test", time.Hour)
		if err != nil || !held {
			t.Fatal(held, err)
		}
		if err := db.ReleaseNotifier(t.Context(), target.Name, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

// states are how far the notifications of an alert have come, by notifier.
func states(t *testing.T, db *store.DB, id string) (all []store.Notification, text string) {
	t.Helper()
	all, err := db.Notifications(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		text += n.Notifier + " " + string(n.State) + "; "
	}
	return all, text
}

// done reports whether nothing is left to do about an alert, for any notifier.
func done(t *testing.T, db *store.DB, id string) func() bool {
	return func() bool {
		all, _ := states(t, db, id)
		return len(all) > 0 && !slices.ContainsFunc(all, func(n store.Notification) bool { return !n.DueAt.IsZero() })
	}
}

func TestSender_TellsThatItFiresAndThatItIsResolvedOnceEachInThisOrder(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	target := hook("hook", re.url)
	registered(t, db, target)
	stop := start(t, db, fast(), Config{Targets: []*Target{target}})
	write(t, db, firing("a1"))
	until(t, "it is sent", func() bool { return slices.Equal(re.ids(), []string{"a1"}) })
	write(t, db, resolved(firing("a1")), firing("a2"), resolved(firing("a2"))) // the second fires and ends at once
	until(t, "all is done", done(t, db, "a2r"))
	until(t, "all is done", done(t, db, "a1r"))
	stop()
	ids := re.ids()
	slices.Sort(ids)
	if want := []string{"a1", "a1r", "a2", "a2r"}; !slices.Equal(ids, want) || slices.Index(re.ids(), "a2") > slices.Index(re.ids(), "a2r") {
		t.Errorf("received %v, want %v", re.ids(), want)
	}
	if !done(t, db, "a1")() || !done(t, db, "a2")() {
		t.Error("what is resolved is not done")
	}
}

func TestSender_AfterARestartNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	target := hook("hook", re.url)
	registered(t, db, target)
	write(t, db, numbered(30)...)
	for i := 0; i < 5 || len(re.all()) < 30; i++ {
		// Each is stopped in the middle, and finishes what it has begun.
		seen := len(re.all())
		stop := start(t, db, fast(), Config{Targets: []*Target{target}})
		until(t, "some are sent", func() bool { return len(re.all()) > seen || len(re.all()) >= 30 })
		stop()
	}
	// One more alert: when that has come, anything else that was due would have, too.
	start(t, db, fast(), Config{Targets: []*Target{target}})
	write(t, db, firing("last"))
	until(t, "the last one is sent", func() bool { return slices.Contains(re.ids(), "last") })
	ids := re.ids()
	slices.Sort(ids)
	if len(ids) != 31 || len(slices.Compact(ids)) != 31 {
		t.Errorf("received %d, want each of 31 once: %v", len(ids), ids)
	}
}

func TestSender_OneOfManyProcessesSends(t *testing.T) {
	t.Parallel()
	var under, most atomic.Int32 // requests at a time
	re := newReceiver(t, func(int, http.ResponseWriter, *http.Request) {
		n := under.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		under.Add(-1)
	})
	url := database(t)
	db := open(t, url)
	target := hook("hook", re.url)
	registered(t, db, target)
	var stops []func()
	for range 3 {
		stops = append(stops, start(t, open(t, url), fast(), Config{Targets: []*Target{hook("hook", re.url)}}))
	}
	alerts := numbered(60)
	for i, a := range alerts {
		write(t, db, a)
		if i == 20 || i == 40 {
			stops[i/20-1]() // whoever sends, another goes on
		}
	}
	until(t, "all are sent", func() bool { return len(re.all()) >= 60 })
	write(t, db, firing("last"))
	until(t, "the last one is sent", func() bool { return slices.Contains(re.ids(), "last") })
	ids := re.ids()
	slices.Sort(ids)
	if len(ids) != 61 || len(slices.Compact(ids)) != 61 {
		t.Errorf("received %d, want each of 61 once", len(ids))
	}
	if most.Load() > atOnce {
		t.Errorf("%d requests at a time, want at most %d: those of one process", most.Load(), atOnce)
	}
}

func TestSender_RepeatsWhatStillFires(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	often, never := hook("often", re.url+"/often"), hook("never", re.url+"/never")
	often.Repeat = 10 * time.Millisecond
	registered(t, db, often, never)
	write(t, db, firing("a1"))
	start(t, db, fast(), Config{Targets: []*Target{often, never}})
	repeats := func() (n int) {
		for _, one := range re.all() {
			if one.header.Get(RepeatHeader) != "0" {
				n++
			}
		}
		return n
	}
	until(t, "it is repeated", func() bool { return repeats() >= 3 })
	write(t, db, resolved(firing("a1")))
	until(t, "it is done", done(t, db, "a1r"))
	until(t, "it is done", done(t, db, "a1"))
	all, _ := states(t, db, "a1")
	if all[0].Notifier != "never" || all[0].Sends != 1 || all[1].Sends < 4 {
		t.Errorf("recorded is %+v", all)
	}
	if last := re.ids(); last[len(last)-1] != "a1r" && last[len(last)-2] != "a1r" {
		t.Errorf("repeated after it was over: %v", last)
	}
}

func TestSender_SilencedAlertsAreNotSent(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	target := hook("hook", re.url)
	target.Match.Scopes = []alert.Scope{alert.ScopeGlobal, alert.ScopeLocal}
	registered(t, db, target)
	var silent atomic.Bool
	silent.Store(true)
	local := firing("silenced-local")
	local.Scope, local.ShardID = alert.ScopeLocal, "w1"
	write(t, db, firing("silenced-ends"), firing("silenced-lasts"), local, firing("other"))
	start(t, db, fast(), Config{Targets: []*Target{target}, Silenced: func(context.Context) (func(alert.Alert) bool, error) {
		return func(a alert.Alert) bool { return silent.Load() && strings.HasPrefix(a.ID, "silenced") }, nil
	}})
	for _, id := range []string{"silenced-ends", "silenced-lasts", "silenced-local"} {
		until(t, "it is silenced", func() bool { _, got := states(t, db, id); return got == "hook silenced; " })
	}
	until(t, "the other one is sent", func() bool { return slices.Equal(re.ids(), []string{"other"}) })
	// One that is over before its silence is never told of, nor is its end.
	write(t, db, resolved(firing("silenced-ends")))
	until(t, "it is done", done(t, db, "silenced-ends"))
	until(t, "it is done", done(t, db, "silenced-endsr"))
	// One that fires for longer is told of when the silence ends.
	silent.Store(false)
	until(t, "it is sent", func() bool { return slices.Equal(re.ids(), []string{"other", "silenced-lasts"}) })
	// What was told is also told to be over, whatever is silent by then.
	silent.Store(true)
	write(t, db, resolved(firing("silenced-lasts")))
	until(t, "its end is sent", func() bool { return slices.Equal(re.ids(), []string{"other", "silenced-lasts", "silenced-lastsr"}) })
	if !done(t, db, "silenced-local")() {
		t.Error("a local alert, which lasts no time, is not done")
	}
}

// The resolution of an alert that was silenced and the end of its silence may come
// together: nobody may be told then that it fires, for nobody would be told that it
// is over.
func TestQueue_WhatIsOverBeforeItsSilenceIsNotSentAfterIt(t *testing.T) {
	t.Parallel()
	q := &queue{Sender: &Sender{pace: fast()}, target: hook("hook", "http://127.0.0.1:1")}
	over := firing("a")
	over.ResolvedAt = over.FiredAt.Add(time.Second)
	for _, c := range []struct {
		what  string
		alert alert.Alert
		state store.NotificationState
		sent  bool
	}{
		{"silenced before, and over", over, store.NotificationSilenced, false},
		{"silenced before, and still firing", firing("a"), store.NotificationSilenced, true},
		{"not silenced, and over before it was sent", over, store.NotificationWaiting, true},
	} {
		after, send := q.decide(&store.Notification{Alert: c.alert, State: c.state}, false)
		if send != c.sent || !send && after != (store.After{State: store.NotificationSilenced}) {
			t.Errorf("%s: sent is %v, recorded is %+v", c.what, send, after)
		}
	}
}

func TestSender_EachNotifierHasItsAlerts(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	all, some := hook("all", re.url), hook("some", re.url)
	all.Match.Scopes = []alert.Scope{alert.ScopeGlobal, alert.ScopeLocal}
	some.Match = Match{Rules: []string{"tier-crossing"}, Severity: 1, Labels: map[string]string{"team": "food"}, Tenant: SuperTenant}
	registered(t, db, all, some)
	change := func(id string, f func(*alert.Alert)) alert.Alert {
		a := firing(id)
		a.Rule, a.Severity = "tier-crossing", 1
		f(&a)
		return a
	}
	alerts := []alert.Alert{
		change("match", func(*alert.Alert) {}),
		change("rule", func(a *alert.Alert) { a.Rule = "api-health" }),
		change("severity", func(a *alert.Alert) { a.Severity = 2 }),
		change("label", func(a *alert.Alert) { a.Labels = map[string]string{"team": "fool"} }),
		change("tenant", func(a *alert.Alert) { a.Stakeholder.Tenant = "acme.com" }),
		change("scope", func(a *alert.Alert) { a.Scope = alert.ScopeLocal }),
	}
	write(t, db, alerts...)
	start(t, db, fast(), Config{Targets: []*Target{all, some}})
	for _, a := range alerts {
		want := map[string]string{"match": "all sent; some sent; ", "scope": "all sent; "}[a.ID]
		if want == "" {
			want = "all sent; some not concerned; "
		}
		until(t, a.ID+": "+want, func() bool { _, got := states(t, db, a.ID); return got == want })
	}
}

func TestTarget_TestTellsOfAnAlertThatSaysSo(t *testing.T) {
	t.Parallel()
	re, mails, m := newReceiver(t, nil), startMail(t, STARTTLS, "PLAIN"), startManager(t)
	targets := []*Target{hook("hook", re.url), managed(m), {Name: "mail", Notifier: NewEmail(EmailConfig{Server: mails.config(""), Stakeholders: stakeholders()})}}
	for _, target := range targets {
		target.Match = Match{Rules: []string{"none"}}
		if warning, err := target.Test(t.Context(), time.Now()); err != nil || warning != "" {
			t.Errorf("%s: %s, %v", target.Name, warning, err)
		}
	}
	if got := re.all()[0]; got.header.Get(TestHeader) != "true" || got.alert.Labels["test"] != "true" {
		t.Errorf("the webhook got %v, %+v", got.header, got.alert)
	}
	until(t, "Alertmanager lists it", m.have(t, 1))
	if labels := m.alerts(t)[0].Labels; labels["test"] != "true" || labels["alertname"] != "test" {
		t.Errorf("Alertmanager has it as %v", labels)
	}
	got := mails.got()
	if len(got) != 1 || !slices.Equal(got[0].to, []string{"admin@example.com", "admin@acme.com", "ops@example.com"}) || !strings.Contains(got[0].text, "Subject: [test] ") {
		t.Errorf("mailed is %+v", got)
	}
	nobody := Target{Name: "mail", Notifier: NewEmail(EmailConfig{Server: mails.config("")})}
	if _, err := nobody.Test(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "no stakeholder with the role admin") {
		t.Errorf("without admins: %v", err)
	}
}

// Rules tell again of a key that goes on, in an alert with another id, and only
// the last of them is resolved.
func TestSender_RepeatsOnlyTheLastAlertOfAKey(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	target, late := hook("hook", re.url), hook("late", re.url+"/late")
	target.Repeat = 10 * time.Millisecond
	registered(t, db, target)
	first := firing("first")
	second := first
	second.ID, second.FiredAt = "second", first.FiredAt.Add(10*time.Second)
	write(t, db, first)
	start(t, db, fast(), Config{Targets: []*Target{target, late}})
	until(t, "the first is repeated", func() bool { all, _ := states(t, db, "first"); return all[0].Sends > 1 })
	write(t, db, second)
	until(t, "the first is done", func() bool { all, _ := states(t, db, "first"); return all[0].DueAt.IsZero() })
	until(t, "the second is repeated", func() bool { all, _ := states(t, db, "second"); return all[0].Sends > 1 })
	write(t, db, resolved(second))
	until(t, "all is done", done(t, db, "secondr"))
	// Who comes now is told of neither, though nothing says that the first is over.
	fresh := hook("new", re.url)
	registered(t, db, fresh)
	start(t, db, fast(), Config{Targets: []*Target{fresh}})
	write(t, db, firing("other"))
	until(t, "the new one has what comes", func() bool { _, got := states(t, db, "other"); return strings.Contains(got, "new sent") })
	for _, id := range []string{"first", "second"} {
		if _, got := states(t, db, id); strings.Contains(got, "new") {
			t.Errorf("of %s: %s", id, got)
		}
	}
}

// What people silence is what is not sent.
func TestSender_KeepsQuietAboutWhatPeopleSilence(t *testing.T) {
	t.Parallel()
	re, db := newReceiver(t, nil), open(t, database(t))
	target := hook("hook", re.url)
	registered(t, db, target)
	now := time.Now()
	silence, err := db.AddSilence(t.Context(), alert.Silence{
		Match: map[string]string{"apiName": "Pizza quiet"}, StartsAt: now.Add(-time.Hour), EndsAt: now.Add(time.Hour), By: "anna", Comment: "load test",
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, db, firing("quiet"), firing("other"))
	start(t, db, fast(), Config{Targets: []*Target{target}, Silenced: db.Silenced})
	until(t, "it is silenced", func() bool { _, got := states(t, db, "quiet"); return got == "hook silenced; " })
	until(t, "the other one is sent", func() bool { return slices.Equal(re.ids(), []string{"other"}) })
	if _, err := db.EndSilence(t.Context(), silence.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	until(t, "it is sent once its silence is over", func() bool { return slices.Equal(re.ids(), []string{"other", "quiet"}) })
}
