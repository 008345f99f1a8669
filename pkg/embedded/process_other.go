//go:build !linux

package embedded

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// processesIn is the id of the PostgreSQL server started by us for the data directory dir, if it runs.
func processesIn(dir string) ([]int, error) {
	out, err := exec.Command("ps", "-axww", "-o", "pid=,args=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		pidText, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(args, "postgres -D "+dir+" ") {
			continue
		}
		if pid, err := strconv.Atoi(pidText); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
