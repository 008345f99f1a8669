package worker

import (
	"context"
	"slices"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// batch is what was fetched together, decoded.
type batch struct {
	taken   int      // messages, from the first
	origins []origin // by message
	columns []*event.Columns
	dead    []store.DeadLetter
	deadOf  []int // by dead letter: its message
	claims  *store.Claims
	raised  raised // where the batch is made of dead letters
	heard   []heard
}

// origin is how a message is known to the ledger.
type origin struct {
	identity    stream.Identity
	own         bool // it carries an identity of its own
	incarnation string
	sequence    uint64
	stored      int64
	events      int // of the message, where it is that of a dead letter and was decoded
}

// newBatch returns a batch of n messages with nothing decoded.
func newBatch(n int, claims *store.Claims) *batch {
	return &batch{claims: claims, origins: make([]origin, n)}
}

// claimEvents claims the events of a message whose events have numbers of
// their own, and returns which of them the batch did not hold before: another
// message may carry them under another cut of the same file.
func (b *batch) claimEvents(o origin) (fresh func(offset int) bool) {
	if !o.ranged() {
		return func(int) bool { return true } // claimed as a whole
	}
	first := make([]bool, o.identity.Count())
	some := false
	for offset := range first {
		first[offset] = b.claim(o, offset)
		some = some || first[offset]
	}
	return func(offset int) bool {
		if offset < 0 {
			return some
		}
		return first[offset]
	}
}

// ranged reports whether every event of the message has its own number.
func (o origin) ranged() bool { return o.own && o.identity.Count() > 1 }

// at says where the events of the message, the batch's i-th, come from.
func (o origin) at(i int) event.Origin {
	at := event.Origin{Message: i, Sequence: o.sequence, Stored: o.stored}
	if o.own {
		at.Base, at.Number, at.Numbered = event.ChecksumBase(o.identity.Source, o.identity.Epoch), o.identity.First, o.ranged()
	} else {
		at.Base, at.Number = event.ForeignChecksumBase(o.incarnation, o.stored), o.sequence
	}
	return at
}

// number is what the ledger counts the event at offset under.
func (o origin) number(offset int) uint64 {
	if o.ranged() {
		return o.identity.First + uint64(max(offset, 0))
	}
	return o.identity.First
}

func (b *batch) claim(o origin, offset int) bool {
	if o.own {
		return b.claims.Add(o.identity.Source, o.identity.Epoch, o.number(offset))
	}
	return b.claims.AddForeign(o.incarnation, o.sequence, o.stored)
}

// refused reports whether the event at offset, or with -1 all of the message,
// is known to be folded.
func (b *batch) refused(o origin, offset int) bool {
	if offset < 0 && o.ranged() {
		for n := range o.identity.Count() {
			if !b.claims.Refused(o.identity.Source, o.identity.Epoch, o.identity.First+n) {
				return false
			}
		}
		return true
	}
	if o.own {
		return b.claims.Refused(o.identity.Source, o.identity.Epoch, o.number(offset))
	}
	return b.claims.RefusedForeign(o.incarnation, o.sequence, o.stored)
}

// bury makes a dead letter of an event, or with offset -1 of its message, of
// which it then stands for what is fresh.
func (b *batch) bury(i int, m *stream.Message, fresh func(offset int) bool, reject event.Reject) {
	o := b.origins[i]
	_, source, _ := stream.ParseEventSubject(m.Subject)
	letter := store.DeadLetter{
		Reason: reject.Reason, Source: source, Subject: m.Subject, MsgID: m.MsgID(), Incarnation: o.incarnation,
		Sequence: m.Sequence, Offset: reject.Offset, StoredAt: m.Stored, Payload: reject.Payload,
	}
	if reject.Offset < 0 {
		letter.ContentType, letter.ContentEncoding = m.ContentType(), m.ContentEncoding()
	}
	if reject.Offset < 0 && o.ranged() {
		for offset := range int(o.identity.Count()) { //nolint:gosec // at most stream.MaxRange
			if fresh(offset) {
				letter.Events = append(letter.Events, offset)
			}
		}
	}
	b.dead = append(b.dead, letter)
	b.deadOf = append(b.deadOf, i)
}

// redelivered reports whether some of the messages may have been folded: it is
// a hint, to look into the ledger before writing instead of being refused after
// it, which costs a whole flush.
func redelivered(messages []stream.Message) bool {
	return slices.ContainsFunc(messages, func(m stream.Message) bool { return m.Deliveries > 1 })
}

// evidenceOf says what the batch's evidence is of; nothing, where it has no events of its own.
func (b *batch) evidenceOf() (of store.EvidenceOf) {
	newest, some := int64(0), false
	for _, c := range b.columns {
		for row, at := range c.Times {
			if !c.Dropped[row] && (at > newest || !some) {
				newest, some = at, true
			}
		}
	}
	if len(b.raised.IDs) > 0 || !some {
		return of
	}
	for _, o := range b.origins {
		of.Incarnation = o.incarnation
		of.LastSequence, of.Stored = max(of.LastSequence, o.sequence), max(of.Stored, o.stored)
	}
	of.Newest = min(newest, of.Stored) // the clocks of gateways may be fast
	return of
}

// expectedAfter is for how many batches a message that was folded before lets
// expect more of them.
const expectedAfter = 20

// refuse takes out of the batch what the ledger says is folded.
func (w *Worker) refuse(ctx context.Context, b *batch) error {
	if err := w.db.Refuse(ctx, b.claims); err != nil {
		return err
	}
	before := b.totals().Events
	if b.dropRefused() {
		w.tally.duplicates.Add(float64(before - b.totals().Events))
		w.expectFolded = expectedAfter
	} else if w.expectFolded > 0 {
		w.expectFolded--
	}
	return nil
}

// dropRefused takes out everything whose claim was refused, and reports
// whether there was any.
func (b *batch) dropRefused() (some bool) {
	some = b.dropHeard()
	for _, columns := range b.columns {
		for row := range columns.Len() {
			if b.refused(b.origins[columns.Messages[row]], int(columns.Offsets[row])) {
				columns.Dropped[row], some = true, true
			}
		}
	}
	var dead []store.DeadLetter
	var deadOf []int
	for n, letter := range b.dead {
		i, before := b.deadOf[n], len(letter.Events)
		letter.Events = slices.DeleteFunc(letter.Events, func(offset int) bool { return b.refused(b.origins[i], offset) })
		gone := before > 0 && len(letter.Events) == 0 || before == 0 && b.refused(b.origins[i], letter.Offset)
		some = some || gone || len(letter.Events) < before
		if !gone {
			dead, deadOf = append(dead, letter), append(deadOf, i)
		}
	}
	b.dead, b.deadOf = dead, deadOf
	return some
}

// empty reports whether nothing is left to be folded or claimed.
func (b *batch) empty() bool { return b.claims.Empty() }

// totalsWith is totals and what levels that go with the batch count among others.
func (b *batch) totalsWith(levels aggregation.Delta) store.Totals {
	t := b.totals()
	t.OtherEvents = store.OtherEvents(levels)
	return t
}

// totals counts what is left.
func (b *batch) totals() store.Totals {
	t := store.Totals{DeadLetters: int64(len(b.dead)), Claims: b.claims.Folded()}
	counted := make([]bool, len(b.origins))
	count := func(i int) {
		if !counted[i] {
			counted[i] = true
			t.Messages++
		}
	}
	for _, columns := range b.columns {
		for row := range columns.Len() {
			if !columns.Dropped[row] {
				t.Events++
				count(int(columns.Messages[row]))
			}
		}
	}
	for _, i := range b.deadOf {
		count(i)
	}
	for _, h := range b.heard {
		count(h.message)
	}
	return b.raised.less(t)
}
