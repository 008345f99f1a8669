package embeddedtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded"
)

// natsDir makes the test binary a NATS server that keeps its files there, until its standard input ends.
const natsDir = "WEIR_TEST_NATS_DIR"

// NATSProcess is a NATS server in a process of its own, so that what it costs can be told from what its
// clients do.
type NATSProcess struct {
	URL string

	questions io.Writer
	answers   *bufio.Reader
}

// NATSInProcess starts this test binary once more, as a NATS server with JetStream for this test alone. It
// ends with the test. The binary's TestMain must call Main.
func NATSInProcess(t testing.TB) *NATSProcess {
	t.Helper()
	server := exec.Command(os.Args[0], "-test.run=^$") // no tests, should TestMain not call Main
	server.Env = append(os.Environ(), natsDir+"="+t.TempDir())
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = server.Wait()
	})
	p := &NATSProcess{questions: stdin, answers: bufio.NewReader(stdout)}
	p.URL = p.line(t)
	if !strings.HasPrefix(p.URL, "nats://") {
		t.Fatalf("the server says %q: does TestMain call embeddedtest.Main?", p.URL)
	}
	return p
}

// CPU is what the server has used so far, of all cores together.
func (p *NATSProcess) CPU(t testing.TB) time.Duration {
	t.Helper()
	if _, err := fmt.Fprintln(p.questions); err != nil {
		t.Fatal(err)
	}
	used, err := time.ParseDuration(p.line(t))
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func (p *NATSProcess) line(t testing.TB) string {
	t.Helper()
	line, err := p.answers.ReadString('\n')
	if err != nil {
		t.Fatalf("the NATS server answers nothing: %v", err)
	}
	return strings.TrimSpace(line)
}

// serveNATS is the other side of NATSProcess: it says its URL, and its CPU time for each line that comes.
func serveNATS(dir string, questions io.Reader, answers io.Writer) error {
	n, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir})
	if err != nil {
		return err
	}
	defer n.Close()
	_, err = fmt.Fprintln(answers, n.URL())
	for lines := bufio.NewScanner(questions); err == nil && lines.Scan(); {
		_, err = fmt.Fprintln(answers, OwnCPU())
	}
	return err
}
