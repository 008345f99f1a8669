package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/failpoint"
)

// DeadLetter is an event, or a whole message, that could not be folded.
//
// With every event that is accepted counted once,
//
//	accepted = folded + in dead letters that are open, to be replayed, or dropped
//	Σ shard.events       = folded, by replays too
//	Σ shard.dead_letters = rows of weir.dead_letter, whatever their state
//
// An event of a letter is folded in the transaction that settles the letter.
// What of a whole message still cannot be folded then becomes letters of its
// own, which say where they are from (SplitFrom).
type DeadLetter struct {
	ID      int64
	Reason  string
	Source  string // who published it, by the subject
	Subject string
	MsgID   string // the Nats-Msg-Id as sent, "" for none
	// ContentType and ContentEncoding are those of the message.
	ContentType, ContentEncoding string
	// Incarnation is the stream that took the message, Sequence its place there;
	// Offset is the event's place in the message, from 0, or -1 for all of it.
	Incarnation string
	Sequence    uint64
	Offset      int
	// Events are the places of those events of a whole message that the letter
	// stands for, where its events have numbers of their own: the others were
	// folded with another message. nil stands for all.
	Events   []int
	StoredAt time.Time // when the stream took the message
	At       time.Time // when it was written here; set by Postgres
	ShardID  string
	// Aggregation is the only one that lacks the event, where it was folded into
	// the others: by its id. "" means that all lack it.
	Aggregation string
	// Payload is what was sent: at most MaxPayload bytes of the Size it had. The
	// list has only its beginning, a dropped one nothing.
	Payload   []byte
	Size      int
	State     DeadLetterState
	SettledAt time.Time // when it was folded or dropped; zero: neither
	Replays   int       // how often a replay was begun
	SplitFrom int64     // the letter of the whole message that this event was part of; 0: none
}

// DeadLetterState is what becomes of a dead letter.
type DeadLetterState string

// The states. From replay a letter comes to folded, or back to open with
// another reason.
const (
	DeadLetterOpen    DeadLetterState = "open"
	DeadLetterReplay  DeadLetterState = "replay" // a worker is to fold it
	DeadLetterFolded  DeadLetterState = "folded"
	DeadLetterDropped DeadLetterState = "dropped" // given up by somebody
)

// DeadLetterStates lists the states.
func DeadLetterStates() []string {
	return []string{string(DeadLetterOpen), string(DeadLetterReplay), string(DeadLetterFolded), string(DeadLetterDropped)}
}

