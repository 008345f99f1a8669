package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// raised says of a batch that it is made of dead letters: their identities were
// claimed when they were written, and what makes the fold happen once is that
// its transaction settles them.
type raised struct {
	store.Settled
	// counted: the events are in the control totals already, for only one
	// aggregation lacked them.
	counted bool
}

// less is what of the totals was not counted when the letters were written.
func (r raised) less(t store.Totals) store.Totals {
	if len(r.IDs) > 0 {
		t.Messages = 0
	}
	if r.counted {
		t.Events = 0
	}
	return t
}

// into is what the batch is folded into.
func (w *Worker) into(b *batch) []*aggregation.Definition {
	if len(b.raised.IDs) > 0 {
		return b.raised.Into
	}
	return w.catalog.Aggregations
}

// alerts returns the alerts that the batch raises, and what it tells the rules
// over all shards. Replayed events do neither:
// they are hours or days late, the events beside them in the window are
// forgotten, and an alert calls for somebody to act now.
func (w *Worker) alerts(b *batch) (alerts []alert.Alert, evidence [alert.Partitions][]byte) {
	if len(b.raised.IDs) > 0 {
		return w.local.Evaluate(nil), evidence // which also forgets what was not committed
	}
	thresholds := w.thresholds.now.Load()
	w.local.SetThresholds(thresholds)
	w.collector.SetThresholds(thresholds)
	return w.local.Evaluate(b.columns), w.collector.Collect(b.columns)
}

// replay folds dead letters that somebody has asked for, and returns how many
// it took. What still cannot be folded is open again, with the reason of today.
func (w *Worker) replay(ctx context.Context) (int, error) {
	taken, err := w.db.TakeDeadLetters(ctx)
	if err != nil {
		return 0, err
	}
	for letters := taken; len(letters) > 0; {
		n := 1
		for n < len(letters) && letters[n].Aggregation == letters[0].Aggregation {
			n++
		}
		if n, err = w.raise(ctx, letters[:n]); err != nil {
			return 0, err
		}
		letters = letters[n:]
	}
	return len(taken), nil
}

// raise folds dead letters that lack the same aggregations, as many as fit into
// memory together, and returns how many it has settled.
func (w *Worker) raise(ctx context.Context, letters []store.DeadLetter) (int, error) {
	b, err := w.decodeLetters(ctx, letters)
	if err == nil {
		letters = letters[:b.taken]
		err = w.flush(ctx, b)
	}
	switch {
	case errors.Is(err, store.ErrSettled): // some of them: the others are taken again
		return b.taken, w.db.ReleaseDeadLetters(ctx, b.raised.IDs)
	case ofInput(err) && len(letters) > 1:
		return w.raise(ctx, letters[:len(letters)/2])
	case ofInput(err):
		refused := newBatch(0, store.NewClaims())
		refused.raised.IDs, refused.raised.Reasons = []int64{letters[0].ID}, []string{why(err)}
		return 1, w.flush(ctx, refused)
	case err != nil:
		return 0, err
	}
	bad := 0
	for _, reason := range b.raised.Reasons {
		if reason != "" {
			bad++
		}
	}
	w.log.Info("replayed dead letters", zap.Int("folded", b.taken-bad), zap.Int("still_bad", bad))
	return b.taken, nil
}

// decodeLetters reads dead letters, as many as fit into memory together, under
// the sequences, times and identities that their messages have. A panic is one
// of input.
func (w *Worker) decodeLetters(ctx context.Context, letters []store.DeadLetter) (b *batch, err error) {
	defer w.catch(&err, true)
	b = newBatch(len(letters), store.NewClaims())
	b.raised.Into = w.catalog.Aggregations
	unknown := ""
	if id := letters[0].Aggregation; id != "" {
		b.raised.counted, b.raised.Into = true, nil
		if def := w.catalog.Stored(id); def != nil {
			b.raised.Into = []*aggregation.Definition{def}
		} else {
			unknown = fmt.Sprintf("only the aggregation %s lacks it, which is not defined any more", id)
		}
	}
	dict := event.NewDictionary()
	for i, size := 0, 0; i < len(letters) && size < maxDecoded; i++ {
		l, reason := &letters[i], unknown
		if reason == "" {
			var bytes int
			var err error
			if bytes, reason, err = w.decodeLetter(ctx, b, i, l, dict); err != nil {
				return nil, err
			}
			size += bytes
		}
		b.taken = i + 1
		b.raised.IDs, b.raised.Reasons = append(b.raised.IDs, l.ID), append(b.raised.Reasons, reason)
	}
	return b, nil
}

