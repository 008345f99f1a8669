package embeddedtest

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// Race measures runners that do the same, in turn: rates drift from minute to
// minute, ratios within a turn much less.
type Race struct {
	Server  *NATSProcess
	Of      int    // how many units each run handles
	Unit    string // what they are, e.g. msg
	Runners []Runner
	Between func() // before each run, not measured; or nil
	Settled func() // returns when the server has done what a run caused; not timed, but its CPU is measured; or nil
}

// Runner is one of a Race. The first one is compared with the others.
type Runner struct {
	Name string
	Run  func()
}

// result is of one run.
type result struct {
	took, client, server time.Duration // the last two are CPU time
	allocs               uint64
}

// Run runs one turn for each iteration of the benchmark, and reports medians for
// each runner: the rate, CPU time (µs) and allocations of a unit in this process, and the
// CPU time of the server; then, for each runner but the first, the first
// one's rate divided by its rate of the same turn ("of-<name>").
func (r Race) Run(b *testing.B) {
	b.Helper()
	turns := make([][]result, len(r.Runners))
	for turn := 0; b.Loop(); turn++ {
		for i := range r.Runners {
			i = (i + turn) % len(r.Runners) // none is always the first
			turns[i] = append(turns[i], r.measure(b, r.Runners[i].Run))
		}
	}
	b.ReportMetric(0, "ns/op")
	of := float64(r.Of)
	for i, runner := range r.Runners {
		report := func(name string, value func(turn int) float64) {
			values := make([]float64, len(turns[i]))
			for turn := range values {
				values[turn] = value(turn)
			}
			slices.Sort(values)
			b.ReportMetric(values[len(values)/2], name)
		}
		report(runner.Name+"-"+r.Unit+"/s", func(turn int) float64 { return of / turns[i][turn].took.Seconds() })
		report(runner.Name+"-µs/"+r.Unit, func(turn int) float64 { return float64(turns[i][turn].client.Microseconds()) / of })
		report(runner.Name+"-server-µs/"+r.Unit, func(turn int) float64 { return float64(turns[i][turn].server.Microseconds()) / of })
		report(runner.Name+"-allocs/"+r.Unit, func(turn int) float64 { return float64(turns[i][turn].allocs) / of })
		if i > 0 {
			report("of-"+runner.Name, func(turn int) float64 { return float64(turns[i][turn].took) / float64(turns[0][turn].took) })
		}
	}
}

func (r Race) measure(b *testing.B, run func()) result {
	b.Helper()
	if r.Between != nil {
		r.Between()
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	client, server, began := OwnCPU(), r.Server.CPU(b), time.Now()
	run()
	took := time.Since(began)
	if r.Settled != nil {
		r.Settled()
	}
	client, server = OwnCPU()-client, r.Server.CPU(b)-server
	runtime.ReadMemStats(&after)
	return result{took: took, client: client, server: server, allocs: after.Mallocs - before.Mallocs}
}