const (
	// MaxPayload is how much of a dead letter's payload is kept, in bytes. The
	// stream still has all of it.
	MaxPayload = 1 << 20
	// maxReason is how much of a reason is kept, in bytes.
	maxReason = 500
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
	text := func(of func(*DeadLetter) string) any {
		all := make([]string, n)
		for i := range letters {
			all[i] = plain(of(&letters[i]))
		}
		return pq.Array(all)
	}
	number := func(of func(*DeadLetter) int64) any {
		all := make([]int64, n)
		for i := range letters {
			all[i] = of(&letters[i])
		}
		return pq.Array(all)
	}
	payloads := make([][]byte, n)
	for i := range letters {
		payloads[i] = letters[i].Payload[:min(len(letters[i].Payload), MaxPayload)]
	}
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.dead_letter (shard_id, reason, source, subject, msg_id, content_type, content_encoding, incarnation, sequence,
			event_offset, events, stored_at, aggregation, payload, payload_size, split_from)
		SELECT $1, reason, source, subject, msg_id, content_type, content_encoding, incarnation, sequence,
			event_offset, nullif(events, '')::integer[], stored_at, aggregation, payload, payload_size, nullif(split_from, 0)
		FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[],
			$10::int[], $11::text[], $12::timestamptz[], $13::text[], $14::bytea[], $15::bigint[], $16::bigint[])
			AS l (reason, source, subject, msg_id, content_type, content_encoding, incarnation, sequence,
				event_offset, events, stored_at, aggregation, payload, payload_size, split_from)`,
		shardID,
		text(func(l *DeadLetter) string { return short(l.Reason) }),
		text(func(l *DeadLetter) string { return l.Source }),
		text(func(l *DeadLetter) string { return l.Subject }),
		text(func(l *DeadLetter) string { return l.MsgID }),
		text(func(l *DeadLetter) string { return l.ContentType }),
		text(func(l *DeadLetter) string { return l.ContentEncoding }),
		text(func(l *DeadLetter) string { return l.Incarnation }),
		number(func(l *DeadLetter) int64 { return int64(l.Sequence) }), //nolint:gosec // sequences stay far below 2^63
		number(func(l *DeadLetter) int64 { return int64(l.Offset) }),
		text(func(l *DeadLetter) string { return offsets(l.Events) }),
		// Cut off to what Postgres keeps, as the ledger does, not rounded.
		text(func(l *DeadLetter) string {
			return l.StoredAt.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
		}),
		text(func(l *DeadLetter) string { return l.Aggregation }),
		pq.Array(payloads),
		number(func(l *DeadLetter) int64 { return int64(max(l.Size, len(l.Payload))) }), // less is known of one that was read from here
		number(func(l *DeadLetter) int64 { return l.SplitFrom }))
	return err
}

// offsets writes numbers as Postgres writes an array, "" for none.
func offsets(events []int) string {
	if len(events) == 0 {
		return ""
	}
	b := []byte{'{'}
	for i, offset := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(offset), 10)
	}
	return string(append(b, '}'))
}

// short leaves out the middle of a reason that quotes something endless; the
// payload has it.
func short(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return reason[:maxReason/2] + " … " + reason[len(reason)-maxReason/2:]
}

// plain makes any bytes storable as Postgres text.
func plain(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// deadLetterColumns are read in scanDeadLetter's order, with at most so many
// bytes of each payload.
func deadLetterColumns(payload int) string {
	return fmt.Sprintf(`id, reason, source, subject, msg_id, content_type, content_encoding, incarnation, sequence, event_offset, events,
		stored_at, created_at, shard_id, aggregation, substring(payload FOR %d), payload_size, state, settled_at, replays, coalesce(split_from, 0)`, payload)
}

// DeadLetterFilter chooses dead letters; empty fields choose all.
type DeadLetterFilter struct {
	IDs    []int64
	State  DeadLetterState
	Reason string // part of it
	Source string
	Limit  int // of a list; 0: 100
}

// deadLetterWhere is the condition that a filter stands for, over its args.
const deadLetterWhere = `($1::bigint[] IS NULL OR id = ANY ($1)) AND ($2 = '' OR state = $2) AND ($3 = '' OR strpos(reason, $3) > 0) AND ($4 = '' OR source = $4)`

func (f DeadLetterFilter) args(more ...any) []any {
	return append([]any{pq.Array(f.IDs), string(f.State), f.Reason, f.Source}, more...)
}

// DeadLetters lists the newest dead letters, newest first, with the beginning
// of their payloads.
func (db *DB) DeadLetters(ctx context.Context, filter DeadLetterFilter) ([]DeadLetter, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT `+deadLetterColumns(listedPayload)+` FROM weir.dead_letter WHERE `+deadLetterWhere+` ORDER BY id DESC LIMIT $5`,
		filter.args(cmp.Or(filter.Limit, 100))...)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	letters, err := scanDeadLetters(rows)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// DeadLetter returns one dead letter, or ErrNoDeadLetter.
func (db *DB) DeadLetter(ctx context.Context, id int64) (DeadLetter, error) {
	l, err := scanDeadLetter(db.sql.QueryRowContext(ctx, `SELECT `+deadLetterColumns(MaxPayload)+` FROM weir.dead_letter WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", id, ErrNoDeadLetter)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	return l, nil
}

func scanDeadLetters(rows *sql.Rows) (letters []DeadLetter, err error) {
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		l, err := scanDeadLetter(rows)
		if err != nil {
			return nil, err
		}
		letters = append(letters, l)
	}
	return letters, rows.Err()
}

func scanDeadLetter(row interface{ Scan(...any) error }) (DeadLetter, error) {
	var l DeadLetter
	var sequence int64
	var events pq.Int64Array
	var settled sql.NullTime
	err := row.Scan(&l.ID, &l.Reason, &l.Source, &l.Subject, &l.MsgID, &l.ContentType, &l.ContentEncoding, &l.Incarnation, &sequence, &l.Offset, &events,
		&l.StoredAt, &l.At, &l.ShardID, &l.Aggregation, &l.Payload, &l.Size, &l.State, &settled, &l.Replays, &l.SplitFrom)
	l.Sequence = uint64(sequence) //nolint:gosec // stored from a uint64
	l.SettledAt = settled.Time
	for _, offset := range events {
		l.Events = append(l.Events, int(offset))
	}
	return l, err
}
