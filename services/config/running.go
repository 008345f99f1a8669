package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Running says where the instance that `weir up` or `weir demo` has started is reached.
type Running struct {
	HTTP     URL `json:"http"`
	NATS     URL `json:"nats"`
	Postgres URL `json:"postgres"`
	PID      int `json:"pid"` // of the process that wrote it; set by WriteRunning
}

// WriteRunning leaves r in dir for the commands of other terminals. Only the user can read it, since a URL
// may hold a password. The last instance to start is the one that is found.
func WriteRunning(dir string, r Running) error {
	// URL hides its secrets when marshalled, so the file has a shape of its own.
	text, err := json.MarshalIndent(map[string]any{
		"http": string(r.HTTP), "nats": string(r.NATS), "postgres": string(r.Postgres), "pid": os.Getpid(),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the running instance: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the running instance: %w", err)
	}
	part, err := os.CreateTemp(dir, "running-*.json") // mode 0600
	if err != nil {
		return fmt.Errorf("write the running instance: %w", err)
	}
	_, err = part.Write(append(text, '\n'))
	err = errors.Join(err, part.Close())
	if err == nil {
		err = os.Rename(part.Name(), runningPath(dir))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the running instance: %w", err), os.Remove(part.Name()))
	}
	return nil
}

// ReadRunning returns the instance that runs now, and whether there is one: a file left behind by
// a process that has died counts for nothing.
func ReadRunning(dir string) (Running, bool, error) {
	text, err := os.ReadFile(runningPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return Running{}, false, nil
	}
	if err != nil {
		return Running{}, false, fmt.Errorf("read the running instance: %w", err)
	}
	var r Running
	if err := json.Unmarshal(text, &r); err != nil {
		return Running{}, false, fmt.Errorf("read the running instance: %s: %w; remove the file", runningPath(dir), err)
	}
	return r, alive(r.PID), nil
}

// RemoveRunning removes what this process has written to dir; the file of another instance stays.
func RemoveRunning(dir string) error {
	r, found, err := ReadRunning(dir)
	if err != nil || !found || r.PID != os.Getpid() {
		return err
	}
	if err := os.Remove(runningPath(dir)); err != nil {
		return fmt.Errorf("remove the running instance: %w", err)
	}
	return nil
}

func runningPath(dir string) string { return filepath.Join(dir, "running.json") }

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
