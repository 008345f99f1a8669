package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pkg/stream"
)

const (
	kindReused     = "sequences used again"
	kindReplaced   = "another stream"
	kindUnverified = "gone before it was verified"
	kindHole       = "not folded"
)

// readAhead is how many messages are looked up at once.
const readAhead = 5000

// Stream is how far the stream is verified.
type Stream struct {
	Incarnation string `json:"incarnation"`
	First       uint64 `json:"first"` // that it holds now
	Last        uint64 `json:"last"`
	AckFloor    uint64 `json:"ack_floor"` // all up to here is acknowledged
	Began       uint64 `json:"began"`     // the first message that was verified
	Verified    uint64 `json:"verified"`  // the last one that was
	InFlight    uint64 `json:"in_flight"` // messages that are not acknowledged yet, at most
	Unverified  int64  `json:"unverified"`
	Holes       int64  `json:"holes"`    // acknowledged, and not in the ledger
	Repaired    int64  `json:"repaired"` // that were holes once

	stored int64 // of the last verified message
	// Everything that was stored until then is verified, or a hole.
	Through time.Time `json:"verified_through"`
	highest uint64
}

// verifyStream is the second link, stream to ledger: every message that the
// workers have acknowledged must be in the ledger. The acknowledgements are
// asked for before the ledger is looked into, so that what a worker is just
// folding is in flight, and not a hole.
func (a *Auditor) verifyStream(ctx context.Context, everything bool, deadline time.Time) (Stream, error) {
	history, err := a.conn.History(ctx)
	if err != nil {
		return Stream{}, err
	}
	state, err := a.conn.State(ctx)
	if err != nil {
		return Stream{}, err
	}
	s := Stream{
		Incarnation: history.Incarnation(), First: state.FirstSequence, Last: state.LastSequence,
		AckFloor: min(state.AckFloor, state.LastSequence), InFlight: state.Behind,
	}
	if err := a.load(ctx, &s); err != nil {
		return s, err
	}
	unread := a.checkpoint(ctx, history, &s)
	if everything && unread == nil {
		s.Verified = max(s.First, 1) - 1
	}
	for some := false; unread == nil && s.Verified < s.AckFloor && (everything || !some || time.Now().Before(deadline)); some = true {
		unread = a.advance(ctx, history, &s)
	}
	if unread != nil && !errors.Is(unread, ErrUnread) {
		return s, unread
	}
	if err := a.look(ctx, &s); err != nil {
		return s, err
	}
	s.Through = time.UnixMicro(s.stored).UTC()
	if s.Verified >= s.AckFloor && state.CompleteThrough.After(s.Through) {
		s.Through = state.CompleteThrough
	}
	return s, unread
}

// ErrUnread means that messages could not be read, or not all that the stream
// has, as from a replica that lags: the next pass tries again.
var ErrUnread = errors.New("the stream cannot be read for now")

// load reads how far the stream is verified. A stream that the auditor has
// never seen is begun with the first message that it holds: what limits removed
// before, nobody can tell.
func (a *Auditor) load(ctx context.Context, s *Stream) error {
	err := a.db.QueryRowContext(ctx, `SELECT began, sequence, stored, highest, unverified FROM weir.audit_stream WHERE incarnation = $1`,
		s.Incarnation).Scan(&s.Began, &s.Verified, &s.stored, &s.highest, &s.Unverified)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return wrap(err, "read how far the stream is verified")
	}
	var before string
	err = a.db.QueryRowContext(ctx, `SELECT incarnation FROM weir.audit_stream ORDER BY opened_at DESC LIMIT 1`).Scan(&before)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return wrap(err, "read how far the stream is verified")
	}
	if before != "" {
		err := a.note(ctx, Finding{
			Kind: kindReplaced, Subject: s.Incarnation,
			Detail: fmt.Sprintf("the stream is another than before (incarnation %s, was %s): what the former held and was not folded is gone", s.Incarnation, before),
		})
		if err != nil {
			return err
		}
	}
	s.Began = max(s.First, 1)
	s.Verified = s.Began - 1
	s.highest = s.Verified
	return a.save(ctx, a.db, s)
}

func (a *Auditor) save(ctx context.Context, q querier, s *Stream) error {
	_, err := q.ExecContext(ctx, `
		INSERT INTO weir.audit_stream (incarnation, began, sequence, stored, highest, unverified) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (incarnation) DO UPDATE SET began = excluded.began, sequence = excluded.sequence, stored = excluded.stored,
			highest = excluded.highest, unverified = excluded.unverified`,
		s.Incarnation, s.Began, s.Verified, s.stored, s.highest, s.Unverified)
	return wrap(err, "note how far the stream is verified")
}

