//go:build failpoints

package worker

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pkg/failpoint"
	"weir/pkg/store"
)

// A backfill that fails at any step, and is run again, gives every event once.
// (What it does after an exit it does after an error: nothing is kept but what is
// in the database.)
func TestFailpoint_Backfill(t *testing.T) {
	t.Parallel()
	for _, step := range []failpoint.Step{
		failpoint.BackfillRead, failpoint.Decoded, failpoint.Folded, failpoint.TransactionBegun, failpoint.BatchNumbered, failpoint.DeltaWritten,
		failpoint.PagesClaimed, failpoint.Claimed, failpoint.Committed, failpoint.Refusing, failpoint.RollUp, failpoint.BackfillEnding,
	} {
		for _, action := range []string{"error", "panic", "pause"} {
			t.Run(string(step)+"/"+action, func(t *testing.T) {
				t.Parallel()
				h := newBackfillHarness(t)
				before := h.idle("before")
				_, events := h.publishMix("a")
				h.process(before, h.take(before, 9)...)
				if err := before.lease.Close(); err != nil {
					t.Fatal(err)
				}
				catalog := h.twin("Twin")
				set := &failpoint.Set{}
				db, err := store.Open(t.Context(), store.Config{URL: h.servers.postgres, IdleInTx: 500 * time.Millisecond, Failpoints: set})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = db.Close() })
				backfill := Backfill{Aggregation: "Twin", Owner: "test", Messages: 100, Failpoints: set, poll: 5 * time.Millisecond}
				run := func(ctx context.Context) error { return backfill.Run(ctx, catalog, db, h.conn, zap.NewNop()) }
				switch action {
				case "error":
					set.Fail(step, 1)
				case "panic":
					set.Panic(step, 1)
				case "pause":
					set.Do(step, 1, func() error { <-time.After(time.Second); return nil })
				}
				err = run(t.Context())
				for range 9 { // on a loaded machine Postgres may end a session that is only slow
					if err != nil && err.Error() != "backfill Twin: it is not being backfilled" {
						err = run(t.Context())
					}
				}
				if set.Hits(step) == 0 {
					t.Errorf("the step was not reached (%v)", err)
				}
				if err != nil && err.Error() != "backfill Twin: it is not being backfilled" {
					t.Error(err)
				}
				h.wantTwin("after the backfill", catalog, "Twin", int64(events))
				h.deliverAgain(catalog)
				h.wantTwin("delivered anew", catalog, "Twin", int64(events))
			})
		}
	}
}
