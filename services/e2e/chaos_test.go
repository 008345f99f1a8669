package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

func TestChaos_LeavesNoProcessBehindWhenItIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only the Linux kernel ends children with their parent")
	}
	dir := embeddedtest.Dir(t)
	p := start(t, "chaos", "--for", "30s", "--rate", "200", "--faults", "none", "--keep", dir)
	until(t, "the load to run", func() bool { return strings.Contains(p.stdout.String(), "acknowledged") || !p.running() })
	of := processesOf(dir)
	if len(of) < 5 { // NATS, Postgres with its children, three workers
		t.Errorf("%d processes work for the harness: %v", len(of), of)
	}
	p.kill()
	until(t, "all processes to end", func() bool { return len(processesOf(dir)) == 0 })
}

// processesOf are the processes that have a file of the directory open, or work in it.
func processesOf(dir string) []string {
	var pids []string
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is right
	for _, link := range links {
		pid := filepath.Base(filepath.Dir(link))
		open, _ := filepath.Glob("/proc/" + pid + "/fd/*")
		for _, link := range append(open, link) {
			if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
