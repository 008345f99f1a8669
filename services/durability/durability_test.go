package durability

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/pkg/stream"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// nats starts a NATS with a monitoring port, and returns a connection, provisioned, and the port's URL.
func nats(t *testing.T, always bool) (*stream.Conn, string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: always, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	conn, err := stream.Connect(t.Context(), stream.Config{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Provision(t.Context(), stream.Provision{}); err != nil {
		t.Fatal(err)
	}
	return conn, "http://" + s.MonitorAddr().String()
}

// postgres starts a Postgres of its own, durable or not.
func postgres(t *testing.T, durable bool) *store.DB {
	t.Helper()
	p, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: filepath.Join(embeddedtest.Dir(t), "data"), Durable: durable})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.WithoutCancel(t.Context())) })
	return open(t, p.URL())
}

func open(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// verdicts are those of all that is found, by what.
func verdicts(t *testing.T, db *store.DB, conn *stream.Conn, s Sync) map[string]Verdict {
	t.Helper()
	found, err := Find(t.Context(), db, conn, s)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Verdict{}
	for _, f := range found {
		all[f.What] = f.Verdict
		if (f.Verdict == Less || f.Verdict == Unknown) && f.Advice == "" {
			t.Errorf("%s is %s, without a word on what to do", f.What, f.Verdict)
		}
	}
	return all
}

func want(t *testing.T, got map[string]Verdict, wanted ...any) {
	t.Helper()
	for i := 0; i < len(wanted); i += 2 {
		if what := wanted[i].(string); got[what] != wanted[i+1] {
			t.Errorf("%s: got %q, want %q", what, got[what], wanted[i+1])
		}
	}
}

func TestFind_SeesWhatTheServersReallyDo(t *testing.T) {
	t.Parallel()
	always, alwaysURL := nats(t, true)
	interval, intervalURL := nats(t, false)
	durable, fast := postgres(t, true), open(t, embeddedtest.Postgres(t))

	got := verdicts(t, durable, always, askMonitors(t.Context(), alwaysURL))
	for what, verdict := range got {
		if verdict == Less || verdict == Unknown {
			t.Errorf("all is durable, and %s is %s", what, verdict)
		}
	}
	want(t, got, "NATS sync_interval", Enough, "Postgres fsync", Enough, "Postgres synchronous_commit", Enough, "NATS replicas of EVENTS", Note, "Postgres synchronous_standby_names", Note)

	s := askMonitors(t.Context(), alwaysURL+","+intervalURL)
	if s.Always || s.Interval != 2*time.Minute {
		t.Errorf("of two servers the weaker counts: got %+v", s)
	}
	got = verdicts(t, fast, interval, s)
	want(t, got, "NATS sync_interval", Less, "Postgres fsync", Less, "Postgres synchronous_commit", Less, "Postgres full_page_writes", Less, "NATS storage of EVENTS", Enough, "NATS deliveries", Enough, "NATS purge and delete", Enough)

	want(t, verdicts(t, durable, always, askMonitors(t.Context(), "")), "NATS sync_interval", Unknown)
	want(t, verdicts(t, durable, always, askMonitors(t.Context(), alwaysURL+",http://127.0.0.1:1")), "NATS sync_interval", Unknown)
}

func TestFind_SeesTheSettingsOfTheSessionsThatFlush(t *testing.T) {
	t.Parallel()
	conn, _ := nats(t, false)
	url := embeddedtest.Postgres(t)
	for _, c := range []struct {
		setting string
		verdict Verdict
	}{{"off", Less}, {"local", Enough}, {"remote_write", Enough}} {
		db := open(t, url+"&synchronous_commit="+c.setting)
		want(t, verdicts(t, db, conn, Sync{Always: true}), "Postgres synchronous_commit", c.verdict)
	}
}

func TestReport_WarnsOnlyOfWhatIsLessAndRefusesNothingElse(t *testing.T) {
	t.Parallel()
	conn, url := nats(t, false)
	core, logged := observer.New(zap.WarnLevel)
	if err := Report(t.Context(), postgres(t, true), conn, askMonitors(t.Context(), url), zap.New(core)); err != nil {
		t.Fatal(err)
	}
	if logged.Len() != 1 || !strings.Contains(logged.All()[0].Message, "set sync_interval: always") {
		t.Errorf("got %v", logged.All())
	}
}

func TestJudgement_OfWhatCannotBeSetUpHere(t *testing.T) {
	t.Parallel()
	found := OfPostgres(store.Durability{Standby: true, Fsync: "on", SynchronousCommit: "on", FullPageWrites: "on", DataChecksums: "on", WALLevel: "replica", StandbyNames: "*"})
	if less := LessThanPromised(found); len(less) != 1 || !strings.Contains(less[0].Advice, "give the URL of the primary") {
		t.Errorf("a standby: %+v", less)
	}
	for name, c := range map[string]struct {
		d    stream.Durability
		s    Sync
		less int
	}{
		"as applied":                   {stream.Durability{Replicas: 3, MaxDeliver: -1}, Sync{Always: true}, 0},
		"memory":                       {stream.Durability{Replicas: 3, MaxDeliver: -1, Memory: true}, Sync{Always: true}, 1},
		"asynchronous though synced":   {stream.Durability{Replicas: 3, MaxDeliver: -1, Async: true}, Sync{Always: true}, 2},
		"all else wrong":               {stream.Durability{Replicas: 1, MaxDeliver: 5, DropsOld: true, DropsAcked: true, Purgeable: true}, Sync{}, 4},
		"replicated, written at times": {stream.Durability{Replicas: 3, MaxDeliver: -1}, Sync{Interval: time.Minute}, 1},
	} {
		if less := LessThanPromised(OfNATS(c.d, c.s)); len(less) != c.less {
			t.Errorf("%s: got %+v, want %d", name, less, c.less)
		}
	}
}

func TestMonitor_WhatDoesNotAnswerAsNATSIsUnknown(t *testing.T) {
	t.Parallel()
	for answer, reason := range map[string]string{
		`<html>`:            "does not answer as NATS",
		`{"disabled":true}`: "JetStream is off",
		`{"config":{}}`:     "JetStream is off",
		"":                  "404",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if answer == "" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = fmt.Fprint(w, answer)
		}))
		if got := askMonitors(t.Context(), s.URL); got.Always || got.Interval != 0 || !strings.Contains(got.Why, reason) {
			t.Errorf("%s: got %+v, want %q", answer, got, reason)
		}
		s.Close()
	}
}
