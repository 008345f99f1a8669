package audit

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"
)

// hurried lets passes do one piece of one period each.
func (h *harness) hurried() {
	h.cfg.Budget = 1
	all, err := aggregates(h.t.Context(), h.db)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range h.parts(all, time.Now()) {
		h.smaller[p.key()] = 10
	}
}

func TestAudit_VerifiesALongHistoryPieceByPiece(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.exec(`UPDATE weir_data.apiversionperappagg_seconds SET weir_events[1] = weir_events[1] + 3
		WHERE (bucket, shard_id, batch_no) = (SELECT bucket, shard_id, batch_no FROM weir_data.apiversionperappagg_seconds WHERE shard_id = 'w2' ORDER BY bucket DESC LIMIT 1)`)
	h.hurried()
	if r := h.pass(); r.CaughtUp || !r.Green() {
		t.Fatalf("one period of one level, and it has all: %s", r.Sentence())
	}
	if n := number(t, h.db, `SELECT count(*) FROM weir.audit_aggregation WHERE round_at IS NOT NULL AND isfinite(done_to)`); n != 1 {
		t.Errorf("%d rounds are under way", n)
	}
	maps.DeleteFunc(h.smaller, func(part string, _ int) bool { return !strings.HasPrefix(part, "ApiVersionPerAppAgg ") }) // it is about that one
	passes := 1
	for r := h.pass(); r.Green(); r = h.pass() {
		if passes++; passes == 5000 {
			t.Fatal("it never comes to the end")
		}
	}
	if passes < 20 {
		t.Errorf("it took %d passes", passes)
	}
}

func TestAudit_GoesOnWithOtherPartsWhereOneFails(t *testing.T) {
	t.Parallel()
	h := folded(t)
	h.ddl(`ALTER TABLE weir_data.apiversionperappagg_seconds RENAME COLUMN weir_events TO x`)
	levels := number(t, h.db, `SELECT sum(jsonb_array_length(definition->'every')) FROM weir.aggregation`)
	r, err := h.Pass(t.Context())
	if err == nil || !strings.Contains(err.Error(), "add up ApiVersionPerAppAgg per seconds") {
		t.Errorf("got %v", err)
	}
	if r == nil || r.CaughtUp {
		t.Errorf("got %+v", r)
	}
	// The coarser levels lack rows that are only in that table.
	if n := number(t, h.db, `SELECT count(*) FROM weir.audit_aggregation WHERE round_at IS NULL`); n < levels-6 {
		t.Errorf("%d of %d parts are verified", n, levels)
	}
	if n := number(t, h.db, `SELECT count(*) FROM weir.audit_certificate`); n != 0 {
		t.Error("there is a certificate")
	}
	h.ddl(`ALTER TABLE weir_data.apiversionperappagg_seconds RENAME COLUMN x TO weir_events`)
	clear(h.turn)
	h.green(h.pass())
}

func TestAudit_CertifiesThoughNoPassGetsThrough(t *testing.T) {
	t.Parallel()
	h := folded(t)
	old := Certificate{Number: 1, Hour: time.Now().UTC().Truncate(time.Hour).Add(-5 * time.Hour), Residue: []string{}}
	body, hash, err := old.seal()
	if err != nil {
		t.Fatal(err)
	}
	h.exec(`INSERT INTO weir.audit_certificate (number, hour, body, hash) VALUES (1, $1, $2, $3)`, old.Hour, body, hash)
	h.cfg.Budget = 1
	passes := 0
	for number(t, h.db, `SELECT count(*) FROM weir.audit_certificate`) == 1 {
		if passes++; passes == 5000 {
			t.Fatal("there is no certificate")
		}
		h.pass()
	}
	if passes < 10 {
		t.Errorf("certified after %d passes", passes)
	}
	var newest *Certificate
	problem, err := h.Certificates(t.Context(), func(c *Certificate, _, _ string) { newest = c })
	if err != nil || problem != "" {
		t.Fatal(problem, err)
	}
	if !newest.Since.Equal(old.Hour.Add(time.Hour)) || newest.Hour.Before(newest.Since) || newest.Balance.Events != 90 {
		t.Errorf("got %+v after %+v", newest, old)
	}
}

func TestAudit_TakesTheLastWordOfASourceOfAFormerStream(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run("w1")
	h.publish("gw-1", 1, 3)
	h.drain()
	h.green(h.pass())
	h.exec(`INSERT INTO weir.source (source, epoch, next, acked, incarnation, sequence, told_at) VALUES ('gw-1', 'e', 6, 5, 'former', 150, now())`)
	h.exec(`INSERT INTO weir.audit_stream (incarnation, opened_at, began, sequence, highest) VALUES ('former', now() - interval '1 day', 1, 100, 100)`)
	if r := h.pass(); r.Lost != 2 || len(r.Sources) != 1 || r.Sources[0].Waiting || r.Sources[0].Ranges != "n=4..5" {
		t.Errorf("%s: %+v", r.Sentence(), r.Sources)
	}
}

func TestAudit_RepairsAMessageWhoseSequenceWasRepairedBefore(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publish("gw-1", 1, 1)
	h.acknowledge(1)
	state, err := h.stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.exec(`INSERT INTO weir.repair (incarnation, sequence, found_at, taken_at, done_at, outcome)
		VALUES ($1, 1, now() - interval '2 days', now() - interval '1 day', now() - interval '1 day', 'folded')`, state.Incarnation)
	if r := h.pass(); r.Stream.Holes != 1 {
		t.Fatalf("got %+v", r.Stream)
	}
	if n := number(t, h.db, `SELECT count(*) FROM weir.repair WHERE done_at IS NULL AND taken_at IS NULL AND outcome IS NULL AND found_at > now() - interval '1 hour'`); n != 1 {
		t.Error("the repair is not reopened")
	}
	h.exec(`UPDATE weir.repair SET done_at = now(), outcome = 'gone'`)
	counted := h.counted
	h.cost = time.Hour
	h.pass()
	if n := number(t, h.db, `SELECT count(*) FROM weir.repair WHERE done_at IS NULL`); n != 0 {
		t.Error("the repair is reopened for ever")
	}
	if h.counted != counted {
		t.Error("the ledger is counted in each pass for the same hole")
	}
}

func TestStream_IsNotBelievedToLackWhatItHas(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publish("gw-1", 1, 5)
	history, err := h.stream.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(first, from, until uint64) error {
		q := inquiry{history: history, first: first, left: 10}
		return q.gone(t.Context(), from, until)
	}
	if err := ask(1, 3, 6); !errors.Is(err, ErrUnread) {
		t.Errorf("messages that are there: %v", err)
	}
	if err := ask(1, 6, 1000); err != nil {
		t.Errorf("messages that are not: %v", err)
	}
	if err := ask(6, 1, 6); err != nil {
		t.Errorf("messages before the first: %v", err)
	}
}
