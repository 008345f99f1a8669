package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"weir/pkg/alert"
)

// NumberedAlert is an alert with its place in the order in which followers get
// alerts. Numbers only grow: who has read up to one, in that order, has all up
// to it that will ever be there.
type NumberedAlert struct {
	Number int64
	Alert  alert.Alert
}

// numberedAtOnce is how many alerts one transaction gives their numbers.
const numberedAtOnce = 1000

// LastAlert gives the alerts that have none yet their numbers, and returns the
// highest. Any number of processes may do so at once.
func (db *DB) LastAlert(ctx context.Context) (last int64, err error) {
	for more := true; more; {
		if err = db.sql.QueryRowContext(ctx, `
			SELECT EXISTS (SELECT FROM weir.alert WHERE number IS NULL), last FROM weir.alert_numbered`).Scan(&more, &last); err != nil {
			break
		}
		if more {
			if more, err = db.numberAlerts(ctx); err != nil {
				break
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("number the alerts: %w", err)
	}
	return last, nil
}

// numberAlerts gives some alerts their numbers, the oldest first and one that has
// fired before the one that says that it is over, and reports whether to look
// again: not where another process is at it, or somebody changes the alerts that
// are left. It never waits for those, who might wait for it.
func (db *DB) numberAlerts(ctx context.Context) (more bool, err error) {
	err = db.InTx(ctx, func(tx *Tx) error {
		var last int64
		err := tx.tx.QueryRowContext(ctx, `SELECT last FROM weir.alert_numbered FOR UPDATE SKIP LOCKED`).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		// A statement of its own: its snapshot is taken after the lock, and so has what its last holder numbered.
		result, err := tx.tx.ExecContext(ctx, `
			WITH fresh AS MATERIALIZED (
				SELECT id, created_at, fired_at, firing_id FROM weir.alert WHERE number IS NULL
				ORDER BY created_at, fired_at, firing_id <> '', id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
			)
			UPDATE weir.alert a SET number = $1 + n.place
			FROM (SELECT id, row_number() OVER (ORDER BY created_at, fired_at, firing_id <> '', id) AS place FROM fresh) n
			WHERE a.id = n.id`, last, numberedAtOnce)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil || n == 0 {
			return err
		}
		more = true
		_, err = tx.tx.ExecContext(ctx, `UPDATE weir.alert_numbered SET last = last + $1`, n)
		return err
	})
	return more && err == nil, err
}

// AlertsAfter lists the alerts that a filter chooses and that have numbers above
// after, the lowest first: what to read on with once [DB.LastAlert] says that
// there are any.
func (db *DB) AlertsAfter(ctx context.Context, after int64, filter AlertFilter) ([]NumberedAlert, error) {
	var alerts []NumberedAlert
	args, err := filter.arguments()
	if err == nil {
		err = db.eachAlert(ctx, func(a alert.Alert, number int64) { alerts = append(alerts, NumberedAlert{number, a}) }, `
			SELECT `+alertColumns+`, a.number FROM weir.alert a WHERE a.number > $9 AND `+alertChosen+` ORDER BY a.number LIMIT $8`,
			append(args, after)...)
	}
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	return alerts, nil
}
