// Package signals turns the signals that ask a process to end into contexts:
// the first ends it in good order, a second in a hurry, a third at once.
package signals

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// grace is how long after the first signal others count as the same: some
// senders, such as timeout(1), signal twice.
const grace = time.Second

// asking is what asks a process to end: Ctrl-C, SIGTERM, and a terminal that is
// closed, unless nohup(1) has said that this one does not matter.
func asking() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// First returns a context that ends with the first signal. A little later
// signals do what they do by default, which is to end the process at once,
// unless Second takes the next one.
func First(ctx context.Context) context.Context {
	ctx, stop := signal.NotifyContext(ctx, asking()...)
	context.AfterFunc(ctx, func() { time.AfterFunc(grace, stop) })
	return ctx
}

// Second returns a context for what is still to be done once first has ended:
// it ends with the signal after that. The caller must call cancel when done.
func Second(first context.Context) (second context.Context, cancel context.CancelFunc) {
	second, cancel = context.WithCancel(context.WithoutCancel(first))
	received := make(chan os.Signal, 1)
	signal.Notify(received, asking()...)
	go func() {
		defer signal.Stop(received)
		select {
		case <-first.Done():
		case <-second.Done():
			return
		}
		same := time.After(grace)
		for {
			select {
			case <-second.Done():
				return
			case <-same:
				same = nil
			case <-received:
				if same == nil {
					cancel()
				}
			}
		}
	}()
	return second, cancel
}
