package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pkg/alert"
)

// Threshold is one that is kept, and who set it, when.
type Threshold struct {
	alert.Threshold

	By string
	At time.Time
}

// ErrNoThreshold means that no such threshold was set by anybody.
var ErrNoThreshold = errors.New("no such threshold is set")

// The sources of thresholds.
const (
	sourceSet     = "set"     // by a person
	sourceLearned = "learned" // see Learning
)

// Thresholds returns all thresholds in the order of their rules, cases and
// dimensions, and the version that they are of: every write makes another one.
func (db *DB) Thresholds(ctx context.Context) (thresholds []Threshold, version string, err error) {
	thresholds, version, err = db.readThresholds(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read thresholds: %w", err)
	}
	return thresholds, version, nil
}

// readThresholds reads in one statement, and so in one snapshot. Where there are
// no thresholds there is one row, with a version.
func (db *DB) readThresholds(ctx context.Context) (thresholds []Threshold, version string, err error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT v.version, t.rule IS NOT NULL, coalesce(t.rule, ''), coalesce(rule_case, ''), coalesce(api, ''), coalesce(t.version, ''), coalesce(resource, ''),
			coalesce(method, ''), coalesce(application, ''), coalesce(tenant, ''), coalesce(source, '') = 'learned', coalesce(value, 0), coalesce(set_by, ''), set_at
		FROM weir.threshold_version v LEFT JOIN weir.threshold t ON true
		ORDER BY t.rule, rule_case, api, t.version, resource, method, application, tenant, source DESC`)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	thresholds = []Threshold{}
	for rows.Next() {
		var t Threshold
		var there bool
		var at sql.NullTime
		err := rows.Scan(&version, &there, &t.Rule, &t.Case, &t.API, &t.Version, &t.Resource,
			&t.Method, &t.Application, &t.Tenant, &t.Learned, &t.Value, &t.By, &at)
		if err != nil {
			return nil, "", err
		}
		if there {
			t.At = at.Time.UTC()
			thresholds = append(thresholds, t)
		}
	}
	return thresholds, version, rows.Err()
}

// ThresholdsSince returns the thresholds of the rules and their version, or nil where that is the one that is
// known: which is all that is read then.
func (db *DB) ThresholdsSince(ctx context.Context, known string, rules []*alert.Rule) (*alert.Thresholds, string, error) {
	version, err := db.ThresholdsVersion(ctx)
	if err != nil || version == known {
		return nil, version, err
	}
	stored, version, err := db.Thresholds(ctx)
	if err != nil {
		return nil, "", err
	}
	entries := make([]alert.Threshold, len(stored))
	for i := range stored {
		entries[i] = stored[i].Threshold
	}
	return alert.NewThresholds(rules, entries), version, nil
}

// ThresholdsVersion returns the version that the thresholds have now.
func (db *DB) ThresholdsVersion(ctx context.Context) (version string, err error) {
	if err = db.sql.QueryRowContext(ctx, `SELECT version FROM weir.threshold_version`).Scan(&version); err != nil {
		return "", fmt.Errorf("read the version of the thresholds: %w", err)
	}
	return version, nil
}

// thresholdKey is what makes a threshold the one it is, over $1 … $9.
const thresholdKey = `(rule, rule_case, api, version, resource, method, application, tenant, source)`

func thresholdArgs(t *alert.Threshold, source string, more ...any) []any {
	return append([]any{t.Rule, t.Case, t.API, t.Version, t.Resource, t.Method, t.Application, t.Tenant, source}, more...)
}

// SetThreshold keeps a threshold that a person has set, in place of one that was
// set for the same keys. It does not look whether it fits its rule: see
// [alert.Threshold.Check].
func (db *DB) SetThreshold(ctx context.Context, t alert.Threshold, by string) (Threshold, error) {
	stored := Threshold{Threshold: t, By: plain(by)}
	stored.Learned = false
	err := db.sql.QueryRowContext(ctx, `
		INSERT INTO weir.threshold `+thresholdKey[:len(thresholdKey)-1]+`, value, set_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT `+thresholdKey+` DO UPDATE SET value = excluded.value, set_by = excluded.set_by, set_at = now()
		RETURNING set_at`, thresholdArgs(&t, sourceSet, t.Value, stored.By)...).Scan(&stored.At)
	if err != nil {
		return Threshold{}, fmt.Errorf("set the threshold of %s: %w", t.Rule, err)
	}
	stored.At = stored.At.UTC()
	return stored, nil
}

// UnsetThreshold removes what a person has set for exactly these dimensions, or
// returns [ErrNoThreshold]. The value does not matter.
func (db *DB) UnsetThreshold(ctx context.Context, t alert.Threshold) error {
	result, err := db.sql.ExecContext(ctx, `DELETE FROM weir.threshold WHERE `+thresholdKey+` = ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		thresholdArgs(&t, sourceSet)...)
	var n int64
	if err == nil {
		n, err = result.RowsAffected()
	}
	if err == nil && n == 0 {
		err = ErrNoThreshold
	}
	if err != nil {
		return fmt.Errorf("unset the threshold of %s: %w", t.Rule, err)
	}
	return nil
}
