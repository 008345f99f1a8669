package embedded

import (
	"os"
	"path/filepath"
	"strconv"
)

// processesIn is the ids of the processes whose working directory is dir. Every process of a PostgreSQL
// server works in its data directory, so unlike a pid file this cannot name a stranger.
func processesIn(dir string) ([]int, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		// Unreadable means gone, or another user's, which ours is not.
		if cwd, err := os.Readlink(link); err != nil || cwd != dir {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
