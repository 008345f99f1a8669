package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/embedded/embeddedtest"
)

const (
	tickStream = `
stream: tick
time: at
attributes:
  at:   {type: time, unit: ms, description: when}
  name: {type: string, description: who}
aggregations:
`
	tickAggregation = `  NAME:
    group_by: [name]
    select: {n: count()}
    every: seconds, days
`
)

// definitions writes a directory of definitions with the aggregations.
func definitions(t *testing.T, names ...string) string {
	t.Helper()
	dir, text := t.TempDir(), tickStream
	for _, name := range names {
		text += strings.ReplaceAll(tickAggregation, "NAME", name)
	}
	if err := os.WriteFile(filepath.Join(dir, "tick.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// publishTicks stores messages numbered from … to, of one event each, and returns when the stream has them.
func publishTicks(t *testing.T, i *instance, from, to int) {
	t.Helper()
	conn, err := nats.Connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n <= to; n++ {
		body := fmt.Sprintf(`{"at":%d,"name":"n%d"}`, time.Date(2026, 1, 1+n%5, 0, 0, n, 0, time.UTC).UnixMilli(), n%3)
		if _, err := js.Publish(t.Context(), "events.tick.gw", []byte(body), jetstream.WithMsgID(fmt.Sprintf("gw/e/%d", n))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestApply_BackfillsAnAddedAggregationOnceTheOldWorkerEnds(t *testing.T) {
	t.Parallel()
	flags, i := servers(t)
	apply := func(dir string, more ...string) string {
		return weir(t, append(append([]string{"apply", "--streams", dir}, flags...), more...)...)
	}
	worker := func(dir, shard string) *process {
		return start(t, append([]string{"worker", "--streams", dir, "--shard-id", shard}, flags...)...)
	}
	one, two := definitions(t, "Ticks"), definitions(t, "Ticks", "Twin")
	if out := apply(one, "--backfill"); !strings.Contains(out, "backfill:  nothing to do: no aggregation is added to others") {
		t.Errorf("the first apply:\n%s", out)
	}
	acked := consumerOf(t, i)
	publish := func(from, to int) {
		publishTicks(t, i, from, to)
		until(t, "the ticks to be folded", func() bool { return acked().acked == uint64(to) }) //nolint:gosec // above 0
	}
	old := worker(one, "old")
	publish(1, 40)

	if out := apply(two, "--plan", "--backfill"); !strings.Contains(out, "backfill:  Twin from the stream: 40 messages since 20") {
		t.Errorf("the plan:\n%s", out)
	}
	backfill := start(t, append([]string{"apply", "--backfill", "--streams", two}, flags...)...)
	until(t, "the backfill to say for whom it waits", func() bool {
		return strings.Contains(backfill.stdout.String(), "waiting for workers without it to end: old (")
	})
	backfill.signal(syscall.SIGTERM)
	if code := backfill.within(stopTime); code != 1 || !strings.Contains(backfill.stderr.String(), "`weir apply --backfill` goes on with it") {
		t.Errorf("interrupted: exit code %d, want 1\n%s", code, backfill.stderr.String())
	}
	if out := apply(two); !strings.Contains(out, "the backfill of Twin is not complete: `weir apply --backfill` goes on with it") {
		t.Errorf("apply without the flag, after an interruption:\n%s", out)
	}
	worker(two, "fresh")
	publish(41, 60)
	old.stop()
	if out := apply(two, "--backfill"); !strings.Contains(out, "backfill:  Twin: complete: 60 messages read") {
		t.Errorf("the backfill:\n%s", out)
	}
	publish(61, 70)
	ask := func(name string) string {
		return weir(t, append([]string{"query", name, "--streams", two, "--postgres", i.postgres}, "--last", "87600h", "--per", "days")...)
	}
	if got, want := ask("Twin"), ask("Ticks"); strings.ReplaceAll(got, "Twin", "Ticks") != want || strings.Count(want, "2026-01-0") != 15 {
		t.Errorf("Twin has\n%s\nwant\n%s", got, want)
	}
	if out := apply(two, "--backfill"); !strings.Contains(out, "backfill:  nothing to do") {
		t.Errorf("once more:\n%s", out)
	}
}

func TestUp_BackfillsWhatItsDefinitionsAdd(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(embeddedtest.Dir(t), "data")
	total := func(i *instance, name string) int64 {
		sum := int64(0)
		for _, row := range i.ask(t, name, "within=2026-01-01,2026-02-01", "per=days", "group_by=", "select=sum(n)").Rows {
			sum += number(t, row[0])
		}
		return sum
	}
	before := upIn(t, dir, "--streams", definitions(t, "Ticks"))
	publishTicks(t, before, 1, 40)
	untilEvery(t, askTick, "40 ticks to be folded", func() bool { return total(before, "Ticks") == 40 })
	before.stop()
	after := upIn(t, dir, "--streams", definitions(t, "Ticks", "Twin"), "--backfill")
	until(t, "the backfill to be complete", func() bool { return strings.Contains(after.stderr.String(), "Twin: complete") })
	publishTicks(t, after, 41, 60)
	untilEvery(t, askTick, "60 ticks to be folded", func() bool { return total(after, "Ticks") == 60 })
	if got := total(after, "Twin"); got != 60 {
		t.Errorf("the added aggregation has %d ticks, want 60", got)
	}
}
