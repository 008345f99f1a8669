package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

const (
	kindControl = "control totals"
	kindPurged  = "purged too early"
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

// skew is how far the clocks of workers, which purge, may be ahead of that of
// Postgres.
const skew = 5 * time.Minute

// verifyPurged looks whether a level says that it was purged of more than its
// retention lets go: of rows below that border nothing is compared.
func (a *Auditor) verifyPurged(ctx context.Context, all []*aggregate) error {
	keep := map[[2]string]time.Duration{}
	for _, agg := range all {
		retention, err := agg.retention()
		if err != nil {
			return err
		}
		for level, d := range retention {
			keep[[2]string{agg.id, level}] = d
		}
	}
	wrong := map[string]Finding{}
	err := each(ctx, a.db, func(scan func(...any) error) error {
		var id, level, text string
		var before, now time.Time
		if err := scan(&id, &level, &text, &before, &now); err != nil {
			return err
		}
		d, limited := keep[[2]string{id, level}]
		if limited && !before.After(now.Add(skew-d)) {
			return nil
		}
		may := "no row may be purged, it keeps them for ever"
		if limited {
			may = fmt.Sprintf("only rows older than %s may be", d)
		}
		f := Finding{Kind: kindPurged, Subject: id + " per " + level}
		f.Detail = fmt.Sprintf("%s: weir.purged says that rows before %s are purged, so they are not compared, but %s. "+
			"If its retention was shorter once, accept this; if not, somebody has changed weir.purged", f.Subject, text, may)
		wrong[f.Subject] = f
		return nil
	}, `
		SELECT aggregation, level, CASE WHEN isfinite(before) THEN to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') ELSE before::text END,
			`+finite("before")+`, now()
		FROM weir.purged JOIN weir.aggregation ON id = aggregation WHERE before > '-infinity'`)
	if err != nil {
		return wrap(err, "look what is purged")
	}
	return a.replace(ctx, kindPurged, wrong)
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
