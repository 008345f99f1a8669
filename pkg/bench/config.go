package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"weir/pkg/stream"
)

// Measurements, in the order in which each run has them. Live ones come after the last run.
const (
	MeasureBare      = "bare"            // a consumer that only acknowledges
	MeasureFullPack  = "full-pack"       // workers with the built-in definitions
	MeasureAlerts    = "alerts"          // workers and an evaluator with the built-in definitions, and workers without rules
	MeasureQuestions = "questions"       // workers with the built-in definitions while the HTTP API is asked, and while it is not
	MeasureOne       = "one-aggregation" // workers with one aggregation of four granularities
	MeasureLive      = "live"            // from publish to queryable, with the built-in definitions
)

// Measurements lists all of them.
func Measurements() []string {
	return []string{MeasureBare, MeasureFullPack, MeasureAlerts, MeasureQuestions, MeasureOne, MeasureLive}
}

// Config says what to measure. [Default] has what is not given.
type Config struct {
	Program string    // path of the binary of weir
	Dir     string    // an empty directory, for everything; the caller removes it
	Out     io.Writer // is told how far it is, line by line
	// Step is called after each of the steps that take long, with how many there are; nil is not.
	Step func(steps int)

	Measure []string // of Measurements
	Runs    int
	Workers int // processes

	Events      int // of a run
	Batch       int // events in a message
	EventSize   int // bytes of an event, at least
	Cardinality float64
	Skew        float64
	Late        float64 // share of late events; negative: that of each load
	History     int     // events that are folded before the first run

	LiveFor  time.Duration
	LiveRate float64 // events a second; 0: half of what the full pack has reached

	Questions int // under way at a time, where they are measured

	SyncAlways bool // NATS writes each message to its disk before it acknowledges it
	// Provision is what the stream and the consumer are made with, and Worker the environment that workers get beside
	// what the measurement needs.
	Provision stream.Provision
	Worker    []string
}

// Default measures all but alerts and questions, three times.
func Default() Config {
	return Config{
		Out: io.Discard, Measure: []string{MeasureBare, MeasureFullPack, MeasureOne, MeasureLive}, Runs: 3, Workers: 1,
		Events: 1_000_000, Batch: 100, EventSize: 480, Cardinality: 1, Skew: 1, Late: -1,
		LiveFor: 10 * time.Second, Questions: 200,
	}
}

// most are limits above which a machine would only be filled up.
const (
	mostEvents  = 1_000_000_000
	mostWorkers = 64
	mostBatch   = 10_000
	mostBytes   = 2 << 20 // of a message, half of what the stream takes
)

// Problems is all that is wrong with the configuration, a sentence each, with the names of the flags.
func (c Config) Problems() (all []string) {
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	between := func(flag string, n, least, most int) {
		refuse(n < least || n > most, "%s must be from %d to %d, it is %d", flag, least, most, n)
	}
	between("--events", c.Events, 1_000, mostEvents)
	between("--batch", c.Batch, 1, mostBatch)
	between("--runs", c.Runs, 1, 1_000)
	between("--workers", c.Workers, 1, mostWorkers)
	between("--event-size", c.EventSize, 1, mostBytes)
	between("--history", c.History, 0, mostEvents)
	between("--questions", c.Questions, 1, 10_000)
	refuse(c.EventSize > 0 && c.Batch > 1 && c.Batch*c.EventSize > mostBytes,
		"--batch %d times --event-size %d is more than %d bytes, the most of a message", c.Batch, c.EventSize, mostBytes)
	refuse(c.Events > 0 && c.Batch > c.Events, "--batch %d is more than --events %d: there would be no full message", c.Batch, c.Events)
	refuse(!(c.Cardinality >= 0.01 && c.Cardinality <= 100), "--cardinality must be from 0.01 to 100 times the usual number of keys, it is %g", c.Cardinality)
	refuse(!(c.Skew >= 0 && c.Skew <= 5), "--skew must be from 0, which is even, to 5, it is %g", c.Skew)
	refuse(math.IsNaN(c.Late) || c.Late > 1, "--late must be from 0 to 1, the share of late events, it is %g", c.Late)
	for _, m := range c.Measure {
		refuse(!slices.Contains(Measurements(), m), "--measure takes %s, separated by commas; not %q", strings.Join(Measurements(), ", "), m)
	}
	refuse(len(c.Measure) == 0, "--measure must name one at least: %s", strings.Join(Measurements(), ", "))
	refuse(c.measures(MeasureAlerts) && !measurable(), "--measure alerts compares CPU, which is not measured on this system: it has no /proc")
	if c.measures(MeasureLive) {
		refuse(c.LiveFor < time.Second, "--live must be 1s at least, it is %s", c.LiveFor)
		refuse(!(c.LiveRate >= 0 && c.LiveRate <= 1e7), "--live-rate must be from 0, for half of the full pack's, to 10000000 events a second, it is %g", c.LiveRate)
		refuse(c.LiveRate == 0 && !c.measures(MeasureFullPack), "live goes at half of what the full pack reaches: measure full-pack too, or give --live-rate")
	}
	return all
}

func (c Config) measures(what string) bool { return slices.Contains(c.Measure, what) }

// many is the number of keys of some kind.
func (c Config) many(n int) int { return max(1, int(math.Round(float64(n)*c.Cardinality))) }

// lateOr is the share of late events, or that of the load.
func (c Config) lateOr(usual float64) float64 {
	if c.Late < 0 {
		return usual
	}
	return c.Late
}

// packBed reports whether the built-in definitions are measured on a full stream: by workers, or by the bare consumer,
// which takes another stream only if there is one anyway.
func (c Config) packBed() bool {
	return c.measures(MeasureFullPack) || c.measures(MeasureBare) && !c.measures(MeasureOne) && !c.measures(MeasureAlerts) && !c.measures(MeasureQuestions)
}

// steps is how many steps take long.
func (c Config) steps() int {
	steps := 0
	count := func(some bool, n int) {
		if some {
			steps += n
		}
	}
	one, bare := c.measures(MeasureOne), c.measures(MeasureBare)
	for _, bed := range []bool{c.packBed(), one, c.measures(MeasureAlerts), c.measures(MeasureQuestions)} {
		count(bed, 1)
	}
	count(c.packBed() && bare, c.Runs)
	count(c.measures(MeasureFullPack), c.Runs)
	count(c.measures(MeasureAlerts), c.Runs)
	count(c.measures(MeasureQuestions), c.Runs)
	count(one && bare, c.Runs)
	count(one, c.Runs)
	count(c.measures(MeasureLive), c.Runs)
	return steps
}
