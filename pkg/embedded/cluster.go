package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	clusterUser     = "weir" // the superuser
	clusterDatabase = "weir"

	// orphanTimeout is what a server left behind gets to write its checkpoint and end.
	orphanTimeout = 30 * time.Second
	// logTailLines is how much of the server's log an error quotes.
	logTailLines = 20
)

// cluster is PostgreSQL's files and the programs and the user that go with them.
type cluster struct {
	home     string // holds data, password, log, Unix socket
	data     string
	password string
	bin      binaries
	account  account
}

// openCluster finds what dir/postgres holds and makes the cluster if there is none. The caller has the lock.
func openCluster(ctx context.Context, dir string, durable bool) (c cluster, err error) {
	c.home = filepath.Join(dir, "postgres")
	c.data = filepath.Join(c.home, "data")
	major, err := clusterVersion(c.data)
	if err != nil {
		return c, err
	}
	if c.bin, err = findBinaries(postgresPlaces(), major); err != nil {
		return c, err
	}
	if c.account, err = serverAccount(c.data); err != nil {
		return c, err
	}
	if err := c.account.own(c.home); err != nil {
		return c, err
	}
	if err := c.account.openWay(dir, c.home, c.bin); err != nil {
		return c, err
	}
	if major == 0 {
		if err := c.create(ctx, durable); err != nil {
			return c, fmt.Errorf("make a cluster in %s: %w", c.home, err)
		}
	}
	password, err := os.ReadFile(c.passwordFile())
	if err != nil {
		return c, fmt.Errorf("read the password of the cluster: %w", err)
	}
	c.password = strings.TrimSpace(string(password))
	return c, nil
}

// clusterVersion is the major version that wrote the cluster, 0 if there is none.
func clusterVersion(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the cluster: %w", err)
	}
	return versionIn(string(text)), nil
}

func (c cluster) passwordFile() string { return filepath.Join(c.home, "password") }
func (c cluster) logFile() string      { return filepath.Join(c.home, "postgres.log") }

// command is one of the server's programs, run by the cluster's account.
func (c cluster) command(program string, args ...string) *exec.Cmd {
	return c.account.command(c.home, c.bin.path(program), args...)
}

// create makes the cluster with its database beside its place and then moves it there, so that an
// interrupted first start leaves nothing that looks like a cluster.
func (c cluster) create(ctx context.Context, durable bool) error {
	// What earlier, interrupted starts left goes where it can: an initdb that outlived its parent may
	// still be writing there, which is why every start has a place of its own.
	left, err := filepath.Glob(c.data + ".new-*")
	if err != nil {
		return err
	}
	for _, dir := range left {
		_ = os.RemoveAll(dir) // or the next time
	}
	fresh := c.data + ".new-" + rand.Text()
	if err := os.WriteFile(c.passwordFile(), []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.account.own(c.passwordFile()); err != nil {
		return err
	}
	// Locale C sorts by code point like C.UTF-8, but is the same on every system, does not change with a
	// new libc under existing indexes, and compares fastest.
	args := []string{
		"-D", fresh, "--username=" + clusterUser, "--pwfile=" + c.passwordFile(),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
	}
	if !durable {
		args = append(args, "--no-sync")
	}
	if err := runToEnd(ctx, c.command("initdb", args...)); err != nil {
		return err
	}
	// What may connect from where is decided by the listen address alone; the password is always needed.
	hba := "local all all scram-sha-256\nhost all all all scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(fresh, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return err
	}
	single := c.command("postgres", "--single", "-D", fresh, "-c", "exit_on_error=on", "-c", "fsync="+strconv.FormatBool(durable), "postgres")
	single.Stdin = strings.NewReader("CREATE DATABASE " + clusterDatabase + "\n")
	if err := runToEnd(ctx, single); err != nil {
		return err
	}
	if err := os.Rename(fresh, c.data); err != nil {
		return err
	}
	return syncDir(c.home)
}

// runToEnd quotes the program's output when it fails.
func runToEnd(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(cmd.Path), err, lastLines(out.String()))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// postmaster reads the server's pid file: the process id on the first line, 0 if there is no file, and on
// the eighth whether it takes clients. pg_ctl waits in this way, too.
func (c cluster) postmaster() (pid int, ready bool) {
	text, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	lines := strings.Split(string(text), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0, false
	}
	return pid, len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
}

// stopOrphan ends a server that still works in the cluster, which nobody uses, since the caller has the
// lock. A pid file that is left over goes, too: after a reboot its id may belong to another PostgreSQL,
// and ours would refuse to start.
func (c cluster) stopOrphan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	pids, err := processesIn(c.data)
	if err != nil {
		return fmt.Errorf("look for a server left in %s: %w", c.data, err)
	}
	if pid, _ := c.postmaster(); slices.Contains(pids, pid) {
		if err := syscall.Kill(pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the server left in %s, process %d: %w", c.data, pid, err)
		}
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for len(pids) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v of a server left in %s still run: %w", pids, c.data, context.Cause(ctx))
		case <-tick.C:
		}
		if pids, err = processesIn(c.data); err != nil {
			return fmt.Errorf("look for a server left in %s: %w", c.data, err)
		}
	}
	if err := os.Remove(filepath.Join(c.data, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// openLog begins a log for a run and keeps that of the run before.
func (c cluster) openLog() (*os.File, error) {
	if err := os.Rename(c.logFile(), c.logFile()+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Exclusive: the directory belongs to the account, which must not choose by a link what root writes to.
	return os.OpenFile(c.logFile(), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
}

// logTail is the end of the log; what keeps it from being read takes its place.
func (c cluster) logTail() string {
	text, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text))
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-logTailLines):], "\n")
}
