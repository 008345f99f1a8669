package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU time in /proc: a 100th of a second on every Linux.
const clockTick = 10 * time.Millisecond

// procStat is what /proc/PID/stat says of a process.
type procStat struct {
	parent   int
	own      time.Duration // CPU time, user and system, of all its threads; to the nanosecond by readStat
	children time.Duration // of its children that have ended and were waited for, and theirs
}

// parseStat reads proc(5) stat. The name, in parentheses, may hold anything, also parentheses.
func parseStat(text string) (procStat, error) {
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:]) // from field 3 on
	if end < 0 || len(fields) < 15 {
		return procStat{}, fmt.Errorf("%d fields in %q", len(fields), text)
	}
	var numbers [5]int64
	for i, at := range []int{4, 14, 15, 16, 17} {
		n, err := strconv.ParseInt(fields[at-3], 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("field %d: %w", at, err)
		}
		numbers[i] = n
	}
	ticks := func(n int64) time.Duration { return time.Duration(n) * clockTick }
	return procStat{parent: int(numbers[0]), own: ticks(numbers[1] + numbers[2]), children: ticks(numbers[3] + numbers[4])}, nil
}

// parseStatus returns the sizes that proc(5) status gives in kB, in bytes, by name.
func parseStatus(text string) map[string]int64 {
	sizes := map[string]int64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			sizes[name] = n << 10
		}
	}
	return sizes
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	stat, err := parseStat(string(text))
	if err != nil {
		return procStat{}, err
	}
	stat.own, err = cpuClock(pid)
	return stat, err
}

func readStatus(pid int) map[string]int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil // it has ended
	}
	return parseStatus(string(text))
}

// measurable reports whether this system has a /proc that tells what processes use.
func measurable() bool {
	_, err := readStat(os.Getpid())
	return err == nil
}

// childrenOf lists the processes that this one has started and that run.
func childrenOf(parent int) (pids []int, used []procStat) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))) // it is digits
		stat, err := readStat(pid)
		if err == nil && stat.parent == parent {
			pids, used = append(pids, pid), append(used, stat)
		}
	}
	return pids, used
}

// treeCPU is the CPU time of a process and its children, those that ended included.
func treeCPU(pid int) (time.Duration, error) {
	// A child that ends between the two looks is in none or both of them: the second look decides.
	for range 10 {
		before, err := readStat(pid)
		if err != nil {
			return 0, err
		}
		_, children := childrenOf(pid)
		after, err := readStat(pid)
		if err != nil {
			return 0, err
		}
		if before.children != after.children {
			continue
		}
		total := after.own + after.children
		for _, c := range children {
			total += c.own + c.children
		}
		return total, nil
	}
	return 0, errors.New("its processes come and go too fast to be counted")
}

// treeMemory is what a process and its children hold: what each has alone, and what they share once, as far as the one
// that has touched most of it knows. Their peaks cannot be added up, for each counts the shared memory again.
func treeMemory(pid int) int64 {
	pids, _ := childrenOf(pid)
	var alone, shared int64
	for _, p := range append(pids, pid) {
		status := readStatus(p)
		alone += status["RssAnon"]
		shared = max(shared, status["RssShmem"])
	}
	return alone + shared
}

// parseBusy returns how long all cores together were not idle, from proc(5) stat of the whole system.
func parseBusy(text string) time.Duration {
	line, _, _ := strings.Cut(text, "\n")
	var busy int64
	for i, field := range strings.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal; guests are in user and nice
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		busy += n
	}
	return time.Duration(busy) * clockTick
}

func readBusy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseBusy(string(text))
}

// machine is what the numbers are of.
func machine() (model string, memory int64) {
	text, _ := os.ReadFile("/proc/cpuinfo") // nothing elsewhere
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	text, _ = os.ReadFile("/proc/meminfo")
	return model, parseStatus(string(text))["MemTotal"]
}
