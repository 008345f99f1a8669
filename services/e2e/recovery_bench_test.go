package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // to read how far the workers are

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	publisher "weir/pkg/gateway" // the package has a function gateway
	"weir/pkg/stream"
)

// recovery is three workers in processes of their own, a paced publisher, and
// what it takes to see how they do.
type recovery struct {
	b              *testing.B
	nats, postgres string
	dir            string
	db             *sql.DB
	publisher      *publisher.Publisher

	published int64 // events
	mu        sync.Mutex
	rate      float64 // events per second; 0: none are published
}

const (
	sampleEvery  = 100 * time.Millisecond
	sampleWindow = 5 // samples in which the rate is counted
	warmUpEvents = 100_000
)

// sample is how many events were folded at a time.
type sample struct {
	at     time.Time
	events int64
}

// BenchmarkRecovery measures what a kill -9 of a worker costs: see docs/performance.md. It asserts nothing about time,
// but that every event is counted once at the end.
func BenchmarkRecovery(b *testing.B) {
	for range b.N {
		r := newRecovery(b)
		r.measure()
	}
}

func (r *recovery) measure() {
	b := r.b
	r.publishNow(warmUpEvents)
	workers := []*exec.Cmd{r.worker("a"), r.worker("b"), r.worker("c")}
	capacity := rateOf(r.until(func(s []sample) bool { return s[len(s)-1].events == warmUpEvents }))
	r.pace(capacity / 2)
	r.watch(3 * time.Second) // until it runs evenly
	before := r.watch(10 * time.Second)
	rate := rateOf(before)
	r.kill(workers[0])
	after := r.watch(15 * time.Second)
	b.Logf("three workers fold %.0f events/s at most, %.0f now; before the kill %s below half of it, after it %s",
		capacity, rate, belowHalf(before, rate), belowHalf(append(before[len(before)-sampleWindow:], after...), rate))
	b.ReportMetric(belowHalf(after, rate).Seconds(), "s-below-half")

	r.kill(workers[1])
	r.pace(capacity / 6)
	r.watch(5 * time.Second)
	r.kill(workers[2])
	killed, last := time.Now(), r.folded().events
	lone := r.worker("c")
	back := r.until(func(s []sample) bool { return s[len(s)-1].events > last })
	b.Logf("a lone worker folds again %s after its kill", back[len(back)-1].at.Sub(killed).Round(time.Millisecond))
	b.ReportMetric(back[len(back)-1].at.Sub(killed).Seconds(), "s-until-lone-folds")

	begun := time.Now()
	r.pace(0)
	r.until(func(s []sample) bool { return s[len(s)-1].events == r.published })
	b.Logf("all that was in hand is folded %s later", time.Since(begun).Round(time.Millisecond))
	_ = lone.Process.Signal(syscall.SIGTERM)
	if err := lone.Wait(); err != nil {
		b.Errorf("the worker ends with: %v", err)
	}
	r.check()
}

// check compares the counts at every granularity with what was published.
func (r *recovery) check() {
	for _, per := range []string{"seconds", "minutes", "hours", "days", "months", "years"} {
		out := r.weir("query", "ApiVersionPerAppAgg", "--postgres", r.postgres, "--json", "--within", "1990-01-01,2200-01-01",
			"--per", per, "--group-by", "", "--select", "sum(totalRequestCount)")
		var answer struct {
			Rows [][]json.Number `json:"rows"`
		}
		if err := json.Unmarshal(out, &answer); err != nil {
			r.b.Fatalf("%v in %s", err, out)
		}
		var total int64
		for _, row := range answer.Rows {
			n, err := row[0].Int64()
			if err != nil {
				r.b.Fatal(err)
			}
			total += n
		}
		if total != r.published {
			r.b.Errorf("per %s: %d events are counted, %d were published", per, total, r.published)
		}
	}
}

func newRecovery(b *testing.B) *recovery {
	dependOnSources()
	r := &recovery{b: b, dir: embeddedtest.Dir(b), postgres: embeddedtest.PostgresServer(b).URL()}
	server, err := embedded.StartNATS(embedded.NATSConfig{Dir: filepath.Join(r.dir, "nats")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	r.nats = server.URL()
	r.weir("apply", "--nats", r.nats, "--postgres", r.postgres)
	if r.db, err = sql.Open("postgres", r.postgres); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.db.Close() })
	conn, err := stream.Connect(b.Context(), stream.Config{URL: r.nats})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	if r.publisher, err = publisher.NewPublisher(conn, publisher.PublisherConfig{Source: "gw-1", BatchEvents: 10}); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	var publishing sync.WaitGroup
	publishing.Go(func() { r.publish(ctx) })
	b.Cleanup(func() { stop(); publishing.Wait() })
	return r
}

