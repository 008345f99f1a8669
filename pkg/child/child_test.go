package child

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentVariable makes the test binary a parent: it starts a child, prints its id, and waits to be killed.
const parentVariable = "CHILD_TEST_PARENT"

const deadline = 20 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("sleep", "600")
	cmd.Stdout = os.Stdout
	p, err := Start(cmd, syscall.SIGTERM)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Pid())
	<-p.Done()
}

// waitFor returns when the child has ended.
func waitFor(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(deadline):
		p.Signal(syscall.SIGKILL)
		t.Fatalf("the child runs after %s", deadline)
	}
}

func TestStart_ChildEndsWhenItsParentIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux signals the death of a parent")
	}
	// The child has the parent's standard output: that ends when both have ended.
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	parent := exec.Command(os.Args[0])
	parent.Env, parent.Stdout = append(os.Environ(), parentVariable+"=1"), in
	if err := errors.Join(parent.Start(), in.Close()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("parent said %q: %v", line, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if err := out.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Errorf("the child of a killed parent has not ended: %v", err)
	}
}

func TestProcess_SaysHowItHasEnded(t *testing.T) {
	t.Parallel()
	p, err := Start(exec.Command("sleep", "600"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("while it runs: error = %v", err)
	}
	p.Signal(syscall.SIGTERM)
	waitFor(t, p)
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("error = %v, want one of SIGTERM", err)
	}
	p.Signal(syscall.SIGTERM) // reaches nobody
}

func TestStart_SaysWhyThereIsNoChild(t *testing.T) {
	t.Parallel()
	if p, err := Start(exec.Command("/no/such/program"), syscall.SIGKILL); !errors.Is(err, os.ErrNotExist) || p != nil {
		t.Errorf("Start = %v, %v; want no process, and that there is no such program", p, err)
	}
}

func TestEnvironment_HidesSettingsAndHome(t *testing.T) {
	t.Setenv("HOME", "/theirs")
	t.Setenv("WEIR_NATS_URL", "nats://theirs")
	t.Setenv("CHILD_TEST_KEPT", "yes")
	env := Environment("/ours", "WEIR_LOG_FORMAT=json")
	for _, want := range []string{"HOME=/ours", "XDG_STATE_HOME=/ours", "CHILD_TEST_KEPT=yes", "WEIR_LOG_FORMAT=json"} {
		if !slices.Contains(env, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, line := range env {
		if strings.Contains(line, "theirs") {
			t.Errorf("%q is handed on", line)
		}
	}
}
