package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pkg/audit"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
	"weir/streams"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestWait_EndsWhenWhatWasThereIsFoldedAndGivesUpWithAnError(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	url := embeddedtest.Postgres(t)
	db, err := store.Open(ctx, store.Config{URL: url, MaxOpen: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Apply(ctx, catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	conn, err := stream.Connect(ctx, stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Provision(ctx, stream.Provision{AckWait: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	pool, err := store.OpenPool(ctx, store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	auditor := audit.New(pool, conn, audit.Config{Version: "test"})
	publish := func(n int) error {
		_, _, err := conn.Publish(ctx, stream.Outgoing{
			Subject: "events.request.gw-1", MsgID: fmt.Sprintf("gw-1/e/%d", n), Data: []byte(`{"apiName":"pizza","responseCode":200,"requestTimestamp":1715947200000}`),
		})
		return err
	}
	const first = 1200
	for n := 1; n <= first; n++ {
		if err := publish(n); err != nil {
			t.Fatal(err)
		}
	}

	report, err := settled(ctx, auditor, time.Second) // no worker folds
	var residue errResidue
	if report == nil || !errors.As(err, &residue) || residue.ExitCode() != 3 || err.Error() != "gave up after 1s: 1,200 messages are still in flight" {
		t.Fatalf("got %v, %+v", err, report)
	}

	// A worker folds, and more is published all the time.
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 2)
	go func() {
		for n := first + 1; running.Err() == nil; n++ {
			if err := publish(n); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		done <- worker.New(worker.Config{ShardID: "w1", Owner: "test", Messages: 50, Bytes: 1 << 20, Linger: 10 * time.Millisecond},
			catalog, db, conn, zap.NewNop()).Run(running)
	}()
	report, err = settled(ctx, auditor, waitTimeout)
	if err != nil || !report.Green() || report.Stream.Verified < first {
		t.Errorf("got %v, %+v", err, report)
	}
	stop()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAccept_SaysWhatItDidAndIsNoAudit(t *testing.T) {
	t.Parallel()
	url, nats := embeddedtest.Postgres(t), embeddedtest.NATS(t)
	db, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Apply(t.Context(), nil, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	pool, err := store.OpenPool(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	if _, err := pool.ExecContext(t.Context(), `INSERT INTO weir.audit_finding (kind, subject, detail) VALUES ('ledger', 'claims', 'one is missing')`); err != nil {
		t.Fatal(err)
	}
	accept := func(id string) (string, error) {
		cmd := Command()
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs([]string{"--accept", id, "--postgres", url, "--nats", nats})
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	if out, err := accept("0"); err == nil || !strings.Contains(err.Error(), "there is no open finding 0") {
		t.Errorf("got %v: %s", err, out)
	}
	if out, err := accept("1"); err != nil || !strings.HasPrefix(out, "finding 1 is accepted") || !strings.Contains(out, "one is missing") {
		t.Errorf("got %v: %s", err, out)
	}
}

func TestShort_WritesWholeMinutes(t *testing.T) {
	t.Parallel()
	if a, b := short(time.Minute), short(1500*time.Millisecond); a != "1m" || b != "1.5s" {
		t.Errorf("got %s, %s", a, b)
	}
}
