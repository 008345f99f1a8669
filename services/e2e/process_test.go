package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/pkg/child"
)

const (
	// patience is how long a test waits for what should take moments: the machine may be busy.
	patience = 5 * time.Minute
	pollTick = 20 * time.Millisecond
	askTick  = 100 * time.Millisecond // where a poll is a question to the API, or a process
	// stopTime is what a process gets to end after SIGTERM; a worker finishes its batch in it.
	stopTime = 100 * time.Second
)

// until polls a condition, and fails the test with what was waited for.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	untilEvery(t, pollTick, what, condition)
}

// untilEvery is until with another time between polls, for what takes the machine from those who are waited for.
func untilEvery(t *testing.T, every time.Duration, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// output collects what a process prints; it may be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// lines are the complete lines so far.
func (o *output) lines() []string {
	text := o.String()
	end := strings.LastIndexByte(text, '\n')
	if end < 0 {
		return nil
	}
	return strings.Split(text[:end], "\n")
}

// process is a weir that was started.
type process struct {
	t              *testing.T
	name           string
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{}
	err            error // of Wait; valid after ended
}

// start starts weir with the arguments. As in a shell, arguments NAME=value before the command are its
// environment. A process that still runs when the test ends gets SIGTERM, and must end.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	dependOnSources()
	// A program with the race detector would sleep for a second before it ends.
	env := child.Environment(t.TempDir(), "GORACE=atexit_sleep_ms=0")
	for len(args) > 0 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	p := &process{t: t, name: "weir " + strings.Join(args, " "), cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, &p.stdout, &p.stderr
	p.cmd.WaitDelay = stopTime // for a child that outlives a killed one with its output open
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.cleanUp)
	return p
}

// cleanUp also shows what the process has printed, where the test has failed.
func (p *process) cleanUp() {
	if p.running() {
		p.signal(syscall.SIGTERM)
		p.within(stopTime)
	}
	if p.t.Failed() {
		p.t.Logf("%s\nstdout:\n%s\nstderr:\n%s", p.name, tail(p.stdout.String()), tail(p.stderr.String()))
	}
}

// tail is the end of a text.
func tail(text string) string {
	const most = 4000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: %s: %v", p.name, s, err)
	}
}

// within waits for the end, kills the process if it takes longer, and returns the exit code, -1 after a
// signal.
func (p *process) within(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.t.Errorf("%s: did not end within %s", p.name, limit)
		p.signal(syscall.SIGKILL)
		<-p.ended
	}
	return p.cmd.ProcessState.ExitCode()
}

// succeeds waits for exit code 0.
func (p *process) succeeds() {
	p.t.Helper()
	if code := p.within(patience); code != 0 {
		p.t.Fatalf("%s: exit code %d\nstdout:\n%s\nstderr:\n%s", p.name, code, tail(p.stdout.String()), tail(p.stderr.String()))
	}
}

// stop ends the process with SIGTERM, which must be a clean end.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.within(stopTime); code != 0 {
		p.t.Errorf("%s: exit code %d after SIGTERM, want 0", p.name, code)
	}
}

// kill ends the process as the kernel does when memory runs out.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// weir runs a command that must succeed, and returns its standard output.
func weir(t *testing.T, args ...string) string {
	t.Helper()
	p := start(t, args...)
	p.succeeds()
	return p.stdout.String()
}

// fails runs a command that must end with the exit code and say all the texts on standard error, and
// nothing on standard output.
func fails(t *testing.T, code int, texts []string, args ...string) {
	t.Helper()
	p := start(t, args...)
	if got := p.within(patience); got != code {
		t.Errorf("%s: exit code %d, want %d", p.name, got, code)
	}
	for _, text := range texts {
		if !strings.Contains(p.stderr.String(), text) {
			t.Errorf("%s: no %q on standard error:\n%s", p.name, text, p.stderr.String())
		}
	}
	if out := p.stdout.String(); out != "" {
		t.Errorf("%s: failed, but printed:\n%s", p.name, out)
	}
}
