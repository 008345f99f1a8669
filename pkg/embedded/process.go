package embedded

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"weir/pkg/child"
)

const (
	// pollEvery is how often the state of a server is looked at where nothing tells of a change.
	pollEvery = 10 * time.Millisecond
	// quitTimeout is what PostgreSQL gets for an immediate shutdown (SIGQUIT) before it is killed.
	quitTimeout = 5 * time.Second
)

// process is a PostgreSQL program. It ends when this process ends, by whatever cause (on Linux; elsewhere unless
// this process is killed: a server left behind is stopped by the next start in its directory).
type process struct{ *child.Process }

// startProcess starts cmd. When this process dies the child gets SIGINT, by which PostgreSQL shuts down
// fast but cleanly.
func startProcess(cmd *exec.Cmd) (process, error) {
	p, err := child.Start(cmd, syscall.SIGINT)
	return process{p}, err
}

// wait returns how the process ended; when ctx ends first, the process is stopped.
func (p process) wait(ctx context.Context) error {
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		return p.stop(ctx)
	}
}

// stop asks for a fast shutdown, when ctx ends for an immediate one, and kills what is still there
// quitTimeout later. It returns when the process has ended, with an error if asking was not enough.
func (p process) stop(ctx context.Context) error {
	p.Signal(syscall.SIGINT)
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
	}
	p.Signal(syscall.SIGQUIT)
	select {
	case <-p.Done():
	case <-time.After(quitTimeout):
		p.Signal(syscall.SIGKILL)
		<-p.Done()
	}
	return fmt.Errorf("stopped before it had ended by itself: %w", context.Cause(ctx))
}
