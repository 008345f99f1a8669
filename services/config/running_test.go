package config

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

func TestRunning_IsFoundUntilRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, found, err := ReadRunning(dir); found || err != nil {
		t.Fatalf("in an empty directory: found = %v, %v", found, err)
	}
	want := Running{HTTP: "http://h:1", NATS: "nats://h:2", Postgres: "postgres://me:whole@h:3/d", PID: os.Getpid()}
	if err := WriteRunning(dir, want); err != nil {
		t.Fatal(err)
	}
	got, found, err := ReadRunning(dir)
	if err != nil || !found || got != want {
		t.Errorf("ReadRunning() = %#v, %v, %v, want %#v", got, found, err, want)
	}
	info, err := os.Stat(runningPath(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", info.Mode(), err)
	}
	if err := RemoveRunning(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("RemoveRunning left %v, %v", entries, err)
	}
}

func TestRunning_OfADeadProcessCountsForNothing(t *testing.T) {
	t.Parallel()
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.leaveRunning(dead.Process.Pid)
	if got := b.config().HTTP.URL; got != Default().HTTP.URL {
		t.Errorf("http.url = %v, want the default", got)
	}
}

func TestRemoveRunning_LeavesTheFileOfAnotherProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.leaveRunning(os.Getppid())
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
func (b *bench) leaveRunning(pid int) {
	b.t.Helper()
	text := `{"http":"http://running:1","nats":"","postgres":"","pid":` + strconv.Itoa(pid) + `}`
	if err := os.WriteFile(runningPath(b.stateDir), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