// decodeLetter reads one dead letter, and returns how many bytes it holds and
// why none of its events can be folded, or "".
func (w *Worker) decodeLetter(ctx context.Context, b *batch, i int, l *store.DeadLetter, dict *event.Dictionary) (size int, reason string, err error) {
	o := origin{incarnation: l.Incarnation, sequence: l.Sequence, stored: l.StoredAt.UnixMicro()}
	o.identity, o.own = stream.IdentityOf(l.Subject, l.MsgID)
	b.origins[i] = o
	name, _, ok := stream.ParseEventSubject(l.Subject)
	if name == event.HeartbeatType {
		return 0, "a heartbeat is not replayed, for its publisher sends newer ones: drop it", nil
	}
	schema := w.catalog.Stream(name)
	if !ok || schema == nil {
		return 0, fmt.Sprintf("unknown type: no stream is defined for the subject %q", l.Subject), nil
	}
	columns := b.columnsOf(schema, dict)
	from := o.at(i)
	if l.Offset >= 0 && len(l.Payload) == l.Size {
		if err := w.reader.decoder.DecodeEvent(l.Payload, from, l.Offset, columns); err != nil {
			reason = err.Error()
		}
		return l.Size, reason, nil
	}
	body, reason, err := w.bodyOf(ctx, l)
	if reason == "" && err == nil {
		reason = w.decodeBody(b, i, l, body, from, columns)
		size = w.reader.decoder.Size()
	}
	return size, reason, err
}

// bodyOf returns the whole message of a dead letter, or why there is none: what
// was cut off is read from the stream.
func (w *Worker) bodyOf(ctx context.Context, l *store.DeadLetter) (body event.Body, lost string, err error) {
	if len(l.Payload) == l.Size {
		return event.Body{Data: l.Payload, ContentType: l.ContentType, Encoding: l.ContentEncoding}, "", nil
	}
	history, err := w.conn.History(ctx)
	if err != nil {
		return body, "", err
	}
	m, err := stream.Message{}, stream.ErrNoMessage
	if history.Incarnation() == l.Incarnation {
		m, err = history.Get(ctx, l.Sequence)
	}
	if err == nil && !m.Stored.Truncate(time.Microsecond).Equal(l.StoredAt) {
		err = stream.ErrNoMessage // another one, under a sequence that is used again
	}
	if errors.Is(err, stream.ErrNoMessage) {
		const sentence = "it cannot be replayed: the dead letter has only the first"
		if lost = l.Reason; !strings.HasPrefix(lost, sentence) {
			lost = fmt.Sprintf("%s %d of its %d bytes, and the stream does not hold message %d any more. It is a dead letter because: %s",
				sentence, len(l.Payload), l.Size, l.Sequence, l.Reason)
		}
		return body, lost, nil
	}
	return event.Body{Data: m.Data, ContentType: m.ContentType(), Encoding: m.ContentEncoding()}, "", err
}

// decodeBody reads those events of a message that the letter stands for. If any
// can be folded, the letter is, and the others become letters of their own.
func (w *Worker) decodeBody(b *batch, i int, l *store.DeadLetter, body event.Body, from event.Origin, columns *event.Columns) (reason string) {
	o, before := b.origins[i], columns.Len()
	events, rejects, err := w.reader.decoder.Decode(body, from, columns)
	if err == nil && o.ranged() && uint64(events) != o.identity.Count() {
		err = fmt.Errorf("the identity %s names %d events, the message carries %d", o.identity, o.identity.Count(), events)
		columns.Truncate(before)
	}
	if err != nil {
		return err.Error()
	}
	b.origins[i].events = events
	rejects = slices.DeleteFunc(rejects, func(r event.Reject) bool { return !standsFor(l, r.Offset) })
	folded := 0
	for row := before; row < columns.Len(); row++ {
		columns.Dropped[row] = !standsFor(l, int(columns.Offsets[row]))
		if !columns.Dropped[row] {
			folded++
		}
	}
	switch {
	case folded == 0 && len(rejects) == 0:
		return "the message holds none of the events that it stands for"
	case folded == 0 && len(rejects) == 1:
		return rejects[0].Reason
	case folded == 0:
		return fmt.Sprintf("none of its %d events can be folded, the first because: %s", len(rejects), rejects[0].Reason)
	}
	for _, reject := range rejects {
		split := *l
		split.SplitFrom, split.Reason, split.Offset, split.Payload = l.ID, reject.Reason, reject.Offset, reject.Payload
		split.Size, split.Events, split.ContentType, split.ContentEncoding = len(reject.Payload), nil, "", ""
		b.dead, b.deadOf = append(b.dead, split), append(b.deadOf, i)
	}
	return ""
}

// standsFor reports whether the event at offset of the letter's message is the
// letter's.
func standsFor(l *store.DeadLetter, offset int) bool {
	if l.Offset >= 0 {
		return offset == l.Offset
	}
	_, found := slices.BinarySearch(l.Events, offset)
	return l.Events == nil || found
}
