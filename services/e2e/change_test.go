package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// salesDir is a folder of definitions with one aggregation over the stream of
// requests, of which the tests replay lines.
func salesDir(t *testing.T, groupBy, measures string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`stream: request
time: requestTimestamp
attributes:
  requestTimestamp: {type: time, unit: ms}
  api: {type: string}
  app: {type: string, default: none}
  ms: {type: int}
aggregations:
  Calls:
    group_by: [%s]
    select: {%s}
    every: [seconds, hours, days]
    retention: {seconds: all, hours: all, days: all}
`, groupBy, measures)
	if err := os.WriteFile(filepath.Join(dir, "request.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// callsFile is a file of n events, a second apart from a start of its own.
func callsFile(t *testing.T, day, n, ms int) string {
	t.Helper()
	var lines strings.Builder
	for i := range n {
		at := time.Date(2026, 3, day, 12, 0, i, 0, time.UTC)
		fmt.Fprintf(&lines, `{"requestTimestamp":%d,"api":"pizza","app":"app-%d","ms":%d}`+"\n", at.UnixMilli(), i%3, ms)
	}
	path := filepath.Join(t.TempDir(), fmt.Sprintf("calls-%d.jsonl", day))
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A definition gains a measure while a worker folds by the old one, then other
// group keys: no event is lost or doubled, old rows stay, and what must not be
// dropped by accident is not.
func TestApply_ChangesADefinitionUnderWorkers(t *testing.T) {
	t.Parallel()
	const count, slowest = "n: count()", "n: count(), slowest: max(ms)"
	first, second, third := salesDir(t, "api", count), salesDir(t, "api", slowest), salesDir(t, "api, app", slowest)
	i := up(t, "--workers", "0", "--streams", first)
	apply := func(dir string, more ...string) string {
		return weir(t, append([]string{"apply", "--nats", i.nats, "--postgres", i.postgres, "--streams", dir}, more...)...)
	}
	work := func(dir, shard string) *process {
		return start(t, "worker", "--nats", i.nats, "--postgres", i.postgres, "--streams", dir, "--shard-id", shard)
	}
	replay := func(day, n, ms int) { weir(t, "replay", "--nats", i.nats, callsFile(t, day, n, ms)) }
	ask := func(dir, name, columns string) string {
		return strings.Join(strings.Fields(weir(t, "query", name, "--postgres", i.postgres, "--streams", dir, "--within", "2026-03-01,2026-04-01",
			"--per", "days", "--select", columns, "--order-by", columns, "--csv")), " ")
	}
	folded := func(dir, name string, want string) {
		t.Helper()
		got := ""
		untilEvery(t, askTick, "to be folded: "+want, func() bool { got = ask(dir, name, "api,sum(n)"); return got == want })
	}

	before := work(first, "a")
	replay(1, 30, 7)
	folded(first, "Calls", "api,sum(n) pizza,30")
	if out := apply(second); !strings.Contains(out, "change aggregation Calls: add measure slowest") {
		t.Errorf("plan: %s", out)
	}
	replay(2, 20, 9) // by the worker that does not know the measure
	folded(second, "Calls", "api,sum(n) pizza,50")
	fails(t, 1, []string{"newer definition of Calls (measure slowest)"}, "worker", "--nats", i.nats, "--postgres", i.postgres, "--streams", first, "--shard-id", "late")
	before.kill()
	work(second, "a")
	replay(3, 10, 11)
	folded(second, "Calls", "api,sum(n) pizza,60")
	if got, want := ask(second, "Calls", "bucket,n,slowest"), "bucket,n,slowest 2026-03-01T00:00:00Z,30, 2026-03-02T00:00:00Z,20, 2026-03-03T00:00:00Z,10,11"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	if out := apply(third); !strings.Contains(out, "create version 2 of aggregation Calls") || !strings.Contains(out, "app string") {
		t.Errorf("plan: %s", out)
	}
	work(third, "b")
	replay(4, 40, 13) // by workers of both versions
	untilEvery(t, askTick, "both to have folded all", func() bool {
		var old, changed int
		_, _ = fmt.Sscanf(ask(third, "Calls@1", "api,sum(n)"), "api,sum(n) pizza,%d", &old)
		_, _ = fmt.Sscanf(ask(third, "Calls", "api,sum(n)"), "api,sum(n) pizza,%d", &changed)
		return old+changed == 100
	})
	plan := start(t, "apply", "--plan", "--destroy", "--nats", i.nats, "--postgres", i.postgres, "--streams", third)
	if code := plan.within(patience); code != 1 || !strings.Contains(plan.stdout.String(), "DROP aggregation Calls@1 with all its rows") ||
		!strings.Contains(plan.stderr.String(), "live workers roll it up: a (") {
		t.Errorf("plan with --destroy: exit code %d\n%s%s", code, plan.stdout.String(), plan.stderr.String())
	}
	if got := ask(third, "calls@1", "bucket,n"); !strings.Contains(got, "2026-03-01T00:00:00Z,30") {
		t.Errorf("the first version after a plan only: %s", got)
	}
}
