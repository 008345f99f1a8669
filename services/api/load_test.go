package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/gateway"
	"weir/pkg/worker"
	"weir/services/httpserver"
	"weir/services/metrics"
	"weir/services/wire"
)

// 200 ask at the same time, while workers of the same process fold
// what is published: nobody is refused, and in the end every event is counted.
//
//nolint:paralleltest // it takes all that the machine has, and the others wait for answers too
func TestServe_AnswersTwoHundredWhileEventsAreFolded(t *testing.T) {
	cfg, catalog, db, conn := connected(t)
	provision(t, cfg, catalog, db, conn)
	bound, err := wire.Bind(t.Context(), catalog, db)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := httpserver.URL(listener)
	ctx, stop := context.WithCancel(t.Context())
	roles, ctx := errgroup.WithContext(ctx)
	roles.Go(func() error { return Serve(ctx, listener, catalog, db, conn, metrics.New("api"), zap.NewNop()) })
	for _, shard := range []string{"w1", "w2"} {
		w := worker.New(worker.Config{ShardID: shard, Owner: "test", Messages: 200, Bytes: 1 << 20, Linger: 10 * time.Millisecond}, bound, db, conn, zap.NewNop())
		roles.Go(func() error { return w.Run(ctx) })
	}
	simulator := gateway.NewSimulator(gateway.SimulatorConfig{Source: "gw", Rate: 300, Record: true})
	publisher, err := gateway.NewPublisher(conn, gateway.PublisherConfig{Source: "gw"})
	if err != nil {
		t.Fatal(err)
	}
	simulate, enough := context.WithCancel(ctx)
	simulated := make(chan error, 1)
	go func() { simulated <- simulator.Run(simulate, publisher) }()

	took := askedByMany(t, base, 200, 1)
	enough()
	if err := <-simulated; err != nil && simulate.Err() == nil {
		t.Fatal(err)
	}
	if err := publisher.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var published int64
	for what, n := range simulator.Expected() {
		if what.Type == gateway.TypeRequest {
			published += n
		}
	}
	t.Logf("%d answers while %d requests were folded; half of them within %v, 99 %% within %v", len(took), published, took[len(took)/2], took[len(took)*99/100])
	if published == 0 {
		t.Error("nothing was published meanwhile")
	}
	counted := fmt.Sprintf(`"rows":[`+"\n"+`[%d]]`, published)
	const all = "/api/v1/aggregations/ApiVersionPerAppAgg?within=2020-01-01,2100-01-01&per=years&group_by=&select=totalRequestCount"
	for deadline, body := time.Now().Add(30*time.Second), ""; !strings.Contains(body, counted); {
		if _, body = read(t, base+all); time.Now().After(deadline) {
			t.Fatalf("published were %d requests, counted are %s", published, body)
		}
	}
	stop()
	if err := roles.Wait(); err != nil {
		t.Error(err)
	}
}

// askedByMany has so many clients ask so many questions each, one after the other, and
// returns how long the answers took, sorted.
func askedByMany(t *testing.T, base string, clients, each int) []time.Duration {
	t.Helper()
	const aggregation = "/api/v1/aggregations/ApiVersionPerAppAgg?within=2020-01-01,2100-01-01"
	questions := []string{
		aggregation + "&per=hours&group_by=bucket,apiName",
		aggregation + "&per=seconds&group_by=bucket&format=csv",
		aggregation + "&per=minutes&group_by=apiName&format=ndjson&order_by=totalRequestCount+desc&limit=10",
		"/api/v1/aggregations/ApiVersionPerAppAgg?within=2020-01-01,2100-01-01&per=days&join=ApiFaultyInvocationAgg&group_by=",
		"/api/v1/shards", "/api/v1/availability", "/api/v1/alerts?limit=10", "/api/v1/catalogue",
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		took []time.Duration
	)
	for n := range clients {
		all.Go(func() {
			for turn := range each {
				begun := time.Now()
				err := askOnce(t.Context(), client, base+questions[(n+turn)%len(questions)])
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

func askOnce(ctx context.Context, client *http.Client, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil || response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %d %.300s %w", address, response.StatusCode, body, err)
	case strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") && !json.Valid(body):
		return fmt.Errorf("%s: %.300s", address, body)
	}
	return nil
}
