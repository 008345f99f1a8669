package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockDir_RefusesASecondHolderAndNamesTheFirst(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "weir")
	first, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = LockDir(dir)
	want := fmt.Sprintf("directory %s is in use by another weir process (pid %d)", dir, os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("second lock: %v, want %s", err, want)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := LockDir(dir)
	if err != nil {
		t.Fatalf("lock after release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}

func TestLockDir_FollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "weir.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); err == nil {
		t.Error("no error for a lock file that is a link")
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "precious" {
		t.Errorf("target = %q, %v; want it unchanged", text, err)
	}
}

func TestDefaultDir_IsTheUsersStateDirectory(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	t.Setenv("XDG_STATE_HOME", "")
	want := "/home/someone/"
	if os.Geteuid() == 0 {
		want = "/var/lib/"
	}
	if dir, err := DefaultDir(); err != nil || !strings.HasPrefix(dir, want) || filepath.Base(dir) != "weir" {
		t.Errorf("DefaultDir = %q, %v; want it in %s", dir, err, want)
	}
	t.Setenv("XDG_STATE_HOME", "/state")
	if dir, err := DefaultDir(); err != nil || dir != "/state/weir" {
		t.Errorf("DefaultDir with XDG_STATE_HOME = %q, %v", dir, err)
	}
}
