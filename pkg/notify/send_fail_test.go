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

// A process that dies after the receiver has accepted, and before that is
// recorded, leaves the alert to another one, which sends it again under its id.
func TestSender_ACrashBetweenSendingAndRecordingSendsAgainWithTheSameID(t *testing.T) {
	t.Parallel()
	url := database(t)
	dying, db := open(t, url), open(t, url)
	re := newReceiver(t, func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			_ = dying.Close() // no later statement of the first process reaches Postgres
		}
	})
	target := hook("hook", re.url)
	registered(t, db, target)
	write(t, db, firing("a1"))
	p := fast()
	p.hold, p.ending = 2*time.Second, 50*time.Millisecond
	stop := start(t, dying, p, Config{Targets: []*Target{target}})
	until(t, "the first process has sent it", func() bool { return len(re.all()) == 1 })
	stop()
	if all, _ := states(t, db, "a1"); all[0].Sends != 0 {
		t.Fatal("it is recorded: this test shows nothing")
	}
	start(t, db, fast(), Config{Targets: []*Target{target}})
	until(t, "it is recorded", func() bool { all, _ := states(t, db, "a1"); return all[0].Sends == 1 })
	got := re.all()
	if len(got) != 2 || got[0].header.Get(AlertHeader) != "a1" || got[1].header.Get(AlertHeader) != "a1" || got[1].header.Get(RepeatHeader) != "0" {
		t.Errorf("received %v", re.ids())
	}
}

func TestSender_AReceiverThatHangsHoldsUpNeitherOthersNorAlerts(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	stuck := newReceiver(t, func(int, http.ResponseWriter, *http.Request) { <-hang })
	well := newReceiver(t, nil)
	t.Cleanup(func() { close(hang) }) // before the servers close, which wait for their answers
	db := open(t, database(t))
	slow, quick := hook("slow", stuck.url), hook("quick", well.url)
	slow.Timeout = time.Minute
	registered(t, db, slow, quick)
	s := New(db, Config{Targets: []*Target{slow, quick}}, nopLog())
	s.pace = fast()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	write(t, db, firing("a0"))
	until(t, "the slow one has it in hand", func() bool { return len(stuck.all()) > 0 })
	write(t, db, numbered(20)...)
	until(t, "the other one has all", func() bool { return len(well.all()) == 21 })
	if n := len(stuck.all()); n > atOnce {
		t.Errorf("%d requests at a receiver that answers none", n)
	}
	cancel()
	stuck.mu.Lock()
	stuck.answer = nil
	stuck.mu.Unlock()
	for range atOnce {
		select {
		case hang <- struct{}{}: // what is under way is finished
		case <-ended:
		}
	}
	<-ended
	if _, got := states(t, db, "a0"); got != "quick sent; slow sent; " {
		t.Errorf("what was under way at the end is recorded as %s", got)
	}
}

func TestSender_TriesAgainUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	refuse.Store(true)
	re := newReceiver(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get(AlertHeader) == "bad" && refuse.Load():
			w.WriteHeader(http.StatusUnprocessableEntity)
		case n <= 3:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	db := open(t, database(t))
	target := hook("hook", re.url)
	registered(t, db, target)
	write(t, db, firing("bad"), firing("good"))
	start(t, db, fast(), Config{Targets: []*Target{target}})
	// One that is refused keeps no other from being sent.
	until(t, "the good one is sent", func() bool { _, got := states(t, db, "good"); return got == "hook sent; " })
	until(t, "the bad one is tried again and again", func() bool { all, _ := states(t, db, "bad"); return all[0].Attempts > 3 })
	all, got := states(t, db, "bad")
	if got != "hook waiting; " || all[0].FailingSince.IsZero() || !strings.Contains(all[0].LastError, "422") {
		t.Errorf("recorded is %+v", all[0])
	}
	refuse.Store(false)
	until(t, "it is sent in the end", func() bool { _, got := states(t, db, "bad"); return got == "hook sent; " })
	if all, _ := states(t, db, "bad"); all[0].Attempts != 0 || all[0].LastError != "" || !all[0].FailingSince.IsZero() {
		t.Errorf("after it was sent, recorded is %+v", all[0])
	}
}

