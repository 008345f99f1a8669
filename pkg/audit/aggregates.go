package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"weir/pkg/aggregation"
)

const kindAggregate = "aggregate"

const (
	// lateCommits is how long a transaction may be open: control totals that were
	// changed so long before the last look are looked at again.
	lateCommits = "10 minutes"
	// rotation is how many old periods of an aggregation are added up again in
	// each pass, so that what somebody changes by hand is found.
	rotation = 2
	// Of a level below hours, and of any other, so many periods are added up by
	// one statement when everything is.
	finePeriods   = 32
	coarsePeriods = 2000
)

// Level is what was added up of one level of an aggregation.
type Level struct {
	Aggregation string `json:"aggregation"`
	Level       string `json:"level"`
	Checked     sums   `json:"checked"` // control totals that were compared
	Purged      sums   `json:"purged"`  // control totals whose rows may be gone
	Wrong       int    `json:"wrong"`   // parts of time that do not add up
}

// part is what is verified together of an aggregation: the levels below days,
// or the others, which are not as often, because each of their buckets has many
// rows.
type part struct {
	agg    *aggregate
	coarse bool
	levels []int
}

func (p part) key() string {
	if p.coarse {
		return p.agg.id + " coarse"
	}
	return p.agg.id
}

// coarseEvery is how often the levels from days on are added up.
const coarseEvery = 5 * time.Minute

// parts lists what is due, what was verified the longest ago first.
func (a *Auditor) parts(all []*aggregate, now time.Time) (due []part) {
	for _, agg := range all {
		fine, coarse := part{agg: agg}, part{agg: agg, coarse: true}
		for i, g := range agg.levels {
			if g < aggregation.Days {
				fine.levels = append(fine.levels, i)
			} else {
				coarse.levels = append(coarse.levels, i)
			}
		}
		if len(fine.levels) > 0 {
			due = append(due, fine)
		}
		if len(coarse.levels) > 0 && now.Sub(a.turn[coarse.key()]) >= coarseEvery {
			due = append(due, coarse)
		}
	}
	slices.SortStableFunc(due, func(x, y part) int { return a.turn[x.key()].Compare(a.turn[y.key()]) })
	return due
}

// cursor is how far a part is verified.
type cursor struct {
	changed string // what was changed before is verified
	rotated int64  // the round of old periods has come so far
}

// verifyChanged is the third link, ledger to aggregates, in a continuous pass:
// it adds up the periods that flushes have changed since the last pass, some
// old ones, and those that did not add up before. The parts take turns until the
// deadline.
func (a *Auditor) verifyChanged(ctx context.Context, all []*aggregate, deadline time.Time) (caughtUp bool, err error) {
	for i, p := range a.parts(all, time.Now()) {
		if i > 0 && !time.Now().Before(deadline) {
			return false, nil
		}
		if err := a.verifyPart(ctx, p); err != nil && !errors.Is(err, errChanged) {
			return false, err
		}
		a.turn[p.key()] = time.Now()
	}
	return true, nil
}

// errChanged means that apply has changed the aggregation just now.
var errChanged = errors.New("its definition has changed")

