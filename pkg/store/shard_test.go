package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/pkg/aggregation"
)

func TestLeaseShard_RefusesBadIDs(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for _, id := range []string{"", strings.Repeat("x", 21), strings.Repeat("é", 21)} {
		if _, err := db.LeaseShard(t.Context(), id, "o", 0, nil); err == nil || !strings.Contains(err.Error(), "1 to 20") {
			t.Errorf("%q: got %v", id, err)
		}
	}
	mustLease(t, db, strings.Repeat("é", 20))
}

func TestLeaseShard_RefusesASecondLiveHolder(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	db, other := open(t, address), open(t, address)
	lease, err := db.LeaseShard(t.Context(), "s", "host-a/4711", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, pool := range []*DB{db, other} {
		_, err = pool.LeaseShard(t.Context(), "s", "host-b/1", 150*time.Millisecond, nil)
		var taken ErrShardTaken
		if !errors.As(err, &taken) || taken != (ErrShardTaken{ShardID: "s", Owner: "host-a/4711"}) || !strings.Contains(err.Error(), "host-a/4711") {
			t.Errorf("second holder: got %v", err)
		}
	}
	mustLease(t, other, "another")
	if err := lease.Check(t.Context()); err != nil {
		t.Errorf("the holder: %v", err)
	}
	if err := lease.Close(); err != nil {
		t.Error(err)
	}
	if err := lease.Check(t.Context()); err == nil {
		t.Error("a closed lease checks well")
	}
	mustLease(t, other, "s")
}

func TestLeaseShard_WaitEndsWithTheContext(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	mustLease(t, db, "s")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.LeaseShard(ctx, "s", "o", time.Hour, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// What Postgres says of a statement that it was told to stop is not all there is
// to the error.
func TestLeaseShard_EndsWithTheContextWhilePostgresWorks(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	tx, err := db.sql.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE weir.shard`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.LeaseShard(ctx, "s", "o", time.Hour, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestLeaseShard_TakenOverFromADeadHolderFencesIt(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	db, other := open(t, address), open(t, address)
	old := mustLease(t, db, "s")
	var backend int
	if err := old.conn.QueryRowContext(t.Context(), `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		t.Fatal(err)
	}
	next := func(db *DB, lease *Lease) (batch int64, err error) {
		err = db.InTx(t.Context(), func(tx *Tx) (err error) {
			batch, err = tx.NextBatch(t.Context(), lease, Totals{Messages: 2, Events: 3, DeadLetters: 1})
			return err
		})
		return batch, err
	}
	if batch, err := next(db, old); batch != 1 || err != nil {
		t.Fatalf("the holder's first batch: %d, %v", batch, err)
	}
	mustExec(t, other, `SELECT pg_terminate_backend($1)`, backend)
	fresh, err := other.LeaseShard(t.Context(), "s", "another", 10*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fresh.Close() })
	if _, err := next(db, old); !errors.Is(err, ErrFenced) {
		t.Errorf("the old lease: got %v, want ErrFenced", err)
	}
	if err := old.Check(t.Context()); err == nil {
		t.Error("the old lease checks well")
	}
	if batch, err := next(other, fresh); batch != 2 || err != nil {
		t.Errorf("the new lease: batch %d, %v", batch, err)
	}
	shards, err := db.Shards(t.Context())
	want := Totals{Messages: 4, Events: 6, DeadLetters: 2}
	if err != nil || len(shards) != 1 || shards[0].Totals != want || shards[0].Owner != "another" || shards[0].LastBatch != 2 || shards[0].FlushedAt.IsZero() {
		t.Errorf("got %+v, %v", shards, err)
	}
}

func TestNextBatch_CommitsInTheOrderOfItsNumbers(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	lease := mustLease(t, db, "s")
	next := func(tx *Tx) error {
		_, err := tx.NextBatch(t.Context(), lease, Totals{})
		return err
	}
	first := begin(t.Context(), db, next)
	if err := <-first.did; err != nil {
		t.Fatal(err)
	}
	second := begin(t.Context(), db, next)
	second.end <- nil
	waitForLock(t, db, 1)
	first.end <- nil
	if err := errors.Join(<-first.done, <-second.done); err != nil {
		t.Error(err)
	}
}

func TestLeaseShard_ManyAtOnceWhileAnotherFlushes(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	defs := []*aggregation.Definition{calls("LeaseOne"), calls("LeaseTwo"), calls("LeaseThree")}
	db := open(t, address)
	if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	writer := mustLease(t, db, "writer", defs...)
	// This flush is open all the time: whoever leases must not wait for it.
	open1 := begin(t.Context(), db, func(tx *Tx) error {
		batch, err := tx.NextBatch(t.Context(), writer, Totals{})
		if err != nil {
			return err
		}
		return tx.WriteDelta(t.Context(), writer.ShardID, batch, oneCall(defs[0], time.Unix(0, 0)))
	})
	if err := <-open1.did; err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 6 {
		pool := open(t, address)
		group.Go(func() {
			lease, err := pool.LeaseShard(t.Context(), fmt.Sprint("shard", i), "o", 10*time.Second, defs)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = lease.Close() }()
			for _, def := range defs {
				if err := flush(t.Context(), pool, lease, oneCall(def, time.Unix(int64(i), 0)), NewClaims()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	open1.end <- nil
	if err := <-open1.done; err != nil {
		t.Error(err)
	}
	for i, def := range defs {
		want := 6
		if i == 0 {
			want = 7
		}
		table := "weir_data." + def.Table(aggregation.Seconds)
		if n := ask[int](t, db, `SELECT count(*) FROM `+table); n != want {
			t.Errorf("%s has %d rows, want %d", table, n, want)
		}
		// A partition and its part for all times, per shard.
		if n := ask[int](t, db, `SELECT count(*) FROM pg_partition_tree($1) WHERE level > 0`, table); n != 14 {
			t.Errorf("%s has %d partitions, want 14", table, n)
		}
	}
}

// A move and a worker that leases the shard again may both find that it has no
// part of the tables yet.
func TestAddPartitions_ManyAtOnceMakeThemOnce(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	for round := range 5 {
		def := calls(fmt.Sprint("Round", round))
		if err := db.Apply(t.Context(), []*aggregation.Definition{def}, PlanOptions{}); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			mustLease(t, db, "a")
		}
		var group errgroup.Group
		for range 5 {
			conn, err := db.sql.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() error {
				return errors.Join(addPartitions(t.Context(), conn, "a", []*aggregation.Definition{def}), conn.Close())
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
}
