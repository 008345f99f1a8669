package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"weir/pkg/aggregation"
)

const kindDrill = "the auditor itself"

// Drill is the outcome of the last drill.
type Drill struct {
	At      *time.Time `json:"at"`      // nil: there was none yet
	Problem string     `json:"problem"` // "": whatever was planted was found
}

// drillAggregate is what drills are made with: four levels, UTC.
func drillAggregate() *aggregate {
	return &aggregate{
		id: "Drill", zone: time.UTC,
		levels: []aggregation.Granularity{aggregation.Seconds, aggregation.Minutes, aggregation.Hours, aggregation.Days},
	}
}

// drillTables are temporary tables with the names of those that the checks
// read. There is one shard, with four batches of ten events each, ten minutes
// apart; minutes have three of them, hours and days two. The message 1 to 40 of
// one publisher are in the ledger, with a foreign one, and there is a dead
// letter. Everything adds up.
const drillTables = `
	CREATE TEMP TABLE control (LIKE weir.control INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE purged (LIKE weir.purged INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE shard (LIKE weir.shard INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE watermark (LIKE weir.watermark INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE ledger_page (LIKE weir.ledger_page INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE ledger_full (LIKE weir.ledger_full INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE ledger_foreign (LIKE weir.ledger_foreign INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE dead_letter (LIKE weir.dead_letter INCLUDING ALL) ON COMMIT DROP;
	CREATE TEMP TABLE drill_seconds (bucket timestamptz, shard_id text, batch_no bigint, weir_events bigint[], weir_checksum integer) ON COMMIT DROP;
	CREATE TEMP TABLE drill_minutes (LIKE drill_seconds) ON COMMIT DROP;
	CREATE TEMP TABLE drill_hours (LIKE drill_seconds) ON COMMIT DROP;
	CREATE TEMP TABLE drill_days (bucket timestamptz, shard_id text, batch_no bigint, weir_events bigint, weir_checksum integer) ON COMMIT DROP;
	CREATE TEMP TABLE drill_batch ON COMMIT DROP AS
		SELECT b::bigint AS batch_no, '2024-01-01 10:00:00+00'::timestamptz + b * interval '10 minutes 7 seconds' AS at, -1000000007 * (b % 3) + b AS a, 1234567 * b AS c
		FROM generate_series(1, 4) b;
	SET LOCAL search_path = pg_temp;
	INSERT INTO shard (shard_id, owner, last_batch, messages, events, dead_letters, claims) VALUES ('drill', 'drill', 4, 41, 40, 1, 41);
	INSERT INTO watermark (shard_id, aggregation, level, batch_no) VALUES ('drill', 'Drill', 'minutes', 3), ('drill', 'Drill', 'hours', 2), ('drill', 'Drill', 'days', 2);
	INSERT INTO control (aggregation, shard_id, period, events, checksum)
		SELECT 'Drill', 'drill', date_bin('15 minutes', at, '2024-01-01 00:00:00+00'), 10 * count(*), (sum(a::bigint + c) % 4294967296 + 4294967296) % 4294967296 FROM drill_batch GROUP BY 3;
	INSERT INTO drill_seconds SELECT date_trunc('second', at), 'drill', batch_no, ARRAY[6, 4], a + c FROM drill_batch;
	INSERT INTO drill_minutes SELECT date_trunc('minute', at), 'drill', greatest(2, batch_no), ARRAY[6, 4], a + c FROM drill_batch WHERE batch_no <= 3;
	INSERT INTO drill_hours SELECT date_trunc('hour', bucket), 'drill', 2, weir_events, weir_checksum FROM drill_minutes WHERE bucket < '2024-01-01 10:30:00+00';
	INSERT INTO drill_days SELECT date_trunc('day', bucket, 'UTC'), 'drill', 2, x.e, CASE x.n WHEN 1 THEN weir_checksum ELSE 0 END FROM drill_hours, unnest(weir_events) WITH ORDINALITY x (e, n);
	INSERT INTO ledger_page (scope, source, epoch, page, bits) VALUES ('', 'drill', 'e', 0, (repeat('1', 40) || repeat('0', 4056))::bit(4096));
	INSERT INTO ledger_foreign (scope, incarnation, sequence, stored) VALUES ('', 'drill', 41, 41000000);
	INSERT INTO dead_letter (reason, source, subject, msg_id, sequence, event_offset, stored_at, shard_id, payload, payload_size)
		VALUES ('drill', 'drill', 'events.drill.drill', '', 1, 0, now(), 'drill', '', 0)`

