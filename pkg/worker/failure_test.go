package worker

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
)

// start runs one worker, and returns what stops it and what it ended with.
func (h *harness) start(shard string) (stop func(), ended <-chan error) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	w := h.worker(shard)
	w.cfg.Messages = 50
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		done <- w.Run(ctx)
	}()
	h.t.Cleanup(func() {
		cancel()
		<-finished
	})
	return cancel, done
}

// end waits for what a worker ends with.
func (h *harness) end(ended <-chan error) error {
	h.t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		h.t.Fatalf("waited %s for a worker to end", patience)
		return nil
	}
}

// holdLedger keeps every flush at its last statement until it is released.
func (h *harness) holdLedger() (release func()) {
	h.t.Helper()
	tx, err := h.sql.BeginTx(h.t.Context(), &sql.TxOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := tx.ExecContext(h.t.Context(), `LOCK TABLE weir.ledger_page IN SHARE MODE`); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = tx.Rollback() })
	return func() { _ = tx.Rollback() }
}

// waitForFlush returns once a flush waits at the ledger.
func (h *harness) waitForFlush() {
	h.t.Helper()
	h.until("a flush waits at the ledger", func() (bool, error) {
		return ask[int](h, `SELECT count(*) FROM pg_locks WHERE relation = 'weir.ledger_page'::regclass AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0, nil
	})
}

// terminate ends sessions of the workers as a crash of their connection would.
func (h *harness) terminate(which string) {
	h.t.Helper()
	if h.terminated(which) == 0 {
		h.t.Error("no session to terminate")
	}
}

// terminated is terminate where there may be none, and returns how many there were.
func (h *harness) terminated(which string) int {
	h.t.Helper()
	return ask[int](h, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'weir%' AND `+which)
}

const holdsALease = `pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)`

func TestStop_FinishesTheBatchInHandAndGivesTheRestBack(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, servers{ackWait: 5 * time.Minute}) // whoever waits for it fails the test
	h.publishCalls("gw", 1, 500)
	release := h.holdLedger()
	stop, ended := h.start("w1")
	h.waitForFlush()
	stop()
	select {
	case err := <-ended:
		t.Fatalf("the worker did not wait for its batch: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if err := h.end(ended); err != nil {
		t.Errorf("the stopped worker: %v", err)
	}
	inHand := h.totals().Events
	if inHand < 1 || inHand > 50 {
		t.Errorf("%d events were folded, want the batch in hand, of 50 at most", inHand)
	}
	h.run(2)
	h.drain()
	h.wantCalls("after others took over", 500)
}

func TestStop_GivesBackABatchThatCannotBeFinished(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, servers{ackWait: 5 * time.Minute})
	h.publishCalls("gw", 1, 100)
	release := h.holdLedger()
	stop, ended := h.start("w1")
	h.waitForFlush()
	stop()
	if err := h.end(ended); err != nil {
		t.Errorf("the stopped worker: %v", err)
	}
	h.wantCalls("nothing was committed", 0)
	release()
	h.run(1)
	h.drain()
	h.wantCalls("after another took over", 100)
}

func TestWorker_WhoseShardIsTakenOverStops(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	_, ended := h.start("w1")
	h.publishCalls("gw", 1, 20)
	h.drain()
	var thief *store.Lease
	h.until("the thief is faster than the worker", func() (ok bool, err error) {
		h.terminated(holdsALease) // the worker may have none just now
		thief, err = h.db.LeaseShard(t.Context(), "w1", "thief", 100*time.Millisecond, h.catalog.Aggregations)
		return err == nil, err
	})
	t.Cleanup(func() { _ = thief.Close() })
	h.publishCalls("gw", 21, 300)
	if err := h.end(ended); !errors.Is(err, store.ErrFenced) || !strings.Contains(err.Error(), "w1") {
		t.Errorf("got %v, want ErrFenced and the name of the shard", err)
	}
	h.wantCalls("by the fenced worker", 20)
	_, _ = h.start("w2")
	h.drain()
	h.wantCalls("after another worker came", 300)
}

func TestWorker_WithAShardInUseIsRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(1)
	h.publishCalls("gw", 1, 10)
	h.drain()
	_, ended := h.start("w1")
	var taken store.ErrShardTaken
	if err := h.end(ended); !errors.As(err, &taken) || taken.ShardID != "w1" || !strings.Contains(err.Error(), "--shard-id") {
		t.Errorf("the second: %v", err)
	}
	h.publishCalls("gw", 11, 20)
	h.drain()
	h.wantCalls("by the first", 20)
}

