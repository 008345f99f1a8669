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

const (
	// lateCommits is how long a transaction may be open: control totals that were
	// changed so long before the last look are looked at again.
	lateCommits = 10 * time.Minute
	// coarseEvery is how often the levels from days on are added up, because each
	// of their buckets has many rows.
	coarseEvery = 5 * time.Minute
	// So many old periods of a part are added up again so often, so that what
	// somebody changes by hand is found.
	rotation      = 12
	rotationEvery = time.Minute
)

// part is what is verified together: a level of an aggregation.
type part struct {
	agg   *aggregate
	level int
}

func (p part) granularity() aggregation.Granularity { return p.agg.levels[p.level] }

func (p part) key() string { return p.agg.id + " " + p.granularity().String() }

// size is how many changed periods are added up in one snapshot.
func (p part) size() int {
	if !p.agg.fine(p.level) {
		return 4 * finePeriods
	}
	return finePeriods
}

// cursor is how far a part is verified. Times are microseconds since 1970.
type cursor struct {
	changed int64 // what was changed before is verified
	round   int64 // when the round that is under way began; always: none is
	done    int64 // what has changed is verified in this round up to here
	rotated int64 // the turn of old periods has come so far
}

// cursors reads how far all parts are verified, and the time.
func (a *Auditor) cursors(ctx context.Context) (all map[string]cursor, now time.Time, err error) {
	if now, err = a.now(ctx); err != nil {
		return nil, now, err
	}
	all = map[string]cursor{}
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var key string
		var changed, round, done, rotated sql.NullInt64
		err := scan(&key, &changed, &round, &done, &rotated)
		all[key] = cursor{from(changed), from(round), from(done), from(rotated)}
		return err
	}, `
		SELECT aggregation || ' ' || level, `+micros("changed_at")+`, `+micros("round_at")+`, `+micros("done_to")+`, `+micros("rotated_to")+`
		FROM weir.audit_aggregation`)
	return all, now, wrap(err, "read how far the aggregations are verified")
}

// micros reads a time as microseconds since 1970, and as NULL if it is no one's.
func micros(column string) string {
	return `CASE WHEN isfinite(` + column + `) THEN (extract(epoch FROM ` + column + `) * 1000000)::bigint END`
}

func from(t sql.NullInt64) int64 {
	if t.Valid {
		return t.Int64
	}
	return always
}

func until(t sql.NullInt64) int64 {
	if t.Valid {
		return t.Int64
	}
	return never
}

// recent tells two states of the control totals of an aggregation apart: in both,
// the same was changed last, and in the time before.
type recent struct{ newest, periods, events, checksum int64 }

// recents reads what has changed last of each aggregation.
func (a *Auditor) recents(ctx context.Context, all []*aggregate) (map[string]recent, error) {
	found := map[string]recent{}
	for _, agg := range all {
		var r recent
		var newest sql.NullInt64
		err := a.db.QueryRowContext(ctx, `
			WITH n AS (SELECT max(changed_at) AS at FROM weir.control WHERE aggregation = $1)
			SELECT `+micros("max(n.at)")+`, count(*), coalesce(sum(events) % 4294967296, 0)::bigint, coalesce(sum(checksum) % 4294967296, 0)::bigint
			FROM n JOIN weir.control c ON c.aggregation = $1 AND c.changed_at > n.at - $2 * interval '1 second'`, agg.id, lateCommits.Seconds()).
			Scan(&newest, &r.periods, &r.events, &r.checksum)
		if err != nil {
			return nil, wrap(err, "look for what has changed of "+agg.id)
		}
		r.newest = from(newest)
		found[agg.id] = r
	}
	return found, nil
}

// due reports whether there is anything to verify of a part: control totals that
// were changed since, or while, it was verified, or that did not add up.
func (a *Auditor) due(p part, c cursor, r recent) bool {
	if c.round != always || a.open[p.key()] {
		return true
	}
	changed := r.newest != always && (c.changed == always || r.newest > c.changed-lateCommits.Microseconds())
	return changed && a.seen[p.key()] != r
}

// verifyChanged is the third link, ledger to aggregates, in a continuous pass:
// it adds up the periods that flushes have changed since the last pass, some
// old ones, and those that did not add up before. The parts take turns until the
// deadline. One that fails does not keep the others from theirs.
func (a *Auditor) verifyChanged(ctx context.Context, all []*aggregate, deadline time.Time) (caughtUp bool, err error) {
	cursors, now, err := a.cursors(ctx)
	if err != nil {
		return false, err
	}
	recents, err := a.recents(ctx, all)
	if err != nil {
		return false, err
	}
	var failed []error
	caughtUp = true
	begun := 0
	for _, p := range a.parts(all, time.Now()) {
		key := p.key()
		c, known := cursors[key]
		if !known {
			c = cursor{always, always, always, always}
		}
		rotate := time.Since(a.rotated[key]) >= rotationEvery
		if known && !rotate && !a.due(p, c, recents[p.agg.id]) {
			a.turn[key], a.through[key] = time.Now(), now
			continue
		}
		if begun > 0 && !time.Now().Before(deadline) {
			caughtUp = false
			break
		}
		begun++
		finished, err := a.verifyPart(ctx, p, &c, rotate, deadline)
		a.turn[key] = time.Now()
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, errChanged):
		case err != nil:
			failed = append(failed, err)
			a.smaller[key]++
			if down := a.db.PingContext(ctx); down != nil { // it is not this part
				return false, wrap(down, "reach Postgres")
			}
		case finished:
			a.through[key] = time.UnixMicro(c.changed).UTC()
			a.smaller[key] = max(0, a.smaller[key]-1)
			a.seen[key] = recents[p.agg.id]
			if rotate {
				a.rotated[key] = time.Now()
			}
		}
		caughtUp = caughtUp && err == nil && finished
	}
	return caughtUp, errors.Join(failed...)
}

