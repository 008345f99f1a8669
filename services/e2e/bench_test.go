package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

// folding is what a report says of workers.
type folding struct {
	EventsPerSecond float64 `json:"events_per_s"`
	CPU             struct {
		Worker, NATS, Postgres float64
	} `json:"cpu_us_per_event"`
	WAL   float64 `json:"wal_bytes_per_event"`
	Rows  float64 `json:"rows_per_event"`
	Exact bool    `json:"exact"`
}

func TestBench_MeasuresAndComparesEverythingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	tmp, file := embeddedtest.Dir(t), filepath.Join(t.TempDir(), "bench.json")
	p := start(t, "TMPDIR="+tmp, "bench", "--events", "6000", "--batch", "20", "--workers", "2", "--runs", "1", "--live", "1s", "--history", "1000", "--json", file)
	if code := p.within(5 * patience); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	table := p.stdout.String()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Batch, Workers, Runs int
		Bare                 struct {
			EventsPerSecond float64 `json:"events_per_s"`
		}
		FullPack folding `json:"full_pack"`
		One      folding `json:"one_aggregation"`
		Live     struct {
			EventsPerSecond float64 `json:"events_per_s"`
			P50             float64 `json:"p50_ms"`
			P99             float64 `json:"p99_ms"`
			Probes          int
			Exact           bool
		}
		PeakRSS map[string]float64 `json:"peak_rss_mb"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if r.Batch != 20 || r.Workers != 2 || r.Runs != 1 || r.Bare.EventsPerSecond <= 0 {
		t.Errorf("got %+v", r)
	}
	for name, f := range map[string]folding{"full pack": r.FullPack, "one aggregation": r.One} {
		if f.EventsPerSecond <= 0 || f.WAL <= 0 || f.Rows <= 0 || !f.Exact {
			t.Errorf("%s: got %+v", name, f)
		}
		if _, err := os.Stat("/proc/self/stat"); err == nil && (f.CPU.Worker <= 0 || f.CPU.NATS <= 0 || f.CPU.Postgres <= 0) {
			t.Errorf("%s: CPU %+v", name, f.CPU)
		}
	}
	if l := r.Live; l.EventsPerSecond <= 0 || l.P50 <= 0 || l.P99 < l.P50 || l.Probes == 0 || !l.Exact {
		t.Errorf("live: got %+v", l)
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil && (r.PeakRSS["worker"] < 10 || r.PeakRSS["nats"] < 10 || r.PeakRSS["postgres"] < 10) {
		t.Errorf("peak memory, MB: %v", r.PeakRSS)
	}
	for _, want := range []string{"bare consumer", "full pack", "one aggregation", "events/s", "of the bare consumer", "exact", "p99", "peak memory"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	nothingLeft(t, tmp)
}

func TestBench_EndsEverythingWhenItIsStopped(t *testing.T) {
	t.Parallel()
	tmp := embeddedtest.Dir(t)
	p := start(t, "TMPDIR="+tmp, "bench", "--events", "20000", "--runs", "1000", "--measure", "bare,full-pack")
	until(t, "the first measurement", func() bool { return strings.Contains(p.stderr.String(), "run 1, full_pack: bare consumer") })
	p.signal(syscall.SIGINT)
	if code := p.within(patience); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(p.stderr.String(), "stopped before there was a result") {
		t.Errorf("it says:\n%s", p.stderr.String())
	}
	nothingLeft(t, tmp)
}

func TestBench_RefusesNonsense(t *testing.T) {
	t.Parallel()
	fails(t, 2, []string{"--workers must be from 1 to 64, it is 0", "--late must be from 0 to 1"}, "bench", "--workers", "0", "--late", "-0.5")
	fails(t, 2, []string{"--measure takes bare, full-pack, alerts, questions, one-aggregation, live"}, "bench", "--measure", "all")
}

// nothingLeft looks for files in the directory, and for processes that were told of it.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), dir) {
			t.Errorf("still runs: %s", strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
}

func TestBench_AsksQuestionsWhileWorkersFold(t *testing.T) {
	t.Parallel()
	tmp, file := embeddedtest.Dir(t), filepath.Join(t.TempDir(), "bench.json")
	p := start(t, "TMPDIR="+tmp, "bench", "--events", "6000", "--batch", "20", "--runs", "1", "--measure", "questions", "--questions", "20", "--json", file)
	if code := p.within(5 * patience); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Questions struct {
			Concurrent, Asked, Errors int
			Texts                     []string `json:"error_texts"`
			P50                       float64  `json:"p50_ms"`
			P99                       float64  `json:"p99_ms"`
			Exact                     bool
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if q := r.Questions; q.Concurrent != 20 || q.Asked < 20 || q.Errors != 0 || q.P50 <= 0 || q.P99 < q.P50 || !q.Exact {
		t.Errorf("got %+v", q)
	}
	if table := p.stdout.String(); !strings.Contains(table, "they slow folding by") {
		t.Errorf("got\n%s", table)
	}
	nothingLeft(t, tmp)
}
