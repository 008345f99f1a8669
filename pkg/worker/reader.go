package worker

import (
	"errors"
	"fmt"
	"slices"

	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/pkg/failpoint"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// maxDecoded bounds what one batch holds in memory, in bytes of decompressed
// bodies: small messages can hold a lot.
const maxDecoded = 64 << 20

// A reader begins a new dictionary once it has so many different texts, or
// bytes of them: those of a day's users and addresses, not of all time.
const (
	maxTexts     = 1 << 18
	maxTextBytes = 16 << 20
)

// reader turns messages into batches, without any I/O. What it decodes into it
// uses again for its next batch, so that texts which come again and again cost
// nothing: one batch of a reader is in use at a time. It belongs to one goroutine
// at a time.
type reader struct {
	catalog *definition.Catalog
	// unstorable says, by sequence, which messages are to be dead letters, and why.
	unstorable map[uint64]string
	most       int // bytes of decompressed bodies that a batch is to have

	decoder event.Decoder
	dict    *event.Dictionary
	columns map[string]*event.Columns // by stream
}

func newReader(catalog *definition.Catalog, unstorable map[uint64]string, most int) *reader {
	r := &reader{catalog: catalog, unstorable: unstorable, most: most}
	r.forget()
	return r
}

// forget drops what is kept from batch to batch.
func (r *reader) forget() {
	r.decoder, r.dict, r.columns = event.Decoder{}, event.NewDictionary(), map[string]*event.Columns{}
}

// begin makes the reader's memory that of a new batch.
func (r *reader) begin() {
	for _, columns := range r.columns {
		columns.Reset()
	}
	if r.dict.Len() > maxTexts || r.dict.Bytes() > maxTextBytes {
		r.dict = event.NewDictionary()
		for _, columns := range r.columns {
			columns.Dict = r.dict
		}
	}
}

// columnsOf returns the batch's columns for a schema.
func (r *reader) columnsOf(b *batch, schema *event.Schema) *event.Columns {
	columns := r.columns[schema.Name]
	if columns == nil {
		columns = event.NewColumns(schema, r.dict)
		r.columns[schema.Name] = columns
	}
	if columns.Len() == 0 && !slices.Contains(b.columns, columns) { // or the batch has them
		b.columns = append(b.columns, columns)
	}
	return columns
}

// read decodes messages of that incarnation of the stream, as many as fit into
// memory together, with an empty set of claims. What cannot be read becomes a
// dead letter and is claimed all the same; what the batch holds twice counts once.
func (r *reader) read(incarnation string, messages []stream.Message, claims *store.Claims) *batch {
	r.begin()
	b := newBatch(len(messages), claims)
	for i, size := 0, 0; i < len(messages) && size < r.most; i++ {
		m := &messages[i]
		b.taken = i + 1
		o := origin{incarnation: incarnation, sequence: m.Sequence, stored: m.Stored.UnixMicro()}
		o.identity, o.own = m.Identity()
		b.origins[i] = o
		if !o.ranged() && !b.claim(o, 0) {
			continue // the batch holds this message twice
		}
		name, _, ok := stream.ParseEventSubject(m.Subject)
		if name == event.HeartbeatType {
			r.hear(b, i, m)
			continue
		}
		schema := r.catalog.Stream(name)
		if !ok || schema == nil {
			fresh := b.claimEvents(o)
			if !fresh(-1) {
				continue
			}
			b.bury(i, m, fresh, event.Reject{Offset: -1, Reason: fmt.Sprintf("unknown type: no stream is defined for the subject %q", m.Subject), Payload: m.Data})
			continue
		}
		r.decodeMessage(b, i, m, r.columnsOf(b, schema))
		size += r.decoder.Size()
	}
	return b
}

func (r *reader) decodeMessage(b *batch, i int, m *stream.Message, columns *event.Columns) {
	o := b.origins[i]
	before := columns.Len()
	var events int
	var rejects []event.Reject
	var err error
	if reason, ok := r.unstorable[m.Sequence]; ok {
		err = errors.New(reason)
	} else {
		body := event.Body{Data: m.Data, ContentType: m.ContentType(), Encoding: m.ContentEncoding()}
		events, rejects, err = r.decoder.Decode(body, o.at(i), columns)
	}
	if err == nil && o.ranged() && uint64(events) != o.identity.Count() {
		err = fmt.Errorf("the identity %s names %d events, the message carries %d", o.identity, o.identity.Count(), events)
		columns.Truncate(before)
	}
	if err != nil {
		rejects = []event.Reject{{Offset: -1, Reason: err.Error(), Payload: m.Data}}
	}
	fresh := b.claimEvents(o)
	for row := before; row < columns.Len(); row++ {
		columns.Dropped[row] = !fresh(int(columns.Offsets[row]))
	}
	for _, reject := range rejects {
		if fresh(reject.Offset) {
			b.bury(i, m, fresh, reject)
		}
	}
}

// decode reads a batch. A panic is one of input. What was read ahead is taken, at
// the first try.
func (w *Worker) decode(messages []stream.Message) (*batch, error) {
	if b := w.ahead.take(messages); b != nil {
		return b, w.cfg.Failpoints.Hit(failpoint.Decoded)
	}
	return w.decodeFrom(w.consumer.Incarnation(), messages, store.NewClaims(w.backfills...))
}

// decodeFrom reads messages of that incarnation of the stream, as many as fit
// into memory together, with an empty set of claims. A panic is one of input.
func (w *Worker) decodeFrom(incarnation string, messages []stream.Message, claims *store.Claims) (b *batch, err error) {
	defer func() {
		if err != nil {
			w.reader.forget()
		}
	}()
	defer w.catch(&err, true)
	b = w.reader.read(incarnation, messages, claims)
	return b, w.cfg.Failpoints.Hit(failpoint.Decoded)
}