// parts lists what is due, what was verified the longest ago first.
func (a *Auditor) parts(all []*aggregate, now time.Time) (due []part) {
	for _, agg := range all {
		for level, g := range agg.levels {
			p := part{agg, level}
			if g < aggregation.Days || now.Sub(a.turn[p.key()]) >= coarseEvery {
				due = append(due, p)
			}
		}
	}
	slices.SortStableFunc(due, func(x, y part) int { return a.turn[x.key()].Compare(a.turn[y.key()]) })
	return due
}

// verifyPart verifies piece after piece until the round is at its end, or the
// deadline is past: the next pass then goes on where this one stopped.
func (a *Auditor) verifyPart(ctx context.Context, p part, c *cursor, rotate bool, deadline time.Time) (finished bool, err error) {
	for {
		if finished, err = a.verifyPiece(ctx, p, c, rotate); finished || err != nil {
			return finished, err
		}
		if !time.Now().Before(deadline) {
			return false, nil
		}
	}
}

// verifyPiece adds up a bounded part of what has changed, in a snapshot of its
// own, and notes how far that is.
func (a *Auditor) verifyPiece(ctx context.Context, p part, c *cursor, rotate bool) (finished bool, err error) {
	var next cursor
	var spans []span
	var wrong []mismatch
	err = a.snapshotOf(ctx, p.agg, func(s snapshot) error {
		next = *c
		if spans, err = s.piece(ctx, p, &next, max(1, p.size()>>min(a.smaller[p.key()], 10)), rotate); err != nil {
			return err
		}
		facts, err := s.facts(ctx, p.agg, spans)
		if err != nil {
			return err
		}
		for _, over := range spans {
			found, err := s.checkLevel(ctx, p.agg, facts, p.level, over)
			if err != nil {
				return err
			}
			wrong = append(wrong, found.mismatches...)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if err := a.conclude(ctx, p.agg, p.level, spans, wrong); err != nil {
		return false, err
	}
	*c = next
	var round *string
	if c.round != always {
		at := instant(c.round)
		round = &at
	}
	_, err = a.db.ExecContext(ctx, `
		INSERT INTO weir.audit_aggregation (aggregation, level, changed_at, round_at, done_to, rotated_to) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (aggregation, level) DO UPDATE
		SET changed_at = excluded.changed_at, round_at = excluded.round_at, done_to = excluded.done_to, rotated_to = excluded.rotated_to`,
		p.agg.id, p.granularity().String(), instant(c.changed), round, instant(c.done), instant(c.rotated))
	return c.round == always, wrap(err, "note how far "+p.agg.id+" is verified")
}

// piece is what is verified next, as spans that end where buckets do, and moves
// the cursor behind it. What did not add up before counts as changed. Old periods
// go with the last piece of a round.
func (s snapshot) piece(ctx context.Context, p part, c *cursor, size int, rotate bool) (spans []span, err error) {
	if c.round == always {
		if err := s.tx.QueryRowContext(ctx, `SELECT `+micros("now()")).Scan(&c.round); err != nil {
			return nil, wrap(err, "begin a round")
		}
		c.done = always
	}
	since := int64(always)
	if c.changed != always {
		since = c.changed - lateCommits.Microseconds()
	}
	err = each(ctx, s.tx, func(scan func(...any) error) error {
		var begins, ends sql.NullInt64
		err := scan(&begins, &ends)
		spans = append(spans, span{from(begins), until(ends)})
		return err
	}, `
		SELECT `+micros("begins")+`, `+micros("ends")+` FROM (
			SELECT DISTINCT period AS begins, period + interval '15 minutes' AS ends FROM control WHERE aggregation = $1 AND changed_at > $3 AND period >= $4
			UNION ALL
			SELECT begins, ends FROM audit_finding WHERE aggregation = $1 AND level = $2 AND settled_at IS NULL AND begins >= $4
		) c ORDER BY c.begins LIMIT $5`, p.agg.id, p.granularity().String(), instant(since), instant(c.done), size+1)
	if err != nil {
		return nil, fmt.Errorf("look for what has changed of %s: %w", p.agg.id, err)
	}
	if len(spans) > size {
		spans = widen(spans[:size], p.granularity(), p.agg.zone)
		if c.done = spans[len(spans)-1].until; c.done != never {
			return spans, nil
		}
	}
	if rotate {
		old := span{from: c.rotated}
		if old.until, err = s.stretch(ctx, p.agg, c.rotated, rotation); err != nil {
			return nil, err
		}
		old.until = ceil(p.granularity(), p.agg.zone, old.until)
		if c.rotated = old.until; c.rotated == never {
			c.rotated = always // and the next turn begins
		}
		spans = append(spans, old)
	}
	c.changed, c.round, c.done = c.round, always, always
	return widen(spans, p.granularity(), p.agg.zone), nil
}
