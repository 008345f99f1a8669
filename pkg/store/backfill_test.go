package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
)

func TestClaim_OfABackfillIsInAScopeOfItsOwn(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	fill := func(c *Claims, ns ...uint64) *Claims {
		for _, n := range ns {
			c.Add("gw", "e", n)
			c.AddForeign("i", n, 1)
		}
		return c
	}
	check := func(what string, c *Claims, wantErr error, n uint64, wantRefused bool) {
		t.Helper()
		if err := claim(t.Context(), db, c); !errors.Is(err, wantErr) {
			t.Errorf("%s: got %v, want %v", what, err, wantErr)
		}
		if err := db.Refuse(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if c.Refused("gw", "e", n) != wantRefused || c.RefusedForeign("i", n, 1) != wantRefused {
			t.Errorf("%s: number %d refused: %v, want %v", what, n, c.Refused("gw", "e", n), wantRefused)
		}
	}
	mustClaim(t, db, fill(NewClaims(), 1, 2))       // a worker without X
	mustClaim(t, db, fill(NewClaims("X"), 3, 5000)) // one with X
	check("folded without X, by one with X", fill(NewClaims("X"), 2, 4), ErrClaimed, 2, true)
	check("folded with X, by one without", fill(NewClaims(), 3, 4), ErrClaimed, 3, true)
	c := fill(NewBackfillClaims("X"), 1, 2, 3, 4, 5000)
	some, err := db.RefuseUnfolded(t.Context(), c)
	if err != nil || !some || !c.Refused("gw", "e", 4) || !c.RefusedForeign("i", 4, 1) || c.Refused("gw", "e", 3) || c.RefusedForeign("i", 3, 1) {
		t.Errorf("of five, what is not folded: %v, %v", some, err)
	}
	check("what is folded, in X", c, ErrClaimed, 3, true)
	mustClaim(t, db, c)
	check("1 and 2 again", fill(NewBackfillClaims("X"), 1), ErrClaimed, 1, true)
	mustClaim(t, db, fill(NewBackfillClaims("Y"), 1, 2, 3, 5000))
	some, err = db.RefuseUnfolded(t.Context(), fill(NewBackfillClaims("Z"), 1, 2, 3, 5000))
	if err != nil || some {
		t.Errorf("all folded: %v, %v", some, err)
	}
	mustClaim(t, db, fill(NewClaims("X", "Y"), 4))
}

func TestCompactLedger_KeepsScopesApart(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustExec(t, db, `INSERT INTO weir.aggregation (name, version, current, definition, backfill) VALUES ('X', 1, true, '{}', 'running'), ('Y', 1, true, '{}', 'done')`)
	backfill := func(name string, ns ...uint64) *Claims {
		c := NewBackfillClaims(name)
		for _, n := range ns {
			c.Add("gw", "e", n)
			c.AddForeign("i", n, 1)
		}
		return c
	}
	mustClaim(t, db, numbers("e", series(1, 2*pageSize)...))
	mustClaim(t, db, backfill("X", series(1, pageSize+1)...))
	if moved := compact(t, db); moved != 3 {
		t.Errorf("moved %d pages, want 2 of the fold and 1 of X", moved)
	}
	runs := ask[string](t, db, `SELECT string_agg(scope || first_page || '-' || last_page, ' ' ORDER BY scope, first_page) FROM weir.ledger_full`)
	if runs != "0-1 X0-0" {
		t.Errorf("runs %s", runs)
	}
	for _, n := range []uint64{1, pageSize, pageSize + 1} {
		if err := claim(t.Context(), db, backfill("X", n)); !errors.Is(err, ErrClaimed) {
			t.Errorf("number %d again: got %v", n, err)
		}
	}
	c := backfill("Y", 1, pageSize+1, 2*pageSize, 2*pageSize+1)
	if _, err := db.RefuseUnfolded(t.Context(), c); err != nil || c.Refused("gw", "e", 1) || c.Refused("gw", "e", 2*pageSize) || !c.Refused("gw", "e", 2*pageSize+1) {
		t.Errorf("compacted pages of the fold are not seen: %v", err)
	}
	mustClaim(t, db, backfill("Y", series(1, pageSize+1)...))
	compact(t, db)
	left := ask[string](t, db, `SELECT string_agg(scope || n, ' ' ORDER BY scope) FROM (
		SELECT scope, count(*) AS n FROM (SELECT scope FROM weir.ledger_page UNION ALL SELECT scope FROM weir.ledger_full UNION ALL SELECT scope FROM weir.ledger_foreign) AS r GROUP BY scope) AS s`)
	if want := fmt.Sprintf("1 X%d", 2+pageSize+1); left != want {
		t.Errorf("rows by scope: %s, want %s, and none of the complete Y", left, want)
	}
}

// callsOf returns aggregations of one shape.
func callsOf(names ...string) (defs []*aggregation.Definition) {
	for _, name := range names {
		defs = append(defs, calls(name))
	}
	return defs
}

func TestApplyBackfill_MarksWhatIsAddedToOthers(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	want := func(what, want string) {
		t.Helper()
		all, err := db.Backfills(t.Context())
		if got := fmt.Sprint(all); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", what, got, err, want)
		}
	}
	apply := func(names ...string) {
		t.Helper()
		if err := db.Apply(t.Context(), callsOf(names...), PlanOptions{Backfill: true}); err != nil {
			t.Fatal(err)
		}
	}
	apply("A")
	want("the first ones", "[]")
	plan, err := db.Backfilled(t.Context(), callsOf("A", "B", "C"), PlanOptions{Backfill: true})
	if err != nil || strings.Join(plan, " ") != "B C" {
		t.Errorf("planned %v, %v", plan, err)
	}
	mustClaim(t, db, func() *Claims { c := NewBackfillClaims("B"); c.Add("gw", "e", 1); return c }()) // of one that was dropped
	apply("A", "B")
	want("one more", "[{B true}]")
	if n := ask[int](t, db, `SELECT count(*) FROM weir.ledger_page WHERE scope = 'B'`); n != 0 {
		t.Error("the scope of the new one is not empty")
	}
	if err := db.Apply(t.Context(), callsOf("A", "B", "C"), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	apply("A", "B", "C")
	want("one that was there", "[{B true}]")
}

func TestLeasesWithout_FencesTheDeadAndNamesTheLiving(t *testing.T) {
	t.Parallel()
	defs := callsOf("A", "B")
	db := migrated(t, defs...)
	mustExec(t, db, `UPDATE weir.aggregation SET backfill = 'running' WHERE name = 'B'`)
	own := mustLease(t, db, BackfillShard, defs[1])
	dead, live, knows := mustLease(t, db, "dead", defs[0]), mustLease(t, db, "live", defs[0]), mustLease(t, db, "knows", defs...)
	if err := dead.unlock(); err != nil {
		t.Fatal(err)
	}
	flushes := func(l *Lease) error { return flush(t.Context(), db, l, oneCall(defs[0], time.Unix(0, 0)), NewClaims()) }
	l, err := db.LeasesWithout(t.Context(), "B")
	if err != nil || l.None || fmt.Sprint(l.Without) != "[live (tests)]" {
		t.Errorf("got %+v, %v", l, err)
	}
	if err := flushes(dead); !errors.Is(err, ErrFenced) {
		t.Errorf("the dead one flushes: %v", err)
	}
	if err := errors.Join(flushes(live), flushes(knows)); err != nil {
		t.Error(err)
	}
	if done, err := db.FinishBackfill(t.Context(), "B", l, own, 0); done || err != nil {
		t.Errorf("finished beside a live one without it: %v, %v", done, err)
	}
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = db.LeasesWithout(t.Context(), "B"); err != nil || !l.None || len(l.Without) > 0 {
		t.Errorf("once it has ended: got %+v, %v", l, err)
	}
	if err := mustLease(t, db, "comes-and-goes", defs...).Close(); err != nil {
		t.Fatal(err)
	}
	if done, err := db.FinishBackfill(t.Context(), "B", l, own, 0); done || err != nil {
		t.Errorf("finished although a shard was leased since: %v, %v", done, err)
	}
	if l, err = db.LeasesWithout(t.Context(), "B"); err != nil {
		t.Fatal(err)
	}
	if done, err := db.FinishBackfill(t.Context(), "B", l, own, 0); !done || err != nil {
		t.Errorf("not finished: %v, %v", done, err)
	}
}

// A flush of a worker that is being fenced is committed before, or not at all.
func TestLeasesWithout_WaitsForAFlushThatIsOpen(t *testing.T) {
	t.Parallel()
	defs := callsOf("A", "B")
	db := migrated(t, defs...)
	lease := mustLease(t, db, "s", defs[0])
	if err := lease.unlock(); err != nil {
		t.Fatal(err)
	}
	open := begin(t.Context(), db, func(tx *Tx) error {
		_, err := tx.NextBatch(t.Context(), lease, Totals{})
		return err
	})
	if err := <-open.did; err != nil {
		t.Fatal(err)
	}
	looked := make(chan error, 1)
	go func() {
		l, err := db.LeasesWithout(t.Context(), "B")
		if err == nil && !l.None {
			err = errors.New("it is not fenced")
		}
		looked <- err
	}()
	waitForLock(t, db, 1)
	open.end <- nil
	if err := <-open.done; err != nil {
		t.Error(err)
	}
	if err := <-looked; err != nil {
		t.Error(err)
	}
}
