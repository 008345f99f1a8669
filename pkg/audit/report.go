package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Report is how things stand after a pass.
type Report struct {
	At       time.Time `json:"at"`
	Full     bool      `json:"full"`      // everything was verified, not only what is new
	CaughtUp bool      `json:"caught_up"` // nothing that was there when the pass began is left for the next one
	Passes   int64     `json:"passes"`    // that there were, also of other auditors

	Sources  []Source  `json:"sources"` // of Pass: some of those that are not verified up to what they said last
	Stream   Stream    `json:"stream"`
	Balance  Balance   `json:"balance"`
	Levels   []Level   `json:"levels,omitempty"` // of Full
	Findings []Finding `json:"findings"`         // all that are open

	Unaccounted int64 `json:"unaccounted"` // messages that were acknowledged and not folded, or that nobody could verify, or entries the ledger lost
	Lost        int64 `json:"lost"`        // by the stream, or in aggregates
	Duplicated  int64 `json:"duplicated"`  // in aggregates
	Accepted    int   `json:"accepted"`    // findings that somebody knows of; they count in none of the above

	Certificates Chain `json:"certificates"`
	Drill        Drill `json:"drill"`
}

// LostBy returns how much each link has lost, by the kind of finding; what was
// accepted is not in it.
func (r *Report) LostBy() map[string]int64 {
	lost := map[string]int64{"source": 0, "stream": 0, "ledger": 0, "aggregates": 0, "dead_letters": 0}
	worst := map[[2]string]int64{}
	most := map[string]int64{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if !f.Residue() {
			continue
		}
		switch f.Kind {
		case kindStream:
			lost["source"] = plus(lost["source"], f.Lost)
		case kindHole, kindUnverified:
			lost["stream"] = plus(lost["stream"], f.Lost)
		case kindLedger:
			lost["ledger"] = plus(lost["ledger"], f.Lost)
		case kindControl:
			most[f.Subject] = max(most[f.Subject], f.Lost)
		case kindLetters:
			lost["dead_letters"] = plus(lost["dead_letters"], f.Lost)
		case kindAggregate:
			// The same event is lacking at several levels: the worst one counts.
			key := [2]string{f.Aggregation, f.Level}
			worst[key] = plus(worst[key], f.Lost)
			most[f.Aggregation] = max(most[f.Aggregation], worst[key])
		}
	}
	for _, n := range most {
		lost["aggregates"] = plus(lost["aggregates"], n)
	}
	return lost
}

// duplicated is the same of what is counted more than once.
func (r *Report) duplicated() (n int64) {
	worst := map[[2]string]int64{}
	most := map[string]int64{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if !f.Residue() {
			continue
		}
		if f.Kind != kindAggregate {
			n = plus(n, f.Duplicated)
			continue
		}
		key := [2]string{f.Aggregation, f.Level}
		worst[key] = plus(worst[key], f.Duplicated)
		most[f.Aggregation] = max(most[f.Aggregation], worst[key])
	}
	for _, m := range most {
		n = plus(n, m)
	}
	return n
}

// Green reports whether there is no residue: everything that was folded is
// accounted for, once. Messages in flight are none.
func (r *Report) Green() bool {
	for i := range r.Findings {
		if r.Findings[i].Residue() {
			return false
		}
	}
	return true
}

// Sentence is the result for people, without a full stop:
// "1,204,331,870 events: all accounted for, verified 10:05:12". The time is in UTC.
func (r *Report) Sentence() string {
	parts := []string{}
	accepted := plural(int64(r.Accepted), "accepted finding", "accepted findings")
	switch {
	case r.Green() && r.Accepted > 0:
		parts = append(parts, "all but "+accepted+" accounted for")
	case r.Green():
		parts = append(parts, "all accounted for")
	default:
		for _, p := range []struct {
			n    int64
			what string
		}{{r.Unaccounted, "unaccounted for"}, {r.Lost, "lost"}, {r.Duplicated, "counted twice"}} {
			if p.n > 0 {
				parts = append(parts, Grouped(p.n)+" "+p.what)
			}
		}
		if len(parts) == 0 {
			parts = append(parts, "not proven")
		}
	}
	if r.Stream.Repaired > 0 {
		parts = append(parts, Grouped(r.Stream.Repaired)+" repaired")
	}
	if r.Accepted > 0 && !r.Green() {
		parts = append(parts, accepted)
	}
	if r.Stream.InFlight > 0 {
		parts = append(parts, plural(int64(r.Stream.InFlight), "message", "messages")+" in flight") //nolint:gosec // sequences stay far below 2^63
	}
	return fmt.Sprintf("%s: %s, verified %s", plural(r.Balance.Events, "event", "events"), strings.Join(parts, ", "), r.At.Format("15:04:05"))
}