// weir runs a command that must succeed, and returns what it prints.
func (r *recovery) weir(args ...string) []byte {
	r.b.Helper()
	cmd := exec.CommandContext(r.b.Context(), program, args...)
	cmd.Env, cmd.Stderr = r.env(), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		r.b.Fatalf("weir %s: %v", args[0], err)
	}
	return out
}

func (r *recovery) env() []string {
	return append(os.Environ(), "HOME="+r.dir, "XDG_STATE_HOME="+r.dir)
}

func (r *recovery) worker(shard string) *exec.Cmd {
	cmd := exec.Command(program, "worker", "--nats", r.nats, "--postgres", r.postgres, "--shard-id", shard, "--log-format", "json")
	var said output
	cmd.Env, cmd.Stdout, cmd.Stderr = r.env(), &said, &said
	if err := cmd.Start(); err != nil {
		r.b.Fatal(err)
	}
	r.b.Cleanup(func() {
		if cmd.ProcessState == nil {
			r.kill(cmd)
		}
		if r.b.Failed() {
			r.b.Logf("worker %s:\n%s", shard, tail(said.String()))
		}
	})
	return cmd
}

func (r *recovery) kill(worker *exec.Cmd) {
	_ = worker.Process.Kill()
	_ = worker.Wait() // signal: killed
}

func (r *recovery) pace(rate float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate = rate
	if rate > 0 {
		return
	}
	if err := r.publisher.Flush(r.b.Context()); err != nil {
		r.b.Fatal(err)
	}
}

// publish publishes at the pace given.
func (r *recovery) publish(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	due := 0.0
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		r.mu.Lock()
		due += r.rate * now.Sub(last).Seconds()
		for ; due >= 1 && r.rate > 0; due-- {
			r.publishOne(ctx, now)
		}
		r.mu.Unlock()
		last = now
	}
}

func (r *recovery) publishNow(events int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range events {
		r.publishOne(r.b.Context(), time.Now())
	}
	if err := r.publisher.Flush(r.b.Context()); err != nil {
		r.b.Fatal(err)
	}
}

func (r *recovery) publishOne(ctx context.Context, now time.Time) {
	event := fmt.Appendf(nil, `{"apiName":"api-%d","apiVersion":"1.0","applicationName":"app-%d","requestTimestamp":%d,"responseCode":200,"responseTime":%d}`,
		r.published%20, r.published%7, now.UnixMilli(), r.published%300)
	if err := r.publisher.Publish(ctx, "request", event); err != nil {
		r.b.Error(err)
	}
	r.published++
}

// folded asks how many events are folded.
func (r *recovery) folded() sample {
	var s sample
	if err := r.db.QueryRowContext(r.b.Context(), "SELECT coalesce(sum(events), 0) FROM weir.shard").Scan(&s.events); err != nil {
		r.b.Fatal(err)
	}
	s.at = time.Now()
	return s
}

// watch samples for a time.
func (r *recovery) watch(d time.Duration) []sample {
	end := time.Now().Add(d)
	return r.until(func(s []sample) bool { return s[len(s)-1].at.After(end) })
}

// until samples until the condition holds. What is the same as at the start is
// left out, so that the first sample is the last one before events are folded.
func (r *recovery) until(done func([]sample) bool) []sample {
	r.b.Helper()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	deadline := time.After(2 * patience)
	samples := []sample{r.folded()}
	for !done(samples) {
		select {
		case <-tick.C:
			samples = append(samples, r.folded())
		case <-deadline:
			r.b.Fatalf("waited too long: %d of %d events are folded", samples[len(samples)-1].events, r.published)
		}
	}
	return samples
}

// rateOf is in events per second, from the first to the last change.
func rateOf(samples []sample) float64 {
	first := 0
	for first+1 < len(samples) && samples[first+1].events == samples[0].events {
		first++
	}
	from, to := samples[first], samples[len(samples)-1]
	return float64(to.events-from.events) / to.at.Sub(from.at).Seconds()
}

// belowHalf is the longest time in which the rate of every window of 500 ms was
// below half of the rate given.
func belowHalf(samples []sample, rate float64) time.Duration {
	var longest time.Duration
	begun := time.Time{}
	for i := sampleWindow; i < len(samples); i++ {
		from, to := samples[i-sampleWindow], samples[i]
		if float64(to.events-from.events)/to.at.Sub(from.at).Seconds() >= rate/2 {
			begun = time.Time{}
			continue
		}
		if begun.IsZero() {
			begun = samples[i-1].at
		}
		longest = max(longest, to.at.Sub(begun))
	}
	return longest.Round(10 * time.Millisecond)
}
