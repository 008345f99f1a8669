//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

// A worker that comes to a backlog of a million events of many different groups takes about what it is
// configured to take, and folds each of them once: with 100 events a message, and with one, where what is remembered of each message
// counts. That takes long for a million of them, which WEIR_LONG=1 asks for (task test:long). The race detector takes memory of its own.
func TestMemory_OfAWorkerIsBoundedWhateverTheBacklog(t *testing.T) {
	t.Parallel()
	if os.Getenv(withRace) != "" {
		t.Skip("the program has the race detector, which takes memory of its own")
	}
	singles := "150000"
	if os.Getenv("WEIR_LONG") != "" {
		singles = "1000000"
	}
	for _, tt := range []struct {
		memory, batch  string
		message, total string  // events
		most           float64 // MB of the process, its program and all
	}{
		{"384MiB", "24MiB", "100", "1000000", 600}, // the default
		{"192MiB", "12MiB", "100", "200000", 300},
		{"384MiB", "24MiB", "1", singles, 600},
	} {
		t.Run(tt.memory+" with "+tt.message+" a message", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bench.json")
			p := start(t, "TMPDIR="+embeddedtest.Dir(t), "WEIR_WORKER_MEMORY="+tt.memory, "WEIR_WORKER_BATCH_BYTES="+tt.batch, "bench", "--events", tt.total, "--batch", tt.message,
				"--workers", "1", "--runs", "1", "--measure", "full-pack", "--json", file)
			if code := p.within(10 * patience); code != 0 {
				t.Fatalf("exit code %d:\n%s", code, tail(p.stderr.String()))
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r struct {
				FullPack folding            `json:"full_pack"`
				PeakRSS  map[string]float64 `json:"peak_rss_mb"`
			}
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f MB, %.0f events/s", r.PeakRSS["worker"], r.FullPack.EventsPerSecond)
			if !r.FullPack.Exact {
				t.Error("the counts are not exact")
			}
			if peak := r.PeakRSS["worker"]; peak < 10 || peak > tt.most {
				t.Errorf("the worker took %.0f MB, want at most %.0f", peak, tt.most)
			}
		})
	}
}
