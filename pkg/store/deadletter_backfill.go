package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/lib/pq"
)

// ReplayedWithout returns some of the dead letters that were folded without the
// aggregation, oldest first, of what the stream has from a sequence on; and, by
// letter, at which offsets its message has events that became letters of their
// own.
func (db *DB) ReplayedWithout(ctx context.Context, aggregation, incarnation string, first uint64) (letters []DeadLetter, split map[int64][]int, err error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT `+deadLetterColumns(MaxPayload)+` FROM weir.dead_letter
		WHERE state = 'folded' AND aggregation = '' AND NOT $1 = ANY (folded_into) AND incarnation = $2 AND sequence >= $3
		ORDER BY id LIMIT $4`, aggregation, incarnation, int64(first), takenLetters) //nolint:gosec // sequences stay far below 2^63
	if err != nil {
		return nil, nil, fmt.Errorf("list replayed dead letters: %w", err)
	}
	if letters, err = scanDeadLetters(rows); err != nil {
		return nil, nil, fmt.Errorf("list replayed dead letters: %w", err)
	}
	ids := make([]int64, len(letters))
	for i := range letters {
		ids[i] = letters[i].ID
	}
	rows, err = db.sql.QueryContext(ctx, `SELECT split_from, event_offset FROM weir.dead_letter WHERE split_from = ANY ($1) AND aggregation = ''`, pq.Array(ids))
	if err != nil {
		return nil, nil, fmt.Errorf("list events of replayed dead letters: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	split = map[int64][]int{}
	for rows.Next() {
		var id int64
		var offset int
		if err := rows.Scan(&id, &offset); err != nil {
			return nil, nil, fmt.Errorf("list events of replayed dead letters: %w", err)
		}
		split[id] = append(split[id], offset)
	}
	return letters, split, rows.Err()
}

// CompleteDeadLetters says that letters that were folded without the aggregation
// are now in it too. ErrSettled means that one was already.
func (tx *Tx) CompleteDeadLetters(ctx context.Context, ids []int64, aggregation string) error {
	if len(ids) == 0 {
		return nil
	}
	result, err := tx.tx.ExecContext(ctx, `UPDATE weir.dead_letter SET folded_into = folded_into || $2::text
		WHERE id = ANY ($1) AND state = 'folded' AND NOT $2 = ANY (folded_into)`, pq.Array(ids), aggregation)
	if err != nil {
		return fmt.Errorf("complete dead letters: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n < int64(len(ids)) {
		return errors.Join(ErrSettled, err)
	}
	return nil
}
