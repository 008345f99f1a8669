package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"weir/pkg/store"
)

func TestReplay_OfTheRealLogsGivesTheOraclesNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		log     string
		workers int
		batch   string // messages: small, so that no worker can take everything at once
		again   bool
	}{{nasaLog, 1, "200", false}, {elasticLog, 4, "40", true}} {
		t.Run(fmt.Sprintf("%d workers", c.workers), func(t *testing.T) {
			t.Parallel()
			want := readOracle(t, c.log)
			i := up(t, "WEIR_WORKER_BATCH_MESSAGES="+c.batch, "--workers", strconv.Itoa(c.workers))
			until(t, "all workers to be there", func() bool { return strings.Count(i.stderr.String(), `"worker folds"`) == c.workers })
			first := start(t, "replay", "--nats", i.nats, "--batch", "50", c.log)
			first.succeeds()
			reportsMalformed(t, first.stderr.String(), c.log, want)
			i.drain(t)
			want.check(t, i)
			if t.Failed() || !c.again {
				return
			}
			// The events come in other messages now, which the stream takes; the ledger must not.
			weir(t, "replay", "--nats", i.nats, "--batch", "37", c.log)
			i.drain(t)
			want.check(t, i)
			if t.Failed() {
				t.Error("these differences came with the second replay")
			}
			sharesTheWork(t, i, c.workers)
		})
	}
}

// reportsMalformed: each malformed line of the log is on standard error, with its number, and no other.
func reportsMalformed(t *testing.T, stderr, log string, o *oracle) {
	t.Helper()
	if got := strings.Count(stderr, ": malformed: "); got != o.Malformed {
		t.Errorf("%d lines are reported as malformed, want %d:\n%s", got, o.Malformed, stderr)
	}
	for _, line := range o.MalformedLines {
		if want := fmt.Sprintf("%s:%d: malformed: ", log, line.Line); !strings.Contains(stderr, want) {
			t.Errorf("no %q on standard error:\n%s", want, stderr)
		}
	}
}

// sharesTheWork: every worker has folded something in its own shard, or the test shows less than its name says.
func sharesTheWork(t *testing.T, i *instance, workers int) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: i.postgres})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	shards, err := db.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(shards) != workers {
		t.Errorf("got %d shards, want %d", len(shards), workers)
	}
	for _, s := range shards {
		if s.Events == 0 {
			t.Errorf("shard %s has folded nothing", s.ShardID)
		}
	}
}
