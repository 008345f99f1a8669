package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"weir/pkg/alert"
)

// queueNotifications is the part of WriteAlerts that makes a notification for
// every notifier of the alert's scope: what is recorded will be told.
const queueNotifications = `INSERT INTO weir.notification (alert_id, notifier)
	SELECT fresh.id, n.name FROM fresh JOIN weir.notifier n ON fresh.scope = ANY (n.scopes)`

// NotificationState is how far a notification has come.
type NotificationState string

// The states of a notification.
const (
	NotificationWaiting      NotificationState = "waiting"       // it was not accepted so far
	NotificationSent         NotificationState = "sent"          // it was accepted at least once
	NotificationSilenced     NotificationState = "silenced"      // it was not sent, because of a silence
	NotificationNotConcerned NotificationState = "not concerned" // the notifier is not for such alerts
	NotificationGivenUp      NotificationState = "given up"      // it was refused for too long
)

// Notification is what one notifier has to say, or has said, about one alert.
type Notification struct {
	Alert    alert.Alert       `json:"-"`
	Notifier string            `json:"notifier"`
	State    NotificationState `json:"state"`
	Sends    int               `json:"sends"`    // how often it was accepted
	Attempts int               `json:"attempts"` // how often it was not, since the last time that it was
	// FailingSince is the first of these attempts, SentAt the last time that it was accepted.
	FailingSince time.Time `json:"failing_since,omitzero"`
	SentAt       time.Time `json:"sent_at,omitzero"`
	LastError    string    `json:"last_error,omitempty"`
	// DueAt is when it is looked at next; zero: it is done.
	DueAt time.Time `json:"due_at,omitzero"`
	// FiringTold is, of an alert that is resolved, whether the notifier has told, or tried to tell, that it fires.
	FiringTold bool `json:"-"`
	// Superseded is, of an alert that was sent and would be repeated, whether a
	// later one of the same rule, case and key has fired: that one is repeated.
	Superseded bool `json:"-"`
}

// HoldNotifier makes the holder, a name of its own for each process, the one that
// sends for the notifier, for so long, if nobody else is; if it is already it
// goes on. The first call for a name begins its queue with the alerts that fire
// then.
func (db *DB) HoldNotifier(ctx context.Context, name string, scopes []alert.Scope, holder string, hold time.Duration) (held bool, err error) {
	texts := make([]string, len(scopes))
	for i, scope := range scopes {
		texts[i] = string(scope)
	}
	err = db.sql.QueryRowContext(ctx, `
		INSERT INTO weir.notifier AS n (name, scopes, holder, held_until) VALUES ($1, $2, $3, now() + $4::bigint * interval '1 millisecond')
		ON CONFLICT (name) DO UPDATE SET scopes = EXCLUDED.scopes, holder = EXCLUDED.holder, held_until = EXCLUDED.held_until
		WHERE n.holder IN (EXCLUDED.holder, '') OR n.held_until < now()
		RETURNING true`, name, pq.Array(texts), holder, hold.Milliseconds()).Scan(&held)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("hold notifier %s: %w", name, err)
	}
	return held, nil
}

// ReleaseNotifier lets another process send for the notifier at once.
func (db *DB) ReleaseNotifier(ctx context.Context, name, holder string) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE weir.notifier SET holder = '', held_until = now() WHERE name = $1 AND holder = $2`, name, holder)
	if err != nil {
		return fmt.Errorf("release notifier %s: %w", name, err)
	}
	return nil
}

// laterFires is whether a later alert of the same rule, case and key as a has fired.
const laterFires = `EXISTS (SELECT FROM weir.alert b WHERE b.scope = 'global' AND b.state = 'firing' AND b.key = a.key
	AND b.rule = a.rule AND b.rule_case = a.rule_case AND (b.fired_at, b.id) > (a.fired_at, a.id))`

// QueueFiring makes notifications of the global alerts that fire, the latest of
// each key, and that the notifier knows nothing of: they were recorded before it
// was there, or while it was being added.
func (db *DB) QueueFiring(ctx context.Context, notifier string) error {
	_, err := db.sql.ExecContext(ctx, `
		INSERT INTO weir.notification (alert_id, notifier)
		SELECT a.id, n.name FROM weir.alert a JOIN weir.notifier n ON n.name = $1 AND a.scope = ANY (n.scopes)
		WHERE a.scope = 'global' AND a.state = 'firing' AND a.resolved_at IS NULL
			AND NOT EXISTS (SELECT FROM weir.notification x WHERE x.alert_id = a.id AND x.notifier = n.name) AND NOT `+laterFires+`
		ORDER BY a.created_at, a.fired_at
		ON CONFLICT DO NOTHING`, notifier)
	if err != nil {
		return fmt.Errorf("queue what fires for notifier %s: %w", notifier, err)
	}
	return nil
}

// DueNotifications are those that the notifier has to look at now, in their
// order, at most limit. That an alert is resolved comes after that it fires was
// sent, silenced or given up.
func (db *DB) DueNotifications(ctx context.Context, notifier string, limit int) ([]Notification, error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT `+alertColumns+`, `+notificationColumns+`, coalesce(f.sends > 0 OR f.attempts > 0, false),
			CASE WHEN n.state = 'sent' AND a.firing_id = '' AND a.scope = 'global' THEN `+laterFires+` ELSE false END
		FROM weir.notification n JOIN weir.alert a ON a.id = n.alert_id
		LEFT JOIN weir.notification f ON f.alert_id = a.firing_id AND f.notifier = n.notifier
		WHERE n.notifier = $1 AND n.due_at <= now()
			AND (a.firing_id = '' OR f.state IS DISTINCT FROM 'waiting')       -- first that it fires
			AND (a.firing_id <> '' OR a.resolved_at IS NULL OR n.state <> 'sent') -- nothing is repeated that is over
		ORDER BY n.due_at, n.number LIMIT $2`, notifier, limit)
	if err != nil {
		return nil, fmt.Errorf("read the notifications of %s: %w", notifier, err)
	}
	defer func() { _ = rows.Close() }()
	var due []Notification
	for rows.Next() {
		var n Notification
		var err error
		if n.Alert, err = scanNotification(rows, &n, &n.FiringTold, &n.Superseded); err != nil {
			return nil, fmt.Errorf("read the notifications of %s: %w", notifier, err)
		}
		due = append(due, n)
	}
	return due, rows.Err()
}

