package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/store"
)

// changed returns the definitions with a change in one.
func changed(defs []*aggregation.Definition, name string, change func(*aggregation.Definition)) (all []*aggregation.Definition) {
	for _, def := range defs {
		if def.Name == name {
			copied := *def
			change(&copied)
			def = &copied
		}
		all = append(all, def)
	}
	return all
}

func (h *harness) exec(statement string) {
	h.t.Helper()
	if _, err := h.sql.ExecContext(h.t.Context(), statement); err != nil {
		h.t.Fatalf("%s: %v", statement, err)
	}
}

func TestWorker_WhoseTablesWereDroppedEndsAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	_, ended := h.start("w1")
	h.publishCalls("gw", 1, 20)
	h.drain()
	table := h.catalog.Aggregation("ApiVersionPerAppAgg").Table(aggregation.Seconds)
	h.exec(`DROP TABLE weir_data.` + table + ` CASCADE`)
	h.publishCalls("gw", 21, 40)
	if err := h.end(ended); !errors.Is(err, errOvertaken) || !store.TablesChanged(err) || !strings.Contains(err.Error(), "restart it with the definitions") {
		t.Errorf("got %v, want an end that says what to do", err)
	}
}

func TestWorker_WhoseDefinitionsTheDatabaseHasNoMoreEnds(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	_, ended := h.start("w1")
	h.publishCalls("gw", 1, 20)
	h.drain()
	table := h.catalog.Aggregation("ApiVersionPerAppAgg").Table(aggregation.Seconds)
	h.exec(`DROP TABLE weir_data.` + table + ` CASCADE`)
	h.exec(`DELETE FROM weir.aggregation WHERE name = 'ApiVersionPerAppAgg'`)
	h.publishCalls("gw", 21, 40)
	if err := h.end(ended); !errors.Is(err, errOvertaken) || !strings.Contains(err.Error(), "ApiVersionPerAppAgg") {
		t.Errorf("got %v, want an end that says which definition the database lacks", err)
	}
}

func TestWorker_GoesOnWhereTheDatabaseStillHasItsDefinitions(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.worker("w1")
	w.cfg.Cadence = func(aggregation.Granularity) time.Duration { return 0 }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	h.publishCalls("gw", 1, 20)
	h.drain()
	table := "weir_data." + h.catalog.Aggregation("ApiVersionPerAppAgg").Table(aggregation.Days)
	part := func() string {
		return ask[string](h, `SELECT coalesce(max(inhrelid::regclass::text), '') FROM pg_inherits WHERE inhparent = $1::regclass`, table)
	}
	h.exec(`DROP TABLE ` + part())
	h.publishCalls("gw", 21, 40)
	h.drain()
	h.until("the level has rows again", func() (bool, error) {
		return part() != "" && ask[int](h, `SELECT count(*) FROM `+table) > 0, nil
	})
	stop()
	if err := h.end(ended); err != nil {
		t.Errorf("ended: %v", err)
	}
	// Of the level whose rows were dropped nothing can be said: what it had is gone.
	if got := ask[int64](h, `SELECT sum(e)::bigint FROM weir_data.apiversionperappagg_seconds, unnest(weir_events) AS e`); got != 40 {
		t.Errorf("%d events are folded, want 40", got)
	}
}

func TestWorker_ThatLeasesAnewBesideNewerDefinitionsEnds(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	h.publishCalls("gw", 1, 20)
	h.process(w, h.take(w, 20)...)
	if w.cascade == nil {
		t.Fatal("no cascade")
	}
	h.terminate(holdsALease)
	if err := w.keepLease(t.Context()); err != nil || w.cascade != nil {
		t.Fatalf("with the same definitions: %v, and what the levels lack is kept: %v", err, w.cascade != nil)
	}
	newer := changed(h.catalog.Aggregations, "ApiVersionPerAppAgg", func(def *aggregation.Definition) {
		def.Measures = append(def.Measures[:len(def.Measures):len(def.Measures)], aggregation.Measure{Name: "added", Op: aggregation.Count})
	})
	if err := h.db.Apply(t.Context(), newer, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.keepLease(t.Context()); err != nil {
		t.Errorf("while it holds its lease: %v", err)
	}
	h.terminate(holdsALease)
	if err := w.keepLease(t.Context()); !errors.Is(err, errOvertaken) {
		t.Errorf("got %v, want an end", err)
	}
}

func TestWorker_WithTheShardOfBackfillsIsRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if err := h.worker(store.BackfillShard).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "backfills") {
		t.Errorf("got %v", err)
	}
}
