package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"weir/pkg/alert"
	"weir/pkg/failpoint"
)

// WriteAlerts records the alerts and puts them in the outbox, in their order, from which the
// relay publishes them after the commit, and in the queues of the notifiers. An alert that is recorded already,
// by its id, is left as it is. One that is resolved ends the one that fired.
func (tx *Tx) WriteAlerts(ctx context.Context, alerts []alert.Alert) error {
	if len(alerts) > 0 {
		if err := tx.writeAlerts(ctx, alerts); err != nil {
			return fmt.Errorf("write %d alerts, the first of them %s: %w", len(alerts), alerts[0].ID, err)
		}
	}
	return tx.db.failpoints.Hit(failpoint.AlertsWritten)
}

func (tx *Tx) writeAlerts(ctx context.Context, alerts []alert.Alert) error {
	rows, ended := make([]alertRow, len(alerts)), []string{}
	for i := range alerts {
		if rows[i] = rowOf(&alerts[i]); alerts[i].FiringID != "" {
			ended = append(ended, alerts[i].ID)
		}
	}
	body, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = tx.tx.ExecContext(ctx, `
		WITH given AS (
			SELECT * FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (id text, firing_id text, rule text, rule_case text, scope text, state text, key jsonb,
				severity integer, message text, value double precision, threshold double precision, details jsonb, labels jsonb, stakeholder jsonb,
				fired_at timestamptz, resolved_at timestamptz, reason text, shard_id text))
			WITH ORDINALITY AS x (id, firing_id, rule, rule_case, scope, state, key, severity, message, value, threshold, details, labels, stakeholder,
				fired_at, resolved_at, reason, shard_id, place)
		), fresh AS (
			INSERT INTO weir.alert (id, firing_id, rule, rule_case, scope, state, key, severity, message, value, threshold,
				details, labels, stakeholder, fired_at, resolved_at, reason, shard_id)
			SELECT id, firing_id, rule, rule_case, scope, state, key, severity, message, value, threshold,
				details, labels, stakeholder, fired_at, resolved_at, reason, shard_id FROM given ORDER BY place
			ON CONFLICT (id) DO NOTHING RETURNING id, firing_id, scope, resolved_at
		), told AS (
			`+queueNotifications+`
		)
		INSERT INTO weir.alert_outbox (alert_id) SELECT id FROM fresh JOIN given USING (id) GROUP BY id ORDER BY min(place)`, string(body))
	if err != nil || len(ended) == 0 {
		return err
	}
	_, err = tx.tx.ExecContext(ctx, `
		UPDATE weir.alert a SET resolved_at = r.resolved_at FROM weir.alert r
		WHERE r.id = ANY ($1) AND a.id = r.firing_id AND a.resolved_at IS NULL`, pq.Array(ended))
	return err
}

// alertRow is an alert as its table has it.
type alertRow struct {
	ID          string            `json:"id"`
	FiringID    string            `json:"firing_id"`
	Rule        string            `json:"rule"`
	Case        string            `json:"rule_case"`
	Scope       alert.Scope       `json:"scope"`
	State       alert.State       `json:"state"`
	Key         map[string]string `json:"key"`
	Severity    int               `json:"severity"`
	Message     string            `json:"message"`
	Value       float64           `json:"value"`
	Threshold   float64           `json:"threshold"`
	Details     map[string]string `json:"details"`
	Labels      map[string]string `json:"labels"`
	Stakeholder alert.Stakeholder `json:"stakeholder"`
	FiredAt     time.Time         `json:"fired_at"`
	ResolvedAt  *time.Time        `json:"resolved_at"`
	Reason      string            `json:"reason"`
	ShardID     string            `json:"shard_id"`
}

func rowOf(a *alert.Alert) alertRow {
	some := func(texts map[string]string) map[string]string {
		if texts == nil {
			return map[string]string{}
		}
		return texts
	}
	row := alertRow{
		a.ID, a.FiringID, a.Rule, a.Case, a.Scope, a.State, some(a.Key), a.Severity, a.Message, alert.Finite(a.Value), alert.Finite(a.Threshold),
		some(a.Details), some(a.Labels), a.Stakeholder, a.FiredAt.UTC(), nil, a.Reason, a.ShardID,
	}
	if !a.ResolvedAt.IsZero() {
		at := a.ResolvedAt.UTC()
		row.ResolvedAt = &at
	}
	return row
}

