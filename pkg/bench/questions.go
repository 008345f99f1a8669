package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"weir/pkg/stream"
)

const (
	answerPatience = 35 * time.Second       // the API gives up after 30 s
	readyEvery     = 100 * time.Millisecond // until the API is ready
	mostRefusals   = 5                      // texts of answers that are none, as many as are kept
)

// asked is what became of the questions of one run.
type asked struct {
	rate      [2]float64 // events/s with questions, and without
	cpu       [2]*CPU    // likewise; of workers and API as one
	latencies []time.Duration
	errors    int
	refusals  []string
	perSecond float64
	others    float64 // share of the machine that had nothing to do with it
	problems  []string
}

// questionsCost lets workers fold all that the stream has twice, while the API is asked and while it is not; each run
// another one first.
func (b *bed) questionsCost(ctx context.Context, number int) (*asked, error) {
	a := &asked{}
	order := []bool{true, false}
	if number%2 == 0 {
		slices.Reverse(order)
	}
	for _, ask := range order {
		if err := b.questionsRun(ctx, ask, a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// questionsRun is one of the two. The API runs in both.
func (b *bed) questionsRun(ctx context.Context, ask bool, a *asked) error {
	database := b.database()
	if err := b.postgres.create(ctx, database, b.name); err != nil {
		return err
	}
	if err := errors.Join(b.postgres.checkpoint(ctx), b.hold(ctx, stream.FoldConsumer)); err != nil {
		return err
	}
	workers, end, err := b.measured(ctx, database, &Memory{})
	if err != nil {
		return err
	}
	defer end()
	api, address, err := b.api(ctx, database)
	if err != nil {
		return err
	}
	defer api.kill()
	stop := func() {}
	if ask {
		stop = b.askAll(ctx, address, a)
		defer stop()
	}
	before, after, err := b.timed(ctx, stream.FoldConsumer, append(slices.Clone(workers), api))
	if err != nil {
		return err
	}
	stop()
	took := after.at.Sub(before.at).Seconds()
	n := 1
	if ask {
		n, a.others = 0, after.others(before)
	}
	a.rate[n] = float64(b.cfg.Events) / took
	a.cpu[n], _ = after.since(before, b.cfg.Events)
	if err := endAll(append(slices.Clone(workers), api)); err != nil {
		return err
	}
	problems, checked, err := b.check(ctx, database)
	if err != nil {
		return err
	}
	if levels := b.levels(); checked != levels {
		problems = append(problems, fmt.Sprintf("%d of %d levels were compared", checked, levels))
	}
	a.problems = append(a.problems, problems...)
	return b.postgres.drop(ctx, database)
}

// api starts the HTTP API, and returns when it is ready.
func (b *bed) api(ctx context.Context, database string) (*process, string, error) {
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("find a free port: %w", err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return nil, "", fmt.Errorf("find a free port: %w", err)
	}
	p, err := spawn("api", b.cfg.Program, filepath.Join(b.cfg.Dir, b.name, "api.log"), b.environment(database, b.used()), "api", "--http", address)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.kill()
			return nil, "", fmt.Errorf("wait for the API: %w", ctx.Err())
		case <-p.Done():
			return nil, "", p.failed()
		case <-tick.C:
		}
		if status, _, err := fetch(ctx, http.DefaultClient, "http://"+address+"/readyz"); err == nil && status == http.StatusOK {
			return p, "http://" + address, nil
		}
	}
}

// fetch reads an answer to its end.
func fetch(ctx context.Context, client *http.Client, address string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

// askAll keeps as many questions under way as are wanted, each asker its next one when it has an answer, until stop is called; that
// returns when the last answers are there, which count like all others.
func (b *bed) askAll(ctx context.Context, address string, a *asked) (stop func()) {
	n := b.cfg.Questions
	client := &http.Client{Timeout: answerPatience, Transport: &http.Transport{MaxIdleConns: n, MaxIdleConnsPerHost: n}}
	end := make(chan struct{})
	var mu sync.Mutex
	var askers sync.WaitGroup
	began := time.Now()
	for i := range n {
		random := rand.New(rand.NewPCG(uint64(i), 7)) //nolint:gosec // an index
		askers.Go(func() {
			for {
				select {
				case <-end:
					return
				case <-ctx.Done():
					return
				default:
				}
				sent := time.Now()
				status, body, err := fetch(ctx, client, address+b.question(random))
				took := time.Since(sent)
				refusal := ""
				switch {
				case err != nil:
					refusal = err.Error()
				case status != http.StatusOK || !bytes.Contains(body, []byte(`"complete_through"`)):
					refusal = fmt.Sprintf("status %d: %.200s", status, body)
				}
				mu.Lock()
				a.latencies = append(a.latencies, took)
				if refusal != "" && ctx.Err() == nil {
					a.errors++
					if len(a.refusals) < mostRefusals {
						a.refusals = append(a.refusals, refusal)
					}
				}
				mu.Unlock()
			}
		})
	}
	return sync.OnceFunc(func() {
		close(end)
		askers.Wait()
		client.CloseIdleConnections()
		a.perSecond = float64(len(a.latencies)) / time.Since(began).Seconds()
	})
}

// question is one that a page of a dashboard would ask, of the hour that ends now: of all APIs, or of one; these are drawn as the load
// draws those that it calls, for what is called more is looked at more.
func (b *bed) question(random *rand.Rand) string {
	of := fmt.Sprintf(`apiContext == "/api-%d/1.%d"`, b.generate.api.draw(random), b.generate.version.draw(random))
	kinds := []struct{ aggregation, per, by, measures, where string }{
		{"ApiVersionPerAppAgg", "minutes", "bucket", "sum(totalRequestCount)", ""},
		{"ApiVersionPerAppAgg", "minutes", "bucket", "sum(totalRequestCount)", of},
		{"ApiVersionPerAppAgg", "hours", "apiContext", "sum(totalRequestCount)", ""},
		{"ApiVersionPerAppAgg", "hours", "applicationId", "sum(totalRequestCount)", of},
		{"ApiResPathPerApp", "hours", "apiResourceTemplate,apiMethod", "sum(totalRequestCount)", of},
		{"ApiFaultyInvocationAgg", "minutes", "bucket", "sum(totalFaultCount)", of},
		{"ApiThrottledOutAgg", "minutes", "bucket", "sum(throttledOutCount)", of},
		{"ApiUserBrowserAgg", "days", "browser", "sum(totalRequestCount)", of},
	}
	k := kinds[random.IntN(len(kinds))]
	until := time.Now() // the events were made so that their time ends about now
	values := url.Values{
		"within": {fmt.Sprintf("%d,%d", until.Add(-time.Hour).UnixMilli(), until.UnixMilli())}, "per": {k.per},
		"group_by": {k.by}, "select": {k.by + "," + k.measures},
	}
	if k.where != "" {
		values.Set("where", k.where)
	}
	return "/api/v1/aggregations/" + k.aggregation + "?" + values.Encode()
}

// QuestionsResult is of questions over HTTP that were under way while workers folded what the stream had, as fast as they can.
type QuestionsResult struct {
	Concurrent int      `json:"concurrent"` // at every moment
	Asked      int      `json:"asked"`      // in all runs
	Errors     int      `json:"errors"`     // among them: no answer, or one that is not 200 or not whole
	Refusals   []string `json:"error_texts,omitempty"`
	PerSecond  float64  `json:"answers_per_s"`
	P50        float64  `json:"p50_ms"`
	P99        float64  `json:"p99_ms"`
	Most       float64  `json:"max_ms"`
	// Rates are events/s with questions and without, and Slowed the share that folding lost, of the two of one run.
	Rates [2]float64 `json:"events_per_s"`
	// CPU is what processes took while they folded, likewise; the API's is among the workers'. It says more than the rates where others use the machine.
	CPU     [2]*CPU  `json:"cpu_us_per_event"`
	Slowed  float64  `json:"slowed"`
	Spread  Spread   `json:"slowed_spread"`
	Others  float64  `json:"used_by_others"`
	Exact   bool     `json:"exact"`
	Problem []string `json:"problems,omitempty"`
}

func questionsResult(all []*asked, concurrent int) *QuestionsResult {
	if len(all) == 0 {
		return nil
	}
	r := &QuestionsResult{Concurrent: concurrent, Exact: true}
	var slowed []float64
	var latencies []time.Duration
	for _, a := range all {
		slowed, latencies = append(slowed, 1-a.rate[0]/a.rate[1]), append(latencies, a.latencies...)
		r.Errors += a.errors
		r.Refusals = append(r.Refusals, a.refusals...)
		r.Exact = r.Exact && len(a.problems) == 0
		r.Problem = append(r.Problem, a.problems...)
	}
	r.Asked = len(latencies)
	r.P50, r.P99, r.Most = rounded(millis(percentile(latencies, 50))), rounded(millis(percentile(latencies, 99))), rounded(millis(percentile(latencies, 100)))
	r.Slowed, r.Spread = median(slowed), spreadOf(slowed)
	r.PerSecond = median(each(all, func(a *asked) float64 { return a.perSecond }))
	r.Others = median(each(all, func(a *asked) float64 { return a.others }))
	for i := range r.Rates {
		r.Rates[i] = median(each(all, func(a *asked) float64 { return a.rate[i] }))
		r.CPU[i] = medianCPU(each(all, func(a *asked) *CPU { return a.cpu[i] }))
	}
	return r
}
