package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// gateway starts `weir gateway` on the instance and returns the URL it takes events at.
func gateway(t *testing.T, i *instance, args ...string) (p *process, address string) {
	t.Helper()
	p = start(t, append([]string{"gateway", "--nats", i.nats, "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	until(t, "the gateway to listen", func() bool {
		for _, line := range p.stderr.lines() {
			var entry struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "gateway listens" {
				address = "http://" + entry.Address
			}
		}
		return address != "" || !p.running()
	})
	if address == "" {
		t.Fatalf("the gateway has ended:\n%s", p.stderr.String())
	}
	return p, address
}

// post sends a body of events to a gateway and returns status and answer.
func post(t *testing.T, address, body string, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func TestGateway_StoresWhatItAcceptsOnce(t *testing.T) {
	t.Parallel()
	i := up(t)
	p, address := gateway(t, i, "--source", "edge-1")
	event := requestEvent("calc", `,"apiHostname":"edge-1"`)
	for _, sent := range []struct {
		path, body string
		headers    []string
		status     int
		answer     string
	}{
		{"request", event, nil, 202, `"duplicate":false`},
		{"request", event, nil, 202, `"duplicate":false`}, // without a key it is another event
		{"request", "[" + event + "," + event + "]", []string{"Idempotency-Key: client-7/1"}, 202, `"duplicate":false`},
		{"request", "[" + event + "," + event + "]", []string{"Idempotency-Key: client-7/1"}, 202, `"duplicate":true`},
		{"request", event + "\n" + event + "\n", []string{"Content-Type: application/x-ndjson", "Idempotency-Key: client-7/2"}, 202, `"duplicate":false`},
		{"request", event, []string{"Idempotency-Key: 7"}, 400, "Idempotency-Key"},
		{"request", "", nil, 400, "empty"},
		{"a.b", event, nil, 400, "type"},
	} {
		status, answer := post(t, address+"/api/v1/events/"+sent.path, sent.body, sent.headers...)
		if status != sent.status || !strings.Contains(answer, sent.answer) {
			t.Errorf("POST %s %q %q: got %d %s, want %d with %s", sent.path, sent.headers, sent.body, status, answer, sent.status, sent.answer)
		}
	}
	i.drain(t)
	if got := i.requests(t); got != 6 {
		t.Errorf("got %d events counted, want 6", got)
	}
	p.stop()
}

func TestGateway_SimulatesTraffic(t *testing.T) {
	t.Parallel()
	i := up(t)
	p, _ := gateway(t, i, "--source", "made-up", "--simulate", "500")
	untilEvery(t, askTick, "the simulated events to be counted", func() bool { return i.requests(t, `where=apiHostname == "made-up"`) > 100 })
	p.stop()
	i.drain(t)
	generated, all := i.sums(t, "ApiVersionPerAppAgg", "label", "totalRequestCount"), i.requests(t)
	if generated["generated"] != all {
		t.Errorf("of %d events those labelled as generated are %v", all, generated)
	}
	if letters := deadLetters(t, i); len(letters) > 0 {
		t.Errorf("the gateway has published what cannot be folded: %+v", letters[0])
	}
}
