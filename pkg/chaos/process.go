package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"weir/pkg/child"
	"weir/pkg/failpoint"
)

// restartPause is what the keeper of a process waits before it starts one that ended by itself again.
const restartPause = 300 * time.Millisecond

// spawn starts the program, which dies with the harness; what it prints is added to the log.
func spawn(program, log string, env []string, args ...string) (*child.Process, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own descriptor
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	p, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, fmt.Errorf("start %s %s: %w", program, strings.Join(args, " "), err)
	}
	return p, nil
}

// kept is a process that is started again whenever it has ended, unless it is held.
type kept struct {
	name    string
	program string
	log     string
	env     []string
	args    []string

	mu       sync.Mutex
	current  *child.Process // nil: not running
	held     bool
	starts   int
	ownEnds  int           // that nobody asked for
	failed   int           // of these, at a failpoint
	poke     chan struct{} // something changed
	finished chan struct{} // closed when keep has ended
}

func newKept(name, program, log string, env []string, args ...string) *kept {
	return &kept{name: name, program: program, log: log, env: env, args: args, poke: make(chan struct{}, 1), finished: make(chan struct{})}
}

// keep runs the process until ctx ends, and then kills it.
func (k *kept) keep(ctx context.Context) {
	defer close(k.finished)
	for ctx.Err() == nil {
		var done <-chan struct{}
		k.mu.Lock()
		if !k.held && k.current == nil {
			p, err := spawn(k.program, k.log, k.env, k.args...)
			if err == nil {
				k.current = p
				k.starts++
			}
		}
		if k.current != nil {
			done = k.current.Done()
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-k.poke:
		case <-done:
			k.mu.Lock()
			wanted := !k.held
			if wanted {
				k.ownEnds++
				if ended := (*exec.ExitError)(nil); errors.As(k.current.Err(), &ended) && ended.ExitCode() == failpoint.ExitCode {
					k.failed++
				}
			}
			k.current = nil
			k.mu.Unlock()
			if wanted {
				pause(ctx, restartPause)
			}
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		k.current.Signal(syscall.SIGKILL)
		<-k.current.Done()
	}
}

// stop sends the signal and waits until the process is gone; it stays so until release. After the limit it is killed.
func (k *kept) stop(s syscall.Signal, limit time.Duration) {
	k.mu.Lock()
	k.held = true
	p := k.current
	k.mu.Unlock()
	if p == nil {
		return
	}
	p.Signal(s)
	select {
	case <-p.Done():
	case <-time.After(limit):
		p.Signal(syscall.SIGCONT)
		p.Signal(syscall.SIGKILL)
		<-p.Done()
	}
}

// signal reaches the process, if it runs.
func (k *kept) signal(s syscall.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		k.current.Signal(s)
	}
}

// release lets the process run again.
func (k *kept) release() {
	k.mu.Lock()
	k.held = false
	k.mu.Unlock()
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// pause waits, no longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
