package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/lib/pq"

	"weir/pkg/alert"
)

// Learning says what was learned last for a rule.
type Learning struct {
	What    string    // see [alert.Learn.What]; "": nothing is learned for it any more
	Through time.Time // the event time up to which events were learned of
}

// Learned returns what was learned last, by rule.
func (db *DB) Learned(ctx context.Context) (map[string]Learning, error) {
	all := map[string]Learning{}
	rows, err := db.sql.QueryContext(ctx, `SELECT rule, what, through FROM weir.threshold_learning`)
	if err != nil {
		return nil, fmt.Errorf("read what was learned last: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var rule string
		var l Learning
		if err := rows.Scan(&rule, &l.What, &l.Through); err != nil {
			return nil, fmt.Errorf("read what was learned last: %w", err)
		}
		l.Through = l.Through.UTC()
		all[rule] = l
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what was learned last: %w", err)
	}
	return all, nil
}

// ReplaceLearned lets the entries be all that is learned for the rule, and of is
// what [DB.Learned] says of it then; their own
// Rule and Learned do not matter. An entry that cannot be kept, because its
// dimensions are too long or its value is no number, is left out: events may hold
// anything. Of several with the same case and dimensions the last counts.
func (db *DB) ReplaceLearned(ctx context.Context, rule string, entries []alert.Threshold, of Learning) error {
	err := db.InTx(ctx, func(tx *Tx) error {
		// First, so that who learns the same rule at the same time waits.
		_, err := tx.tx.ExecContext(ctx, `
			INSERT INTO weir.threshold_learning (rule, what, through) VALUES ($1, $2, $3)
			ON CONFLICT (rule) DO UPDATE SET what = excluded.what, through = excluded.through, learned_at = now()`, rule, of.What, of.Through)
		if err != nil {
			return err
		}
		if of.What == "" {
			if _, err := tx.tx.ExecContext(ctx, `DELETE FROM weir.threshold_learning WHERE rule = $1`, rule); err != nil {
				return err
			}
		}
		if _, err := tx.tx.ExecContext(ctx, `DELETE FROM weir.threshold WHERE rule = $1 AND source = $2`, rule, sourceLearned); err != nil {
			return err
		}
		return tx.insertLearned(ctx, rule, entries)
	})
	if err != nil {
		return fmt.Errorf("replace what is learned for %s: %w", rule, err)
	}
	return nil
}

func (tx *Tx) insertLearned(ctx context.Context, rule string, entries []alert.Threshold) error {
	var columns [7][]string // case, and the dimensions
	var values []float64
	at := map[alert.Threshold]int{} // by all but the value
	for _, e := range entries {
		id := alert.Threshold{Case: e.Case, Dimensions: e.Dimensions}
		if i, twice := at[id]; twice {
			values[i] = e.Value
			continue
		}
		if e.Storable() != nil || math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
			continue
		}
		at[id] = len(values)
		values = append(values, e.Value)
		columns[0] = append(columns[0], e.Case)
		for i, text := range e.Values() {
			columns[i+1] = append(columns[i+1], text)
		}
	}
	args := []any{rule, sourceLearned, pq.Array(values)}
	for _, column := range columns {
		args = append(args, pq.Array(column))
	}
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.threshold (rule, source, set_by, value, rule_case, api, version, resource, method, application, tenant)
		SELECT $1, $2, '', * FROM unnest($3::float8[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])`, args...)
	return err
}
