package store

import (
	"context"
	"fmt"

	"github.com/lib/pq"
)

// Repair is a message that the stream holds and the ledger lacks, though it was
// acknowledged, as after a Postgres that lost its last commits. Whoever finds
// one writes it to weir.repair; a worker folds it the way of every message, so
// that the ledger decides whether that is still to be done.
type Repair struct {
	Incarnation string // of the stream
	Sequence    uint64
	Late        bool // it was found more than ten minutes ago
	Outcome     RepairOutcome
}

// RepairOutcome is what a worker did.
type RepairOutcome string

// The outcomes.
const (
	RepairFolded    RepairOutcome = "folded"     // or made dead letters
	RepairWasFolded RepairOutcome = "was folded" // all of it, when the worker looked
	RepairGone      RepairOutcome = "gone"       // the stream does not hold it any more
)

// TakeRepairs takes at most limit repairs that are still to be done, those found
// first first, and keeps other workers from them for half a minute.
func (db *DB) TakeRepairs(ctx context.Context, limit int) ([]Repair, error) {
	rows, err := db.sql.QueryContext(ctx, `
		WITH next AS (
			SELECT incarnation, sequence FROM weir.repair WHERE done_at IS NULL AND (taken_at IS NULL OR taken_at < now() - $1 * interval '1 second')
			ORDER BY found_at, sequence LIMIT $2 FOR UPDATE SKIP LOCKED
		), taken AS (
			UPDATE weir.repair r SET taken_at = now() FROM next WHERE r.incarnation = next.incarnation AND r.sequence = next.sequence
			RETURNING r.incarnation, r.sequence, r.found_at < now() - interval '10 minutes' AS late
		)
		SELECT incarnation, sequence, late FROM taken ORDER BY incarnation, sequence`, takenFor.Seconds(), limit)
	if err != nil {
		return nil, fmt.Errorf("take repairs: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var repairs []Repair
	for rows.Next() {
		var r Repair
		var sequence int64
		if err := rows.Scan(&r.Incarnation, &sequence, &r.Late); err != nil {
			return nil, fmt.Errorf("take repairs: %w", err)
		}
		r.Sequence = uint64(sequence) //nolint:gosec // stored from a uint64
		repairs = append(repairs, r)
	}
	return repairs, rows.Err()
}

// FinishRepairs says that the repairs are done, and with what outcome.
func (db *DB) FinishRepairs(ctx context.Context, repairs []Repair) error {
	if len(repairs) == 0 {
		return nil
	}
	n := len(repairs)
	incarnations, sequences, outcomes := make([]string, n), make([]int64, n), make([]string, n)
	for i, r := range repairs {
		incarnations[i], sequences[i], outcomes[i] = r.Incarnation, int64(r.Sequence), string(r.Outcome) //nolint:gosec // sequences stay far below 2^63
	}
	_, err := db.sql.ExecContext(ctx, `
		UPDATE weir.repair r SET done_at = now(), outcome = k.outcome
		FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (incarnation, sequence, outcome)
		WHERE r.incarnation = k.incarnation AND r.sequence = k.sequence AND r.done_at IS NULL`,
		pq.Array(incarnations), pq.Array(sequences), pq.Array(outcomes))
	if err != nil {
		return fmt.Errorf("finish repairs: %w", err)
	}
	return nil
}
