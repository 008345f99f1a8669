//go:build failpoints

package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"weir/pkg/failpoint"
)

// failing returns two pools on one database: one that fails, and one that does not.
func failing(t *testing.T) (db, other *DB, set *failpoint.Set) {
	t.Helper()
	address := migratedAddress(t)
	set = &failpoint.Set{}
	db, err := Open(t.Context(), Config{URL: address, IdleInTx: 500 * time.Millisecond, Failpoints: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, open(t, address), set
}

// compactCaught is one compaction as a worker runs it: a panic is an error.
func compactCaught(ctx context.Context, db *DB) (moved int64, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return db.CompactLedger(ctx)
}

// Messages come again before, while and after their pages are compacted, and the
// compaction fails in every way at every step: each is refused, and each page is
// in one place.
func TestFailpoint_LedgerCompaction(t *testing.T) {
	t.Parallel()
	for _, step := range []failpoint.Step{failpoint.LedgerCompacting, failpoint.LedgerCompacted} {
		for _, action := range []string{"error", "panic", "pause", "exit", "nothing"} {
			t.Run(string(step)+"/"+action, func(t *testing.T) {
				t.Parallel()
				db, other, set := failing(t)
				mustClaim(t, other, numbers("e", series(1, 2*pageSize)...))
				wantNumbers(t, "before", refused(t, other, "e", 1, 2, 2*pageSize+1), []uint64{1, 2})
				set.Do(step, 1, func() error {
					switch action {
					case "error":
						return failpoint.ErrInjected
					case "panic":
						panic("by the test")
					case "exit": // the connection ends, as that of a killed process
						mustExec(t, other, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
							WHERE datname = current_database() AND state LIKE 'idle in transaction%'`)
					case "pause": // until the other has got through: this session is ended for being idle
						wantNumbers(t, "meanwhile", refused(t, other, "e", 1, 2, 3*pageSize), []uint64{1, 2})
					}
					return nil
				})
				_, err := compactCaught(t.Context(), db)
				ends := action == "pause" && step == failpoint.LedgerCompacted || action == "error" || action == "panic" || action == "exit"
				if (err != nil) != ends {
					t.Errorf("the compaction ended with %v", err)
				}
				wantNumbers(t, "after", refused(t, other, "e", 1, 2, 2*pageSize, 2*pageSize+2), []uint64{1, 2, 2 * pageSize})
				if _, err := db.CompactLedger(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantNumbers(t, "after the next", refused(t, other, "e", 1, 2*pageSize, 2*pageSize+3), []uint64{1, 2 * pageSize})
				pages := ask[int](t, other, `SELECT (SELECT count(*) FROM weir.ledger_page WHERE epoch = 'e') + (SELECT sum(last_page - first_page + 1) FROM weir.ledger_full WHERE epoch = 'e')`)
				if pages != 2 {
					t.Errorf("%d pages, want 2", pages)
				}
			})
		}
	}
}

// The order that a snapshot of the whole transaction would get wrong: the claim
// has inserted its page anew, after the compaction it waited for, and only then
// looks at the full ones.
func TestFailpoint_CompactionBetweenTheClaimAndItsLookAtFullPages(t *testing.T) {
	t.Parallel()
	db, other, set := failing(t)
	mustClaim(t, other, numbers("e", series(1, pageSize)...))
	compaction := begin(t.Context(), other, func(tx *Tx) error { _, err := tx.compactLedger(t.Context()); return err })
	if err := <-compaction.did; err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- claim(t.Context(), db, numbers("e", 5)) }()
	waitForLock(t, other, 1)
	compaction.end <- nil
	if err := <-compaction.done; err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClaimed) {
		t.Errorf("got %v, want ErrClaimed", err)
	}
	if n := set.Hits(failpoint.PagesClaimed); n != 1 {
		t.Errorf("the claim was between its statements %d times: it did not insert the page anew", n)
	}
	if n := ask[int](t, other, `SELECT count(*) FROM weir.ledger_page`); n != 0 {
		t.Errorf("%d pages are left, want none", n)
	}
}
