package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
)

// accessLog writes a log of n calls, an hour apart, of an API, and returns its path.
func accessLog(t *testing.T, api string, n int) string {
	t.Helper()
	var log strings.Builder
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for range n {
		fmt.Fprintf(&log, "192.0.2.7 - - [%s] \"GET /%s/item HTTP/1.1\" 200 12 \"-\" \"curl/8.7.1\"\n", at.Format("02/Jan/2006:15:04:05 -0700"), api)
		at = at.Add(time.Hour)
	}
	path := filepath.Join(t.TempDir(), api+".log")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUp_IsReadyWhenItPrintsItsURLsAndKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	i := up(t)
	for n, scheme := range []string{"http://", "nats://", "postgres://"} {
		if got := i.stdout.lines()[n]; !strings.HasPrefix(got, scheme) {
			t.Errorf("line %d: got %q, want %s…", n+1, got, scheme)
		}
	}
	if status, body := get(t, i.http+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: status %d: %s", status, body)
	}
	fails(t, 1, []string{"is in use by another weir process", fmt.Sprintf("(pid %d)", i.cmd.Process.Pid)}, "up", "--dir", i.dir)

	log := accessLog(t, "kept", 7)
	weir(t, "replay", "--nats", i.nats, log)
	i.drain(t)
	i.stop()

	i = upIn(t, i.dir)
	if got := i.requests(t); got != 7 {
		t.Errorf("after the restart: got %d events, want 7", got)
	}
	weir(t, "replay", "--nats", i.nats, "--batch", "3", log)
	i.drain(t)
	if got := i.requests(t); got != 7 {
		t.Errorf("after a second replay: got %d events, want 7", got)
	}
	i.stop()
}

func TestUp_LeavesTheWorkToOtherProcessesWithoutWorkers(t *testing.T) {
	t.Parallel()
	i := up(t, "--workers", "0")
	weir(t, "replay", "--nats", i.nats, accessLog(t, "elsewhere", 5))
	if got := i.requests(t); got != 0 {
		t.Errorf("without a worker: got %d events, want 0", got)
	}
	w := i.worker(t, "far-away")
	i.drain(t)
	if got := i.requests(t); got != 5 {
		t.Errorf("with a worker: got %d events, want 5", got)
	}
	live := i.worker(t, "far-away")
	if code := live.within(patience); code != 1 || !strings.Contains(live.stderr.String(), `shard "far-away" is in use by the live worker`) {
		t.Errorf("a second worker of the same shard: exit code %d\n%s", code, live.stderr.String())
	}
	if !w.running() {
		t.Error("the first worker of the shard has ended")
	}
	w.stop()
	next := i.worker(t, "far-away")
	until(t, "the shard to be free again", func() bool { return strings.Contains(next.stderr.String(), "worker folds") })
}

func TestUp_ListensWhereItIsTold(t *testing.T) {
	t.Parallel()
	first := up(t, "--workers", "0")
	taken := strings.TrimPrefix(first.nats, "nats://")
	dir := filepath.Join(embeddedtest.Dir(t), "data")
	for _, flag := range []string{"--nats-listen", "--postgres-listen", "--http"} {
		fails(t, 1, []string{taken, "address already in use"}, "up", "--dir", dir, flag, taken)
	}
	if _, err := os.Stat(filepath.Join(dir, "postgres")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Postgres was set up before the addresses were looked at: %v", err)
	}
	first.stop()

	second := upIn(t, dir, "--workers", "0", "--nats-listen", taken, "--http", strings.TrimPrefix(first.http, "http://"), "--postgres-listen", hostOf(t, first.postgres))
	if second.nats != first.nats || second.http != first.http || hostOf(t, second.postgres) != hostOf(t, first.postgres) {
		t.Errorf("got %q, want the addresses of %q", second.stdout.lines(), first.stdout.lines())
	}
}

func TestUp_PrintsAnAddressThatCanBeOpenedAndEndsWithItsTerminal(t *testing.T) {
	t.Parallel()
	i := up(t, "--http", ":0", "--workers", "0")
	if !strings.HasPrefix(i.http, "http://127.0.0.1:") {
		t.Errorf("got %s", i.http)
	}
	if status, body := get(t, i.http+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: status %d: %s", status, body)
	}
	i.signal(syscall.SIGHUP)
	if code := i.within(stopTime); code != 0 {
		t.Errorf("exit code %d after SIGHUP, want 0\n%s", code, i.stderr.String())
	}
}

func TestUp_EndsCleanlyWhenAskedWhileItStarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(embeddedtest.Dir(t), "data")
	p := start(t, "up", "--dir", dir)
	until(t, "Postgres to be set up", func() bool {
		made, _ := filepath.Glob(filepath.Join(dir, "postgres", "data*", "*")) // the pattern is right
		return len(made) > 0 || !p.running()
	})
	p.stop()
	if out := p.stdout.String() + p.stderr.String(); strings.Contains(out, "weir:") || strings.Contains(out, "http://") {
		t.Errorf("got:\n%s", out)
	}
	upIn(t, dir).stop()
}

// hostOf is the host:port of a URL with a login.
func hostOf(t *testing.T, address string) string {
	t.Helper()
	_, rest, _ := strings.Cut(address, "@")
	host, _, _ := strings.Cut(rest, "/")
	if _, _, err := net.SplitHostPort(host); err != nil {
		t.Fatalf("no host in %s: %v", address, err)
	}
	return host
}