// Progress is how far workers are: all messages up to floor are acknowledged;
// last is the newest that there is. Where nothing is behind, floor is last.
func (a *Auditor) Progress(ctx context.Context) (floor, last uint64, err error) {
	state, err := a.conn.State(ctx)
	if err != nil {
		return 0, 0, wrap(err, "ask how far the workers are")
	}
	return state.LastSequence - min(state.LastSequence, state.Behind), state.LastSequence, nil
}

// Repairs is how many messages wait for workers to fold them after all.
func (a *Auditor) Repairs(ctx context.Context) (open int64, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT count(*) FROM weir.repair WHERE done_at IS NULL`).Scan(&open)
	return open, wrap(err, "count the repairs")
}

// Report is how things stood after the last pass, whoever made it.
func (a *Auditor) Report(ctx context.Context) (*Report, error) {
	r := &Report{}
	state, err := a.conn.State(ctx)
	if err != nil {
		return nil, wrap(err, "audit")
	}
	if r.Sources, err = a.sources(ctx, state.Incarnation, ``, ``); err != nil {
		return nil, wrap(err, "audit")
	}
	r.Stream = Stream{
		Incarnation: state.Incarnation, First: state.FirstSequence, Last: state.LastSequence,
		AckFloor: min(state.AckFloor, state.LastSequence), InFlight: state.Behind,
	}
	err = inSnapshot(ctx, a.db, nil, func(s snapshot) (err error) {
		if a.balance, err = s.balance(ctx); err != nil {
			return err
		}
		return s.tx.QueryRowContext(ctx, `
			SELECT began, sequence, unverified, p.through, (SELECT count(*) FROM audit_hole WHERE repaired_at IS NULL), (SELECT count(*) FROM audit_hole WHERE repaired_at IS NOT NULL)
			FROM audit_stream, audit_pass p WHERE incarnation = $1`, r.Stream.Incarnation).
			Scan(&r.Stream.Began, &r.Stream.Verified, &r.Stream.Unverified, &r.Stream.Through, &r.Stream.Holes, &r.Stream.Repaired)
	})
	if err == nil {
		err = a.fill(ctx, r)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrBusy // the other one makes the first pass
	}
	return r, wrap(err, "audit")
}

// finish completes the report with what is known in the database.
func (a *Auditor) finish(ctx context.Context, r *Report) (err error) {
	_, err = a.db.ExecContext(ctx, `
		INSERT INTO weir.audit_pass AS p (at, through) VALUES (now(), $1)
		ON CONFLICT (single) DO UPDATE SET at = now(), passes = p.passes + 1, through = excluded.through`, r.Stream.Through)
	if err != nil {
		return wrap(err, "note the pass")
	}
	return a.fill(ctx, r)
}

func (a *Auditor) fill(ctx context.Context, r *Report) (err error) {
	r.Balance = a.balance
	err = a.db.QueryRowContext(ctx, `
		SELECT at, passes, drill_at, drill_problem FROM weir.audit_pass`).Scan(&r.At, &r.Passes, &r.Drill.At, &r.Drill.Problem)
	if err != nil {
		return wrap(err, "read the last pass")
	}
	r.At = r.At.UTC()
	if r.Findings, err = a.findings(ctx); err != nil {
		return err
	}
	if r.Certificates, err = a.chain(ctx); err != nil {
		return err
	}
	lost := r.LostBy()
	r.Unaccounted = plus(lost["stream"], lost["ledger"])
	r.Lost = plus(plus(lost["source"], lost["aggregates"]), lost["dead_letters"])
	r.Duplicated = r.duplicated()
	for i := range r.Findings {
		if r.Findings[i].Accepted {
			r.Accepted++
		}
	}
	return nil
}