func TestSender_GivesUpWhatIsOverAndNotWhatFires(t *testing.T) {
	t.Parallel()
	re := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	db := open(t, database(t))
	target := hook("hook", re.url)
	target.Match.Scopes = []alert.Scope{alert.ScopeGlobal, alert.ScopeLocal}
	registered(t, db, target)
	local := firing("local")
	local.Scope, local.ShardID = alert.ScopeLocal, "w1"
	write(t, db, local, firing("fires"))
	p := fast()
	p.giveUp = time.Millisecond
	start(t, db, p, Config{Targets: []*Target{target}})
	until(t, "the local one is given up", func() bool {
		_, got := states(t, db, "local")
		return got == "hook given up; " && done(t, db, "local")()
	})
	until(t, "the one that fires is tried on", func() bool { all, _ := states(t, db, "fires"); return all[0].Attempts > 5 })
	write(t, db, resolved(firing("fires")))
	until(t, "it is given up when it is over, and its end, which was tried, too", func() bool {
		_, first := states(t, db, "fires")
		_, second := states(t, db, "firesr")
		return first == "hook given up; " && second == "hook given up; "
	})
}

func TestSender_GoesOnAfterPostgresWasAway(t *testing.T) {
	t.Parallel()
	server := postgresServer(t)
	db := open(t, server.URL())
	if err := db.Apply(t.Context(), nil, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	asked, answer := make(chan struct{}), make(chan struct{})
	re := newReceiver(t, func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			close(asked)
			<-answer
		}
	})
	target := hook("hook", re.url)
	target.Timeout = 5 * time.Minute
	registered(t, db, target)
	write(t, db, firing("a1"))
	start(t, db, fast(), Config{Targets: []*Target{target}})
	<-asked
	restart(t, server, func() { close(answer) }) // it is accepted while Postgres is away
	until(t, "it is recorded", func() bool {
		all, err := db.Notifications(t.Context(), "a1")
		return err == nil && len(all) == 1 && all[0].Sends == 1
	})
	write(t, db, firing("a2"))
	until(t, "the next one is sent", func() bool { return slices.Contains(re.ids(), "a2") })
	if got := re.ids(); !slices.Equal(got, []string{"a1", "a2"}) {
		t.Errorf("received %v, want each once", got)
	}
}

func TestSender_LeavesAReceiverAloneThatDoesNotWork(t *testing.T) {
	t.Parallel()
	re := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	db := open(t, database(t))
	target := hook("hook", re.url)
	registered(t, db, target)
	write(t, db, numbered(40)...)
	q := &queue{Sender: New(db, Config{}, nopLog()), target: target, log: nopLog()}
	due, err := db.DueNotifications(t.Context(), "hook", 100)
	if err != nil || len(due) != 40 {
		t.Fatalf("%d are due, %v", len(due), err)
	}
	if q.sendAll(t.Context(), t.Context(), due) {
		t.Error("it works")
	}
	if n := len(re.all()); n > 2*atOnce {
		t.Errorf("%d of 40 were tried", n)
	}
	if rest := time.Until(q.rest); rest < 20*time.Minute || rest > 2*time.Hour {
		t.Errorf("the next try is in %s; the receiver has asked for an hour, more or less by half", rest)
	}
}

func TestBackoff_GrowsUpToABoundAndTheNextRepeat(t *testing.T) {
	t.Parallel()
	q := &queue{Sender: &Sender{pace: defaultPace()}, target: &Target{}}
	for _, c := range []struct {
		repeat   time.Duration
		failures int
		want     time.Duration // more or less by half
	}{
		{0, 0, 5 * time.Second},
		{0, 1, 10 * time.Second},
		{0, 5, 160 * time.Second},
		{0, 6, 5 * time.Minute},
		{0, 1 << 30, 5 * time.Minute},
		{time.Minute, 0, 5 * time.Second},
		{time.Minute, 10, time.Minute},
		{4 * time.Hour, 10, 5 * time.Minute},
	} {
		q.target.Repeat = c.repeat
		for range 100 {
			if got := q.backoff(c.failures, context.DeadlineExceeded); got < c.want/2 || got > c.want*3/2 {
				t.Errorf("repeated every %s, after %d failures: %s, want about %s", c.repeat, c.failures, got, c.want)
			}
		}
	}
}
