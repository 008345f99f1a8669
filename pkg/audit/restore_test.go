package audit

import (
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/streams"
)

// An older copy of Postgres's own data directory comes back, under workers that
// run: as a backup that is restored, or a failover to a standby that lagged. What
// it lacks is acknowledged, so nobody would deliver it again. The auditor finds
// the holes, the workers repair them, and each event is counted once.
func TestAudit_RepairsWhatAnOlderDataDirectoryLacks(t *testing.T) {
	t.Parallel()
	server := embeddedtest.PostgresServer(t)
	config := server.Config()
	data := filepath.Join(config.Dir, "postgres", "data")
	backup := filepath.Join(filepath.Dir(data), "backup")
	stop := func() {
		t.Helper()
		if err := server.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	start := func() {
		t.Helper()
		var err error
		if server, err = embedded.StartPostgres(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		again := server
		t.Cleanup(func() { _ = again.Close(context.WithoutCancel(t.Context())) })
	}
	command := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}

	h := newHarnessAt(t, server.URL())
	h.run("w1", "w2")
	h.publish("gw-1", 1, 60)
	h.send("gw-3", "", 200)
	h.drain()
	h.green(h.full())

	stop()
	command("cp", "-a", data, backup)
	start()
	h.publish("gw-1", 61, 100)
	for n := range 5 {
		h.send("gw-3", "", 201+n)
	}
	h.drain()
	if n := number(t, h.db, `SELECT sum(events) FROM weir.shard`); n != 106 {
		t.Fatalf("%d events are folded, want 106", n)
	}
	h.pass()

	stop()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	command("mv", backup, data)
	start()
	if n := restored(t, h.db); n >= 106 {
		t.Fatalf("%d events are there: the test proves nothing", n)
	}
	h.publish("gw-2", 1, 30) // workers go on meanwhile
	h.drain()
	var r *Report
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); <-tick.C {
		clear(h.turn)
		var err error
		if r, err = h.Full(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.Green() && r.Balance.Events == 136 {
			break
		}
	}
	h.green(r)
	if r.Balance.Events != 136 || r.Stream.Repaired != 45 {
		t.Errorf("%d events, %d messages repaired, want 136, 45: %s", r.Balance.Events, r.Stream.Repaired, r.Sentence())
	}
}

// restored is how many events the shards have folded, once Postgres answers.
func restored(t *testing.T, db *sql.DB) (n int64) {
	t.Helper()
	var err error
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		if err = db.QueryRowContext(t.Context(), `SELECT sum(events) FROM weir.shard`).Scan(&n); err == nil {
			return n
		}
		<-tick.C
	}
	t.Fatal(err)
	return 0
}

// newHarnessAt is newHarness with a Postgres of the test's own.
func newHarnessAt(t *testing.T, postgres string) *harness {
	t.Helper()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	return provisioned(&harness{t: t, catalog: catalog, nats: embeddedtest.NATS(t), postgres: postgres})
}