// checkpoint looks whether the message that was verified last is still that
// one. If a crash has cost the stream its end, sequences are used again for
// other messages: then all that the stream holds is verified anew.
func (a *Auditor) checkpoint(ctx context.Context, history *stream.History, s *Stream) error {
	detail := ""
	switch {
	case s.Last < s.highest:
		detail = fmt.Sprintf("the stream has lost its end: it had %s messages, and now ends with message %s; what was folded of them stays counted", Grouped(int64(s.highest)), Grouped(int64(s.Last)))
	case s.stored != 0 && s.Verified >= s.First:
		there, err := history.Identities(ctx, s.Verified, 1)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnread, err)
		}
		if len(there) > 0 && there[0].Sequence == s.Verified && there[0].Stored.UnixMicro() != s.stored {
			detail = fmt.Sprintf("message %s is another than the one that was verified (stored %s, was %s): the stream had lost its end",
				Grouped(int64(s.Verified)), there[0].Stored.UTC().Format(time.RFC3339Nano), time.UnixMicro(s.stored).UTC().Format(time.RFC3339Nano))
		}
	}
	if detail == "" {
		return nil
	}
	if err := a.note(ctx, Finding{Kind: kindReused, Subject: fmt.Sprintf("%s/%d", s.Incarnation, s.Verified), Detail: detail}); err != nil {
		return err
	}
	s.Verified, s.stored = max(s.First, 1)-1, 0
	s.highest = min(s.highest, s.Last)
	return a.save(ctx, a.db, s)
}

// advance verifies some more messages.
func (a *Auditor) advance(ctx context.Context, history *stream.History, s *Stream) error {
	stored, err := history.Identities(ctx, s.Verified+1, readAhead)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnread, err)
	}
	messages, gone := make([]message, 0, len(stored)), int64(0)
	ask := inquiry{history: history, first: s.First, left: mostInquiries}
	next := s.Verified + 1
	for _, m := range stored {
		if m.Sequence > s.AckFloor {
			break
		}
		if err := ask.gone(ctx, next, m.Sequence); err != nil {
			return err
		}
		gone += absent(next, m.Sequence, s.highest)
		next = m.Sequence + 1
		messages = append(messages, known(m))
	}
	if len(messages) < len(stored) || len(stored) == 0 { // none is left up to the floor
		if err := ask.gone(ctx, next, s.AckFloor+1); err != nil {
			return err
		}
		gone += absent(next, s.AckFloor+1, s.highest)
		next = s.AckFloor + 1
	}
	var lacking []message
	err = inSnapshot(ctx, a.db, nil, func(look snapshot) (err error) {
		lacking, err = look.unclaimed(ctx, s.Incarnation, messages)
		return err
	})
	if err != nil {
		return err
	}
	s.Verified = next - 1
	if n := len(messages); n > 0 && messages[n-1].sequence == s.Verified {
		s.stored = messages[n-1].stored
	} else {
		s.stored = 0 // nothing to recognise it by
	}
	s.highest, s.Unverified = max(s.highest, s.Verified), s.Unverified+gone
	return a.progress(ctx, s, lacking, gone)
}

// inquiry asks the stream's leader about messages that were not among those that
// were read: a replica that lags may have left them out.
type inquiry struct {
	history *stream.History
	first   uint64 // the leader has nothing before
	left    int    // how many messages are still asked about
}

// mostInquiries bounds what gaps in a stream cost, in which somebody has deleted
// many single messages.
const mostInquiries = 200

// gone is an error if the stream does have a message in [from, until). Of a long
// gap it asks about the first, the last and some between.
func (q *inquiry) gone(ctx context.Context, from, until uint64) error {
	if from = max(from, q.first); from >= until {
		return nil
	}
	last := until - 1
	for sequence := from; q.left > 0; {
		q.left--
		_, err := q.history.Get(ctx, sequence)
		if err == nil {
			return fmt.Errorf("%w: message %d was left out when it was read", ErrUnread, sequence)
		}
		if !errors.Is(err, stream.ErrNoMessage) {
			return fmt.Errorf("%w: %w", ErrUnread, err)
		}
		if sequence == last {
			return nil
		}
		sequence = min(sequence+(until-from)/20+1, last)
	}
	return nil
}

// absent is how many of the sequences in [from, until) were never verified,
// which is all beyond highest.
func absent(from, until, highest uint64) int64 {
	if from = max(from, highest+1); from >= until {
		return 0
	}
	return int64(until - from) //nolint:gosec // sequences stay far below 2^63
}

// known tells how the ledger knows a message.
func known(m stream.Stored) message {
	k := message{sequence: m.Sequence, stored: m.Stored.UnixMicro()}
	id, ok := stream.ParseIdentity(m.MsgID)
	if _, source, event := stream.ParseEventSubject(m.Subject); ok && event && source == id.Source {
		k.source, k.epoch, k.first, k.last = id.Source, id.Epoch, id.First, id.Last
	}
	return k
}

