package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"weir/pkg/child"
)

// stopTimeout is what a process gets to end after SIGTERM; a worker completes its coarser levels in it.
const stopTimeout = 2 * time.Minute

// process is a weir that runs or has ended. It dies with this process.
type process struct {
	*child.Process
	name string
	log  string // file with what it says on standard error
	cmd  *exec.Cmd
	out  *bufio.Reader // its standard output
}

// spawn starts the program.
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
	cmd.Env, cmd.Stdout, cmd.Stderr = env, in, said
	started, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		<-started.Done()
		_ = out.Close()
	}()
	return &process{Process: started, name: name, log: log, cmd: cmd, out: bufio.NewReader(out)}, nil
}

// line returns the next line of its standard output.
func (p *process) line() (string, error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		<-p.Done() // nothing else closes it
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
	return fmt.Errorf("%s ended: %w; the last that it said:\n%s", p.name, errors.Join(p.Err(), ifNil(p.Err())), said)
}

func ifNil(err error) error {
	if err == nil {
		return io.EOF
	}
	return nil
}

// stop ends the process in good order; after stopTimeout it is killed, which is an error. It returns when it has ended.
func (p *process) stop() error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Done():
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s did not end within %s", p.name, stopTimeout)
	}
}

// kill ends the process at once.
func (p *process) kill() {
	p.Signal(syscall.SIGKILL)
	<-p.Done()
}

// cpu is what a process that has ended has used.
func (p *process) cpu() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}
