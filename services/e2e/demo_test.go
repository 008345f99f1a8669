package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

// demoResult is the last line of a demo that found nothing wrong.
var demoResult = regexp.MustCompile(`^published=([1-9][0-9]*) folded=([0-9]+) lost=0 doubled=0$`)

// demo starts `weir demo` with a directory for its temporary files.
func demo(t *testing.T, args ...string) (p *process, temporary string) {
	t.Helper()
	temporary = embeddedtest.Dir(t)
	return start(t, append([]string{"TMPDIR=" + temporary, "demo"}, args...)...), temporary
}

// endsWell: exit code 0, the result as the last line, and nothing left behind.
func endsWell(t *testing.T, p *process, temporary string) {
	t.Helper()
	if code := p.within(patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	lines := p.stdout.lines()
	if len(lines) == 0 {
		t.Fatal("the demo has printed nothing")
	}
	last := lines[len(lines)-1]
	if m := demoResult.FindStringSubmatch(last); m == nil || m[1] != m[2] {
		t.Errorf("last line: got %q, want published=N folded=N lost=0 doubled=0", last)
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "*")); err != nil || len(left) > 0 {
		t.Errorf("the demo has left %q (%v)", left, err)
	}
}

func TestDemo_EndsByItselfAndHasCountedEveryEventOnce(t *testing.T) {
	t.Parallel()
	p, temporary := demo(t, "--for", "5s", "--rate", "2000")
	endsWell(t, p, temporary)
	if out := p.stdout.String(); !strings.Contains(out, "[local, shard w") {
		t.Errorf("no alert was shown:\n%s", out)
	}
}

func TestDemo_TellsOfAlertsOverAllWorkers(t *testing.T) {
	t.Parallel()
	p, temporary := demo(t, "--rate", "600")
	until(t, "the demo to tell of a global alert", func() bool {
		return strings.Contains(p.stdout.String(), "[global, all workers, severity ") || !p.running()
	})
	p.signal(syscall.SIGINT)
	endsWell(t, p, temporary)
}

func TestDemo_EndsWithCtrlCAndHasCountedEveryEventOnce(t *testing.T) {
	t.Parallel()
	p, temporary := demo(t, "--rate", "100")
	shown := regexp.MustCompile(`published [1-9]`)
	until(t, "the demo to publish", func() bool { return shown.MatchString(p.stdout.String()) || !p.running() })
	p.signal(syscall.SIGINT)
	endsWell(t, p, temporary)
}

func TestDemo_ChecksOnlyItsOwnGateways(t *testing.T) {
	t.Parallel()
	p, temporary := demo(t, "--rate", "100")
	address := regexp.MustCompile(`nats://[0-9.:]+`)
	until(t, "the demo to tell where NATS is", func() bool { return address.MatchString(p.stdout.String()) || !p.running() })
	other := &instance{nats: address.FindString(p.stdout.String())}
	gateway(t, other, "--source", "gw-1", "--simulate", "300")
	until(t, "the demo to have folded more than it published", func() bool {
		var published, folded int
		lines := p.stdout.lines()
		_, figures, _ := strings.Cut(lines[len(lines)-1], "published")
		_, _ = fmt.Sscanf("published"+figures, "published %d  folded %d", &published, &folded)
		return folded > published+100 || !p.running()
	})
	p.signal(syscall.SIGINT)
	endsWell(t, p, temporary)
	if out := p.stdout.String(); !strings.Contains(out, "of other gateways too") {
		t.Errorf("the demo does not tell of the totals that it could not compare:\n%s", tail(out))
	}
}

func TestDemo_SharesADatabaseWithAnother(t *testing.T) {
	t.Parallel()
	database := embeddedtest.PostgresServer(t).URL()
	first, firstDir := demo(t, "--postgres", database, "--rate", "200", "--for", "4s")
	second, secondDir := demo(t, "--postgres", database, "--rate", "200", "--for", "3s")
	endsWell(t, first, firstDir)
	endsWell(t, second, secondDir)
	third, thirdDir := demo(t, "--postgres", database, "--rate", "200", "--for", "1s")
	endsWell(t, third, thirdDir)
}

func TestDemo_ClearsAwayWhatAKilledOneHasLeft(t *testing.T) {
	t.Parallel()
	p, temporary := demo(t, "--rate", "100")
	shown := regexp.MustCompile(`published [1-9]`)
	until(t, "the demo to publish", func() bool { return shown.MatchString(p.stdout.String()) || !p.running() })
	p.kill()
	if left, err := filepath.Glob(filepath.Join(temporary, "weir-demo-*")); err != nil || len(left) != 1 {
		t.Fatalf("a killed demo has left %q (%v), want its directory", left, err)
	}
	next := start(t, "TMPDIR="+temporary, "demo", "--rate", "100", "--for", "1s")
	endsWell(t, next, temporary)
}
