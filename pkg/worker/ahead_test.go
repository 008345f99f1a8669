package worker

import (
	"testing"

	"weir/pkg/stream"
)

// What was read ahead is that of the messages in hand at their first try. At a
// second one, or of a part of them, the batch would have been changed already.
func TestParcel_IsTakenOnceAndOnlyForItsMessages(t *testing.T) {
	t.Parallel()
	messages, others := make([]stream.Message, 4), make([]stream.Message, 4)
	read := &batch{}
	p := parcel{messages: messages, batch: read}
	for name, of := range map[string][]stream.Message{"the second half": messages[2:], "the first half": messages[:2], "others": others} {
		if p.take(of) != nil {
			t.Errorf("the batch is given out for %s", name)
		}
	}
	if p.take(messages) != read {
		t.Error("the batch is not given out for its messages")
	}
	if p.take(messages) != nil {
		t.Error("the batch is given out twice")
	}
	if empty := (&parcel{}); empty.take(messages) != nil {
		t.Error("a batch is given out where nothing was read")
	}
}

// A panic while reading ahead is left to the goroutine that folds, which makes a
// dead letter of its message.
func TestReadAhead_LeavesAPanicToTheFold(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.publishCalls("gw", 1, 5)
	w := h.idle("w1")
	messages := h.take(w, 5)
	w.catalog = nil // whoever reads with it panics
	if p := w.readAhead(messages, nil); p.batch != nil || p.reader != nil || len(p.messages) != 5 {
		t.Errorf("got %+v, want the messages alone", p)
	}
}
