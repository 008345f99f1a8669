package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSession_AFlushThatHangsIsEndedAndItsLocksAreFree(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	db, err := Open(t.Context(), Config{URL: address, IdleInTx: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	hanging := begin(t.Context(), db, func(tx *Tx) error { return tx.Claim(t.Context(), numbers("e", 1, 2)) })
	if err := <-hanging.did; err != nil {
		t.Fatal(err)
	}
	mustClaim(t, db, numbers("e", 1, 2)) // waits until that one is ended
	hanging.end <- nil
	if err := <-hanging.done; err == nil || !strings.Contains(err.Error(), "commit") {
		t.Errorf("the one that hung: %v", err)
	}
}

func TestSession_AFlushWaitsForNoLockForLongerThanOneCanHang(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	db, err := Open(t.Context(), Config{URL: address, IdleInTx: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	lease := mustLease(t, db, "w1")
	holder := begin(t.Context(), open(t, address), func(tx *Tx) error { return tx.Claim(t.Context(), numbers("e", 1)) })
	if err := <-holder.did; err != nil {
		t.Fatal(err)
	}
	err = db.InTx(t.Context(), func(tx *Tx) error {
		if _, err := tx.NextBatch(t.Context(), lease, Totals{}); err != nil {
			return err
		}
		return tx.Claim(t.Context(), numbers("e", 1))
	})
	if !hasCode(err, "55P03") || Unstorable(err) {
		t.Errorf("got %v, want that the lock was not to be had", err)
	}
	holder.end <- errors.New("by the test")
	<-holder.done //nolint:errcheck // that it has ended is enough here
	for name, want := range map[string]string{
		"idle_in_transaction_session_timeout": "300ms", "client_connection_check_interval": "300ms", "tcp_user_timeout": "300", "tcp_keepalives_idle": "3",
		"lock_timeout": "0", // in flushes only
	} {
		if got := ask[string](t, db, `SHOW `+name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
