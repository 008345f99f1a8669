package worker

import (
	"weir/pkg/failpoint"
	"weir/pkg/stream"
)

// acknowledge tells the stream that messages need not come again. It may be
// called only with what is committed, by whichever worker: the stream knows
// messages, and not deliveries, so that this ack settles also the copy that
// another worker has in hand.
func (w *Worker) acknowledge(messages []stream.Message) error {
	for i, m := range messages {
		_ = m.Ack() // if it is lost the message comes again, and is refused
		if i > 0 {
			continue
		}
		if err := w.cfg.Failpoints.Hit(failpoint.SomeAcked); err != nil {
			return err
		}
	}
	return w.cfg.Failpoints.Hit(failpoint.Acked)
}

// giveBack returns messages that were not folded to the other workers. Of one
// that was acknowledged the stream takes no notice.
func giveBack(messages []stream.Message) {
	for _, m := range messages {
		_ = m.Nak(0) // a hint; without it they come again after the ack wait
	}
}