// Notifications is what notifiers have to say, or have said, of one alert, by name.
func (db *DB) Notifications(ctx context.Context, alertID string) ([]Notification, error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT `+alertColumns+`, `+notificationColumns+`
		FROM weir.notification n JOIN weir.alert a ON a.id = n.alert_id WHERE n.alert_id = $1 ORDER BY n.notifier`, alertID)
	if err != nil {
		return nil, fmt.Errorf("read the notifications of alert %s: %w", alertID, err)
	}
	defer func() { _ = rows.Close() }()
	all := []Notification{}
	for rows.Next() {
		var n Notification
		var err error
		if n.Alert, err = scanNotification(rows, &n); err != nil {
			return nil, fmt.Errorf("read the notifications of alert %s: %w", alertID, err)
		}
		all = append(all, n)
	}
	return all, rows.Err()
}

// notificationColumns are read in scanNotification's order.
const notificationColumns = `n.notifier, n.state, n.sends, n.attempts, n.failing_since, n.sent_at, n.last_error, n.due_at`

func scanNotification(row interface{ Scan(...any) error }, n *Notification, more ...any) (alert.Alert, error) {
	var failing, sent, due sql.NullTime
	a, err := scanAlert(row, append([]any{&n.Notifier, &n.State, &n.Sends, &n.Attempts, &failing, &sent, &n.LastError, &due}, more...)...)
	for to, from := range map[*time.Time]sql.NullTime{&n.FailingSince: failing, &n.SentAt: sent, &n.DueAt: due} {
		if from.Valid {
			*to = from.Time.UTC()
		}
	}
	return a, err
}

// After is what a notifier has done about a notification, and when it looks at it again.
type After struct {
	State NotificationState
	Sent  bool   // it was accepted now
	Error string // why it was not, or what went wrong although it was
	// Again is how long until it is looked at again; 0: it is done.
	Again time.Duration
}

// RecordNotification writes down what was done about a notification as it was
// read. What somebody else has meanwhile recorded is kept, but that it was sent
// is always recorded. When a resolution is done, so is the alert that had fired.
func (db *DB) RecordNotification(ctx context.Context, n *Notification, after After) error {
	_, err := db.sql.ExecContext(ctx, `
		WITH done AS (
			UPDATE weir.notification SET
				state = $3, last_error = $5, due_at = CASE WHEN $6::bigint > 0 THEN now() + $6::bigint * interval '1 millisecond' END,
				sends = CASE WHEN $4 THEN sends + 1 ELSE sends END, sent_at = CASE WHEN $4 THEN now() ELSE sent_at END,
				attempts = CASE WHEN $4 OR $5 = '' THEN 0 ELSE attempts + 1 END,
				failing_since = CASE WHEN $4 OR $5 = '' THEN NULL ELSE coalesce(failing_since, now()) END
			WHERE alert_id = $1 AND notifier = $2 AND ($4 OR sends = $7 AND attempts = $8)
			RETURNING due_at
		)
		UPDATE weir.notification SET due_at = NULL
		WHERE alert_id = $9 AND notifier = $2 AND EXISTS (SELECT FROM done WHERE due_at IS NULL)`,
		n.Alert.ID, n.Notifier, string(after.State), after.Sent, after.Error, (after.Again + time.Millisecond - 1).Milliseconds(), n.Sends, n.Attempts, n.Alert.FiringID)
	if err != nil {
		return fmt.Errorf("record what notifier %s did about alert %s: %w", n.Notifier, n.Alert.ID, err)
	}
	return nil
}

// PurgeNotifications forgets what was done, or was last to be looked at, before
// done, and the notifiers that no process has had since unheld, with their
// queues. It returns how many notifications went.
func (db *DB) PurgeNotifications(ctx context.Context, done, unheld time.Time) (gone int64, err error) {
	for _, statement := range []struct {
		text   string
		before time.Time
	}{
		{`DELETE FROM weir.notification WHERE created_at < $1 AND (due_at IS NULL OR due_at < $1)`, done},
		{`WITH lost AS (DELETE FROM weir.notifier WHERE held_until < $1 RETURNING name)
			DELETE FROM weir.notification WHERE notifier IN (SELECT name FROM lost)`, unheld},
	} {
		result, err := db.sql.ExecContext(ctx, statement.text, statement.before.UTC())
		if err != nil {
			return gone, fmt.Errorf("purge notifications: %w", err)
		}
		n, _ := result.RowsAffected() // lib/pq always knows
		gone += n
	}
	return gone, nil
}
