package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Running says where an instance that `weir up` or `weir demo` has started is reached.
type Running struct {
	HTTP     URL       `json:"http"`
	NATS     URL       `json:"nats"`
	Postgres URL       `json:"postgres"`
	PID      int       `json:"pid"`     // of the process that wrote it; set by WriteRunning
	Started  time.Time `json:"started"` // when that was; set by WriteRunning
}

// WriteRunning leaves r in dir for the commands of other terminals, in a file of this process:
// dir/running/PID.json. Only the user can read it, since a URL may hold a password. Files that processes have
// left behind as they died are cleared away.
func WriteRunning(dir string, r Running) error {
	if err := writeRunning(dir, r); err != nil {
		return fmt.Errorf("write the running instance: %w", err)
	}
	return nil
}

func writeRunning(dir string, r Running) error {
	// URL hides its secrets when marshalled, so the file has a shape of its own.
	text, err := json.MarshalIndent(map[string]any{
		"http": string(r.HTTP), "nats": string(r.NATS), "postgres": string(r.Postgres),
		"pid": os.Getpid(), "started": time.Now(),
	}, "", "  ")
	if err != nil {
		return err
	}
	path := runningPath(dir, os.Getpid())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if _, err := readAll(dir, func(stale string) { _ = os.Remove(stale) }); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), "*.part") // mode 0600
	if err != nil {
		return err
	}
	_, err = part.Write(append(text, '\n'))
	err = errors.Join(err, part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return nil
}

// ReadRunning returns the instance that runs now, the last to start where there are several, and whether there is
// one: a file left behind by a process that has died counts for nothing.
func ReadRunning(dir string) (newest Running, found bool, err error) {
	all, err := readAll(dir, func(string) {})
	if err != nil {
		return Running{}, false, fmt.Errorf("read the running instance: %w", err)
	}
	for _, r := range all {
		if !found || r.Started.After(newest.Started) {
			newest, found = r, true
		}
	}
	return newest, found, nil
}

// readAll returns the instances that run, and tells stale the path of each file whose process does not.
func readAll(dir string, stale func(path string)) ([]Running, error) {
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(runningPath(dir, 0)), "*.json"))
	if err != nil {
		return nil, err
	}
	var all []Running
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return nil, err
		}
		var r Running
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w; remove the file", path, err)
		}
		if !alive(r.PID) {
			stale(path)
			continue
		}
		all = append(all, r)
	}
	return all, nil
}

// RemoveRunning removes what this process has written to dir; the files of other instances stay.
func RemoveRunning(dir string) error {
	err := os.Remove(runningPath(dir, os.Getpid()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the running instance: %w", err)
	}
	return nil
}

func runningPath(dir string, pid int) string {
	return filepath.Join(dir, "running", strconv.Itoa(pid)+".json")
}

// alive reports whether there is a process pid; one of another user counts.
func alive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil || pid <= 0 {
		return false
	}
	err = process.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, syscall.EPERM)
}

// runningLayer is the running instance as a layer; empty where dir is "" or nothing runs.
func runningLayer(dir string) (layer, error) {
	out := layer{}
	if dir == "" {
		return out, nil
	}
	r, found, err := ReadRunning(dir)
	if err != nil || !found {
		return out, err
	}
	for name, address := range map[string]URL{"http.url": r.HTTP, "nats.url": r.NATS, "postgres.url": r.Postgres} {
		if address != "" {
			out[name] = given{string(address), "running instance"}
		}
	}
	return out, nil
}
