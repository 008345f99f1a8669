package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"weir/pkg/embedded"
)

const dirPrefix = "weir-demo-"

// makeDir makes the directory of one demo, and returns what removes it again.
func makeDir() (dir string, remove func() error, err error) {
	sweep(os.TempDir())
	dir, err = os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("make a directory for the demo: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// sweep removes what demos have left in a directory that were killed: their
// lock is free. It is a courtesy, so that nothing in its way is an error.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	for _, dir := range dirs {
		if !ours(dir) {
			continue
		}
		lock, err := embedded.LockDir(dir)
		if err != nil {
			continue // it runs
		}
		_ = errors.Join(os.RemoveAll(dir), lock.Release())
	}
}

// ours reports whether dir is a directory of this user, with a lock file: one
// that has none yet is just being made.
func ours(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known || int(owner.Uid) != os.Geteuid() {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, "weir.lock"))
	return err == nil
}
