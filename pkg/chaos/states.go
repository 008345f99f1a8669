package chaos

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// states counts the interesting states that a run has reached. A run that never got into trouble has shown nothing.
type states struct {
	mu     sync.Mutex
	counts map[string]int
}

func newStates() *states { return &states{counts: map[string]int{}} }

func (s *states) add(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name] += n
}

func (s *states) most(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name] = max(s.counts[name], n)
}

func (s *states) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// watch looks at what only shows while it happens, until ctx ends.
func (r *run) watch(ctx context.Context) {
	const every = 250 * time.Millisecond
	leader := ""
	for ; ctx.Err() == nil; pause(ctx, every) {
		if c := r.site.consumer(ctx); c != nil {
			r.states.most("redeliveries", int(c.Delivered.Consumer)-int(c.Delivered.Stream)) //nolint:gosec // counts of messages
		}
		if now := r.site.leader(ctx); r.plan.Topology == R3 && now != "" {
			if leader != "" && now != leader {
				r.states.add("leader changes", 1)
			}
			leader = now
		}
	}
}

// readLogs counts what the workers and the alerters said.
func (r *run) readLogs() error {
	for _, k := range r.site.roles() {
		name := k.name
		f, err := os.Open(r.site.path(name + ".log"))
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.readLine(lines.Text())
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("read the log of %s: %w", name, err)
		}
	}
	return nil
}

func (r *run) readLine(line string) {
	if strings.Contains(line, "panic:") {
		r.states.add("panics", 1)
	}
	if !strings.Contains(line, "batch failed") {
		return
	}
	r.states.add("flushes rolled back and tried again", 1)
	for _, lost := range []string{"EOF", "connection reset", "broken pipe", "bad connection", "terminating connection", "i/o timeout", "unexpected message"} {
		if strings.Contains(line, lost) {
			r.states.add("connections lost in a flush", 1)
			break
		}
	}
	if strings.Contains(line, `"error":"commit:`) {
		r.states.add("commits with an unknown outcome", 1)
	}
}

// least is how often a state must be reached. A fault that the plan has must have been made, half as often as planned, rounded
// up: another fault may have had its target just then. What it must have led to is required where that is certain, or the plan has
// it often enough. And there is some of what the load itself brings.
func (p Plan) least() map[string]int {
	least := map[string]int{}
	faults := map[string]int{}
	for _, s := range p.Steps {
		faults[s.Fault]++
	}
	count := func(names ...string) (n int) {
		for _, name := range names {
			n += faults[name]
		}
		return n
	}
	for state, names := range faultStates() {
		if n := count(names...); n > 0 {
			least[state] = (n + 1) / 2
		}
	}
	demand := func(state string, certain bool, n int) {
		if certain || n >= 2 {
			least[state] = 1
		}
	}
	restarts := count("postgres-restart", "postgres-kill")
	demand("redeliveries", faults["worker-kill"] > 0, count("worker-stop", "consumer-reset"))
	demand("flushes rolled back and tried again", restarts > 0, count("postgres-terminate", "postgres-cancel"))
	demand("connections lost in a flush", false, restarts+faults["postgres-terminate"])
	demand("leader changes", faults["leader-stepdown"] > 0, 0)
	demand("leaders elected in place of one killed", faults["leader-kill"] > 0, 0)
	load := max(1, p.Events/40_000)
	least["messages stored twice"], least["dead letters"], least["alerts relayed"] = load, load, load
	least["alerts over all workers"] = load
	least["redelivered in the replay"] = load
	return least
}

// faultStates names what is counted when faults were made.
func faultStates() map[string][]string {
	return map[string][]string{
		"workers killed while messages were in hand": {"worker-kill"},
		"workers stopped past the ack wait":          {"worker-stop"},
		"workers terminated":                         {"worker-term"},
		"alerters killed":                            {"alerter-kill"},
		"alerters stopped":                           {"alerter-stop"},
		"Postgres restarts":                          {"postgres-restart", "postgres-kill"},
		"sessions of Postgres disturbed":             {"postgres-terminate", "postgres-cancel"},
		"NATS servers killed":                        {"nats-kill", "leader-kill"},
		"NATS servers stopped":                       {"nats-stop"},
		"leaders killed":                             {"leader-kill"},
		"leaders stepped down":                       {"leader-stepdown"},
		"connections cut":                            {"link-cut", "link-tear"},
		"pieces swallowed by links":                  {"link-hole"},
		"pieces held back by links":                  {"link-slow"},
		"publishers killed":                          {"publisher-kill"},
		"consumers reset":                            {"consumer-reset"},
		"ledger compactions":                         {"ledger-compact"},
		"disks filled":                               {"disk-full"},
	}
}

// missed are the states that were reached too rarely.
func (p Plan) missed(reached map[string]int) []string {
	least := p.least()
	var missed []string
	for _, name := range slices.Sorted(maps.Keys(least)) {
		if reached[name] < least[name] {
			missed = append(missed, fmt.Sprintf("%s: %d, at least %d", name, reached[name], least[name]))
		}
	}
	return missed
}
