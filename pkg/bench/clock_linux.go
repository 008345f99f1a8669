package bench

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuClock is the CPU time of all threads of a process, ended ones included, to the nanosecond, where /proc says it to 10 ms.
func cpuClock(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED: clock_getcpuclockid(3) packs it with the id of the process
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|scheduled, &used); err != nil { //nolint:gosec // an id of a process has at most 22 bits
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}