func (a *Auditor) verifyPart(ctx context.Context, p part) error {
	var wrong [][]mismatch
	var covered [][]span
	var next cursor
	err := a.snapshotOf(ctx, p.agg, func(s snapshot) error {
		spans, err := a.due(ctx, s, p, &next)
		if err != nil {
			return err
		}
		var widest []span
		for _, level := range p.levels {
			wide := widen(spans, p.agg.levels[level], p.agg.zone)
			covered, widest = append(covered, wide), append(widest, wide...)
		}
		facts, err := s.facts(ctx, p.agg, widest)
		if err != nil {
			return err
		}
		wrong = make([][]mismatch, len(p.levels))
		for i, level := range p.levels {
			for _, over := range covered[i] {
				c, err := s.checkLevel(ctx, p.agg, facts, level, over)
				if err != nil {
					return err
				}
				wrong[i] = append(wrong[i], c.mismatches...)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, level := range p.levels {
		if err := a.conclude(ctx, p.agg, level, covered[i], wrong[i]); err != nil {
			return err
		}
	}
	_, err = a.db.ExecContext(ctx, `
		INSERT INTO weir.audit_aggregation (aggregation, coarse, changed_at, rotated_to) VALUES ($1, $2, $3, $4)
		ON CONFLICT (aggregation, coarse) DO UPDATE SET changed_at = excluded.changed_at, rotated_to = excluded.rotated_to`,
		p.agg.id, p.coarse, next.changed, instant(next.rotated))
	return wrap(err, "note how far "+p.agg.id+" is verified")
}

// snapshotOf is inSnapshot for the rows of an aggregation. Tables that are gone
// are those of one that was changed.
func (a *Auditor) snapshotOf(ctx context.Context, agg *aggregate, f func(snapshot) error) error {
	ran := false
	err := inSnapshot(ctx, a.db, agg, func(s snapshot) error { ran = true; return f(s) })
	if err == nil && !ran {
		return errChanged
	}
	if err != nil && !ran {
		var there bool
		lookup := a.db.QueryRowContext(ctx, `SELECT EXISTS (`+selectAggregates+` WHERE id = $1 AND definition::text = $2)`, agg.id, agg.record).Scan(&there)
		if lookup == nil && !there {
			return errChanged
		}
	}
	return err
}

// due lists what a pass adds up, and where the next one goes on.
func (a *Auditor) due(ctx context.Context, s snapshot, p part, next *cursor) (spans []span, err error) {
	agg := p.agg
	changed, rotated := "-infinity", int64(always)
	var at time.Time
	var stored sql.NullString
	var to sql.NullInt64
	err = s.tx.QueryRowContext(ctx, `
		SELECT now(), p.changed_at::text, CASE WHEN isfinite(p.rotated_to) THEN extract(epoch FROM p.rotated_to)::bigint END
		FROM (SELECT) one LEFT JOIN audit_aggregation p ON p.aggregation = $1 AND p.coarse = $2`, agg.id, p.coarse).Scan(&at, &stored, &to)
	if err != nil {
		return nil, wrap(err, "read how far "+agg.id+" is verified")
	}
	if stored.Valid {
		changed = stored.String
	}
	if to.Valid {
		rotated = to.Int64 * 1_000_000
	}
	add := func(scan func(...any) error) error {
		var from, until sql.NullInt64
		err := scan(&from, &until)
		r := span{always, never}
		if from.Valid {
			r.from = from.Int64 * 1_000_000
		}
		if until.Valid {
			r.until = until.Int64 * 1_000_000
		}
		spans = append(spans, r)
		return err
	}
	err = each(ctx, s.tx, add, `
		SELECT DISTINCT extract(epoch FROM period)::bigint, extract(epoch FROM period)::bigint + 900 FROM control
		WHERE aggregation = $1 AND changed_at > $2::timestamptz - interval '`+lateCommits+`'
		UNION ALL
		SELECT CASE WHEN isfinite(begins) THEN extract(epoch FROM begins)::bigint END, CASE WHEN isfinite(ends) THEN extract(epoch FROM ends)::bigint END
		FROM audit_finding WHERE aggregation = $1 AND settled_at IS NULL`, agg.id, changed)
	if err != nil {
		return nil, wrap(err, "look for what has changed of "+agg.id)
	}
	until, err := s.stretch(ctx, agg, rotated, rotation)
	if err != nil {
		return nil, err
	}
	*next = cursor{changed: at.UTC().Format(time.RFC3339Nano), rotated: until}
	if until == never {
		next.rotated = always // and the next round begins
	}
	return union(append(spans, span{rotated, until})), nil
}

// stretch is where a span ends that begins with from and has so many periods
// with control totals; never, where there are no more after it.
func (s snapshot) stretch(ctx context.Context, agg *aggregate, from int64, periods int) (int64, error) {
	var until int64
	err := s.tx.QueryRowContext(ctx, `
		SELECT extract(epoch FROM period)::bigint FROM control WHERE aggregation = $1 AND period > $2
		GROUP BY period ORDER BY period OFFSET $3 LIMIT 1`, agg.id, instant(from), periods).Scan(&until)
	if errors.Is(err, sql.ErrNoRows) {
		return never, nil
	}
	return until * 1_000_000, wrap(err, "look for the periods of "+agg.id)
}

// verifyAll adds up all that there is of an aggregation, bit by bit.
func (a *Auditor) verifyAll(ctx context.Context, agg *aggregate) (levels []Level, err error) {
	for level, g := range agg.levels {
		l := Level{Aggregation: agg.id, Level: g.String()}
		periods := coarsePeriods
		if g < aggregation.Hours || level == 0 {
			periods = finePeriods
		}
		for from := int64(always); from != never; {
			var c checked
			var over span
			err := a.snapshotOf(ctx, agg, func(s snapshot) error {
				until, err := s.stretch(ctx, agg, from, periods)
				if err != nil {
					return err
				}
				over = span{from, ceil(g, agg.zone, until)}
				facts, err := s.facts(ctx, agg, []span{over})
				if err != nil {
					return err
				}
				c, err = s.checkLevel(ctx, agg, facts, level, over)
				return err
			})
			if err != nil {
				return nil, err
			}
			if err := a.conclude(ctx, agg, level, []span{over}, c.mismatches); err != nil {
				return nil, err
			}
			l.Checked.add(c.total)
			l.Purged.add(c.purged)
			l.Wrong += len(c.mismatches)
			from = over.until
		}
		levels = append(levels, l)
	}
	return levels, nil
}

// conclude notes what does not add up, and settles what does again.
func (a *Auditor) conclude(ctx context.Context, agg *aggregate, level int, covered []span, wrong []mismatch) error {
	name := agg.levels[level].String()
	still := map[string]bool{}
	for i, m := range wrong {
		if i == mostRanges {
			break
		}
		f := m.finding(agg)
		still[f.Subject] = true
		if err := a.note(ctx, f); err != nil {
			return err
		}
	}
	var settled []Finding
	for _, over := range covered {
		if !a.open[agg.id] {
			break
		}
		err := each(ctx, a.db, func(scan func(...any) error) error {
			f := Finding{Kind: kindAggregate}
			err := scan(&f.Subject)
			if !still[f.Subject] {
				settled = append(settled, f)
			}
			return err
		}, `
			SELECT subject FROM weir.audit_finding WHERE kind = $1 AND aggregation = $2 AND level = $3 AND settled_at IS NULL AND begins >= $4 AND ends <= $5`,
			kindAggregate, agg.id, name, instant(over.from), instant(over.until))
		if err != nil {
			return wrap(err, "read the findings")
		}
	}
	for _, f := range settled {
		if err := a.settle(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// finding says what a mismatch means.
func (m mismatch) finding(agg *aggregate) Finding {
	name := agg.levels[m.level].String()
	f := Finding{
		Kind: kindAggregate, Subject: fmt.Sprintf("%s per %s, %s", agg.id, name, m.part), Aggregation: agg.id, Level: name, part: m.part,
	}
	switch d := m.have.Events - m.want.Events; {
	case d < 0:
		f.Lost = -d
		f.Detail = fmt.Sprintf("%s: %s missing: %s folded, the rows have %s", f.Subject, plural(-d, "event is", "events are"), Grouped(m.want.Events), Grouped(m.have.Events))
	case d > 0:
		f.Duplicated = d
		f.Detail = fmt.Sprintf("%s: %s too many: %s folded, the rows have %s", f.Subject, plural(d, "event is", "events are"), Grouped(m.want.Events), Grouped(m.have.Events))
	default:
		f.Lost, f.Duplicated = 1, 1
		f.Detail = fmt.Sprintf("%s: the rows have %s, as were folded, but not the same ones: some are lost and as many counted twice, or a checksum was changed", f.Subject, plural(m.want.Events, "event", "events"))
	}
	return f
}

func (s span) String() string {
	switch {
	case s.from == always && s.until == never:
		return "all time"
	case s.from == always:
		return "before " + instant(s.until)
	case s.until == never:
		return "from " + instant(s.from)
	}
	return instant(s.from) + " to " + instant(s.until)
}
