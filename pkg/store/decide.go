package store

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"

	"weir/pkg/alert"
)

// WriteDecisions records what was decided of a partition, and puts it into the outbox, and returns
// the alerts that were new. What was decided before changes nothing. An alert that
// fires less than its Suppress from the last one of the same key is left out: whoever decided that
// one may have known less, or more. One that fires again ends the one before without a word. What is
// resolved was firing, or is left out.
func (p *Partitions) WriteDecisions(ctx context.Context, part int, alerts []alert.Alert) (written []alert.Alert, err error) {
	if len(alerts) == 0 {
		return nil, nil
	}
	err = p.db.InTx(ctx, func(tx *Tx) error {
		written = nil
		if err := tx.fence(ctx, p, part); err != nil {
			return err
		}
		for rest := alerts; len(rest) > 0; {
			n := together(rest)
			some, err := tx.writeDecisions(ctx, rest[:n])
			if err != nil {
				return err
			}
			written, rest = append(written, some...), rest[n:]
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write what was decided of partition %d: %w", part, err)
	}
	return written, nil
}

// together is how many alerts, from the first, can be written at once: of each key at most one that
// fires, before all that are resolved.
func together(alerts []alert.Alert) int {
	seen := map[string]bool{}
	for i := range alerts {
		key := string(hashOf(alerts[i].SuppressedBy()...))
		if alerts[i].State == alert.Firing && seen[key] {
			return i
		}
		seen[key] = true
	}
	return len(alerts)
}

func (tx *Tx) writeDecisions(ctx context.Context, alerts []alert.Alert) ([]alert.Alert, error) {
	var firing, resolved []alert.Alert
	for _, a := range alerts {
		if a.State == alert.Firing {
			firing = append(firing, a)
		} else {
			resolved = append(resolved, a)
		}
	}
	firing, err := tx.unsuppressed(ctx, firing)
	if err != nil {
		return nil, err
	}
	if err := tx.WriteAlerts(ctx, firing); err != nil {
		return nil, err
	}
	if resolved, err = tx.wereFiring(ctx, resolved); err != nil {
		return nil, err
	}
	return append(firing, resolved...), tx.WriteAlerts(ctx, resolved)
}

// unsuppressed are those alerts that none of the same key keeps quiet, and that are new.
func (tx *Tx) unsuppressed(ctx context.Context, alerts []alert.Alert) ([]alert.Alert, error) {
	if len(alerts) == 0 {
		return nil, nil
	}
	var keys [][]byte
	var ids, times []string
	var quiet []int64
	for i := range alerts {
		a := &alerts[i]
		keys, ids, times = append(keys, hashOf(a.SuppressedBy()...)), append(ids, a.ID), append(times, a.FiredAt.UTC().Format(time.RFC3339Nano))
		quiet = append(quiet, max(0, a.Quiet().Microseconds()-1))
	}
	rows, err := tx.tx.QueryContext(ctx, `
		WITH given AS (
			SELECT * FROM unnest($1::bytea[], $2::timestamptz[], $3::text[], $4::bigint[]) AS x (id, fired_at, alert_id, quiet)
		), before AS (
			SELECT s.id, s.alert_id, s.fired_at FROM weir.alert_suppression s JOIN given USING (id)
		), told AS (
			INSERT INTO weir.alert_suppression AS s (id, fired_at, alert_id) SELECT id, fired_at, alert_id FROM given
			ON CONFLICT (id) DO UPDATE SET fired_at = excluded.fired_at, alert_id = excluded.alert_id
			WHERE s.alert_id <> excluded.alert_id AND NOT EXISTS (
				SELECT FROM given g WHERE g.id = s.id
				AND g.fired_at BETWEEN s.fired_at - g.quiet * interval '1 microsecond' AND s.fired_at + g.quiet * interval '1 microsecond')
			RETURNING id, alert_id, fired_at
		), ended AS (
			UPDATE weir.alert a SET resolved_at = told.fired_at FROM told JOIN before USING (id)
			WHERE a.id = before.alert_id AND before.fired_at < told.fired_at AND a.resolved_at IS NULL
		)
		SELECT alert_id FROM told`, pq.ByteaArray(keys), pq.Array(times), pq.Array(ids), pq.Array(quiet))
	if err != nil {
		return nil, fmt.Errorf("look what is suppressed: %w", err)
	}
	defer func() { _ = rows.Close() }()
	told := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		told[id] = true
	}
	var left []alert.Alert
	for _, a := range alerts {
		if told[a.ID] {
			left = append(left, a)
		}
	}
	return left, rows.Err()
}

// wereFiring are those that are resolved and were told of, with what was told: when it fired, and why. What a window
// holds when nothing is wrong any more says nothing about what was.
func (tx *Tx) wereFiring(ctx context.Context, alerts []alert.Alert) (left []alert.Alert, err error) {
	if len(alerts) == 0 {
		return nil, nil
	}
	var ids []string
	for i := range alerts {
		ids = append(ids, alerts[i].FiringID)
	}
	rows, err := tx.tx.QueryContext(ctx, `
		SELECT id, fired_at, message, value, threshold FROM weir.alert WHERE id = ANY ($1) AND resolved_at IS NULL`, pq.Array(ids))
	if err != nil {
		return nil, fmt.Errorf("look what fires: %w", err)
	}
	defer func() { _ = rows.Close() }()
	firing := map[string]alert.Alert{}
	for rows.Next() {
		var id string
		var a alert.Alert
		if err := rows.Scan(&id, &a.FiredAt, &a.Message, &a.Value, &a.Threshold); err != nil {
			return nil, err
		}
		firing[id] = a
	}
	for _, a := range alerts {
		if of, ok := firing[a.FiringID]; ok {
			a.FiredAt, a.Message, a.Value, a.Threshold = of.FiredAt.UTC(), of.Message, of.Value, of.Threshold
			left = append(left, a)
		}
	}
	return left, rows.Err()
}
