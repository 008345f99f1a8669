package store

import (
	"context"
	"fmt"
	"time"
)

// PurgedAlerts is what went, or with PurgeableAlerts would go.
type PurgedAlerts struct{ Alerts, Silences int64 }

// silenceKept is how long a silence is kept after its end.
const silenceKept = 30 * 24 * time.Hour

const (
	// oldAlert is by when an alert was recorded, not when it fired: alerts about
	// events of long ago, as a replay raises them, are kept as long as any. What fires
	// now stays, and what had fired stays as long as the alert that says that it is over.
	oldAlert = `a.created_at < $1 AND NOT (a.scope = 'global' AND a.state = 'firing' AND a.resolved_at IS NULL)
		AND NOT EXISTS (SELECT FROM weir.alert r WHERE r.firing_id = a.id AND r.firing_id <> '' AND r.created_at >= $1)`
	oldSilence = `ends_at < $1`
	// purgedAtOnce is how many alerts one transaction deletes.
	purgedAtOnce = 5000
)

// PurgeAlerts deletes the alerts that were recorded longer than keep ago, with
// what was still to be published of them, and silences that ended 30 days ago.
// What fires stays. 0 keeps alerts for ever.
func (db *DB) PurgeAlerts(ctx context.Context, now time.Time, keep time.Duration) (p PurgedAlerts, err error) {
	for n := int64(purgedAtOnce); keep > 0 && n == purgedAtOnce && err == nil; p.Alerts += n {
		// Who is at an alert is not waited for: it goes the next time.
		err = db.sql.QueryRowContext(ctx, `
			WITH old AS MATERIALIZED (
				SELECT a.id FROM weir.alert a WHERE `+oldAlert+` ORDER BY a.created_at LIMIT $2 FOR UPDATE SKIP LOCKED
			), unpublished AS (
				DELETE FROM weir.alert_outbox WHERE alert_id IN (SELECT id FROM old)
			), quiet AS ( -- its key has had no other one since
				DELETE FROM weir.alert_suppression WHERE id IN (
					SELECT s.id FROM weir.alert_suppression s WHERE s.alert_id IN (SELECT id FROM old) FOR UPDATE SKIP LOCKED)
			), gone AS (
				DELETE FROM weir.alert WHERE id IN (SELECT id FROM old) RETURNING id
			)
			SELECT count(*) FROM gone`, now.Add(-keep).UTC(), purgedAtOnce).Scan(&n)
	}
	if err == nil {
		err = db.sql.QueryRowContext(ctx, `WITH gone AS (DELETE FROM weir.silence WHERE `+oldSilence+` RETURNING id) SELECT count(*) FROM gone`,
			now.Add(-silenceKept).UTC()).Scan(&p.Silences)
	}
	if err != nil {
		return p, fmt.Errorf("purge alerts: %w", err)
	}
	return p, nil
}

// PurgeableAlerts counts what PurgeAlerts would delete.
func (db *DB) PurgeableAlerts(ctx context.Context, now time.Time, keep time.Duration) (p PurgedAlerts, err error) {
	if keep > 0 {
		err = db.sql.QueryRowContext(ctx, `SELECT count(*) FROM weir.alert a WHERE `+oldAlert, now.Add(-keep).UTC()).Scan(&p.Alerts)
	}
	if err == nil {
		err = db.sql.QueryRowContext(ctx, `SELECT count(*) FROM weir.silence WHERE `+oldSilence, now.Add(-silenceKept).UTC()).Scan(&p.Silences)
	}
	if err != nil {
		return p, fmt.Errorf("look for old alerts: %w", err)
	}
	return p, nil
}