// progress writes how far the stream is verified, with the holes that were
// found, in one transaction.
func (a *Auditor) progress(ctx context.Context, s *Stream, holes []message, gone int64) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return wrap(err, "begin")
	}
	defer func() { _ = tx.Rollback() }() // of no effect after the commit
	for _, m := range holes {
		a.counted = time.Time{} // whether it may be repaired, the ledger is counted anew for
		_, err := tx.ExecContext(ctx, `
			INSERT INTO weir.audit_hole AS h (incarnation, sequence, stored, source, epoch, first_number, last_number)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (incarnation, sequence, stored) DO UPDATE
			SET repaired_at = NULL, found_at = CASE WHEN h.repaired_at IS NULL THEN h.found_at ELSE now() END`,
			s.Incarnation, m.sequence, m.stored, m.source, m.epoch, m.first, m.last)
		if err != nil {
			return wrap(err, "note a hole")
		}
	}
	if err := a.save(ctx, tx, s); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return wrap(err, "commit")
	}
	if gone == 0 {
		return nil
	}
	return a.note(ctx, Finding{
		Kind: kindUnverified, Subject: s.Incarnation, Lost: s.Unverified,
		Detail: fmt.Sprintf("%s left the stream before the auditor came by: whether %s folded, only what the sources say can tell",
			plural(s.Unverified, "message", "messages"), wasWere(s.Unverified)),
	})
}

// look looks at the holes again: what workers have folded meanwhile is
// repaired.
func (a *Auditor) look(ctx context.Context, s *Stream) error {
	open, err := a.holes(ctx)
	if err != nil {
		return err
	}
	for incarnation, messages := range open {
		var lacking []message
		err := inSnapshot(ctx, a.db, nil, func(look snapshot) (err error) {
			lacking, err = look.unclaimed(ctx, incarnation, messages)
			return err
		})
		if err != nil {
			return err
		}
		still := map[message]bool{}
		for _, m := range lacking {
			still[m] = true
		}
		for _, m := range messages {
			if still[m] {
				continue
			}
			_, err := a.db.ExecContext(ctx, `UPDATE weir.audit_hole SET repaired_at = now() WHERE incarnation = $1 AND sequence = $2 AND stored = $3`,
				incarnation, m.sequence, m.stored)
			if err != nil {
				return wrap(err, "note that a hole is repaired")
			}
		}
		if err := a.noteHoles(ctx, incarnation, s, lacking); err != nil {
			return err
		}
	}
	return wrap(a.db.QueryRowContext(ctx, `
		SELECT count(*) FILTER (WHERE repaired_at IS NULL), count(*) FILTER (WHERE repaired_at IS NOT NULL) FROM weir.audit_hole`).
		Scan(&s.Holes, &s.Repaired), "count the holes")
}

// holes lists the holes by incarnation; the newest come when others are closed.
func (a *Auditor) holes(ctx context.Context) (map[string][]message, error) {
	open := map[string][]message{}
	err := each(ctx, a.db, func(scan func(...any) error) error {
		var incarnation string
		var m message
		err := scan(&incarnation, &m.sequence, &m.stored, &m.source, &m.epoch, &m.first, &m.last)
		open[incarnation] = append(open[incarnation], m)
		return err
	}, `
		SELECT incarnation, sequence, stored, source, epoch, first_number, last_number FROM weir.audit_hole
		WHERE repaired_at IS NULL ORDER BY incarnation, sequence LIMIT 100000`)
	return open, wrap(err, "read the holes")
}

func (a *Auditor) noteHoles(ctx context.Context, incarnation string, s *Stream, holes []message) error {
	f := Finding{Kind: kindHole, Subject: incarnation, Lost: int64(len(holes))}
	if len(holes) == 0 {
		return a.settle(ctx, f)
	}
	names, lost := "", 0
	for i, m := range holes {
		if i < 10 {
			names += ", " + m.String()
		} else if i == 10 {
			names += ", …"
		}
		if incarnation != s.Incarnation || m.sequence < s.First {
			lost++
		}
	}
	f.Detail = fmt.Sprintf("%s acknowledged, and not in the ledger: %s", plural(f.Lost, "message was", "messages were"), names[2:])
	if lost > 0 {
		f.Detail += fmt.Sprintf("; the stream does not hold %s of them any more", Grouped(int64(lost)))
	}
	return a.note(ctx, f)
}

// repair puts the holes on the list of what workers are to fold. It does not
// where the ledger has lost identities that flushes had put into it: then a hole
// may be folded already, and folding it again would count it twice.
//
// A repair that was done before the hole was found is not of this hole: it was of
// another message, which had the same sequence before the stream lost its end,
// or the ledger has lost the message since. It is to be done again.
func (a *Auditor) repair(ctx context.Context, b Balance) error {
	if b.Ledger < b.Claims {
		return nil
	}
	_, err := a.db.ExecContext(ctx, `
		INSERT INTO weir.repair AS r (incarnation, sequence)
		SELECT DISTINCT h.incarnation, h.sequence FROM weir.audit_hole h LEFT JOIN weir.repair d USING (incarnation, sequence)
		WHERE h.repaired_at IS NULL AND (d.sequence IS NULL OR d.done_at < h.found_at)
		ON CONFLICT (incarnation, sequence) DO UPDATE SET found_at = now(), taken_at = NULL, done_at = NULL, outcome = NULL WHERE r.done_at IS NOT NULL`)
	return wrap(err, "enqueue repairs")
}

func wasWere(n int64) string {
	if n == 1 {
		return "it was"
	}
	return "they were"
}

func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
