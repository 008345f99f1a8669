package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// kind is a fault that can be drawn.
type kind struct {
	name string
	help string
	r3   bool // only with three NATS servers
	draw func(d *draw, k kind) Step
}

// thing is what a fault of the kind lays hands on: no two faults at once do so to the same.
func (k kind) thing(target string) string {
	switch {
	case strings.HasPrefix(k.name, "postgres") || target == "postgres":
		return "postgres"
	case strings.HasPrefix(k.name, "nats"), k.name == "leader-kill", k.name == "consumer-reset", target == "nats":
		return "nats"
	}
	return target
}

// kinds are all faults.
func kinds() []kind {
	worker := func(least, most float64) func(*draw, kind) Step {
		return func(d *draw, _ kind) Step { return Step{Target: d.worker(), For: d.between(least, most)} }
	}
	alerter := func(least, most float64) func(*draw, kind) Step {
		return func(d *draw, _ kind) Step { return Step{Target: d.alerter(), For: d.between(least, most)} }
	}
	node := func(least, most float64) func(*draw, kind) Step {
		return func(d *draw, _ kind) Step { return Step{Target: d.node(), For: d.between(least, most)} }
	}
	plain := func(least, most float64) func(*draw, kind) Step {
		return func(d *draw, _ kind) Step { return Step{For: d.between(least, most)} }
	}
	return []kind{
		{name: "worker-kill", help: "kill -9 of a worker in the midst of a flush, or at least with messages in hand; started again", draw: worker(0.2, 3)},
		{name: "worker-stop", help: "SIGSTOP of a worker for longer than the consumer waits for acknowledgements", draw: worker(ackWait.Seconds()+0.5, 5)},
		{name: "worker-term", help: "SIGTERM of a worker, started again", draw: worker(0.2, 2)},
		{name: "alerter-kill", help: "kill -9 of an alerter, started again", draw: alerter(0.2, 3)},
		{name: "alerter-stop", help: "SIGSTOP of an alerter, which keeps what it has", draw: alerter(1, 4)},
		{name: "postgres-restart", help: "immediate shutdown of Postgres, and recovery", draw: plain(0.2, 2)},
		{name: "postgres-kill", help: "kill -9 of Postgres, and recovery", draw: plain(0.2, 2)},
		{name: "postgres-terminate", help: "pg_terminate_backend of all sessions of workers and alerters, several times", draw: plain(1, 3)},
		{name: "postgres-cancel", help: "pg_cancel_backend of all statements of workers and alerters, several times", draw: plain(1, 3)},
		{name: "nats-kill", help: "kill -9 of a NATS server, started again", draw: node(0.5, 3)},
		{name: "nats-stop", help: "SIGSTOP of a NATS server", draw: node(1, 4)},
		{name: "leader-kill", help: "kill -9 of the server that leads the stream, started again once another leads", r3: true, draw: plain(1, 2.5)},
		{name: "leader-stepdown", help: "the stream and the consumer get other leaders, several times", r3: true, draw: plain(2, 4)},
		{name: "link-cut", help: "a link is cut, and refuses", draw: linkFault},
		{name: "link-hole", help: "a link swallows everything, in one direction or both, without an error", draw: linkFault},
		{name: "link-slow", help: "a link is slow", draw: linkFault},
		{name: "link-tear", help: "a link is cut after some bytes, in the midst of a message, over and over", draw: linkFault},
		{name: "publisher-kill", help: "a publisher ends with messages under way, another starts, with what the former had spooled or not", draw: func(d *draw, _ kind) Step {
			return Step{Target: d.source(), For: time.Second}
		}},
		{name: "consumer-reset", help: "the consumer is deleted and provisioned anew: all is delivered again", draw: plain(1, 1)},
		{name: "ledger-compact", help: "the ledger is compacted, over and over", draw: plain(3, 5)},
		{name: "disk-full", help: "no room on the disk of NATS or Postgres (as root only: it mounts small file systems)", draw: func(d *draw, _ kind) Step {
			return Step{Target: []string{"nats", "postgres"}[d.random.IntN(2)], For: d.between(2, 4)}
		}},
	}
}

func linkFault(d *draw, k kind) Step {
	s := Step{Target: d.link(), For: d.between(1, 6)}
	switch k.name {
	case "link-hole":
		s.Way = d.way()
	case "link-slow":
		s.Delay = d.between(0.005, 0.3)
	case "link-tear":
		s.Way, s.Bytes = d.way(), 1+d.random.Int64N(40_000)
	}
	return s
}

// FaultHelp lists the faults, a line each.
func FaultHelp() string {
	var b strings.Builder
	for _, k := range kinds() {
		only := ""
		if k.r3 {
			only = "; " + R3 + " only"
		}
		fmt.Fprintf(&b, "  %-18s %s%s\n", k.name, k.help, only)
	}
	return b.String()
}

// selectFaults returns the names that cfg asks for: "all" is what the topology and the machine allow, "none" nothing.
func selectFaults(cfg Config) ([]string, error) {
	known := kinds()
	var names []string
	for _, name := range cfg.Faults {
		at := slices.IndexFunc(known, func(k kind) bool { return k.name == name })
		switch {
		case name == "none":
		case name == "all":
			for _, k := range known {
				if (!k.r3 || cfg.Topology == R3) && (k.name != "disk-full" || cfg.CanMount) {
					names = append(names, k.name)
				}
			}
		case at < 0:
			return nil, fmt.Errorf("no fault is named %q; there are all, none, and\n%s", name, FaultHelp())
		case known[at].r3 && cfg.Topology != R3:
			return nil, fmt.Errorf("fault %s needs --topology %s", name, R3)
		case name == "disk-full" && !cfg.CanMount:
			return nil, fmt.Errorf("fault %s mounts file systems, which this user may not", name)
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func kindsOf(names []string) []kind {
	return slices.DeleteFunc(kinds(), func(k kind) bool { return !slices.Contains(names, k.name) })
}
