package worker

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"go.uber.org/zap"
)

// A worker does not end where its code panics: it would be started again, be
// given the same messages, and end again. In the part that has no effects, from
// decoding to the rules, a panic is taken for the fault of a message, which is
// found and becomes a dead letter; everywhere else the transaction is rolled
// back and everything tried again.

// panicError is a panic that was recovered from.
type panicError struct {
	value   any
	ofInput bool // in the part that has no effects
}

// Error does not show the value, which may hold what somebody sent: it is logged.
func (e *panicError) Error() string {
	if err, ok := e.value.(runtime.Error); ok {
		return "panic: " + err.Error() // places and numbers
	}
	return fmt.Sprintf("panic with a %T", e.value)
}

// text shows the value, for a place where the message is shown too.
func (e *panicError) text() string {
	const most = 500
	text := fmt.Sprint(e.value)
	return text[:min(len(text), most)]
}

// caught runs f and returns a panic in it as an error, after logging its stack.
func (w *Worker) caught(f func() error) (err error) {
	defer w.catch(&err, false)
	return f()
}

// caughtFolding is caught for what changes the state of the fold: the memory of what
// the levels lack is read again, for nobody knows how far f came.
func (w *Worker) caughtFolding(f func() error) error {
	err := w.caught(f)
	var panicked *panicError
	if errors.As(err, &panicked) {
		w.cascade = nil
	}
	return err
}

// catch is for defer.
func (w *Worker) catch(err *error, ofInput bool) {
	v := recover()
	if v == nil {
		return
	}
	panicked := &panicError{value: v, ofInput: ofInput}
	w.log.Error("the worker panicked, and goes on", zap.Error(panicked), zap.ByteString("stack", debug.Stack()))
	*err = panicked
}
