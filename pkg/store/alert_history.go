package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"weir/pkg/alert"
)

// StateAll is [AlertFilter].State for alerts in whatever state; so is "".
const StateAll = "all"

// AlertFilter chooses alerts; empty fields choose all.
type AlertFilter struct {
	Rule, Scope string
	// State is "firing": what fires now, or, local, has fired; or "resolved": the
	// alerts that say so.
	State    string
	Severity int               // this one, or more severe: 1 is the most
	Since    time.Time         // fired at or after
	Until    time.Time         // fired before
	Key      map[string]string // has all of these parts
	Limit    int               // 0: 100
}

// alertChosen is the condition of a filter's arguments, from $1 on.
const alertChosen = `($1 = '' OR a.rule = $1) AND ($2 = '' OR a.scope = $2)
	AND ($3 IN ('', '` + StateAll + `') OR a.state = $3 AND ($3 <> 'firing' OR a.resolved_at IS NULL))
	AND ($4 = 0 OR a.severity <= $4)
	AND ($5::timestamptz IS NULL OR a.fired_at >= $5) AND ($6::timestamptz IS NULL OR a.fired_at < $6)
	AND ($7::jsonb = '{}' OR a.key @> $7::jsonb)`

// arguments are what alertChosen and a limit need.
func (f AlertFilter) arguments() ([]any, error) {
	key, err := textMap(f.Key)
	if f.Limit == 0 {
		f.Limit = 100
	}
	return []any{f.Rule, f.Scope, f.State, f.Severity, nullTime(f.Since), nullTime(f.Until), key, f.Limit}, err
}

// nullTime is a time, or NULL for the zero one.
func nullTime(t time.Time) sql.NullTime { return sql.NullTime{Time: t.UTC(), Valid: !t.IsZero()} }

// textMap is a map as jsonb.
func textMap(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(m)
	return string(text), err
}

// Alerts lists alerts, newest first.
func (db *DB) Alerts(ctx context.Context, filter AlertFilter) ([]alert.Alert, error) {
	alerts := []alert.Alert{}
	args, err := filter.arguments()
	if err == nil {
		err = db.eachAlert(ctx, func(a alert.Alert, _ int64) { alerts = append(alerts, a) }, `
			SELECT `+alertColumns+`, 0 FROM weir.alert a WHERE `+alertChosen+` ORDER BY a.fired_at DESC, a.id LIMIT $8`, args...)
	}
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	return alerts, nil
}

// eachAlert reads alerts with a number behind each.
func (db *DB) eachAlert(ctx context.Context, f func(alert.Alert, int64), query string, args ...any) error {
	rows, err := db.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var number int64
		a, err := scanAlert(rows, &number)
		if err != nil {
			return err
		}
		f(a, number)
	}
	return rows.Err()
}

// AlertRecord is all that is known of one alert.
type AlertRecord struct {
	Alert      alert.Alert
	RecordedAt time.Time
	Published  bool // on NATS
	// Resolution is, of one that has fired, the alert that says that it is over, and
	// Fired, of that one, what had fired. At most one of them is there.
	Resolution, Fired *alert.Alert
	Ack               *alert.Ack
}

// ErrNoAlert means that there is no alert with such an id.
var ErrNoAlert = errors.New("there is no such alert")

// ErrManyAlerts means that the ids of several alerts begin so.
var ErrManyAlerts = errors.New("the ids of several alerts begin so")

// Alert returns what is known of one alert, by its id or the beginning of it.
func (db *DB) Alert(ctx context.Context, id string) (AlertRecord, error) {
	record, err := db.alert(ctx, id)
	if err != nil {
		return AlertRecord{}, fmt.Errorf("look for alert %.100q: %w", id, err)
	}
	return record, nil
}

func (db *DB) alert(ctx context.Context, id string) (r AlertRecord, err error) {
	if id, err = db.alertID(ctx, id); err != nil {
		return r, err
	}
	var at sql.NullTime
	var by, comment sql.NullString
	r.Alert, err = scanAlert(db.sql.QueryRowContext(ctx, `
		SELECT `+alertColumns+`, a.created_at, NOT EXISTS (SELECT FROM weir.alert_outbox o WHERE o.alert_id = a.id), k.acked_at, k.acked_by, k.comment
		FROM weir.alert a LEFT JOIN weir.alert_ack k ON k.alert_id = CASE a.firing_id WHEN '' THEN a.id ELSE a.firing_id END
		WHERE a.id = $1`, id), &r.RecordedAt, &r.Published, &at, &by, &comment)
	if errors.Is(err, sql.ErrNoRows) { // purged since its id was found
		return r, ErrNoAlert
	}
	if err != nil {
		return r, err
	}
	r.RecordedAt = r.RecordedAt.UTC()
	if at.Valid {
		r.Ack = &alert.Ack{By: by.String, Comment: comment.String, At: at.Time.UTC()}
	}
	err = db.eachAlert(ctx, func(a alert.Alert, _ int64) {
		if a.FiringID == r.Alert.ID {
			r.Resolution = &a
		} else {
			r.Fired = &a
		}
	}, `SELECT `+alertColumns+`, 0 FROM weir.alert a WHERE a.id <> $1 AND (a.firing_id = $1 OR a.id = $2 AND $2 <> '')`, r.Alert.ID, r.Alert.FiringID)
	return r, err
}

// alertID is the whole of an id of which the beginning is given.
func (db *DB) alertID(ctx context.Context, beginning string) (id string, err error) {
	var exact bool
	var several int
	err = db.sql.QueryRowContext(ctx, `
		SELECT coalesce(min(id), ''), coalesce(bool_or(id = $1), false), count(*)
		FROM (SELECT id FROM weir.alert WHERE id ^@ $1 ORDER BY id LIMIT 2) a`, beginning).Scan(&id, &exact, &several)
	switch {
	case err != nil:
		return "", err
	case exact: // the least of those that begin so
		return beginning, nil
	case beginning == "" || several == 0:
		return "", ErrNoAlert
	case several > 1:
		return "", ErrManyAlerts
	}
	return id, nil
}

// AckAlert records that an alert, by its id or the beginning of it, is looked
// after; an earlier such record is replaced. To acknowledge that one is over is
// to acknowledge what had fired.
func (db *DB) AckAlert(ctx context.Context, id string, ack alert.Ack) error {
	id, err := db.alertID(ctx, id)
	var written sql.Result
	if err == nil {
		written, err = db.sql.ExecContext(ctx, `
			INSERT INTO weir.alert_ack (alert_id, acked_at, acked_by, comment)
			SELECT f.id, $2, $3, $4 FROM weir.alert a JOIN weir.alert f ON f.id = CASE a.firing_id WHEN '' THEN a.id ELSE a.firing_id END WHERE a.id = $1
			ON CONFLICT (alert_id) DO UPDATE SET acked_at = EXCLUDED.acked_at, acked_by = EXCLUDED.acked_by, comment = EXCLUDED.comment`,
			id, ack.At.UTC(), ack.By, ack.Comment)
	}
	if err == nil {
		var n int64
		if n, err = written.RowsAffected(); err == nil && n == 0 {
			err = ErrNoAlert // what had fired is purged
		}
	}
	if err != nil {
		return fmt.Errorf("acknowledge alert %.100q: %w", id, err)
	}
	return nil
}
