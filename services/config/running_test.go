package config

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestRunning_IsFoundUntilRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, found, err := ReadRunning(dir); found || err != nil {
		t.Fatalf("in an empty directory: found = %v, %v", found, err)
	}
	before := time.Now().Add(-time.Second)
	want := Running{HTTP: "http://h:1", NATS: "nats://h:2", Postgres: "postgres://me:whole@h:3/d", PID: os.Getpid()}
	if err := WriteRunning(dir, want); err != nil {
		t.Fatal(err)
	}
	got, found, err := ReadRunning(dir)
	if got.Started.Before(before) || got.Started.After(time.Now()) {
		t.Errorf("started = %s, want now", got.Started)
	}
	got.Started = time.Time{}
	if err != nil || !found || got != want {
		t.Errorf("ReadRunning() = %#v, %v, %v, want %#v", got, found, err, want)
	}
	info, err := os.Stat(runningPath(dir, os.Getpid()))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", info.Mode(), err)
	}
	if err := RemoveRunning(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("RemoveRunning left %v, %v", left, err)
	}
}

func TestRunning_OfADeadProcessCountsForNothing(t *testing.T) {
	t.Parallel()
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.leaveRunning(dead.Process.Pid, time.Now())
	if got := b.config().HTTP.URL; got != Default().HTTP.URL {
		t.Errorf("http.url = %v, want the default", got)
	}
	b.withRunning(Running{HTTP: "http://running:2"})
	if _, err := os.Stat(runningPath(b.stateDir, dead.Process.Pid)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a dead process: %v, want it cleared away by the next instance", err)
	}
}

func TestRunning_TheLastToStartIsFoundAndTheOthersAfterIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		other time.Duration // when the other started, after this one
		first URL           // found while both run
	}{
		{"the other is older", -time.Hour, "http://mine:1"},
		{"the other is newer", time.Hour, "http://running:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t).withRunning(Running{HTTP: "http://mine:1"})
			b.leaveRunning(os.Getppid(), time.Now().Add(tt.other))
			if got := b.config().HTTP.URL; got != tt.first {
				t.Errorf("while both run: %s, want %s", got, tt.first)
			}
			if err := RemoveRunning(b.stateDir); err != nil {
				t.Fatal(err)
			}
			if got := b.config().HTTP.URL; got != "http://running:1" {
				t.Errorf("when this one has ended: %s, want the other", got)
			}
		})
	}
}

func TestRemoveRunning_LeavesTheFileOfAnotherProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.leaveRunning(os.Getppid(), time.Now())
	if err := RemoveRunning(b.stateDir); err != nil {
		t.Fatal(err)
	}
	if _, found, err := ReadRunning(b.stateDir); !found || err != nil {
		t.Errorf("found = %v, %v, want the file of the other process", found, err)
	}
}

func TestRunning_IsTakenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	r := Running{HTTP: "http://running:1", NATS: "nats://running:1", Postgres: "postgres://running/x"}
	got := newBench(t, "--postgres", "postgres://mine/x").withRunning(r).config()
	if got.NATS.URL != Default().NATS.URL {
		t.Errorf("nats.url = %v, want the default beside a database of one's own", got.NATS.URL)
	}
	got = newBench(t, "--nats", "nats://mine:1").withRunning(r).config()
	if got.Postgres.URL != "" {
		t.Errorf("postgres.url = %v, want none beside a NATS of one's own", got.Postgres.URL)
	}
}

// leaveRunning writes the file as process pid would have.
func (b *bench) leaveRunning(pid int, started time.Time) {
	b.t.Helper()
	text := `{"http":"http://running:1","nats":"","postgres":"","pid":` + strconv.Itoa(pid) +
		`,"started":"` + started.Format(time.RFC3339Nano) + `"}`
	path := runningPath(b.stateDir, pid)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
