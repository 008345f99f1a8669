package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

// servers are NATS and Postgres as others run them: empty, and without weir.
func servers(t *testing.T) (flags []string, i *instance) {
	t.Helper()
	i = &instance{nats: embeddedtest.NATS(t), postgres: embeddedtest.PostgresServer(t).URL()}
	return []string{"--nats", i.nats, "--postgres", i.postgres}, i
}

func TestApply_PlansThenMakesThenLeavesUnchanged(t *testing.T) {
	t.Parallel()
	flags, i := servers(t)
	plan := weir(t, append([]string{"apply", "--plan"}, flags...)...)
	for _, want := range []string{"create stream EVENTS", "create stream ALERTS", "create consumer fold", "create aggregation ApiVersionPerAppAgg"} {
		if !strings.Contains(plan, want) {
			t.Errorf("no %q in the plan:\n%s", want, plan)
		}
	}
	if again := weir(t, append([]string{"apply", "--plan"}, flags...)...); again != plan {
		t.Errorf("a plan has changed something; now there is:\n%s\nbefore it was:\n%s", again, plan)
	}
	fails(t, 1, []string{"weir apply"}, append([]string{"worker"}, flags...)...)
	fails(t, 1, []string{"weir apply"}, "replay", "--nats", i.nats, accessLog(t, "early", 1))
	for _, c := range [][]string{
		{"query", "ApiVersionPerAppAgg", "--last", "1h", "--per", "hours"}, {"alerts"}, {"deadletters", "list"}, {"deadletters", "show", "1"}, {"thresholds", "list"},
	} {
		fails(t, 1, []string{"run `weir apply`"}, append(c, "--postgres", i.postgres)...)
	}

	if made := weir(t, append([]string{"apply"}, flags...)...); made != plan {
		t.Errorf("apply does other things than it planned:\n%s\nplanned:\n%s", made, plan)
	}
	again := weir(t, append([]string{"apply"}, flags...)...)
	for line := range strings.Lines(again) {
		if !strings.Contains(line, "unchanged") {
			t.Errorf("the second apply changes: %s", line)
		}
	}
	t.Run("then the roles run", func(t *testing.T) { runsAsRoles(t, flags, i) })
}

// runsAsRoles: two workers, an API and a gateway, each a process.
func runsAsRoles(t *testing.T, flags []string, i *instance) {
	i.worker(t, "a")
	healthyWorker(t, flags)
	api := start(t, append([]string{"api", "--http", "127.0.0.1:0", "--log-format", "json"}, flags...)...)
	until(t, "the API to serve", func() bool {
		for _, line := range api.stderr.lines() {
			var entry struct{ Msg, URL string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				i.http = entry.URL
			}
		}
		return i.http != "" || !api.running()
	})
	if status, body := get(t, i.http+"/readyz"); status != http.StatusOK {
		t.Fatalf("/readyz: status %d: %s", status, body)
	}
	weir(t, "healthcheck", i.http+"/readyz")
	_, address := gateway(t, i)
	for range 3 {
		if status, answer := post(t, address+"/api/v1/events/request", requestEvent("calc", "")); status != http.StatusAccepted {
			t.Errorf("got %d %s, want 202", status, answer)
		}
	}
	i.drain(t)
	if got := i.requests(t); got != 3 {
		t.Errorf("got %d events, want 3", got)
	}
	api.stop()
}

// healthyWorker starts a worker that can be asked for its health, and asks it.
func healthyWorker(t *testing.T, flags []string) {
	t.Helper()
	var health string
	p := start(t, append([]string{"worker", "--shard-id", "b", "--health", "127.0.0.1:0", "--log-format", "json"}, flags...)...)
	until(t, "the worker to tell where it answers for its health", func() bool {
		for _, line := range p.stderr.lines() {
			var entry struct{ Msg, URL string }
			if json.Unmarshal([]byte(line), &entry) == nil && strings.Contains(entry.Msg, "health") {
				health = entry.URL
			}
		}
		return health != "" || !p.running()
	})
	until(t, "the worker to be ready", func() bool { // it answers before it is connected
		status, _ := get(t, health+"/readyz")
		return status == http.StatusOK || !p.running()
	})
	for path, want := range map[string]string{"/healthz": `"status":"ok"`, "/readyz": `"nats":"ok","postgres":"ok"`} {
		if status, body := get(t, health+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %s, want 200 with %s", path, status, body, want)
		}
	}
	weir(t, "healthcheck", health+"/readyz")
}
