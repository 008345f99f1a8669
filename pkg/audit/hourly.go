package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"weir/pkg/aggregation"
)

const (
	kindControl = "control totals"
	kindPurged  = "not purged"
	kindBorder  = "purged early"
)

// certificatesEvery is how often a continuous auditor reads all certificates.
const certificatesEvery = time.Hour

// verifyCertificates makes a finding of what Certificates says, and of
// aggregations whose control totals are less than a certificate says that they
// were: rows and control totals that are deleted together still add up. An
// aggregation that was dropped and made anew since begins anew.
func (a *Auditor) verifyCertificates(ctx context.Context) error {
	type total struct{ now, most, number int64 }
	totals, since := map[string]*total{}, map[string]time.Time{}
	err := each(ctx, a.db, func(scan func(...any) error) error {
		var id string
		var t total
		var at time.Time
		err := scan(&id, &at, &t.now)
		totals[id], since[id] = &t, at
		return err
	}, `
		SELECT g.id, g.applied_at, least(coalesce(sum(c.events), 0), 9223372036854775807)::bigint
		FROM weir.aggregation g LEFT JOIN weir.control c ON c.aggregation = g.id GROUP BY g.id, g.applied_at`)
	if err != nil {
		return wrap(err, "add up the control totals")
	}
	chain := Finding{Kind: kindCertificate, Subject: "chain"}
	chain.Detail, err = a.Certificates(ctx, func(c *Certificate, _, wrong string) {
		for id, then := range c.Totals {
			if t := totals[id]; wrong == "" && t != nil && c.At.After(since[id]) && then.Events > t.most {
				t.most, t.number = then.Events, c.Number
			}
		}
	})
	if err != nil {
		return err
	}
	wrong := map[string]Finding{}
	if chain.Detail != "" {
		wrong[chain.Subject] = chain
	}
	if err := a.replace(ctx, kindCertificate, wrong); err != nil {
		return err
	}
	clear(wrong)
	for id, t := range totals {
		if t.now < t.most {
			wrong[id] = Finding{
				Kind: kindControl, Subject: id, Lost: t.most - t.now,
				Detail: fmt.Sprintf("%s: certificate %s says that %s folded, and the control totals have %s: some were deleted, perhaps with their rows",
					id, Grouped(t.number), plural(t.most, "event was", "events were"), Grouped(t.now)),
			}
		}
	}
	if err := a.replace(ctx, kindControl, wrong); err != nil {
		return err
	}
	a.chained = time.Now()
	return nil
}

// beforeWeir reports whether an hour that ended then was over before there was a
// shard: it is not to be the first that is certified.
func (a *Auditor) beforeWeir(ctx context.Context, chain Chain, end time.Time) (bool, error) {
	if chain.Count > 0 {
		return false, nil
	}
	var began sql.NullTime
	err := a.db.QueryRowContext(ctx, `SELECT min(created_at) FROM weir.shard`).Scan(&began)
	return !began.Valid || !end.After(began.Time), wrap(err, "look when the first shard came")
}

// skew is how far the clocks of workers, which purge, may be ahead of that of
// Postgres.
const skew = 5 * time.Minute

// verifyPurged looks whether a level says that it was purged of more than its
// retention lets go: of rows below that border nothing is compared. It is so, and
// for people to know, after a retention was made longer, and of a level that was
// added, which has nothing of what finer ones had lost before. Then there are no
// rows between; where there are, or the border is in the future, it is not true.
func (a *Auditor) verifyPurged(ctx context.Context, all []*aggregate) error {
	wrong, known := map[string]Finding{}, map[string]Finding{}
	for _, agg := range all {
		borders, err := a.borders(ctx, agg)
		if err != nil {
			return err
		}
		for _, b := range borders {
			f := Finding{Kind: kindBorder, Subject: agg.id + " per " + agg.levels[b.level].String()}
			f.Detail = fmt.Sprintf("%s: rows before %s are purged, though %s: its retention was shorter once, or the level was added later; they are not compared",
				f.Subject, b.text, b.may)
			why, rows := "that is in the future", b.before.After(b.now.Add(skew))
			if !rows {
				why = "there are younger ones before it"
				until := agg.levels[b.level].Truncate(b.before.UnixMicro(), agg.zone)
				err := a.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM weir_data.`+agg.table(b.level)+` WHERE bucket >= $1 AND bucket < $2)`,
					b.from, instant(until)).Scan(&rows)
				if err != nil {
					return wrap(err, "look for rows below the border of "+f.Subject)
				}
			}
			if !rows {
				known[f.Subject] = f
				continue
			}
			f.Kind = kindPurged
			f.Detail = fmt.Sprintf("%s: weir.purged says that rows before %s are purged, so they are not compared; but %s, and %s: somebody has changed the border",
				f.Subject, b.text, b.may, why)
			wrong[f.Subject] = f
		}
	}
	if err := a.replace(ctx, kindBorder, known); err != nil {
		return err
	}
	return a.replace(ctx, kindPurged, wrong)
}

// border is one that is later than the retention explains.
type border struct {
	level       int
	before, now time.Time
	from        string // the oldest rows that there should be
	text, may   string // the border, and what may be purged, for people
}

func (a *Auditor) borders(ctx context.Context, agg *aggregate) (late []border, err error) {
	keep, err := agg.retention()
	if err != nil {
		return nil, err
	}
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var name string
		var b border
		if err := scan(&name, &b.text, &b.before, &b.now); err != nil {
			return err
		}
		b.level = slices.IndexFunc(agg.levels, func(g aggregation.Granularity) bool { return g.String() == name })
		d, limited := keep[name]
		if b.level < 0 || limited && !b.before.After(b.now.Add(skew-d)) {
			return nil
		}
		b.from, b.may = instant(always), "it keeps them for ever"
		if limited {
			b.from, b.may = b.now.Add(skew-d).UTC().Format(time.RFC3339Nano), "only those older than "+age(d)+" may be"
		}
		late = append(late, b)
		return nil
	}, `
		SELECT level, CASE WHEN isfinite(before) THEN to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') ELSE before::text END,
			`+finite("before")+`, now()
		FROM weir.purged WHERE aggregation = $1 AND before > '-infinity' ORDER BY level`, agg.id)
	return late, wrap(err, "look what is purged of "+agg.id)
}

// age writes whole days as such.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return plural(int64(d/day), "day", "days")
	}
	return d.String()
}

// retention is how long the rows of levels are kept; those that are kept for
// ever are not in it.
func (a *aggregate) retention() (map[string]time.Duration, error) {
	var r struct {
		Retention map[string]string `json:"retention"`
	}
	if err := json.Unmarshal([]byte(a.record), &r); err != nil {
		return nil, fmt.Errorf("aggregation %s: %w", a.id, err)
	}
	keep := map[string]time.Duration{}
	for level, text := range r.Retention {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("aggregation %s per %s: retention: %w", a.id, level, err)
		}
		keep[level] = d
	}
	return keep, nil
}

// replace notes these findings, by their subjects, and settles all others of
// their kind.
func (a *Auditor) replace(ctx context.Context, kind string, wrong map[string]Finding) error {
	open, err := a.findings(ctx)
	if err != nil {
		return err
	}
	for _, f := range open {
		if _, still := wrong[f.Subject]; f.Kind == kind && !still {
			if err := a.settle(ctx, f); err != nil {
				return err
			}
		}
	}
	for _, f := range wrong {
		if err := a.note(ctx, f); err != nil {
			return err
		}
	}
	return nil
}
