package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// pollEvery is how often the state of a server is looked at where nothing tells of a change.
	pollEvery = 10 * time.Millisecond
	// quitTimeout is what PostgreSQL gets for an immediate shutdown (SIGQUIT) before it is killed.
	quitTimeout = 5 * time.Second
)

// process is a running child that ends when this process ends, by whatever cause (on Linux; elsewhere
// unless this process is killed).
type process struct {
	os   *os.Process
	done chan struct{} // closed when it has ended
	err  error         // how it ended, as exec.Cmd.Wait tells; valid after done
}

// startProcess starts cmd. When this process dies the child gets SIGINT, by which PostgreSQL shuts down
// fast but cleanly.
func startProcess(cmd *exec.Cmd) (*process, error) {
	dieWithParent(cmd.SysProcAttr, syscall.SIGINT)
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run keeps its thread until the child has ended: the death signal comes when the starting thread ends,
// and Go may end a thread that no goroutine holds.
func (p *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.os = cmd.Process
	started <- nil
	p.err = cmd.Wait()
	close(p.done)
}

// wait returns how the process ended; when ctx ends first, the process is stopped.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return p.stop(ctx)
	}
}

// stop asks for a fast shutdown, when ctx ends for an immediate one, and kills what is still there
// quitTimeout later. It returns when the process has ended, with an error if asking was not enough.
func (p *process) stop(ctx context.Context) error {
	p.signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(quitTimeout):
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	return fmt.Errorf("stopped before it had ended by itself: %w", context.Cause(ctx))
}

// signal does nothing to a process that has ended, nor to another one that got its id.
func (p *process) signal(sig syscall.Signal) { _ = p.os.Signal(sig) }
