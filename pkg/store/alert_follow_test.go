package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"weir/pkg/alert"
)

// follow reads on from a number to the end, a page of two at a time.
func follow(t *testing.T, db *DB, after int64) (ids []string, at int64) {
	t.Helper()
	last, err := db.LastAlert(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for at = after; at < last; {
		page, err := db.AlertsAfter(t.Context(), at, AlertFilter{Limit: 2})
		if err != nil || len(page) == 0 {
			t.Fatalf("after %d of %d: %d alerts, %v", at, last, len(page), err)
		}
		for _, a := range page {
			if a.Number <= at {
				t.Errorf("number %d after %d", a.Number, at)
			}
			ids, at = append(ids, a.Alert.ID), a.Number
		}
	}
	return ids, at
}

// A transaction that began before another one and commits after it: its alerts
// come later, and are not lost to who had read the other's.
func TestAlertsAfter_AlertThatIsCommittedLaterComesLater(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writing := func(n int) *step {
		s := begin(t.Context(), db, func(tx *Tx) error { return tx.WriteAlerts(t.Context(), []alert.Alert{slowAlert(n)}) })
		if err := <-s.did; err != nil {
			t.Fatal(err)
		}
		return s
	}
	commit := func(s *step) {
		t.Helper()
		s.end <- nil
		if err := <-s.done; err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := writing(1), writing(2), writing(3)
	commit(second)
	ids, at := follow(t, db, 0)
	if fmt.Sprint(ids) != "[id002]" {
		t.Errorf("while two are open: got %v", ids)
	}
	commit(first)
	third.end <- errRefused
	if err := <-third.done; !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	if ids, at = follow(t, db, at); fmt.Sprint(ids) != "[id001]" {
		t.Errorf("then: got %v, want what was committed then", ids)
	}
	if ids, _ = follow(t, db, at); ids != nil {
		t.Errorf("then: got %v, want nothing", ids)
	}
	if ids, _ = follow(t, db, 0); fmt.Sprint(ids) != "[id002 id001]" {
		t.Errorf("from the beginning: got %v, want the same order", ids)
	}
}

// One who gives numbers and has not committed yet hides nothing from others, and
// keeps nobody waiting.
func TestLastAlert_DoesNotWaitForWhoNumbersAlready(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, slowAlert(1))
	other := begin(t.Context(), db, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(t.Context(), `SELECT last FROM weir.alert_numbered FOR UPDATE`)
		return err
	})
	if err := <-other.did; err != nil {
		t.Fatal(err)
	}
	if last, err := db.LastAlert(t.Context()); last != 0 || err != nil {
		t.Errorf("got %d, %v, want what is committed", last, err)
	}
	other.end <- errRefused
	if err := <-other.done; !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	if ids, _ := follow(t, db, 0); fmt.Sprint(ids) != "[id001]" {
		t.Errorf("got %v", ids)
	}
}

// Nor does it wait for who changes an alert, who might wait for what it holds.
func TestLastAlert_PassesOverAnAlertThatSomebodyChanges(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	writeAlerts(t, db, firedAlert(1), slowAlert(2))
	ending := begin(t.Context(), db, func(tx *Tx) error { return tx.WriteAlerts(t.Context(), []alert.Alert{resolvedAlert(1)}) })
	if err := <-ending.did; err != nil {
		t.Fatal(err)
	}
	ids, at := follow(t, db, 0)
	if fmt.Sprint(ids) != "[id002]" {
		t.Errorf("got %v", ids)
	}
	ending.end <- nil
	if err := <-ending.done; err != nil {
		t.Fatal(err)
	}
	if ids, _ = follow(t, db, at); fmt.Sprint(ids) != "[fired001 over001]" {
		t.Errorf("got %v, want what fired before what says that it is over", ids)
	}
}

func TestAlertsAfter_NumbersManyInOrderAndFilters(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	const many = 2*numberedAtOnce + 3
	mustExec(t, db, `INSERT INTO weir.alert (id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, shard_id)
		SELECT 'id' || i, CASE WHEN i % 100 = 0 THEN 'rare' ELSE 'slow' END, '', 'local', 'firing', '{}', 2, 'm', i, 1, '2026-01-01Z'::timestamptz + i * interval '1 s', 'w1'
		FROM generate_series(1, $1::int) i`, many)
	if last, err := db.LastAlert(t.Context()); last != many || err != nil {
		t.Fatalf("got %d, %v, want %d", last, err, many)
	}
	if n := ask[int](t, db, `SELECT count(*) FROM weir.alert WHERE id <> 'id' || number`); n != 0 {
		t.Errorf("%d alerts are not in the order in which they fired", n)
	}
	page, err := db.AlertsAfter(t.Context(), 100, AlertFilter{Rule: "rare", Limit: 3})
	if err != nil || len(page) != 3 || page[0].Number != 200 || page[2].Number != 400 || page[0].Alert.ID != "id200" {
		t.Errorf("got %+v, %v, want numbers 200, 300 and 400", page, err)
	}
}

// Writers that commit in any order, and some that do not, several that number, and
// readers that read on while all of that goes on: each has every alert once, all in one order.
func TestAlertsAfter_EveryReaderHasEveryAlertOnceAmongConcurrentWriters(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	const writers, each, readers = 6, 25, 3
	var writing, reading sync.WaitGroup
	written := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			for n := range each {
				err := db.InTx(t.Context(), func(tx *Tx) error {
					a := slowAlert(n)
					a.ID = fmt.Sprintf("w%d-%d", w, n)
					if err := tx.WriteAlerts(t.Context(), []alert.Alert{a}); err != nil {
						return err
					}
					if _, err := tx.tx.ExecContext(t.Context(), `SELECT pg_sleep($1)`, rand.Float64()/100); err != nil {
						return err
					}
					if n%5 == 4 {
						return errRefused
					}
					return nil
				})
				if err != nil && !errors.Is(err, errRefused) {
					t.Error(err)
				}
			}
		})
	}
	got, at := make([][]string, readers), make([]int64, readers)
	for r := range readers {
		reading.Go(func() {
			for {
				var ids []string
				ids, at[r] = follow(t, db, at[r])
				got[r] = append(got[r], ids...)
				select {
				case <-written:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(written)
	reading.Wait()
	for r := range readers { // once more, one by one: a reader that finds another numbering does not wait for what that one has
		ids, _ := follow(t, db, at[r])
		got[r] = append(got[r], ids...)
	}
	if len(got[0]) != writers*each*4/5 {
		t.Errorf("got %d alerts, want %d", len(got[0]), writers*each*4/5)
	}
	seen := alert.NewSeen(len(got[0]))
	for _, id := range got[0] {
		if !seen.Add(id) || strings.HasSuffix(id, "-4") {
			t.Errorf("%s came twice, or was never committed", id)
		}
	}
	for r := range readers {
		if !slices.Equal(got[r], got[0]) {
			t.Errorf("readers differ:\n%v\n%v", got[r], got[0])
		}
	}
}
