package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// DefaultDir is where Weir keeps its data when no directory is given: $XDG_STATE_HOME/weir where that is
// set, else /var/lib/weir for root and ~/.local/state/weir for others (macOS: ~/Library/Application
// Support/weir). It is not created.
func DefaultDir() (string, error) {
	// The specification of XDG_STATE_HOME tells programs to ignore a relative path.
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "weir"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/weir", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a data directory: %w; choose one with --dir", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "weir"), nil
	}
	return filepath.Join(home, ".local", "state", "weir"), nil
}

// DirLock keeps other processes, and other holders in this one, out of a directory.
// The operating system drops it with the process, however that ends.
type DirLock struct {
	file *os.File
}

// LockDir makes the directory if it is missing and locks it through the file weir.lock in it.
// If it is locked already the error names the process that holds it.
func LockDir(dir string) (*DirLock, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "weir.lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock directory %s: %w", dir, err)
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("directory %s is in use by another weir process%s", dir, holder(f))
		}
		return nil, fmt.Errorf("lock directory %s: %w", dir, err)
	}
	if err := writeHolder(f); err != nil {
		return nil, fmt.Errorf("lock directory %s: write the process id: %w", dir, errors.Join(err, f.Close()))
	}
	return &DirLock{file: f}, nil
}

// Release lets others have the directory. The file stays: removing it would let two processes lock
// two files of the same name.
func (l *DirLock) Release() error {
	// Closing alone would leave it locked while a child that is just being started has a copy of the file.
	if err := errors.Join(flock(l.file, syscall.LOCK_UN), l.file.Close()); err != nil {
		return fmt.Errorf("release lock %s: %w", l.file.Name(), err)
	}
	return nil
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// holder is " (pid N)", or nothing in the moment in which the holder has not written it yet.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	pid := strings.TrimSpace(string(text))
	if err != nil || pid == "" {
		return ""
	}
	return " (pid " + pid + ")"
}

// makeDir makes one of Weir's own directories, private to its user, and missing parents readable for all:
// PostgreSQL, which never runs as root, may have to pass through them.
func makeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	return nil
}
