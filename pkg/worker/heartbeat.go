package worker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"weir/pkg/event"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// heard is a heartbeat of the batch.
type heard struct {
	message int
	source  store.Source
}

// hear takes the batch's i-th message for a heartbeat. It is claimed as every
// message; what is none becomes a dead letter.
func (r *reader) hear(b *batch, i int, m *stream.Message) {
	o := b.origins[i]
	fresh := b.claimEvents(o)
	if !fresh(-1) {
		return
	}
	beat, err := heartbeatOf(m, o)
	if reason, ok := r.unstorable[m.Sequence]; ok {
		err = errors.New(reason)
	}
	if err != nil {
		b.bury(i, m, fresh, event.Reject{Offset: -1, Reason: err.Error(), Payload: m.Data})
		return
	}
	b.heard = append(b.heard, heard{i, store.Source{
		Heartbeat: beat, Number: o.identity.First, Incarnation: o.incarnation, Sequence: o.sequence, ToldAt: m.Stored,
	}})
}

// heartbeatOf reads a heartbeat, which must speak of the source and epoch that
// its identity names: so nobody can speak for another source.
func heartbeatOf(m *stream.Message, o origin) (event.Heartbeat, error) {
	if encoding := m.ContentEncoding(); encoding != "" {
		return event.Heartbeat{}, fmt.Errorf("heartbeat: it is never encoded, and has the Content-Encoding %q", encoding)
	}
	beat, err := event.ParseHeartbeat(m.Data)
	if err != nil {
		return event.Heartbeat{}, err
	}
	epoch, ok := strings.CutSuffix(o.identity.Epoch, event.HeartbeatSuffix)
	switch {
	case !o.own || !ok || o.ranged():
		return event.Heartbeat{}, fmt.Errorf("heartbeat: its Nats-Msg-Id should be <source>/<epoch>%s/<number>, with the source of its subject", event.HeartbeatSuffix)
	case beat.Source != o.identity.Source:
		return event.Heartbeat{}, fmt.Errorf("heartbeat: it speaks for the source %q, and comes from %q", beat.Source, o.identity.Source)
	case beat.Epoch != epoch:
		return event.Heartbeat{}, fmt.Errorf("heartbeat: it speaks of the epoch %q, and its Nats-Msg-Id of %q", beat.Epoch, epoch)
	}
	return beat, nil
}

// dropHeard takes out the heartbeats that are known, and reports whether there
// were any.
func (b *batch) dropHeard() (some bool) {
	before := len(b.heard)
	b.heard = slices.DeleteFunc(b.heard, func(h heard) bool { return b.refused(b.origins[h.message], -1) })
	return len(b.heard) < before
}

// sources are the newest heartbeats of the batch, one for each epoch, as
// [store.Tx.WriteSources] wants them.
func (b *batch) sources() []store.Source {
	newest := map[[2]string]store.Source{}
	for _, h := range b.heard {
		key := [2]string{h.source.Source, h.source.Epoch}
		if h.source.Number > newest[key].Number {
			newest[key] = h.source
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(x, y store.Source) int {
		return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Epoch, y.Epoch))
	})
}
