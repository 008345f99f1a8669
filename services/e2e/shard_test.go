package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

// listed is a shard as `weir shard list --json` prints it.
type listed struct {
	ShardID string `json:"shard_id"`
	State   string `json:"state"`
	Events  int64  `json:"events"`
	Behind  int    `json:"levels_behind"`
	Levels  int    `json:"levels"`
}

// shards lists the shards by id.
func (i *instance) shards(t *testing.T) map[string]listed {
	t.Helper()
	all := map[string]listed{}
	for line := range strings.Lines(weir(t, "shard", "list", "--json", "--postgres", i.postgres)) {
		var s listed
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all[s.ShardID] = s
	}
	return all
}

// publish publishes request events and waits until they are counted.
func (i *instance) publish(t *testing.T, n int) {
	t.Helper()
	p, address := gateway(t, i)
	for range n {
		if status, answer := post(t, address+"/api/v1/events/request", requestEvent("calc", "")); status != http.StatusAccepted {
			t.Fatalf("got %d %s, want 202", status, answer)
		}
	}
	p.stop()
	i.drain(t)
}

// byShard is how many request events each shard has.
func (i *instance) byShard(t *testing.T) map[string]int64 {
	t.Helper()
	return i.sums(t, "ApiVersionPerAppAgg", "shard_id", "totalRequestCount")
}

func TestShard_IsListedMergedRenamedAndRetired(t *testing.T) {
	t.Parallel()
	i := up(t, "--workers", "0")
	shard := func(args ...string) []string {
		return append(append([]string{"shard"}, args...), "--postgres", i.postgres)
	}
	want := func(when string, counts map[string]int64) {
		t.Helper()
		if got := i.byShard(t); !maps.Equal(got, counts) {
			t.Errorf("%s: got %v, want %v", when, got, counts)
		}
	}
	a := i.worker(t, "a")
	i.publish(t, 3)
	fails(t, 1, []string{`shard "a" is live`, "stop that worker first"}, shard("retire", "a")...)
	a.kill()
	bee := i.worker(t, "bee")
	i.publish(t, 2)
	list := i.shards(t)
	if a := list["a"]; len(list) != 2 || a.State != "idle" || a.Events != 3 || a.Behind == 0 || a.Levels < a.Behind || list["bee"].State != "live" {
		t.Errorf("after a kill: %+v", list)
	}
	if status, body := get(t, i.http+"/api/v1/shards"); status != http.StatusOK || !strings.Contains(body, `"shard_id":"a","state":"idle"`) {
		t.Errorf("the API: got %d %s", status, body)
	}

	fails(t, 1, []string{`there is no shard "bea"; did you mean bee?`}, shard("merge", "a", "--into", "bea")...)
	fails(t, 1, []string{`there is no shard "no-such-shard"`, "weir shard list"}, shard("retire", "no-such-shard")...)
	fails(t, 2, []string{`"into" not set`}, shard("merge", "a")...)
	merged := weir(t, shard("merge", "a", "--into", "bee")...)
	for _, want := range []string{"rolled up ", "from shard a to bee", " messages, 3 events, 0 dead letters", "removed shard a"} {
		if !strings.Contains(merged, want) {
			t.Errorf("no %q in what merge says:\n%s", want, merged)
		}
	}
	i.publish(t, 1)
	want("merged while bee was live", map[string]int64{"bee": 6})
	bee.stop()

	if said := weir(t, shard("rename", "bee", "w1")...); !strings.Contains(said, "6 events") {
		t.Errorf("rename says:\n%s", said)
	}
	want("renamed", map[string]int64{"w1": 6})
	weir(t, shard("retire", "w1")...)
	fails(t, 1, []string{"weir shard unretire w1"}, "worker", "--nats", i.nats, "--postgres", i.postgres, "--shard-id", "w1")
	if text := weir(t, shard("list")...); !strings.Contains(text, "retired") || !strings.Contains(text, "complete") {
		t.Errorf("list says:\n%s", text)
	}
	weir(t, shard("unretire", "w1")...)
	w1 := i.worker(t, "w1")
	i.publish(t, 1)
	want("written again", map[string]int64{"w1": 7})
	w1.stop()
}

func TestWorkers_ShareAPoolOfShards(t *testing.T) {
	t.Parallel()
	i := up(t, "--workers", "0")
	pool := []string{"worker", "--nats", i.nats, "--postgres", i.postgres, "--shard-pool", "2"}
	fails(t, 2, []string{"worker.shard_pool", "worker.shard_id", "--shard-id"}, append(pool, "--shard-id", "x")...)
	workers := []*process{start(t, pool...), start(t, append([]string{"WEIR_WORKER_SHARD_POOL_NAME=pool"}, pool...)...)}
	untilEvery(t, askTick, "two shards to be live", func() bool {
		list := i.shards(t)
		return list["pool-1"].State == "live" && list["pool-2"].State == "live"
	})
	fails(t, 1, []string{"all 2 shards pool-1 to pool-2", "--shard-pool"}, pool...)
	i.publish(t, 2)
	for _, w := range workers {
		w.kill()
	}
	// Those that start anew take the shards of those that were killed.
	start(t, pool...)
	i.publish(t, 1)
	if list := i.shards(t); len(list) != 2 || list["pool-1"].Events+list["pool-2"].Events != 3 {
		t.Errorf("got %+v", list)
	}
}

// Rows are stored by shard in any case: what partition_by_id switches on is
// there for the rows of before, with the shards that really wrote them.
func TestPartitionByID_SwitchedOnKeepsEveryRowAndItsShard(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(embeddedtest.Dir(t), "data")
	i := upIn(t, dir, "--workers", "0", "--partition-by-id=false")
	for n, id := range []string{"a", "b"} {
		w := i.worker(t, id, "WEIR_PARTITION_BY_ID=false")
		i.publish(t, 2+n)
		w.stop()
	}
	if got := i.requests(t); got != 5 {
		t.Errorf("switched off: %d events, want 5", got)
	}
	asked := i.question("ApiVersionPerAppAgg", ever, "per=years", "group_by=shard_id", "select=shard_id,sum(totalRequestCount)")
	if status, body := get(t, asked); status != http.StatusBadRequest || !strings.Contains(body, "partition_by_id is false") {
		t.Errorf("switched off, by shard: got %d %s", status, body)
	}
	i.stop()

	i = upIn(t, dir, "--workers", "0")
	if got := i.byShard(t); !maps.Equal(got, map[string]int64{"a": 2, "b": 3}) {
		t.Errorf("switched on: got %v", got)
	}
	i.worker(t, "a")
	i.publish(t, 4)
	if got := i.byShard(t); !maps.Equal(got, map[string]int64{"a": 6, "b": 3}) {
		t.Errorf("switched on, and written: got %v", got)
	}
	for _, per := range []string{"seconds", "minutes", "hours", "days", "months", "years"} {
		total := i.ask(t, "ApiVersionPerAppAgg", ever, "per="+per, "group_by=", "select=sum(totalRequestCount)")
		if len(total.Rows) != 1 || number(t, total.Rows[0][0]) != 9 {
			t.Errorf("per %s: got %v, want 9", per, total.Rows)
		}
	}
}
