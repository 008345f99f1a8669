package worker

import (
	"context"
	"errors"
	"fmt"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// parcel is what was fetched together, and read while the batch before it was
// folded.
type parcel struct {
	messages []stream.Message
	batch    *batch  // nil: to be read by the goroutine that folds, which knows what to do with a panic
	reader   *reader // whose memory the batch is in; nil with it
}

// fetch keeps one parcel ready while another is being folded.
func (w *Worker) fetch(ctx context.Context, parcels chan<- parcel, readers chan *reader) error {
	limits := stream.Limits{Messages: w.cfg.Messages, Bytes: w.cfg.Bytes, Wait: w.cfg.Linger}
	for ctx.Err() == nil {
		messages, err := w.consumer.Fetch(ctx, limits)
		if len(messages) > 0 {
			p := w.readAhead(messages, readers)
			select {
			case parcels <- p:
			case <-ctx.Done():
				giveBack(messages)
			}
		}
		if errors.Is(err, stream.ErrGone) && ctx.Err() == nil {
			return fmt.Errorf("fetch: %w: run weir apply, which provisions what is missing, and start the worker again", err)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	return nil
}

// readAhead reads messages without touching what belongs to the goroutine that
// folds.
func (w *Worker) readAhead(messages []stream.Message, readers <-chan *reader) (p parcel) {
	p.messages = messages
	defer func() {
		if recover() != nil { // the goroutine that folds meets it again
			p.batch, p.reader = nil, nil
		}
	}()
	select {
	case p.reader = <-readers:
	default:
		p.reader = newReader(w.catalog, nil, w.reader.most)
	}
	p.batch = p.reader.read(w.consumer.Incarnation(), messages, store.NewClaims(w.backfills...))
	return p
}

// persistParcel is persist, and gives the parcel's memory back to be used again.
func (w *Worker) persistParcel(ctx, work context.Context, p parcel, readers chan<- *reader) error {
	w.tally.fetch(p.messages)
	w.ahead = p
	err := w.persist(ctx, work, p.messages)
	w.ahead = parcel{}
	if p.reader != nil {
		select {
		case readers <- p.reader:
		default:
		}
	}
	return err
}

// take returns what was read ahead of exactly these messages, once.
func (p *parcel) take(messages []stream.Message) *batch {
	b := p.batch
	if b == nil || len(messages) != len(p.messages) || &messages[0] != &p.messages[0] {
		return nil
	}
	p.batch = nil
	return b
}
