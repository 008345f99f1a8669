package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"weir/pkg/store"
)

// tables keeps a copy of all rows, and returns what puts it back: as a Postgres
// is restored that has lost its last commits.
func (h *harness) tables() (restore func()) {
	h.t.Helper()
	rows, err := h.sql.QueryContext(h.t.Context(), `
		SELECT format('%I.%I', n.nspname, c.relname), c.relname,
			(SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('weir', 'weir_data') AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT IN ('repair', 'aggregation')`)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	keep, back := []string{`CREATE SCHEMA copy`}, []string{`SET LOCAL session_replication_role = replica`} // no foreign keys meanwhile
	for rows.Next() {
		var table, name, columns string
		if err := rows.Scan(&table, &name, &columns); err != nil {
			h.t.Fatal(err)
		}
		keep = append(keep, fmt.Sprintf(`CREATE TABLE copy.%q AS TABLE %s`, name, table))
		back = append(back, `DELETE FROM `+table, fmt.Sprintf(`INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM copy.%q`, table, columns, columns, name))
	}
	if err := rows.Err(); err != nil || len(keep) < 10 {
		h.t.Fatal(len(keep), err)
	}
	run := func(statements []string) {
		h.t.Helper()
		if _, err := h.sql.ExecContext(h.t.Context(), `BEGIN; `+strings.Join(statements, "; ")+`; COMMIT`); err != nil {
			h.t.Fatal(err)
		}
	}
	run(keep)
	return func() { h.t.Helper(); run(back) }
}

// everything is what all aggregations answer at every level.
func (h *harness) everything() (answers string) {
	h.t.Helper()
	for _, def := range h.catalog.Aggregations {
		for _, per := range def.Granularities {
			answers += fmt.Sprintf("%s per %s:\n%s\n", def.Name, per, h.answer(def, per))
		}
	}
	return answers
}

// Postgres comes back without its last commits, whose messages are acknowledged:
// nobody would deliver them again. Repairs bring them back, each event once.
func TestRepair_FoldsWhatPostgresHasLost(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	w := h.idle("w1")
	n, events := h.publishMix("a")
	h.process(w, h.take(w, n)...)
	restore := h.tables()
	more, others := h.publishMix("b")
	h.process(w, h.take(w, more)...)
	whole, totals, letters := h.everything(), h.totals(), len(h.letters())
	if totals.Events != int64(events+others) {
		t.Fatalf("%d events are folded, want %d", totals.Events, events+others)
	}
	if err := w.lease.Close(); err != nil {
		t.Fatal(err)
	}

	restore()
	if got := h.totals().Events; got != int64(events) {
		t.Fatalf("%d events are left, want %d: the test proves nothing otherwise", got, events)
	}
	last := int(h.lastSequence()) //nolint:gosec // few
	if _, err := h.sql.ExecContext(t.Context(), `INSERT INTO weir.repair (incarnation, sequence) SELECT $1, generate_series(1, $2::bigint) UNION ALL SELECT 'another', 1`,
		w.consumer.Incarnation(), last+1); err != nil {
		t.Fatal(err)
	}
	workers := []*Worker{h.idle("w1"), h.idle("w2")}
	taken, err := h.db.TakeRepairs(t.Context(), 3) // by a worker that dies of it
	if err != nil || len(taken) != 3 {
		t.Fatalf("took %v, %v", taken, err)
	}
	for _, w := range workers {
		if _, err := w.repair(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if open := ask[int](h, `SELECT count(*) FROM weir.repair WHERE done_at IS NULL`); open != 3 {
		t.Errorf("%d repairs are left, want those 3 that are taken", open)
	}
	h.expire()
	if _, err := workers[1].repair(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.everything(); got != whole {
		t.Errorf("got\n%s\nwant\n%s", got, whole)
	}
	if got := h.totals(); got != totals || len(h.letters()) != letters {
		t.Errorf("control totals %+v with %d dead letters, want %+v with %d", got, len(h.letters()), totals, letters)
	}
	outcomes := fmt.Sprint(h.counts(`SELECT coalesce(outcome, 'none'), count(*) FROM weir.repair GROUP BY 1`))
	if want := fmt.Sprint(map[string]int64{"folded": int64(more), "was folded": int64(n), "gone": 2}); outcomes != want {
		t.Errorf("outcomes %s, want %s", outcomes, want)
	}

	if _, err := h.sql.ExecContext(t.Context(), `UPDATE weir.repair SET done_at = NULL, taken_at = NULL`); err != nil {
		t.Fatal(err)
	}
	if _, err := workers[0].repair(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.totals(); got != totals {
		t.Errorf("once more: control totals %+v, want %+v", got, totals)
	}
	if n := ask[int](h, `SELECT count(*) FROM weir.repair WHERE outcome = 'folded'`); n != 0 {
		t.Errorf("once more: %d messages were folded", n)
	}
}

// A running worker does both without being told.
func TestErrands_AreDoneByWhoeverRuns(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w9")
	h.publishCalls("gw", 1, 3)
	messages := h.take(w, 3)
	w.unstorable[messages[1].Sequence] = "by the test"
	h.process(w, messages[:2]...)
	for _, m := range messages {
		_ = m.Ack() // the last one as by a worker whose commit was lost
	}
	h.drain()
	if _, err := h.sql.ExecContext(t.Context(), `INSERT INTO weir.repair (incarnation, sequence) VALUES ($1, 3)`, w.consumer.Incarnation()); err != nil {
		t.Fatal(err)
	}
	ids := h.request(store.DeadLetterFilter{})
	h.run(2)
	h.until("both are done", func() (bool, error) {
		return ask[int](h, `SELECT count(*) FROM weir.repair WHERE outcome = 'folded'`) == 1 &&
			slices.ContainsFunc(h.letters(), func(l store.DeadLetter) bool { return l.ID == ids[0] && l.State == store.DeadLetterFolded }), nil
	})
	h.wantCalls("after the errands", 3)
}