// alertColumns are read in scanAlert's order.
const alertColumns = `a.id, a.firing_id, a.rule, a.rule_case, a.scope, a.state, a.key, a.severity, a.message, a.value, a.threshold,
	a.details, a.labels, a.stakeholder, a.fired_at, a.resolved_at, a.reason, a.shard_id`

func scanAlert(row interface{ Scan(...any) error }, more ...any) (alert.Alert, error) {
	var a alert.Alert
	var scope, state string
	var key, details, labels, stakeholder []byte
	var resolved sql.NullTime
	err := row.Scan(append([]any{
		&a.ID, &a.FiringID, &a.Rule, &a.Case, &scope, &state, &key, &a.Severity, &a.Message, &a.Value, &a.Threshold,
		&details, &labels, &stakeholder, &a.FiredAt, &resolved, &a.Reason, &a.ShardID,
	}, more...)...)
	if err != nil {
		return a, err
	}
	a.Scope, a.State, a.FiredAt = alert.Scope(scope), alert.State(state), a.FiredAt.UTC()
	if resolved.Valid {
		a.ResolvedAt = resolved.Time.UTC()
	}
	err = errors.Join(json.Unmarshal(key, &a.Key), json.Unmarshal(details, &a.Details), json.Unmarshal(labels, &a.Labels),
		json.Unmarshal(stakeholder, &a.Stakeholder))
	if len(a.Details) == 0 {
		a.Details = nil
	}
	if len(a.Labels) == 0 {
		a.Labels = nil
	}
	return a, err
}

// relayTimes are how long one call of Relay begins to publish further alerts,
// and when publishing is cut off: its transaction must end before Postgres ends
// it for being idle (Config.IdleInTx), or what was published would be published
// again, and nothing would ever leave the outbox while publishing is slow.
func (db *DB) relayTimes() (hold, most time.Duration) { return db.idleInTx / 4, db.idleInTx / 4 * 3 }

// Relay hands up to limit alerts of the outbox to publish, oldest first, and
// takes those off it that publish accepted. The context of publish ends early
// enough for that. Rows that another relay has in
// hand are passed over. A crash between publish and commit publishes again:
// subscribers tell by the alert's id. It returns how many were published.
func (db *DB) Relay(ctx context.Context, limit int, publish func(context.Context, alert.Alert) error) (int, error) {
	var done []int64
	var failed error
	hold, most := db.relayTimes()
	err := db.InTx(ctx, func(tx *Tx) error {
		outbox, ids, err := tx.readOutbox(ctx, limit)
		if err != nil || len(outbox) == 0 {
			return err
		}
		if err := db.failpoints.Hit(failpoint.OutboxRead); err != nil {
			return err
		}
		begin := time.Now()
		publishing, cancel := context.WithDeadline(ctx, begin.Add(most))
		defer cancel()
		for i, a := range outbox {
			if failed = publish(publishing, a); failed != nil {
				break // the rest stays in the outbox, in order
			}
			done = append(done, ids[i])
			if time.Since(begin) > hold {
				break
			}
		}
		if err := db.failpoints.Hit(failpoint.AlertsPublished); err != nil || len(done) == 0 {
			return err
		}
		_, err = tx.tx.ExecContext(ctx, `DELETE FROM weir.alert_outbox WHERE id = ANY ($1)`, pq.Array(done))
		return err
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("relay alerts: %w", err)
	}
	return len(done), nil
}

func (tx *Tx) readOutbox(ctx context.Context, limit int) (alerts []alert.Alert, ids []int64, err error) {
	rows, err := tx.tx.QueryContext(ctx, `
		SELECT `+alertColumns+`, o.id FROM weir.alert_outbox o JOIN weir.alert a ON a.id = o.alert_id
		ORDER BY o.id LIMIT $1 FOR UPDATE OF o SKIP LOCKED`, limit)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		a, err := scanAlert(rows, &id)
		if err != nil {
			return nil, nil, err
		}
		alerts, ids = append(alerts, a), append(ids, id)
	}
	return alerts, ids, rows.Err()
}
