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
// configured to take, and folds each of them once. The race detector takes memory of its own.
func TestMemory_OfAWorkerIsBoundedWhateverTheBacklog(t *testing.T) {
	t.Parallel()
	if os.Getenv(withRace) != "" {
		t.Skip("the program has the race detector, which takes memory of its own")
	}
	for _, tt := range []struct {
		memory, batch, events string
		most                  float64 // MB of the process, its program and all
	}{
		{"384MiB", "24MiB", "1000000", 600}, // the default
		{"192MiB", "12MiB", "200000", 300},
	} {
		t.Run(tt.memory, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bench.json")
			start(t, "TMPDIR="+embeddedtest.Dir(t), "WEIR_WORKER_MEMORY="+tt.memory, "WEIR_WORKER_BATCH_BYTES="+tt.batch, "bench", "--events", tt.events, "--batch", "100", "--workers", "1", "--runs", "1",
				"--measure", "full-pack", "--json", file).succeeds()
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
