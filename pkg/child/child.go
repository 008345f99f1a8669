// Package child starts processes that do not outlive this one.
//
// [Start] runs a command and sees to it that the kernel sends it a signal when this process dies, by whatever cause: also of
// SIGKILL, when no code of ours runs any more. That is a promise of Linux; elsewhere a child outlives a parent that was
// killed. How a child is asked to end, and how long it gets for that, is up to the caller.
package child

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Process is a child that runs or has ended.
type Process struct {
	os   *os.Process
	done chan struct{}
	err  error // valid after done
}

// Start starts cmd, which must not have been started, and waits for its end; do not call cmd.Wait. When this process dies the
// child gets the signal. The child has a process group of its own, so Ctrl-C at the terminal is for this process alone.
// cmd.ProcessState is valid after Done.
func Start(cmd *exec.Cmd, atDeath syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr, atDeath)
	p := &Process{done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run keeps its thread until the child has ended: the signal comes when the thread ends that started it, and Go may
// end a thread that no goroutine holds.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	p.os = cmd.Process
	started <- err
	if err == nil {
		p.err = cmd.Wait()
		close(p.done)
	}
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child has ended, as exec.Cmd.Wait does: nil after exit code 0. It is nil as well while the child runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Signal does nothing to a child that has ended, nor to another process that got its id.
func (p *Process) Signal(s syscall.Signal) { _ = p.os.Signal(s) }

// Pid is the child's process id, which may be another process's once it has ended.
func (p *Process) Pid() int { return p.os.Pid }

// Environment is that of this process for a weir that is to know nothing of its settings, nor of another instance:
// without WEIR_* and with another home directory, then more, each as NAME=value.
func Environment(home string, more ...string) []string {
	env := []string{"HOME=" + home, "XDG_STATE_HOME=" + home}
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		if name != "HOME" && name != "XDG_STATE_HOME" && !strings.HasPrefix(name, "WEIR_") {
			env = append(env, line)
		}
	}
	return append(env, more...)
}
