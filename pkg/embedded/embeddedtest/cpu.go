package embeddedtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/pkg/embedded"
)

// OwnCPU is what this process has used so far, of all cores together.
func OwnCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0 // only of an argument that is none
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// PostgresCPU is what the server's processes have used so far, those that have ended included; 0 where there is no /proc.
func PostgresCPU(server *embedded.Postgres) (total time.Duration) {
	const tick = 10 * time.Millisecond // 100 a second on every Linux
	postmaster := strconv.Itoa(server.Pid())
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest) // from field 3 of proc(5) on
		if len(fields) < 15 {
			continue
		}
		own := fields[11:13] // utime, stime
		if filepath.Base(filepath.Dir(path)) == postmaster {
			own = fields[11:15] // and those of its children that ended
		} else if fields[1] != postmaster {
			continue
		}
		for _, text := range own {
			n, _ := strconv.ParseInt(text, 10, 64)
			total += time.Duration(n) * tick
		}
	}
	return total
}
