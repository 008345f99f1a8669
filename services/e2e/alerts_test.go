package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// alert is what a test looks at of one.
type alert struct {
	ID, Rule, Scope, State, Message string
	Key                             map[string]string
	Value                           float64
}

const slow = "abnormal-response-time"

func TestAlerts_TellOfASlowResponseAtOnceAndAfterwards(t *testing.T) {
	t.Parallel()
	i := up(t)
	_, address := gateway(t, i, "--source", "edge")
	follower := start(t, "alerts", "--follow", "--json", "--nats", i.nats, "--rule", slow)
	// A subscriber does not say since when it listens: publish, each time of another API, until it has heard one.
	published := 0
	until(t, "the follower to print an alert", func() bool {
		if len(follower.stdout.lines()) == 0 {
			published++
			event := requestEvent(fmt.Sprintf("api-%d", published), `,"responseTime":9000`)
			if status, answer := post(t, address+"/api/v1/events/request", event); status != http.StatusAccepted {
				t.Fatalf("got %d %s, want 202", status, answer)
			}
		}
		return len(follower.stdout.lines()) > 0 || !follower.running()
	})
	i.drain(t)

	status, body := get(t, i.http+"/api/v1/alerts?rule="+slow+"&scope=local&state=firing&limit=1000")
	var answer struct{ Alerts []alert }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s: %v", status, body, err)
	}
	if len(answer.Alerts) != published {
		t.Errorf("got %d alerts, want one for each of %d slow calls", len(answer.Alerts), published)
	}
	byID := map[string]alert{}
	for _, a := range answer.Alerts {
		byID[a.ID] = a
		if a.Rule != slow || a.Scope != "local" || a.State != "firing" || a.Value != 9000 || !strings.HasPrefix(a.Key["apiName"], "api-") {
			t.Errorf("got %+v", a)
		}
	}
	var heard alert
	if err := json.Unmarshal([]byte(follower.stdout.lines()[0]), &heard); err != nil {
		t.Fatal(err)
	}
	if stored, ok := byID[heard.ID]; !ok || stored.Message != heard.Message {
		t.Errorf("heard %+v, stored %+v", heard, stored)
	}
	follower.stop()
	if said := follower.stderr.String(); !strings.Contains(said, "following alerts.*."+slow+" from now on") {
		t.Errorf("weir alerts --follow: got %q", said)
	}

	for _, from := range [][]string{{"--http", i.http}, {"--postgres", i.postgres}} {
		table := weir(t, append([]string{"alerts", "--rule", slow, "--limit", "1000"}, from...)...)
		lines := strings.Split(strings.TrimSpace(table), "\n")
		if !strings.HasPrefix(lines[0], "fired_at ") {
			t.Errorf("weir alerts %s: no names of columns in %q", from[0], lines[0])
		}
		for n, a := range answer.Alerts { // the newest first
			if line := lines[len(lines)-1-n]; !strings.HasSuffix(line, a.Message) {
				t.Errorf("weir alerts %s: got %q where %q should be, the newest last", from[0], line, a.Message)
			}
		}
		if got := strings.Count(table, "took 9000 ms, more than 5000 ms"); got != published {
			t.Errorf("weir alerts %s: got %d alerts, want %d:\n%s", from[0], got, published, table)
		}
	}
	fails(t, 2, []string{slow}, "alerts", "--http", i.http, "--rule", "abnormal-response")
}
