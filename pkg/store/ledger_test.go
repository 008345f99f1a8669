package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// numbers claims numbers of one publisher epoch.
func numbers(epoch string, ns ...uint64) *Claims {
	claims := NewClaims()
	for _, n := range ns {
		claims.Add("gw", epoch, n)
	}
	return claims
}

// series is the numbers a..b.
func series(a, b uint64) (ns []uint64) {
	for n := a; n <= b; n++ {
		ns = append(ns, n)
	}
	return ns
}

func claim(ctx context.Context, db *DB, claims *Claims) error {
	return db.InTx(ctx, func(tx *Tx) error { return tx.Claim(ctx, claims) })
}

func mustClaim(t *testing.T, db *DB, claims *Claims) {
	t.Helper()
	if err := claim(t.Context(), db, claims); err != nil {
		t.Fatal(err)
	}
}

// refused claims numbers of which some must be folded already, and returns
// those that Refuse reports.
func refused(t *testing.T, db *DB, epoch string, ns ...uint64) (out []uint64) {
	t.Helper()
	claims := numbers(epoch, ns...)
	if err := claim(t.Context(), db, claims); !errors.Is(err, ErrClaimed) {
		t.Errorf("claim of folded numbers: got %v, want ErrClaimed", err)
	}
	if err := db.Refuse(t.Context(), claims); err != nil {
		t.Fatal(err)
	}
	for _, n := range ns {
		if claims.Refused("gw", epoch, n) {
			out = append(out, n)
		}
	}
	if claims.Empty() != (len(out) == len(ns)) {
		t.Errorf("Empty() = %v with %d of %d refused", claims.Empty(), len(out), len(ns))
	}
	return out
}

func wantNumbers(t *testing.T, what string, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestClaims_HoldsEachIdentityOnce(t *testing.T) {
	t.Parallel()
	c := NewClaims()
	if !c.Empty() {
		t.Error("a new set is not empty")
	}
	for _, ok := range []bool{
		c.Add("gw", "e", 1), c.Add("gw", "e", 4096), c.Add("gw", "e", 4097), c.Add("gw", "f", 1), c.Add("gx", "e", 1),
		c.AddForeign("i", 1, 5), c.AddForeign("i", 1, 6), c.AddForeign("j", 1, 5), c.AddForeign("i", 2, 5),
	} {
		if !ok {
			t.Error("a new identity is taken for a known one")
		}
	}
	if c.Add("gw", "e", 4096) || c.AddForeign("i", 1, 6) {
		t.Error("an identity is taken twice")
	}
	if c.Refused("gw", "e", 1) || c.Refused("gw", "e", 99_999) || c.RefusedForeign("i", 1, 5) {
		t.Error("refused without a look at the ledger")
	}
}

func TestClaim_OfFoldedNumbersIsRefusedAndReportedExactly(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustClaim(t, db, numbers("e", 1, 4095, 4096, 4097, 1<<62))
	wantNumbers(t, "around the page boundary", refused(t, db, "e", 4094, 4095, 4096, 4097, 4098), []uint64{4095, 4096, 4097})
	wantNumbers(t, "first and largest", refused(t, db, "e", 1, 2, 1<<62-1, 1<<62), []uint64{1, 1 << 62})
	mustClaim(t, db, numbers("e", 2, 4094, 4098, 1<<62-1))
	mustClaim(t, db, numbers("another epoch", 1, 4096))
	if err := claim(t.Context(), db, numbers("e", 4096)); !errors.Is(err, ErrClaimed) {
		t.Errorf("the last number of a page again: got %v", err)
	}
	// The leftmost bit is the page's first number.
	got := ask[string](t, db, `SELECT string_agg(page || ':' || position(B'1' IN bits), ' ' ORDER BY page) FROM weir.ledger_page WHERE epoch = 'another epoch'`)
	if got != "0:1" {
		t.Errorf("numbers 1 and 4096: first bits %s, want 0:1", got)
	}
	if n := ask[int](t, db, `SELECT get_bit(bits, 4095) FROM weir.ledger_page WHERE epoch = 'another epoch'`); n != 1 {
		t.Error("number 4096 is not the last bit of page 0")
	}
}

func TestClaim_WhatRefuseLeavesCanBeClaimed(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustClaim(t, db, numbers("e", series(4000, 4200)...))
	claims := numbers("e", series(3900, 4300)...)
	if err := claim(t.Context(), db, claims); !errors.Is(err, ErrClaimed) {
		t.Fatalf("overlapping range: got %v", err)
	}
	if err := db.Refuse(t.Context(), claims); err != nil {
		t.Fatal(err)
	}
	mustClaim(t, db, claims)
	for n := uint64(3900); n <= 4300; n++ {
		if got, want := claims.Refused("gw", "e", n), n >= 4000 && n <= 4200; got != want {
			t.Fatalf("number %d refused: %v, want %v", n, got, want)
		}
	}
	wantNumbers(t, "the whole range again", refused(t, db, "e", series(3899, 4301)...), series(3900, 4300))
}

func TestClaim_MeetsAnotherThatIsOpen(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	rollback := errors.New("rolled back by the test")
	for _, test := range []struct {
		name   string
		second []uint64
		end    error // of the first
		waits  bool
		want   error // of the second
	}{
		{"other page", []uint64{5000}, nil, false, nil},
		{"same page, other numbers, committed", []uint64{3}, nil, true, nil},
		{"same page, other numbers, rolled back", []uint64{3}, rollback, true, nil},
		{"same number, committed", []uint64{2, 3}, nil, true, ErrClaimed},
		{"same number, rolled back", []uint64{2, 3}, rollback, true, nil},
	} {
		// One after another: they watch the same database for sessions that wait.
		first := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), numbers(test.name, 1, 2)) })
		if err := <-first.did; err != nil {
			t.Fatal(err)
		}
		second := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), numbers(test.name, test.second...)) })
		second.end <- nil
		if test.waits {
			waitForLock(t, db, 1)
		} else if err := <-second.done; err != nil {
			t.Errorf("%s: second got %v", test.name, err)
		}
		first.end <- test.end
		if err := <-first.done; !errors.Is(err, test.end) {
			t.Errorf("%s: first got %v", test.name, err)
		}
		if test.waits {
			if err := <-second.done; !errors.Is(err, test.want) {
				t.Errorf("%s: second got %v, want %v", test.name, err, test.want)
			}
		}
		var want []uint64
		if test.end == nil {
			want = append(want, 1, 2)
		}
		if test.want == nil {
			want = append(want, test.second...)
		}
		wantNumbers(t, test.name+": in the ledger", refused(t, db, test.name, 1, 2, 3, 4, 5000), want)
	}
}

