package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pkg/alert"
)

// WriteDecisions records what was decided of a partition, and puts it into the outbox, and returns
// how many alerts were new. What was decided before changes nothing. An alert that
// fires less than suppress[rule] from the last one of the same key is left out: whoever decided that
// one may have known less, or more. What is resolved was firing, or is left out.
func (p *Partitions) WriteDecisions(ctx context.Context, part int, alerts []alert.Alert, suppress map[string]time.Duration) (written int, err error) {
	if len(alerts) == 0 {
		return 0, nil
	}
	err = p.db.InTx(ctx, func(tx *Tx) error {
		written = 0
		if err := tx.fence(ctx, p, part); err != nil {
			return err
		}
		for i := range alerts {
			a := alerts[i]
			fits, err := tx.fits(ctx, &a, suppress[a.Rule])
			if err != nil {
				return fmt.Errorf("alert %s: %w", a.ID, err)
			}
			if !fits {
				continue
			}
			if err := tx.WriteAlerts(ctx, []alert.Alert{a}); err != nil {
				return err
			}
			written++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("write what was decided of partition %d: %w", part, err)
	}
	return written, nil
}

// fits reports whether an alert goes with those that are recorded; one that is resolved is made
// to end the one that was.
func (tx *Tx) fits(ctx context.Context, a *alert.Alert, suppress time.Duration) (bool, error) {
	if a.State == alert.Resolved {
		err := tx.tx.QueryRowContext(ctx, `SELECT fired_at FROM weir.alert WHERE id = $1 AND resolved_at IS NULL`, a.FiringID).Scan(&a.FiredAt)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		a.FiredAt = a.FiredAt.UTC()
		return err == nil, err
	}
	err := tx.tx.QueryRowContext(ctx, `
		INSERT INTO weir.alert_suppression AS s (id, fired_at, alert_id) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET fired_at = excluded.fired_at, alert_id = excluded.alert_id
		WHERE s.alert_id <> excluded.alert_id AND excluded.fired_at NOT BETWEEN s.fired_at - $4::interval AND s.fired_at + $4::interval
		RETURNING alert_id`,
		hashOf(a.SuppressedBy()...), a.FiredAt.UTC(), a.ID, fmt.Sprintf("%d microseconds", max(0, suppress.Microseconds()-1))).Scan(new(string))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
