package audit

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/store"
)

// folded has 90 events of two sources, six of which are foreign messages, in
// the tables, with some levels complete and some not.
func folded(t *testing.T) *harness {
	t.Helper()
	h := newHarness(t)
	h.publish("gw-1", 1, 40)
	for n := range 6 {
		h.send("gw-3", "", 100+n)
	}
	stop := h.run("w2")
	h.drain()
	stop() // which writes the coarser levels
	h.run("w1")
	h.publish("gw-2", 1, 44)
	h.drain()
	return h
}

func TestAudit_IsGreenWhereEverythingIsCountedOnce(t *testing.T) {
	t.Parallel()
	h := folded(t)
	for range 3 {
		h.green(h.pass())
	}
	r := h.full()
	h.green(r)
	if got := r.Sentence(); !strings.HasPrefix(got, "90 events: all accounted for, verified") {
		t.Errorf("got %q", got)
	}
	if r.Stream.Verified != 90 || r.Balance.Claims != 90 || r.Balance.Ledger != 90 || r.Drill.At == nil || r.Drill.Problem != "" {
		t.Errorf("got %+v %+v %+v", r.Stream, r.Balance, r.Drill)
	}
	levels := 0
	for _, l := range r.Levels {
		if l.Aggregation != "ApiVersionPerAppAgg" {
			continue
		}
		levels++
		if l.Checked.Events != 90 || l.Checked.Checksum == 0 {
			t.Errorf("got %+v", l)
		}
	}
	if levels != 6 {
		t.Errorf("got %d levels", levels)
	}
}

