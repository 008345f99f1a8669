package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is what a process gets to end after SIGTERM; a worker completes its coarser levels in it.
const stopTimeout = 2 * time.Minute

// process is a child that runs or has ended.
type process struct {
	name string
	log  string // file with what it says on standard error
	cmd  *exec.Cmd
	out  *bufio.Reader // its standard output
	done chan struct{} // closed when it has ended
	err  error         // how; valid after done
}

// spawn starts the program. It dies with this one.
func spawn(name, program, log string, env []string, args ...string) (*process, error) {
	said, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer said.Close() // the child has its own descriptor
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close() // likewise
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = env, in, said, attributes()
	p := &process{name: name, log: log, cmd: cmd, out: bufio.NewReader(out), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's promise to end the child counts from the end of the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			_ = out.Close()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// line returns the next line of its standard output.
func (p *process) line() (string, error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		<-p.done // nothing else closes it
		return "", p.failed()
	}
	return strings.TrimSpace(text), nil
}

// failed says of a process that has ended how, with the last that it said.
func (p *process) failed() error {
	said, err := os.ReadFile(p.log)
	if err != nil {
		said = nil // it may have said nothing
	}
	const most = 2000
	if len(said) > most {
		said = said[len(said)-most:]
	}
	return fmt.Errorf("%s ended: %w; the last that it said:\n%s", p.name, errors.Join(p.err, ifNil(p.err)), said)
}

func ifNil(err error) error {
	if err == nil {
		return io.EOF
	}
	return nil
}

// stop ends the process in good order; after stopTimeout it is killed, which is an error. It returns when it has ended.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s did not end within %s", p.name, stopTimeout)
	}
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// cpu is what a process that has ended has used.
func (p *process) cpu() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// environment is that of this process without what would tell weir of other settings or another instance.
func environment(home string, more ...string) []string {
	env := []string{"HOME=" + home, "XDG_STATE_HOME=" + home}
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		if name != "HOME" && name != "XDG_STATE_HOME" && !strings.HasPrefix(name, "WEIR_") {
			env = append(env, line)
		}
	}
	return append(env, more...)
}
