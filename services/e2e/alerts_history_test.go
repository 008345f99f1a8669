package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What people do about an alert, by the API and by the database.
func TestAlerts_AreShownAcknowledgedSilencedAndOnTheBoard(t *testing.T) {
	t.Parallel()
	i := up(t)
	_, address := gateway(t, i, "--source", "edge")
	stream, err := http.Get(i.http + "/api/v1/alerts/stream?after=0") //nolint:gosec // an address of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Body.Close() })
	now := time.Now().UnixMilli()
	for n, fields := range []string{`,"responseTime":9000`, `,"responseTime":9`} {
		body := fmt.Sprintf(`{"apiName":"shop-%d","apiVersion":"1","apiCreatorTenantDomain":"t%d","requestTimestamp":%d,"responseCode":200%s}`, n, n, now, fields)
		if status, answer := post(t, address+"/api/v1/events/request", body); status != http.StatusAccepted {
			t.Fatalf("got %d %s, want 202", status, answer)
		}
	}
	i.drain(t)

	events := bufio.NewScanner(stream.Body)
	var heard alert
	for heard.ID == "" && events.Scan() {
		if data, ok := strings.CutPrefix(events.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &heard); err != nil {
				t.Fatal(err)
			}
		}
	}
	if heard.Key["apiName"] != "shop-0" {
		t.Fatalf("heard %+v, want the slow call of shop-0 (%v)", heard, events.Err())
	}

	api, database := []string{"--http", i.http}, []string{"--postgres", i.postgres}
	says := func(texts []string, from []string, args ...string) {
		t.Helper()
		got := strings.Join(strings.Fields(weir(t, append(append([]string{"alerts"}, args...), from...)...)), " ")
		for _, text := range texts {
			if !strings.Contains(got, text) {
				t.Errorf("weir alerts %s %s: no %q in\n%s", strings.Join(args, " "), from[0], text, got)
			}
		}
	}
	short := heard.ID[:8]
	for _, from := range [][]string{api, database} {
		says([]string{short, slow, "took 9000 ms"}, from, "list", "--key", "apiName=shop-0", "--since", "1h", "--state", "firing", "--severity", "2")
		says([]string{heard.ID, "apiName=shop-0", "published yes"}, from, "show", short)
		says([]string{"acknowledged by anna", "took 9000 ms"}, from, "ack", short, "--by", "anna", "--comment", "on it")
		says([]string{"by anna: on it"}, from, "show", short)
		says([]string{"until", slow + " apiName=shop-0"}, from, "silence", "--rule", slow, "--match", "apiName=shop-0", "--for", "2h", "--comment", "load test")
		says([]string{"load test"}, from, "silences")
		says([]string{"load test", `"silences":[{"id":`}, from, "show", short, "--json")
		says([]string{"shop-0", "high response time", slow, "shop-1", "1 available, 1 high response time, 0 server error, 0 silent"}, from, "board")
		says([]string{"shop-1 1 t1 available"}, from, "board", "--tenant", "t1", "--state", "available")
	}
	says([]string{"silence 1 has ended"}, api, "unsilence", "1")
	says([]string{"silence 2 has ended"}, database, "unsilence", "2")

	fails(t, 1, []string{"there is no alert"}, "alerts", "show", "nothing", "--http", i.http)
	fails(t, 1, []string{"there is no alert"}, "alerts", "ack", "nothing", "--postgres", i.postgres)
	fails(t, 1, []string{"there is no silence 1"}, "alerts", "unsilence", "1", "--http", i.http)
	for _, from := range [][]string{api, database} {
		fails(t, 2, []string{"did you mean apiName?"}, append([]string{"alerts", "silence", "--rule", slow, "--match", "apiname=x", "--for", "1h", "--comment", "x"}, from...)...)
		fails(t, 2, []string{"write it as NAME=VALUE"}, append([]string{"alerts", "--key", "apiName"}, from...)...)
		fails(t, 2, []string{"server error"}, append([]string{"alerts", "board", "--state", "down"}, from...)...)
	}
	fails(t, 2, []string{`"for"`}, "alerts", "silence", "--rule", slow, "--comment", "x")
	fails(t, 2, []string{`unknown command "shw"`}, "alerts", "shw", "x")

	if out := weir(t, "purge", "--postgres", i.postgres, "--alert-retention", "1ns"); !strings.Contains(out, "1 alerts and 0 silences deleted") {
		t.Errorf("weir purge: got %s", out)
	}
	asked := time.Now()
	i.stop() // while somebody follows
	if took := time.Since(asked); took > stopTime/2 {
		t.Errorf("it took %s to stop", took)
	}
	for events.Scan() {
		if text := events.Text(); strings.HasPrefix(text, "data:") && strings.Contains(text, `"scope":"local"`) { // global ones come later
			t.Errorf("heard %s", text)
		}
	}
	if err := events.Err(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}
