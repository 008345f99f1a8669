package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"weir/pkg/dashboard"
	"weir/pkg/definition"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
	"weir/streams"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// hostile is a name that would run if any page took it for HTML, an attribute
// or a script.
const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}` + "\u202e</table>`"

// The time of the tests: events happen in the four hours before now.
func now() time.Time   { return time.Date(2026, 3, 10, 12, 30, 0, 0, time.UTC) }
func began() time.Time { return now().Add(-4 * time.Hour) }

// call is one event, as the oracle knows it.
type call struct {
	kind               string // request, fault or throttle
	at                 time.Time
	api, version       string
	tenant, app        string
	resource, method   string
	code               int // of a request
	response, size     int64
	cached, above      bool
	user, agent        string
	faultCode, reason  string
	backend, mediation int64
}

func (c call) context() string { return "/t/" + c.tenant + "/" + c.api + "/" + c.version }

// calls are some thousand, the same every time.
func calls() []call {
	r := rand.New(rand.NewPCG(7, 7))
	apis := [][2]string{{"pizza", "1.0"}, {"pizza", "2.0"}, {hostile, "1.0"}, {"a/b c&d=e?f#g", "v1"}, {"..", "1"}, {"quiet", "1.0"}}
	for i := range 20 {
		apis = append(apis, [2]string{fmt.Sprintf("api-%02d", i), "1.0"})
	}
	agents := []string{"Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0", "curl/8.1", hostile}
	var all []call
	for range 3000 {
		of := apis[min(r.IntN(len(apis)), r.IntN(len(apis)))]
		c := call{
			kind: "request", at: began().Add(time.Duration(r.Int64N(int64(4 * time.Hour)))).Truncate(time.Millisecond),
			api: of[0], version: of[1], tenant: []string{"one.example", "two.example"}[r.IntN(2)], app: fmt.Sprint("app ", r.IntN(8)),
			resource: fmt.Sprintf("/things/%d", r.IntN(5)), method: []string{"GET", "POST"}[r.IntN(2)],
			code: []int{200, 200, 200, 201, 304, 404, 404, 401, 500, 503}[r.IntN(10)], response: 5 + r.Int64N(2000), size: r.Int64N(9000),
			cached: r.IntN(5) == 0, above: r.IntN(9) == 0, user: fmt.Sprint("user ", r.IntN(15)), agent: agents[r.IntN(3)],
		}
		c.mediation = r.Int64N(5)
		c.backend = c.response - c.mediation
		switch r.IntN(20) {
		case 0:
			c.kind, c.faultCode = "fault", []string{"101503", "101508"}[r.IntN(2)]
		case 1:
			c.kind, c.reason = "throttle", []string{"SUBSCRIPTION_LIMIT_EXCEEDED", "APPLICATION_LIMIT_EXCEEDED"}[r.IntN(2)]
		}
		all = append(all, c)
	}
	return all
}

// body is the call as its gateway publishes it.
func (c call) body(t *testing.T) []byte {
	t.Helper()
	m := map[string]any{
		"apiName": c.api, "apiVersion": c.version, "apiContext": c.context(), "apiCreator": "creator", "apiCreatorTenantDomain": c.tenant,
		"apiResourceTemplate": c.resource, "apiMethod": c.method, "applicationId": c.app, "applicationName": "name of " + c.app,
		"username": c.user, "userTenantDomain": c.tenant,
	}
	switch c.kind {
	case "request":
		for name, value := range map[string]any{
			"applicationOwner": "owner", "apiResourcePath": c.resource, "apiHostname": "gw", "userIp": "192.0.2.1", "userAgent": c.agent,
			"requestTimestamp": c.at.UnixMilli(), "throttledOut": c.above, "responseTime": c.response, "serviceTime": c.mediation,
			"backendTime": c.backend, "responseCacheHit": c.cached, "responseSize": c.size, "responseCode": c.code,
			"destination": "https://backend.example/" + c.version, "backendLatency": c.backend, "requestMedLat": c.mediation,
		} {
			m[name] = value
		}
	case "fault":
		m["hostname"], m["errorCode"], m["errorMessage"], m["requestTimestamp"] = "gw", c.faultCode, "no route: "+hostile, c.at.UnixMilli()
	case "throttle":
		m["hostname"], m["throttledOutReason"], m["throttledOutTimestamp"], m["subscriber"] = "gw", c.reason, c.at.UnixMilli(), "owner"
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// site is a dashboard over a database that has folded the calls.
type site struct {
	*httptest.Server

	calls []call
}

func newSite(t *testing.T) site {
	t.Helper()
	catalog, db, conn := system(t)
	all := calls()
	for i, c := range all {
		subject := "events." + c.kind + ".gw"
		if _, _, err := conn.Publish(t.Context(), stream.Outgoing{Subject: subject, MsgID: fmt.Sprintf("gw/%s/%d", c.kind, i+1), Data: c.body(t)}); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, conn)
	server := query.Server{
		Catalog: catalog, DB: db, Now: now,
		State:   func(context.Context) (time.Time, error) { return now().Add(-time.Second), nil },
		OnError: func(request string, err error) { t.Errorf("%s: %v", request, err) },
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", query.NewHandler(server))
	mux.Handle("/", dashboard.Handler(dashboard.Config{Server: server, PanelTimeout: time.Minute}))
	s := site{httptest.NewServer(mux), all}
	t.Cleanup(s.Close)
	return s
}

// system is the whole line, with the default pack and one worker that folds.
func system(t *testing.T) (*definition.Catalog, *store.DB, *stream.Conn) {
	t.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{KeepAll: true})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{URL: embeddedtest.Postgres(t), MaxOpen: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	conn, err := stream.Connect(t.Context(), stream.Config{URL: embeddedtest.NATS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Provision(t.Context(), stream.Provision{AckWait: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	config := worker.Config{ShardID: "w1", Owner: "test", Messages: 500, Bytes: 1 << 20, Linger: 10 * time.Millisecond}
	go func() { ended <- worker.New(config, catalog, db, conn, zaptest.NewLogger(t)).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	return catalog, db, conn
}

func drain(t *testing.T, conn *stream.Conn) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // a loaded machine, with -race
	defer cancel()
	for {
		state, err := conn.State(ctx)
		if err == nil && state.Behind == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited four minutes until everything is folded (last error: %v)", err)
		case <-tick.C:
		}
	}
}
