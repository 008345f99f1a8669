package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/failpoint"
)

// DeadLetter is an event, or a whole message, that could not be folded.
type DeadLetter struct {
	ID      int64
	Reason  string
	Source  string // who published it, by the subject
	Subject string
	MsgID   string // the Nats-Msg-Id as sent, "" for none
	// Sequence is the message's place in the stream; Offset the event's place
	// in the message, from 0, or -1 for all of it.
	Sequence uint64
	Offset   int
	StoredAt time.Time // when the stream took the message
	At       time.Time // when it was written here; set by Postgres
	ShardID  string
	// Payload is what was sent: at most MaxPayload bytes of the Size it had. The
	// list has only its beginning.
	Payload []byte
	Size    int
}

const (
	// MaxPayload is how much of a dead letter's payload is kept, in bytes. The
	// stream still has all of it.
	MaxPayload = 1 << 20
	// listedPayload is how much of it a list shows.
	listedPayload = 1 << 10
	// writtenPayload bounds what one statement carries.
	writtenPayload = 16 << 20
)

// ErrNoDeadLetter means that there is no dead letter of that id.
var ErrNoDeadLetter = errors.New("no such dead letter")

// WriteDeadLetters keeps what could not be folded, in the transaction that
// claims its message.
func (tx *Tx) WriteDeadLetters(ctx context.Context, shardID string, letters []DeadLetter) error {
	for len(letters) > 0 {
		n, size := 0, 0
		for n < len(letters) && size < writtenPayload {
			size += min(len(letters[n].Payload), MaxPayload)
			n++
		}
		if err := tx.writeDeadLetters(ctx, shardID, letters[:n]); err != nil {
			return fmt.Errorf("write dead letters: %w", err)
		}
		letters = letters[n:]
	}
	return tx.db.failpoints.Hit(failpoint.DeadLettersWritten)
}

func (tx *Tx) writeDeadLetters(ctx context.Context, shardID string, letters []DeadLetter) error {
	n := len(letters)
	reasons, sources, subjects, ids := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	sequences, offsets, stored := make([]int64, n), make([]int64, n), make([]string, n)
	payloads, sizes := make([][]byte, n), make([]int64, n)
	for i, l := range letters {
		reasons[i], sources[i], subjects[i], ids[i] = plain(l.Reason), plain(l.Source), plain(l.Subject), plain(l.MsgID)
		sequences[i], offsets[i] = int64(l.Sequence), int64(l.Offset) //nolint:gosec // sequences stay far below 2^63
		stored[i], sizes[i] = l.StoredAt.UTC().Format(time.RFC3339Nano), int64(len(l.Payload))
		payloads[i] = l.Payload[:min(len(l.Payload), MaxPayload)]
	}
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.dead_letter (shard_id, reason, source, subject, msg_id, sequence, event_offset, stored_at, payload, payload_size)
		SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::int[], $8::timestamptz[], $9::bytea[], $10::bigint[])`,
		shardID, pq.Array(reasons), pq.Array(sources), pq.Array(subjects), pq.Array(ids),
		pq.Array(sequences), pq.Array(offsets), pq.Array(stored), pq.Array(payloads), pq.Array(sizes))
	return err
}

// plain makes any bytes storable as Postgres text.
func plain(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// selectDeadLetters reads at most $1 bytes of each payload.
const selectDeadLetters = `
	SELECT id, reason, source, subject, msg_id, sequence, event_offset, stored_at, created_at, shard_id, substring(payload FOR $1), payload_size
	FROM weir.dead_letter`

// DeadLetters lists the newest dead letters, newest first, with the beginning
// of their payloads.
func (db *DB) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	rows, err := db.sql.QueryContext(ctx, selectDeadLetters+` ORDER BY id DESC LIMIT $2`, listedPayload, limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var letters []DeadLetter
	for rows.Next() {
		l, err := scanDeadLetter(rows)
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		letters = append(letters, l)
	}
	return letters, rows.Err()
}

// DeadLetter returns one dead letter, or ErrNoDeadLetter.
func (db *DB) DeadLetter(ctx context.Context, id int64) (DeadLetter, error) {
	l, err := scanDeadLetter(db.sql.QueryRowContext(ctx, selectDeadLetters+` WHERE id = $2`, MaxPayload, id))
	if errors.Is(err, sql.ErrNoRows) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", id, ErrNoDeadLetter)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	return l, nil
}

func scanDeadLetter(row interface{ Scan(...any) error }) (DeadLetter, error) {
	var l DeadLetter
	var sequence int64
	err := row.Scan(&l.ID, &l.Reason, &l.Source, &l.Subject, &l.MsgID, &sequence, &l.Offset, &l.StoredAt, &l.At, &l.ShardID, &l.Payload, &l.Size)
	l.Sequence = uint64(sequence) //nolint:gosec // stored from a uint64
	return l, err
}
