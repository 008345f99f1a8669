package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// mendDir is a folder of definitions in which the duration of a call is as given.
func mendDir(t *testing.T, ms string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`stream: request
time: requestTimestamp
attributes:
  requestTimestamp: {type: time, unit: ms}
  api: {type: string}
  ms: {%s}
aggregations:
  Calls:
    group_by: [api]
    select: {n: count(), total: sum(ms)}
    every: [seconds, hours, days, years]
    retention: {seconds: all, hours: all, days: all, years: all}
`, ms)
	if err := os.WriteFile(filepath.Join(dir, "request.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Events are sent that the definitions do not take; these are mended, and the
// dead letters folded after all, each once, whoever is killed meanwhile.
func TestDeadLetters_AreReplayedOnceTheDefinitionsAreMended(t *testing.T) {
	t.Parallel()
	before, after := mendDir(t, "type: int, required: true"), mendDir(t, "type: int, default: 5")
	i := up(t, "--workers", "0", "--streams", before)
	worker := func(dir, shard string) *process {
		return start(t, "worker", "--nats", i.nats, "--postgres", i.postgres, "--streams", dir, "--shard-id", shard)
	}
	letters := func(command string, args ...string) []string {
		return append([]string{"deadletters", command, "--postgres", i.postgres}, args...)
	}
	list := func(args ...string) int {
		return strings.Count(weir(t, letters("list", append(args, "--json")...)...), "\n")
	}
	counted := func() string {
		var all []string
		for _, per := range []string{"seconds", "hours", "days", "years"} {
			out := weir(t, "query", "Calls", "--postgres", i.postgres, "--streams", after, "--within", "2026-01-01,2027-01-01", "--per", per,
				"--select", "sum(n),sum(total)", "--group-by", "", "--csv")
			all = append(all, strings.Fields(out)[1])
		}
		return strings.Join(all, " ")
	}
	conn, err := nats.Connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	const good, mendable, hopeless = `{"requestTimestamp":1767225600000,"api":"pizza","ms":1}`, `{"requestTimestamp":1767225600000,"api":"pizza"}`, `{"api":"pizza","ms":1}`
	const messages = 30
	for n := range messages {
		_, err := js.Publish(t.Context(), "events.request.gw", []byte("["+good+","+mendable+","+hopeless+","+mendable+"]"), jetstream.WithMsgID(fmt.Sprintf("gw/e/%d", n+1)))
		if err != nil {
			t.Fatal(err)
		}
	}
	first := worker(before, "w1")
	untilEvery(t, askTick, "all to be folded or dead letters", func() bool { return list("--limit", "1000") == 3*messages && strings.HasPrefix(counted(), "30,30 ") })
	if got := list("--reason", "ms is missing"); got != 2*messages {
		t.Errorf("%d dead letters lack ms, want %d", got, 2*messages)
	}
	if got := list("--source", "other"); got != 0 {
		t.Errorf("%d dead letters of another source", got)
	}
	shown := weir(t, letters("show", "1")...)
	for _, text := range []string{"open", "ms is missing", "events.request.gw", "gw/e/1", "replays", `"api":"pizza"`} {
		if !strings.Contains(shown, text) {
			t.Errorf("no %q in:\n%s", text, shown)
		}
	}

	fails(t, 1, []string{"0 folded, 2 still bad (#1: ms is missing; #2: requestTimestamp is missing)"}, letters("replay", "1", "#2")...)
	first.stop()
	fails(t, 1, []string{"1 dead letter not taken up within 300ms", "weir shard list"}, letters("replay", "--wait", "300ms", "1")...)
	weir(t, "apply", "--nats", i.nats, "--postgres", i.postgres, "--streams", after)
	killed := worker(after, "w1")
	weir(t, letters("replay", "--wait", "0", "--reason", "ms is missing")...)
	until(t, "one to be folded", func() bool { return list("--state", "folded") > 0 })
	killed.kill()
	worker(after, "w1")
	worker(after, "w2")
	fails(t, 1, []string{" folded, 30 still bad (#", ": requestTimestamp is missing; ", "20 more in `weir deadletters list`"}, append(letters("replay", "--all"), "--wait", "2m")...)
	if got, want := counted(), "90,330 90,330 90,330 90,330"; got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
	fails(t, 1, []string{"#1 is folded already"}, letters("replay", "1")...)
	fails(t, 1, []string{"there is no dead letter 4711"}, letters("drop", "--yes", "4711")...)

	fails(t, 1, []string{"30 dead letters for good: say --yes"}, letters("drop", "--all")...)
	if out := weir(t, letters("drop", "--all", "--yes")...); out != "dropped 30 dead letters\n" {
		t.Errorf("drop: %s", out)
	}
	if out := weir(t, letters("replay", "--all")...); !strings.Contains(out, "nothing to replay") {
		t.Errorf("replay of what is dropped: %s", out)
	}
	if got, want := counted(), "90,330 90,330 90,330 90,330"; got != want {
		t.Errorf("counted %s after all, want %s", got, want)
	}
	if folded, dropped, open := list("--state", "folded"), list("--state", "dropped"), list(); folded != 60 || dropped != 30 || open != 0 {
		t.Errorf("%d dead letters are folded, %d dropped and %d open, want 60, 30 and 0", folded, dropped, open)
	}
	fails(t, 1, []string{"say which"}, letters("drop")...)
	fails(t, 1, []string{"did you mean open?"}, letters("list", "--state", "opn")...)
}
