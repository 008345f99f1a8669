package chaos

import (
	"fmt"
	"math/rand/v2"
)

// failpoints is the environment that lets a worker end at a step of the protocol, each time after some batches.
// The first worker is left alone.
func failpoints(seed uint64, worker int) []string {
	if worker == 0 {
		return nil
	}
	steps := []string{"fetched", "decoded", "batch-numbered", "delta-written", "pages-claimed", "claimed", "committed", "some-acked", "acked"}
	r := rand.New(rand.NewPCG(seed, uint64(2000+worker))) //nolint:gosec // a small number
	return []string{fmt.Sprintf("WEIR_FAILPOINTS=%s:%d=exit", steps[r.IntN(len(steps))], 5+r.IntN(26))}
}