func TestClaim_OfAForeignMessageIsItsSequenceAndTime(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	foreign := func(incarnation string, sequence uint64, stored int64) *Claims {
		c := NewClaims()
		c.AddForeign(incarnation, sequence, stored)
		return c
	}
	mustClaim(t, db, foreign("i", 7, 100))
	mustClaim(t, db, foreign("i", 7, 101)) // the sequence was used again
	mustClaim(t, db, foreign("j", 7, 100))
	mixed := numbers("e", 1)
	for _, sequence := range []uint64{6, 7, 8} {
		mixed.AddForeign("i", sequence, 100)
	}
	if err := claim(t.Context(), db, mixed); !errors.Is(err, ErrClaimed) {
		t.Errorf("a known foreign message: got %v", err)
	}
	if err := db.Refuse(t.Context(), mixed); err != nil {
		t.Fatal(err)
	}
	if mixed.Refused("gw", "e", 1) || mixed.RefusedForeign("i", 6, 100) || !mixed.RefusedForeign("i", 7, 100) || mixed.RefusedForeign("i", 8, 100) {
		t.Error("Refuse reports others than the known one")
	}
	mustClaim(t, db, mixed)
	if err := claim(t.Context(), db, foreign("i", 8, 100)); !errors.Is(err, ErrClaimed) {
		t.Errorf("claimed with the rest: got %v", err)
	}
}

func TestClaim_OfAForeignMessageWaitsForAnOpenOne(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for i, end := range []error{nil, errors.New("rolled back by the test")} {
		claims := func() *Claims {
			c := NewClaims()
			c.AddForeign("i", uint64(i+1), 100)
			return c
		}
		first := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), claims()) })
		if err := <-first.did; err != nil {
			t.Fatal(err)
		}
		second := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), claims()) })
		second.end <- nil
		waitForLock(t, db, 1)
		first.end <- end
		<-first.done //nolint:errcheck // that it has ended is enough here
		if err := <-second.done; (end == nil) != errors.Is(err, ErrClaimed) || end != nil && err != nil {
			t.Errorf("first ended with %v, second with %v", end, err)
		}
	}
}

