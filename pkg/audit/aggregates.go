package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const kindAggregate = "aggregate"

// When everything is added up, one statement adds up so many periods of the
// finest level and those below hours, and of the others.
const (
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

// errChanged means that apply has changed the aggregation just now.
var errChanged = errors.New("its definition has changed")

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
		if agg.fine(level) {
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
		if !a.open[part{agg, level}.key()] {
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