func TestWorker_SaysWhatIsNotProvisioned(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.db = nil
	h.servers.postgres = embeddedtest.Postgres(t)
	h.db = h.openDB()
	if err := h.worker("w1").Run(t.Context()); err == nil || !strings.Contains(err.Error(), "weir apply") {
		t.Errorf("got %v", err)
	}
}

func TestPostgres_ConnectionsLostDuringAFlush(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(2)
	for round := range 3 {
		release := h.holdLedger()
		h.publishCalls("gw", 200*round+1, 200*round+200)
		h.waitForFlush()
		h.terminate(`true`)
		release()
	}
	h.drain()
	h.wantCalls("after all connections were lost three times", 600)
}

func TestPostgres_RestartLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	server := embeddedtest.PostgresServer(t)
	h := newHarnessOn(t, servers{postgres: server.URL()})
	h.start("w1")
	h.publishCalls("gw", 1, 300)
	h.until("something is folded", func() (bool, error) { return h.totals().Events > 0, nil })
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.publishCalls("gw", 301, 400)
	again, err := embedded.StartPostgres(t.Context(), server.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close(context.WithoutCancel(t.Context())) })
	h.drain()
	h.wantCalls("after the restart", 400)
}

// Postgres stays away for longer than a worker needs to try several times.
func TestPostgres_AwayForAWhile(t *testing.T) {
	t.Parallel()
	server := embeddedtest.PostgresServer(t)
	h := newHarnessOn(t, servers{postgres: server.URL()})
	w := h.idle("w1")
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	leased := make(chan error, 1)
	go func() { leased <- w.keepLease(t.Context()) }()
	again, err := embedded.StartPostgres(t.Context(), server.Config()) // which takes longer than some tries
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close(context.WithoutCancel(t.Context())) })
	if err := <-leased; err != nil {
		t.Fatalf("the lease is not back: %v", err)
	}
	if err := w.lease.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.publishCalls("gw", 1, 10)
	h.process(w, h.take(w, 10)...)
	h.wantCalls("with the lease taken anew", 10)
}

// What Postgres has no room for, for a while, is nobody's fault.
func TestPostgres_WithoutRoomMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	w := p.hand("w1", nil)
	p.own(1)
	p.exec(`CREATE SEQUENCE public.tries`)
	p.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('public.tries') <= 2 THEN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END IF; RETURN NEW; END $$`)
	p.exec(`CREATE TRIGGER refuse BEFORE INSERT ON weir_data.` + p.ticks().Table(p.ticks().Finest()) + ` FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	if err := w.persist(t.Context(), t.Context(), p.take(w, 1)); err != nil {
		t.Error(err)
	}
	p.check("with room again")
}

func TestNATS_RestartLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	config := embedded.NATSConfig{Dir: t.TempDir()}
	server, err := embedded.StartNATS(config)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Listen = address.Host
	h := newHarnessOn(t, servers{nats: server.URL()})
	stop := h.run(2)
	h.publishCalls("gw", 1, 300)
	h.until("something is folded", func() (bool, error) { return h.totals().Events > 0, nil })
	server.Close()
	again, err := embedded.StartNATS(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	h.publishCalls("gw", 250, 500) // the first of them are stored
	h.drain()
	h.wantCalls("after the restart", 500)
	stop() // before the server
}
