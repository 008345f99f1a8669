package signals

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// signalUntil signals this process over and over until done; it fails the test after a while.
func signalUntil(t *testing.T, done <-chan struct{}) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			return
		case <-tick.C:
		case <-deadline:
			t.Fatal("the context has not ended")
		}
	}
}

// Not parallel: the signals are those of the whole process.
func TestSecond_EndsWithASignalThatComesAWhileAfterTheFirst(t *testing.T) {
	// Where the tests run under nohup(1) the signal is ignored until somebody asks for it.
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	defer signal.Stop(heard)
	parent, end := context.WithCancel(t.Context())
	defer end()
	first := First(parent)
	second, cancel := Second(first)
	defer cancel()
	signalUntil(t, first.Done())
	if second.Err() != nil {
		t.Fatal("the first signal has ended both")
	}
	began := time.Now()
	signalUntil(t, second.Done())
	if took := time.Since(began); took < grace/2 {
		t.Errorf("a signal %s after the first was taken for a second one", took)
	}
}