func TestClaim_MayBeEmpty(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustClaim(t, db, NewClaims())
	if err := db.Refuse(t.Context(), NewClaims()); err != nil {
		t.Error(err)
	}
}

func compact(t *testing.T, db *DB) int64 {
	t.Helper()
	moved, err := db.CompactLedger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

func TestCompactLedger_MovesFullPagesIntoRuns(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	// Pages 0, 1, 2 and 4 are full, page 3 is not.
	mustClaim(t, db, numbers("e", series(1, 3*pageSize)...))
	mustClaim(t, db, numbers("e", series(3*pageSize+2, 5*pageSize)...))
	mustClaim(t, db, numbers("f", series(1, pageSize)...))
	if moved := compact(t, db); moved != 5 {
		t.Errorf("moved %d pages, want 5", moved)
	}
	if moved := compact(t, db); moved != 0 {
		t.Errorf("moved %d pages the second time, want none", moved)
	}
	runs := ask[string](t, db, `SELECT string_agg(epoch || first_page || '-' || last_page, ' ' ORDER BY epoch, first_page) FROM weir.ledger_full`)
	if runs != "e0-2 e4-4 f0-0" {
		t.Errorf("runs %s", runs)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM weir.ledger_page`); n != 1 {
		t.Errorf("%d pages are left, want 1", n)
	}
	first := uint64(3*pageSize + 1)
	wantNumbers(t, "compacted, and not", refused(t, db, "e", 1, pageSize, 3*pageSize, first, first+1, 5*pageSize, 5*pageSize+1),
		[]uint64{1, pageSize, 3 * pageSize, first + 1, 5 * pageSize})
	if n := ask[int](t, db, `SELECT count(*) FROM weir.ledger_page`); n != 1 {
		t.Errorf("a refused claim left %d pages, want 1", n)
	}
	mustClaim(t, db, numbers("e", first, 5*pageSize+1))
	if moved := compact(t, db); moved != 1 {
		t.Errorf("moved %d pages once page 3 is full, want 1", moved)
	}
}

func TestCompactLedger_BetweenClaimAndCommitLeavesThePage(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustClaim(t, db, numbers("e", series(2, pageSize)...))
	last := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), numbers("e", 1)) })
	if err := <-last.did; err != nil {
		t.Fatal(err)
	}
	if moved := compact(t, db); moved != 0 {
		t.Errorf("moved %d pages before the commit that fills them", moved)
	}
	last.end <- nil
	if err := <-last.done; err != nil {
		t.Fatal(err)
	}
	if moved := compact(t, db); moved != 1 {
		t.Errorf("moved %d pages after it, want 1", moved)
	}
	wantNumbers(t, "after compaction", refused(t, db, "e", 1, 2, pageSize), []uint64{1, 2, pageSize})
}

func TestCompactLedger_MakesAClaimWaitAndRefusesIt(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for _, end := range []error{nil, errors.New("rolled back by the test")} {
		epoch := fmt.Sprint("compaction ended with ", end)
		mustClaim(t, db, numbers(epoch, series(1, pageSize)...))
		compaction := begin(t.Context(), db, func(tx *Tx) error {
			_, err := tx.compactLedger(t.Context())
			return err
		})
		if err := <-compaction.did; err != nil {
			t.Fatal(err)
		}
		again := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), numbers(epoch, 17)) })
		again.end <- nil
		waitForLock(t, db, 1)
		compaction.end <- end
		<-compaction.done //nolint:errcheck // that it has ended is enough here
		if err := <-again.done; !errors.Is(err, ErrClaimed) {
			t.Errorf("%s: the claim got %v, want ErrClaimed", epoch, err)
		}
		if n := ask[int](t, db, `SELECT (SELECT count(*) FROM weir.ledger_page WHERE epoch = $1) + (SELECT count(*) FROM weir.ledger_full WHERE epoch = $1)`, epoch); n != 1 {
			t.Errorf("%s: the page is kept %d times", epoch, n)
		}
	}
}

func TestCompactLedger_DoesNotWaitForAClaim(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustClaim(t, db, numbers("e", series(1, 2*pageSize)...))
	held := begin(t.Context(), db, func(tx *Tx) error {
		if err := tx.Claim(t.Context(), numbers("e", 1)); !errors.Is(err, ErrClaimed) {
			return fmt.Errorf("claim of a folded number: %w", err)
		}
		return nil // its page stays locked
	})
	if err := <-held.did; err != nil {
		t.Fatal(err)
	}
	if moved := compact(t, db); moved != 1 {
		t.Errorf("moved %d pages beside a claim that holds another, want 1", moved)
	}
	held.end <- ErrClaimed
	<-held.done //nolint:errcheck // that it has ended is enough here
	if moved := compact(t, db); moved != 1 {
		t.Errorf("moved %d pages afterwards, want 1", moved)
	}
}

// claimer is one worker of the property test: batches of numbers, some of
// which it rolls back.
type claimer struct {
	batches  [][]uint64
	rollback []bool
}

func drawClaimer(t *rapid.T) claimer {
	// Few numbers on both sides of page boundaries: everybody overlaps.
	number := rapid.Custom(func(t *rapid.T) uint64 {
		return uint64(rapid.IntRange(0, 2).Draw(t, "page")*pageSize + rapid.IntRange(pageSize-2, pageSize+3).Draw(t, "place"))
	})
	var c claimer
	c.batches = rapid.SliceOfN(rapid.SliceOfNDistinct(number, 1, 8, rapid.ID[uint64]), 1, 4).Draw(t, "batches")
	for range c.batches {
		c.rollback = append(c.rollback, rapid.IntRange(0, 3).Draw(t, "rollback") == 0)
	}
	return c
}

// run claims the way package worker does, and calls won for what it committed.
func (c claimer) run(ctx context.Context, db *DB, epoch string, won func([]uint64)) error {
	rollback := errors.New("rolled back by the test")
	for i, batch := range c.batches {
		claims := numbers(epoch, batch...)
		for _, n := range batch {
			claims.AddForeign(epoch, n, 1)
		}
		for !claims.Empty() {
			err := db.InTx(ctx, func(tx *Tx) error {
				err := tx.Claim(ctx, claims)
				if err == nil && c.rollback[i] {
					err = rollback
				}
				return err
			})
			if errors.Is(err, rollback) {
				break
			}
			if err == nil {
				for _, n := range batch {
					if claims.Refused("gw", epoch, n) != claims.RefusedForeign(epoch, n, 1) {
						return fmt.Errorf("number %d and the foreign message claimed with it differ", n)
					}
				}
				won(slices.DeleteFunc(slices.Clone(batch), func(n uint64) bool { return claims.Refused("gw", epoch, n) }))
				break
			}
			if !errors.Is(err, ErrClaimed) {
				return err
			}
			if err := db.Refuse(ctx, claims); err != nil {
				return err
			}
		}
	}
	return nil
}

// Any number of workers that claim overlapping numbers in any order, some of
// them rolling back, with compaction going on: no deadlock, and every number
// that was in a batch that went through is won by exactly one.
func TestClaim_ManyWorkersWinEveryNumberOnce(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		epoch := fmt.Sprint("round", round)
		workers := rapid.SliceOfN(rapid.Custom(drawClaimer), 2, 4).Draw(rt, "workers")
		must, may := map[uint64]bool{}, map[uint64]bool{} // the naive oracle
		for _, w := range workers {
			for i, batch := range w.batches {
				for _, n := range batch {
					may[n] = true
					must[n] = must[n] || !w.rollback[i]
				}
			}
		}
		var mu sync.Mutex
		won := map[uint64]int{}
		failures := make(chan error, len(workers)+1)
		var group sync.WaitGroup
		for _, w := range workers {
			group.Go(func() {
				failures <- w.run(t.Context(), db, epoch, func(ns []uint64) {
					mu.Lock()
					defer mu.Unlock()
					for _, n := range ns {
						won[n]++
					}
				})
			})
		}
		group.Go(func() {
			_, err := db.CompactLedger(t.Context())
			failures <- err
		})
		group.Wait()
		close(failures)
		for err := range failures {
			if err != nil {
				rt.Fatal(err)
			}
		}
		ledger := numbers(epoch, series(1, 4*pageSize)...)
		if err := db.Refuse(t.Context(), ledger); err != nil {
			rt.Fatal(err)
		}
		for n := uint64(1); n <= 4*pageSize; n++ {
			times := won[n]
			if times > 1 || must[n] && times != 1 || !may[n] && times != 0 {
				rt.Fatalf("number %d was won %d times; in a batch that went through: %v", n, times, must[n])
			}
			if ledger.Refused("gw", epoch, n) != (times == 1) {
				rt.Fatalf("number %d: won %d times, in the ledger %v", n, times, times != 1)
			}
		}
	})
}
