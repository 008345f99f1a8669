package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	helperDir = "WEIR_TEST_HELPER_DIR" // makes the test binary a Weir that runs PostgreSQL there until stdin ends
	patience  = time.Minute
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		p, err := StartPostgres(context.Background(), PostgresConfig{Dir: dir})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(p.URL())
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres; run without -short")
	}
}

// tempDir is private like that of t.TempDir, but its parent is open to the user PostgreSQL runs as where the
// tests run as root.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-dir-") //nolint:usetesting // no other user can enter the parent of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func startTestPostgres(t *testing.T, cfg PostgresConfig) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.WithoutCancel(t.Context())) })
	return p
}

func closePostgres(t *testing.T, p *Postgres) {
	t.Helper()
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func psql(t *testing.T, p *Postgres, sql string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(p.BinDir(), "psql"), "-XAtq", "-c", sql, p.URL()).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// One cluster goes through what happens to a directory that lasts: each step begins where the last ended.
func TestPostgres_KeepsDataWhateverEndsIt(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	p := startTestPostgres(t, PostgresConfig{Dir: tempDir(t), Durable: true})
	url := p.URL()
	psql(t, p, "CREATE TABLE kept (x int)")

	// again starts in the same directory and expects one row more than the step before.
	rows := 0
	again := func(t *testing.T) *Postgres {
		t.Helper()
		next := startTestPostgres(t, p.Config())
		if next.URL() != url {
			t.Errorf("URL = %s, want %s as before", next.URL(), url)
		}
		if got, want := psql(t, next, "SELECT count(*) FROM kept"), fmt.Sprint(rows); got != want {
			t.Errorf("rows = %s, want %s", got, want)
		}
		psql(t, next, "INSERT INTO kept VALUES (1)")
		rows++
		return next
	}
	steps := []struct {
		name string
		step func(t *testing.T)
	}{
		{"durable, UTF-8, by code point, UTC", func(t *testing.T) {
			got := psql(t, p, "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),"+
				" current_setting('server_encoding'), current_setting('max_connections'), current_setting('timezone'), 'Z' < 'a'")
			if want := "on|on|on|UTF8|200|UTC|t"; got != want {
				t.Errorf("settings = %s, want %s", got, want)
			}
		}},
		{"password needed on TCP and on the socket", func(t *testing.T) {
			withoutPassword := strings.Replace(url, ":"+p.cluster.password, "", 1)
			socket := fmt.Sprintf("host=%s port=%d user=weir dbname=weir", p.sockets, p.addr.port)
			for _, address := range []string{withoutPassword, socket} {
				cmd := exec.Command(filepath.Join(p.BinDir(), "psql"), "-Xw", "-c", "SELECT 1", address)
				cmd.Env = append(os.Environ(), "PGPASSFILE="+os.DevNull)
				if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no password supplied") {
					t.Errorf("%s: %v, %s; want a refusal", address, err, out)
				}
			}
		}},
		{"second server in the directory refused", func(t *testing.T) {
			_, err := StartPostgres(t.Context(), PostgresConfig{Dir: p.cfg.Dir})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by another weir process (pid %d)", os.Getpid())) {
				t.Errorf("error = %v", err)
			}
		}},
		{"after Close", func(t *testing.T) {
			closePostgres(t, p)
			closePostgres(t, p) // a second time changes nothing
			closePostgres(t, again(t))
		}},
		{"after a shutdown cut short", func(t *testing.T) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			next := again(t)
			if err := next.Close(ended); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Close = %v, want context.Canceled", err)
			}
			<-next.Done()
		}},
		{"after a killed server", func(t *testing.T) {
			next := again(t)
			next.process.Signal(syscall.SIGKILL)
			<-next.Done()
			closePostgres(t, next)
		}},
		{"beside an orphan, which is stopped", func(t *testing.T) {
			orphan := again(t)
			if err := orphan.lock.Release(); err != nil { // as when the process that held it is gone
				t.Fatal(err)
			}
			next := again(t)
			select {
			case <-orphan.Done():
			default:
				t.Error("orphan still runs")
			}
			closePostgres(t, next)
		}},
		{"with a pid file that names a stranger", func(t *testing.T) {
			stale := fmt.Sprintf("%d\n%s\n", os.Getppid(), p.cluster.data)
			if err := os.WriteFile(filepath.Join(p.cluster.data, "postmaster.pid"), []byte(stale), 0o600); err != nil {
				t.Fatal(err)
			}
			closePostgres(t, again(t))
		}},
		{"a failed start quotes the log", func(t *testing.T) {
			conf, err := os.OpenFile(filepath.Join(p.cluster.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conf.WriteString("no_such_setting = 1\n"); err != nil {
				t.Fatal(err)
			}
			if err := conf.Close(); err != nil {
				t.Fatal(err)
			}
			_, err = StartPostgres(t.Context(), p.Config())
			if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
				t.Errorf("error = %v, want the line of the log", err)
			}
		}},
	}
	for _, s := range steps {
		if !t.Run(s.name, s.step) {
			return
		}
	}
}

func TestPostgres_EndsWithAKilledParent(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	if runtime.GOOS != "linux" {
		t.Skip("only Linux signals the death of a parent; elsewhere the next start stops the server")
	}
	dir := tempDir(t)
	helper := exec.Command(os.Args[0])
	helper.Env = append(os.Environ(), helperDir+"="+dir)
	helper.Stderr = os.Stderr
	stdin, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("helper said %q: %v", line, err)
	}
	data := filepath.Join(dir, "postgres", "data")
	if pids, err := processesIn(data); err != nil || len(pids) == 0 {
		t.Fatalf("processes of the server = %v, %v; want some", pids, err)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait()
	eventually(t, "no process left", func() bool {
		pids, err := processesIn(data)
		return err == nil && len(pids) == 0
	})
	// The lock went with the process.
	closePostgres(t, startTestPostgres(t, PostgresConfig{Dir: dir}))
}

func TestPostgres_RefusesTakenPortAndSaysWhich(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	addr := takePort(t)
	_, err := StartPostgres(t.Context(), PostgresConfig{Dir: tempDir(t), Listen: addr})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) {
		t.Errorf("error = %v, want one that names %s as in use", err, addr)
	}
}

func TestPostgres_PutsTheSocketElsewhereIfThePathIsTooLong(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	parent := tempDir(t)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, strings.Repeat("long", 30))
	p := startTestPostgres(t, PostgresConfig{Dir: dir})
	if got := psql(t, p, "SHOW unix_socket_directories"); got == p.cluster.home || len(got) > maxSocketDir {
		t.Errorf("socket directory = %s, want a short one", got)
	}
	closePostgres(t, p)
	if _, err := os.Stat(p.sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", p.sockets, err)
	}
}

func TestPostgres_LeavesNothingHalfMadeWhenInterrupted(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	dir := tempDir(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	begun := make(chan error, 1)
	go func() {
		_, err := StartPostgres(ctx, PostgresConfig{Dir: dir})
		begun <- err
	}()
	fresh := filepath.Join(dir, "postgres", "data.new-*")
	eventually(t, "the cluster is being made", func() bool {
		made, err := filepath.Glob(fresh)
		return err == nil && len(made) > 0 || len(begun) > 0
	})
	cancel(interrupted)
	if err := <-begun; !errors.Is(err, interrupted) {
		t.Fatalf("error = %v, want the cause", err)
	}
	closePostgres(t, startTestPostgres(t, PostgresConfig{Dir: dir}))
}