// planted are the faults of a drill, each with what must be found: exactly that,
// and nothing else.
func planted() []fault {
	return []fault{
		{"nothing", ``, ``},
		{"a lost row", `DELETE FROM drill_days WHERE ctid = (SELECT min(ctid) FROM drill_days WHERE weir_events = 6)`, `days: 6 lost, 0 doubled`},
		{"a lost packed row", `DELETE FROM drill_seconds WHERE batch_no = 2`, `seconds: 10 lost, 0 doubled`},
		{
			"a row lost before it reached the coarser levels", `DELETE FROM drill_seconds WHERE batch_no = 4`,
			`seconds: 10 lost, 0 doubled; minutes: 10 lost, 0 doubled; hours: 10 lost, 0 doubled; days: 10 lost, 0 doubled`,
		},
		{"a doubled row", `INSERT INTO drill_hours SELECT * FROM drill_hours LIMIT 1`, `hours: 0 lost, 10 doubled`},
		{"a changed row", `UPDATE drill_days SET weir_events = weir_events + 5 WHERE weir_events = 4 AND ctid = (SELECT min(ctid) FROM drill_days WHERE weir_events = 4)`, `days: 0 lost, 5 doubled`},
		{"one event lost and another doubled", `UPDATE drill_seconds SET weir_checksum = weir_checksum + 1 WHERE batch_no = 1`, `seconds: 1 lost, 1 doubled`},
		{"a control total changed", `UPDATE control SET events = events - 1 WHERE period = '2024-01-01 10:00:00+00'`, `seconds: 0 lost, 1 doubled; minutes: 0 lost, 1 doubled; hours: 0 lost, 1 doubled; days: 0 lost, 1 doubled`},
		{"a number missing in the ledger", `UPDATE ledger_page SET bits = set_bit(bits, 6, 0)`, `not folded: drill/e/7; missing: n=7; ledger: 1 lost, 0 doubled`},
		{"a foreign message missing in the ledger", `DELETE FROM ledger_foreign`, `not folded: message 41; ledger: 1 lost, 0 doubled`},
		{"a page missing in the ledger", `DELETE FROM ledger_page`, `not folded: 40 messages; missing: n=1..40; ledger: 40 lost, 0 doubled`},
		{"a number put into the ledger", `UPDATE ledger_page SET bits = set_bit(bits, 40, 1)`, `ledger: 0 lost, 1 doubled`},
		{"a deleted dead letter", `DELETE FROM dead_letter`, `dead letters: 1 lost, 0 doubled`},
	}
}

type fault struct{ name, plant, want string }

// Drill plants faults in tables that only its transaction sees, and which are
// gone after it, and lets the checks that verify the real ones find them. problem
// says which it did not find, or what else it found.
func (a *Auditor) Drill(ctx context.Context) (problem string, err error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return "", wrap(err, "drill")
	}
	defer func() { _ = tx.Rollback() }() // that is the point
	if _, err := tx.ExecContext(ctx, drillTables); err != nil {
		return "", wrap(err, "prepare a drill")
	}
	s := snapshot{tx}
	for _, f := range planted() {
		if _, err := tx.ExecContext(ctx, `SAVEPOINT drill;`+f.plant); err != nil {
			return "", wrap(err, "drill: plant "+f.name)
		}
		found, err := s.drill(ctx)
		if err != nil {
			return "", wrap(err, "drill: "+f.name)
		}
		if found != f.want {
			return fmt.Sprintf("with %s planted, the checks should find %q, and found %q", f.name, f.want, found), nil
		}
		if _, err := tx.ExecContext(ctx, `ROLLBACK TO drill`); err != nil {
			return "", wrap(err, "drill")
		}
	}
	return "", nil
}

// drill runs every check over the tables of the drill, and says what it found.
func (s snapshot) drill(ctx context.Context) (string, error) {
	var found []string
	agg := drillAggregate()
	all := span{always, never}
	facts, err := s.facts(ctx, agg, []span{all})
	if err != nil {
		return "", err
	}
	for level, g := range agg.levels {
		c, err := s.checkLevel(ctx, agg, facts, level, all)
		if err != nil {
			return "", err
		}
		for _, m := range c.mismatches {
			f := m.finding(agg)
			found = append(found, fmt.Sprintf("%s: %d lost, %d doubled", g, f.Lost, f.Duplicated))
		}
	}
	lacking, err := s.unclaimed(ctx, "drill", drillMessages())
	if err != nil {
		return "", err
	}
	switch len(lacking) {
	case 0:
	case 1:
		found = append(found, "not folded: "+lacking[0].String())
	default:
		found = append(found, fmt.Sprintf("not folded: %d messages", len(lacking)))
	}
	lost, err := s.missing(ctx, "drill", "e", 0, 40)
	if err != nil {
		return "", err
	}
	if lost.count > 0 {
		found = append(found, "missing: "+lost.String())
	}
	b, err := s.balance(ctx)
	if err != nil {
		return "", err
	}
	for _, f := range b.findings() {
		if f.Lost > 0 || f.Duplicated > 0 {
			found = append(found, fmt.Sprintf("%s: %d lost, %d doubled", f.Kind, f.Lost, f.Duplicated))
		}
	}
	return strings.Join(found, "; "), nil
}

func drillMessages() (messages []message) {
	for n := range uint64(40) {
		messages = append(messages, message{sequence: n + 1, stored: int64(n+1) * 1e6, source: "drill", epoch: "e", first: n + 1, last: n + 1}) //nolint:gosec // small
	}
	return append(messages, message{sequence: 41, stored: 41e6})
}

// drillIfDue drills when the auditor begins and once in a while, and notes what
// came of it.
func (a *Auditor) drillIfDue(ctx context.Context) error {
	var due bool
	err := a.db.QueryRowContext(ctx, `SELECT NOT EXISTS (SELECT FROM weir.audit_pass WHERE drill_at > now() - $1 * interval '1 second')`, a.cfg.Drill.Seconds()).Scan(&due)
	if err != nil || !due && a.drilled {
		return wrap(err, "look for the last drill")
	}
	problem, err := a.Drill(ctx)
	if err != nil {
		return err
	}
	a.drilled = true
	_, err = a.db.ExecContext(ctx, `
		INSERT INTO weir.audit_pass (at, passes, drill_at, drill_problem) VALUES (now(), 0, now(), $1)
		ON CONFLICT (single) DO UPDATE SET drill_at = now(), drill_problem = excluded.drill_problem`, problem)
	if err != nil {
		return wrap(err, "note the drill")
	}
	f := Finding{Kind: kindDrill, Subject: "drill", Detail: "the auditor itself is broken: " + problem}
	if problem == "" {
		return a.settle(ctx, f)
	}
	return a.note(ctx, f)
}
