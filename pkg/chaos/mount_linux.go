package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// mountDisks puts the servers whose disks are to be full onto small file systems of their own, in memory. They end with the
// mount namespace of this process, at the latest.
func (r *run) mountDisks() (unmount func(), err error) {
	var mounted []string
	unmount = func() {
		for _, dir := range mounted {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}
	for target, name := range map[string]string{"nats": "n1", "postgres": "db"} {
		if !slices.ContainsFunc(r.plan.Steps, func(s Step) bool { return s.Fault == "disk-full" && s.Target == target }) {
			continue
		}
		dir := filepath.Join(r.cfg.Dir, name)
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // Postgres, which is not root, passes through
			return unmount, err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0711", diskSize(target))); err != nil {
			return unmount, fmt.Errorf("mount a small file system at %s: %w", dir, err)
		}
		mounted = append(mounted, dir)
	}
	return unmount, nil
}
