package worker

import (
	"runtime/debug"
	"sync"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
	"weir/pkg/failpoint"
)

// outcome is what a batch adds to the tables. It is made while Postgres is at work
// on what of it is complete: the one takes about as long as the other. What is
// no part of parts may be looked at after wait.
type outcome struct {
	dict  *event.Dictionary
	parts chan []aggregation.Part // of the delta, by aggregation

	delta   aggregation.Delta
	control []aggregation.Control // computed from the events, not from the delta
	alerts  []alert.Alert
	// evidence is what the rules over all shards need of the batch, by partition.
	evidence [alert.Partitions][]byte

	err error // a panic of input

	added bool // after finish: the cascade has the delta

	begun, evaluated, done chan struct{} // closed when there is something, when there is all of the above, and when the cascade has it
	panicked               any           // by the cascade
}

// evaluate folds the batch and evaluates the rules, and then adds the delta to the cascade,
// unless what is taken from that is written, too. It returns when there is something to
// write, for Postgres ends a transaction in which nothing comes for too long; and after
// a flush that failed, perhaps by that, when there is all. A panic is one of input.
func (w *Worker) evaluate(b *batch, levels *aggregation.Flush) *outcome {
	o := &outcome{
		parts: make(chan []aggregation.Part, len(w.into(b))), added: len(levels.Levels) == 0,
		begun: make(chan struct{}), evaluated: make(chan struct{}), done: make(chan struct{}),
	}
	if len(b.columns) > 0 {
		o.dict = b.columns[0].Dict
	}
	go func() {
		defer close(o.done)
		o.err = w.evaluateInto(o, b)
		close(o.parts)
		close(o.evaluated)
		if o.added = o.added && o.err == nil; !o.added {
			return
		}
		defer func() {
			if o.panicked = recover(); o.panicked != nil {
				w.log.Error("the cascade panicked", zap.Any("panic", o.panicked), zap.ByteString("stack", debug.Stack()))
			}
		}()
		w.cascade.Add(o.delta)
	}()
	if w.failed {
		o.finish()
		return o
	}
	select {
	case <-o.begun:
	case <-o.evaluated:
	}
	return o
}

func (w *Worker) evaluateInto(o *outcome, b *batch) (err error) {
	defer w.catch(&err, true)
	begin := sync.OnceFunc(func() { close(o.begun) })
	o.delta = w.folder.FoldEach(w.into(b), b.columns, func(parts []aggregation.Part) {
		o.parts <- parts
		begin()
	})
	o.control = aggregation.Controls(w.into(b), b.columns)
	o.alerts, o.evidence = w.alerts(b)
	return w.cfg.Failpoints.Hit(failpoint.Folded)
}

// raised are the alerts, once wait has returned.
func (o *outcome) raised() []alert.Alert { return o.alerts }

// wait returns when the batch is evaluated.
func (o *outcome) wait() error {
	<-o.evaluated
	return o.err
}

// finish returns when nothing is done beside any more.
func (o *outcome) finish() { <-o.done }