func TestAudit_FindsWhatIsPlantedAtEveryLevel(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.green(h.full())
	for _, level := range []string{"seconds", "minutes", "hours", "days", "months", "years"} {
		table := "weir_data.apiversionperappagg_" + level
		events := "weir_events"
		if level == "seconds" || level == "minutes" || level == "hours" {
			events = "weir_events[1]"
		}
		one := fmt.Sprintf(` WHERE (bucket, shard_id, batch_no) = (SELECT bucket, shard_id, batch_no FROM %s WHERE shard_id = 'w2' ORDER BY bucket LIMIT 1)`, table)
		n := number(t, h.db, `SELECT sum(e) FROM (SELECT `+strings.Replace(events, "weir_events[1]", "(SELECT sum(x) FROM unnest(weir_events) x)", 1)+` AS e FROM `+table+one+`) s`)
		for _, planted := range []struct {
			name, statement  string
			lost, duplicated int64
		}{
			{"loss", `DELETE FROM ` + table + one, n, 0},
			{"duplicate", `INSERT INTO ` + table + ` SELECT (jsonb_populate_record(t, '{"batch_no": 0}')).* FROM ` + table + ` t` + one, 0, n},
			{"tampering", `UPDATE ` + table + ` SET ` + events + ` = ` + events + ` + 7` + one, 0, 7},
			{"swap", `UPDATE ` + table + ` SET weir_checksum = weir_checksum # 4711` + one, 1, 1},
		} {
			t.Run(level+" "+planted.name, func(t *testing.T) {
				// One snapshot, as the auditor has: a worker still writes coarser levels.
				tx, err := h.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				if _, err := tx.ExecContext(t.Context(), `SET LOCAL search_path = weir, weir_data`); err != nil {
					t.Fatal(err)
				}
				result, err := tx.ExecContext(t.Context(), planted.statement)
				if err != nil {
					t.Fatal(err)
				}
				if rows, _ := result.RowsAffected(); rows == 0 {
					t.Fatal("nothing was planted")
				}
				all, err := aggregates(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				for _, agg := range all {
					always := span{always, never}
					facts, err := snapshot{tx}.facts(t.Context(), agg, []span{always})
					if err != nil {
						t.Fatal(err)
					}
					for i, g := range agg.levels {
						c, err := snapshot{tx}.checkLevel(t.Context(), agg, facts, i, always)
						if err != nil {
							t.Fatal(err)
						}
						here := agg.id == "ApiVersionPerAppAgg" && g.String() == level
						if !here && len(c.mismatches) > 0 {
							t.Errorf("%s per %s: found %+v", agg.id, g, c.mismatches)
						}
						if !here {
							continue
						}
						var lost, duplicated int64
						for _, m := range c.mismatches {
							f := m.finding(agg)
							lost, duplicated = lost+f.Lost, duplicated+f.Duplicated
						}
						rows, _ := result.RowsAffected()
						if planted.name == "tampering" {
							planted.duplicated *= rows
						}
						if lost != planted.lost || duplicated != planted.duplicated {
							t.Errorf("found %d lost, %d duplicated; planted %d, %d", lost, duplicated, planted.lost, planted.duplicated)
						}
					}
				}
			})
		}
	}
}

func TestAudit_NamesWhatDoesNotAddUpAndSettlesItWhenItDoes(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.green(h.pass())
	const one = ` WHERE (bucket, shard_id, batch_no) = (SELECT bucket, shard_id, batch_no FROM weir_data.apiversionperappagg_seconds WHERE shard_id = 'w2' ORDER BY bucket LIMIT 1)`
	clear(h.seen) // as if something had changed at the same time
	h.exec(`UPDATE weir_data.apiversionperappagg_seconds SET weir_events[1] = weir_events[1] + 3` + one)
	r := h.pass()
	if r.Green() || r.Duplicated != 3 || r.Lost != 0 || len(r.Findings) != 1 {
		t.Fatalf("%s: %+v", r.Sentence(), r.Findings)
	}
	if f := r.Findings[0]; !strings.Contains(f.Detail, "ApiVersionPerAppAgg per seconds, 2024-05-17T12:00:00Z to 2024-05-17T12:15:00Z: 3 events are too many") {
		t.Errorf("got %+v", f)
	}
	if _, err := h.Accept(t.Context(), r.Findings[0].ID); err != nil {
		t.Fatal(err)
	}
	if r = h.pass(); !r.Green() || r.Accepted != 1 || r.Duplicated != 0 {
		t.Errorf("accepted: %s", r.Sentence())
	}
	h.exec(`UPDATE weir_data.apiversionperappagg_seconds SET weir_events[1] = weir_events[1] + 1` + one)
	if r = h.pass(); r.Green() {
		t.Errorf("it has changed since it was accepted: %s", r.Sentence())
	}
	h.exec(`UPDATE weir_data.apiversionperappagg_seconds SET weir_events[1] = weir_events[1] - 4` + one)
	r = h.pass()
	h.green(r)
	if len(r.Findings) != 0 {
		t.Errorf("got %+v", r.Findings)
	}
}

func TestAudit_FindsRowsThatNobodyFoldedWhereverTheyAre(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.exec(`
		INSERT INTO weir_data.apiversionperappagg_days
		SELECT (jsonb_populate_record(t, '{"bucket": "1999-12-31 00:00:00+00"}')).* FROM weir_data.apiversionperappagg_days t LIMIT 1`)
	r := h.pass()
	if r.Green() || len(r.Findings) != 1 || r.Findings[0].Level != "days" {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
}

func TestAudit_GivesWhatWasAcknowledgedAndNotFoldedToTheWorkers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publish("gw-1", 1, 10)
	h.send("gw-2", "", 11)
	h.acknowledge(11)
	h.drain()
	r := h.pass()
	if r.Green() || r.Unaccounted != 11 || r.Stream.Holes != 11 || len(r.Findings) != 1 {
		t.Fatalf("%s: %+v", r.Sentence(), r.Findings)
	}
	if !strings.Contains(r.Findings[0].Detail, "gw-1/e/1, gw-1/e/2,") {
		t.Errorf("got %q", r.Findings[0].Detail)
	}
	if n := number(t, h.db, `SELECT count(*) FROM weir.repair`); n != 11 {
		t.Errorf("%d repairs", n)
	}
	h.run("w1") // which folds them
	deadline := time.Now().Add(5 * time.Minute)
	for (!r.Green() || r.Balance.Events != 11) && time.Now().Before(deadline) { // the balance is counted less often
		clear(h.turn)
		r = h.pass()
	}
	h.green(r)
	if r.Balance.Events != 11 {
		t.Errorf("%d events folded", r.Balance.Events)
	}
	if r.Stream.Repaired != 11 || !strings.Contains(r.Sentence(), "11 repaired") {
		t.Errorf("%s", r.Sentence())
	}
}

func TestAudit_RepairsNothingThatMayBeFoldedAlready(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.green(h.pass())
	h.exec(`UPDATE weir.ledger_page SET bits = set_bit(bits, 4, 0) WHERE source = 'gw-1'`)
	h.counted = time.Time{} // it is due
	if r := h.pass(); r.Green() || !strings.Contains(r.Findings[0].Detail, "flushes put 90 identities into the ledger, and it has 89") {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	r := h.full() // which reads the stream again
	if r.Stream.Holes != 1 || !slices.ContainsFunc(r.Findings, func(f Finding) bool { return strings.Contains(f.Detail, "gw-1/e/5") }) {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	if n := number(t, h.db, `SELECT count(*) FROM weir.repair`); n != 0 {
		t.Errorf("%d repairs", n)
	}
	// An older ledger, as after a restore, whose totals are as old: that is repaired.
	h.exec(`UPDATE weir.shard SET claims = claims - 1 WHERE shard_id = 'w1'`)
	h.counted = time.Time{} // it is due
	h.pass()
	if n := number(t, h.db, `SELECT count(*) FROM weir.repair`); n != 1 {
		t.Errorf("%d repairs", n)
	}
}

func TestAudit_NamesTheNumbersThatTheStreamLost(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run("w1")
	for _, n := range []int{1, 2, 3, 6, 7, 9} {
		h.send("gw-1", fmt.Sprintf("gw-1/e/%d", n), n)
	}
	h.drain()
	h.pass()
	h.exec(`
		INSERT INTO weir.source (source, epoch, next, acked, incarnation, sequence, told_at)
		SELECT 'gw-1', 'e', 12, 10, incarnation, 6, now() FROM weir.audit_stream`)
	r := h.pass()
	if r.Lost != 4 || len(r.Sources) != 1 || r.Sources[0].Ranges != "n=4..5, n=8, n=10" {
		t.Fatalf("%s: %+v %+v", r.Sentence(), r.Sources, r.Findings)
	}
	h.send("gw-1", "gw-1/e/10", 10)
	h.send("gw-1", "gw-1/e/8", 8) // a publisher that still has them
	h.send("gw-1", "gw-1/e/4", 4)
	h.send("gw-1", "gw-1/e/5", 5)
	h.drain()
	h.green(h.pass())
	// A word that comes after what is verified is not taken yet.
	h.exec(`UPDATE weir.source SET acked = 12, sequence = 100`)
	if r = h.pass(); !r.Green() || !r.Sources[0].Waiting {
		t.Errorf("%s: %+v", r.Sentence(), r.Sources)
	}
}

func TestAudit_SeesThatTheStreamLostItsEnd(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.green(h.pass())
	// As if message 90 had been another when it was verified.
	h.exec(`UPDATE weir.audit_stream SET stored = stored - 1`)
	r := h.pass()
	if !r.Green() || len(r.Findings) != 1 || r.Findings[0].Kind != kindReused || r.Stream.Verified != 90 {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	// As if there had been more.
	h.exec(`UPDATE weir.audit_stream SET sequence = 95, highest = 95`)
	r = h.pass()
	if !r.Green() || len(r.Findings) != 2 || !strings.Contains(r.Findings[1].Detail, "it had 95 messages, and now ends with message 90") || r.Stream.Verified != 90 {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	// Another stream under the same name.
	h.exec(`UPDATE weir.audit_stream SET incarnation = 'former'`)
	if r = h.pass(); !r.Green() || len(r.Findings) != 3 || r.Findings[2].Kind != kindReplaced {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
}

func TestAudit_HasNoFalseAlarmsWhileEverythingMoves(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run("w1", "w2")
	third := h.run("w3")
	stop, published := make(chan struct{}), make(chan int)
	go func() {
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for n := 1; ; n++ {
			select {
			case <-stop:
				published <- n - 1
				return
			case <-pace.C:
				h.send("gw-1", fmt.Sprintf("gw-1/e/%d", n), n%300)
			}
		}
	}()
	upkeep := store.Upkeep{Aggregations: h.catalog.Aggregations, Owner: "test"}
	moved := make(chan error, 1)
	for i := range 6 {
		h.green(h.pass())
		clear(h.turn) // all levels, each time
		switch i {
		case 2, 4:
			if _, err := h.store.Compact(t.Context(), 0, h.catalog.Aggregations); err != nil && !store.MaintenanceBusy(err) {
				t.Fatal(err)
			}
		case 3, 5:
			now := time.Date(2024, 5, 17, 16, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Hour)
			if _, err := h.store.Purge(t.Context(), now, h.catalog.Aggregations); err != nil && !store.MaintenanceBusy(err) {
				t.Fatal(err)
			}
		}
		if i == 3 {
			third()
			go func() {
				_, err := h.store.MergeShard(t.Context(), upkeep, "w3", "w1")
				moved <- err
			}()
		}
	}
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	close(stop)
	n := <-published
	h.drain()
	r := h.full()
	h.green(r)
	if r.Balance.Events != int64(n) {
		t.Errorf("%s, published %d", r.Sentence(), n)
	}
	t.Log(r.Sentence())
}
