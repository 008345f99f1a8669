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

// ErrNoSilence means that there is no silence with such a number that has not ended.
var ErrNoSilence = errors.New("there is no such silence, or it has ended")

// Silences lists the silences that are in force or to come at a time, or all
// that are kept, the one that ends first first.
func (db *DB) Silences(ctx context.Context, at time.Time, ended bool) ([]alert.Silence, error) {
	silences, err := readSilences(db.sql.QueryContext(ctx, `
		SELECT `+silenceColumns+` FROM weir.silence WHERE $2 OR ends_at > $1 ORDER BY ends_at, id`, at.UTC(), ended))
	if err != nil {
		return nil, fmt.Errorf("list silences: %w", err)
	}
	return silences, nil
}

// Silenced returns what tells whether an alert is silenced now.
func (db *DB) Silenced(ctx context.Context) (func(alert.Alert) bool, error) {
	now := time.Now()
	silences, err := db.Silences(ctx, now, false)
	return func(a alert.Alert) bool { return len(alert.Silencing(silences, &a, now)) > 0 }, err
}

// AddSilence makes a silence, and returns it as it is kept; its ID and CreatedAt
// are not looked at.
func (db *DB) AddSilence(ctx context.Context, s alert.Silence) (alert.Silence, error) {
	match, err := textMap(s.Match)
	if err != nil {
		return alert.Silence{}, fmt.Errorf("make a silence: %w", err)
	}
	added, err := readSilences(db.sql.QueryContext(ctx, `
		INSERT INTO weir.silence (rule, match, starts_at, ends_at, made_by, comment) VALUES ($1, $2, $3, $4, $5, $6) RETURNING `+silenceColumns,
		s.Rule, match, s.StartsAt.UTC(), s.EndsAt.UTC(), s.By, s.Comment))
	if err != nil {
		return alert.Silence{}, fmt.Errorf("make a silence: %w", err)
	}
	return added[0], nil
}

// EndSilence ends a silence at a time, before its end; one that was to come never comes.
func (db *DB) EndSilence(ctx context.Context, id int64, at time.Time) (alert.Silence, error) {
	ended, err := readSilences(db.sql.QueryContext(ctx, `
		UPDATE weir.silence SET starts_at = least(starts_at, $2), ends_at = $2 WHERE id = $1 AND ends_at > $2 RETURNING `+silenceColumns, id, at.UTC()))
	if err == nil && len(ended) == 0 {
		err = ErrNoSilence
	}
	if err != nil {
		return alert.Silence{}, fmt.Errorf("end silence %d: %w", id, err)
	}
	return ended[0], nil
}

// silenceColumns are read in the order of readSilences.
const silenceColumns = `id, rule, match, starts_at, ends_at, made_by, comment, created_at`

func readSilences(rows *sql.Rows, err error) ([]alert.Silence, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	silences := []alert.Silence{}
	for rows.Next() {
		var s alert.Silence
		var match []byte
		if err := rows.Scan(&s.ID, &s.Rule, &match, &s.StartsAt, &s.EndsAt, &s.By, &s.Comment, &s.CreatedAt); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(match, &s.Match); err != nil {
			return nil, err
		}
		if len(s.Match) == 0 {
			s.Match = nil
		}
		s.StartsAt, s.EndsAt, s.CreatedAt = s.StartsAt.UTC(), s.EndsAt.UTC(), s.CreatedAt.UTC()
		silences = append(silences, s)
	}
	return silences, rows.Err()
}
