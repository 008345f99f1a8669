package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// A replay folds a dead letter once. Its identity was claimed when it was
// written, so the ledger cannot tell a second replay from the first; the
// letter's own row does. Somebody asks for it (state replay); a worker takes it,
// which only keeps others from doing the same work, and settles it in the
// transaction that folds its events: that locks the row, and finds it still to
// be replayed, or nothing of the transaction happens.

const (
	// takenFor is how long a worker has for what it took, before another may.
	takenFor = 30 * time.Second
	// takenLetters is how many a worker takes at once, each of MaxPayload at most.
	takenLetters = 64
)

// ErrSettled means that some of the dead letters were settled meanwhile, by
// another worker or by who dropped them: the transaction must be rolled back.
var ErrSettled = errors.New("some of these dead letters are settled already")

// ReplayDeadLetters asks workers to fold those dead letters of the filter that
// are open, or asked for already, and returns their ids. State and Limit of the
// filter play no part.
func (db *DB) ReplayDeadLetters(ctx context.Context, filter DeadLetterFilter) ([]int64, error) {
	ids, err := db.changeDeadLetters(ctx, `taken_at = CASE state WHEN 'replay' THEN taken_at END`, DeadLetterReplay, filter)
	if err != nil {
		return nil, fmt.Errorf("ask for dead letters to be replayed: %w", err)
	}
	return ids, nil
}

// DropDeadLetters gives up those dead letters of the filter that are open, or
// to be replayed, and returns their ids. What is known of them stays, save their
// payloads. State and Limit of the filter play no part.
func (db *DB) DropDeadLetters(ctx context.Context, filter DeadLetterFilter) ([]int64, error) {
	ids, err := db.changeDeadLetters(ctx, `settled_at = now(), taken_at = NULL, payload = ''`, DeadLetterDropped, filter)
	if err != nil {
		return nil, fmt.Errorf("drop dead letters: %w", err)
	}
	return ids, nil
}

// changeDeadLetters locks the letters in the order of their ids, as everybody
// does, so that nobody deadlocks.
func (db *DB) changeDeadLetters(ctx context.Context, set string, to DeadLetterState, filter DeadLetterFilter) (ids []int64, err error) {
	filter.State = ""
	const unsettled = `state IN ('open', 'replay')`
	rows, err := db.sql.QueryContext(ctx, `
		WITH chosen AS (SELECT id FROM weir.dead_letter WHERE `+unsettled+` AND `+deadLetterWhere+` ORDER BY id FOR UPDATE)
		UPDATE weir.dead_letter d SET state = $5, `+set+` FROM chosen WHERE d.id = chosen.id AND d.`+unsettled+`
		RETURNING d.id`, filter.args(string(to))...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, rows.Err()
}

// CountDeadLetters counts those of the filter.
func (db *DB) CountDeadLetters(ctx context.Context, filter DeadLetterFilter) (n int64, err error) {
	err = db.sql.QueryRowContext(ctx, `SELECT count(*) FROM weir.dead_letter WHERE `+deadLetterWhere, filter.args()...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	return n, nil
}

// SplitDeadLetters lists the open letters of single events that were split from
// those of the ids, oldest first.
func (db *DB) SplitDeadLetters(ctx context.Context, ids []int64) ([]DeadLetter, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT `+deadLetterColumns(listedPayload)+` FROM weir.dead_letter WHERE split_from = ANY ($1) AND state = 'open' ORDER BY id`,
		pq.Array(ids))
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	letters, err := scanDeadLetters(rows)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// TakeDeadLetters takes some of those that are to be replayed, oldest first, and
// keeps other workers from them for half a minute.
func (db *DB) TakeDeadLetters(ctx context.Context) ([]DeadLetter, error) {
	rows, err := db.sql.QueryContext(ctx, `
		WITH next AS (
			SELECT id AS next_id FROM weir.dead_letter WHERE state = 'replay' AND (taken_at IS NULL OR taken_at < now() - $1 * interval '1 second')
			ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
		), taken AS (
			UPDATE weir.dead_letter SET taken_at = now(), replays = replays + 1 FROM next WHERE id = next_id RETURNING `+deadLetterColumns(MaxPayload)+`
		)
		SELECT * FROM taken ORDER BY id`, takenFor.Seconds(), takenLetters)
	if err != nil {
		return nil, fmt.Errorf("take dead letters: %w", err)
	}
	letters, err := scanDeadLetters(rows)
	if err != nil {
		return nil, fmt.Errorf("take dead letters: %w", err)
	}
	return letters, nil
}

// ReleaseDeadLetters lets workers take the letters again at once.
func (db *DB) ReleaseDeadLetters(ctx context.Context, ids []int64) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE weir.dead_letter SET taken_at = NULL WHERE id = ANY ($1) AND state = 'replay'`, pq.Array(ids))
	if err != nil {
		return fmt.Errorf("give dead letters back: %w", err)
	}
	return nil
}

// Settled is what a transaction does to the dead letters that it replays.
type Settled struct {
	IDs     []int64
	Reasons []string // by id: why it still cannot be folded, "" where it is folded
	Into    []*aggregation.Definition
}

// SettleDeadLetters says that the letters are folded by this transaction, or
// open again, for another reason. ErrSettled means that one was not to be
// replayed any more, and that the transaction must not be committed.
func (tx *Tx) SettleDeadLetters(ctx context.Context, settled Settled) error {
	if len(settled.IDs) == 0 {
		return nil
	}
	reasons := make([]string, len(settled.Reasons))
	for i, reason := range settled.Reasons {
		reasons[i] = plain(short(reason))
	}
	result, err := tx.tx.ExecContext(ctx, `
		WITH locked AS (SELECT id FROM weir.dead_letter WHERE id = ANY ($1) AND state = 'replay' ORDER BY id FOR UPDATE)
		UPDATE weir.dead_letter d SET taken_at = NULL,
			state = CASE now_reason WHEN '' THEN 'folded' ELSE 'open' END,
			settled_at = CASE now_reason WHEN '' THEN now() END,
			reason = CASE now_reason WHEN '' THEN reason ELSE now_reason END,
			folded_into = CASE now_reason WHEN '' THEN folded_into || $3::text[] ELSE folded_into END
		FROM locked JOIN unnest($1::bigint[], $2::text[]) AS s (id, now_reason) USING (id)
		WHERE d.id = locked.id AND d.state = 'replay'`, pq.Array(settled.IDs), pq.Array(reasons), pq.Array(ids(settled.Into)))
	if err != nil {
		return fmt.Errorf("settle dead letters: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n < int64(len(settled.IDs)) {
		return errors.Join(ErrSettled, err)
	}
	return nil
}
