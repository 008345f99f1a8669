package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
)

// instance is a running `weir up`.
type instance struct {
	*process
	dir                  string
	http, nats, postgres string
}

// up starts `weir up` in a directory of the test; arguments as for start, without "up".
func up(t *testing.T, args ...string) *instance {
	t.Helper()
	return upIn(t, filepath.Join(embeddedtest.Dir(t), "data"), args...)
}

// upIn starts `weir up` in the directory and waits for its URLs. No retention: the logs are old.
func upIn(t *testing.T, dir string, args ...string) *instance {
	t.Helper()
	env := 0
	for env < len(args) && strings.Contains(args[env], "=") {
		env++
	}
	command := append(args[:env:env], "up", "--dir", dir, "--retention", "all", "--log-format", "json")
	i := &instance{process: start(t, append(command, args[env:]...)...), dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			log, err := os.ReadFile(filepath.Join(dir, "postgres", "postgres.log"))
			t.Logf("the log of Postgres (%v):\n%s", err, tail(string(log)))
		}
	})
	until(t, "weir up to print three URLs", func() bool {
		return len(i.stdout.lines()) >= 3 || !i.running()
	})
	urls := i.stdout.lines()
	if len(urls) != 3 {
		t.Fatalf("weir up: got %q, want three URLs\n%s", urls, i.stderr.String())
	}
	i.http, i.nats, i.postgres = urls[0], urls[1], urls[2]
	return i
}

// worker starts a worker of its own process on the instance.
func (i *instance) worker(t *testing.T, shard string, env ...string) *process {
	t.Helper()
	return start(t, append(env, "worker", "--nats", i.nats, "--postgres", i.postgres, "--shard-id", shard)...)
}

// get asks the HTTP API and returns the status and the body.
func get(t *testing.T, address string) (int, string) {
	t.Helper()
	response, err := http.Get(address) //nolint:gosec // an address of the test
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// answer is what the API answers to a question.
type answer struct {
	Columns         []string  `json:"columns"`
	Rows            [][]any   `json:"rows"` // numbers as json.Number
	CompleteThrough time.Time `json:"complete_through"`
}

// parseAnswer reads an answer of the API or of `weir query --json`.
func parseAnswer(t *testing.T, text string) answer {
	t.Helper()
	var a answer
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&a); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return a
}

// question is the address of a question; parameters are name=value.
func (i *instance) question(name string, parameters ...string) string {
	values := url.Values{}
	for _, p := range parameters {
		name, value, _ := strings.Cut(p, "=")
		values.Set(name, value)
	}
	return i.http + "/api/v1/aggregations/" + name + "?" + values.Encode()
}

// ask asks an aggregation.
func (i *instance) ask(t *testing.T, name string, parameters ...string) answer {
	t.Helper()
	status, body := get(t, i.question(name, parameters...))
	if status != http.StatusOK {
		t.Fatalf("GET %s %q: status %d: %s", name, parameters, status, body)
	}
	return parseAnswer(t, body)
}

// ever is an interval around everything the tests publish.
const ever = "within=1990-01-01,2200-01-01"

// sums asks for the sum of a measure by one column.
func (i *instance) sums(t *testing.T, name, by, measure string, parameters ...string) map[string]int64 {
	t.Helper()
	parameters = append([]string{"group_by=" + by, fmt.Sprintf("select=%s,sum(%s)", by, measure), ever, "per=years"}, parameters...)
	sums := map[string]int64{}
	for _, row := range i.ask(t, name, parameters...).Rows {
		sums[fmt.Sprint(row[0])] += number(t, row[1])
	}
	return sums
}

// total asks for the sum of a measure over all rows.
func (i *instance) total(t *testing.T, name, measure string, parameters ...string) int64 {
	t.Helper()
	parameters = append([]string{"group_by=", "select=sum(" + measure + ")", ever, "per=years"}, parameters...)
	rows := i.ask(t, name, parameters...).Rows
	if len(rows) == 0 {
		return 0
	}
	return number(t, rows[0][0])
}

// requests is how many request events are counted.
func (i *instance) requests(t *testing.T, parameters ...string) int64 {
	t.Helper()
	return i.total(t, "ApiVersionPerAppAgg", "totalRequestCount", parameters...)
}

func number(t *testing.T, cell any) int64 {
	t.Helper()
	if cell == nil {
		return 0
	}
	n, err := cell.(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// drain waits until everything that the stream holds now is folded.
func (i *instance) drain(t *testing.T) {
	t.Helper()
	now := time.Now()
	untilEvery(t, askTick, "the answers to be complete", func() bool {
		// Of an interval with nothing in it, so that asking takes no time from the workers.
		return i.ask(t, "ApiVersionPerAppAgg", "within=1980-01-01,1980-01-02", "per=days").CompleteThrough.After(now)
	})
}
