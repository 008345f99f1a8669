package e2e

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
)

// free returns an address at which nothing listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRoles_StartedBeforeTheServersWaitForThem(t *testing.T) {
	t.Parallel()
	dir, address := filepath.Join(embeddedtest.Dir(t), "data"), free(t)
	startNATS := func() *embedded.NATS {
		nats, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Listen: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nats.Close)
		return nats
	}
	startPostgres := func(cfg embedded.PostgresConfig) *embedded.Postgres {
		postgres, err := embedded.StartPostgres(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = postgres.Close(context.WithoutCancel(t.Context())) })
		return postgres
	}
	nats, postgres := startNATS(), startPostgres(embedded.PostgresConfig{Dir: dir})
	i := &instance{nats: nats.URL(), postgres: postgres.URL()}
	flags := []string{"--nats", i.nats, "--postgres", i.postgres}
	weir(t, append([]string{"apply"}, flags...)...)
	again := postgres.Config()
	nats.Close()
	if err := postgres.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	probe, api := "http://"+free(t), "http://"+free(t)
	roles := []*process{
		start(t, append([]string{"worker", "--shard-id", "w", "--health", strings.TrimPrefix(probe, "http://"), "--log-format", "json"}, flags...)...),
		start(t, append([]string{"api", "--http", strings.TrimPrefix(api, "http://"), "--log-format", "json"}, flags...)...),
	}
	for n, url := range []string{probe, api} {
		until(t, "a role to say that it waits for Postgres", func() bool {
			return strings.Contains(roles[n].stderr.String(), "waiting for Postgres") || !roles[n].running()
		})
		if status, _ := get(t, url+"/healthz"); status != http.StatusOK {
			t.Errorf("%s waits: /healthz answers %d", roles[n].name, status)
		}
		if status, body := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "not connected yet") {
			t.Errorf("%s waits: /readyz answers %d: %s", roles[n].name, status, body)
		}
	}
	if status, body := get(t, api+"/api/v1/aggregations"); status != http.StatusServiceUnavailable || !strings.Contains(body, "waits for Postgres and NATS") {
		t.Errorf("a question meanwhile: %d: %s", status, body)
	}
	startPostgres(again)
	for _, role := range roles {
		until(t, "a role to say that it waits for NATS", func() bool {
			return strings.Contains(role.stderr.String(), "waiting for NATS") || !role.running()
		})
	}
	startNATS()
	for n, url := range []string{probe, api} {
		until(t, "a role to be ready", func() bool {
			if !roles[n].running() {
				t.Fatalf("%s has ended", roles[n].name)
			}
			status, _ := get(t, url+"/readyz")
			return status == http.StatusOK
		})
	}
	i.http = api
	weir(t, "replay", "--nats", i.nats, "--no-progress", accessLog(t, "order", 3))
	i.drain(t)
	if got := i.requests(t); got != 3 {
		t.Errorf("got %d events, want 3", got)
	}
	for _, role := range roles {
		role.stop()
	}
}

func TestRoles_DoNotWaitForWhatWaitingCannotMend(t *testing.T) {
	t.Parallel()
	flags, i := servers(t)
	closed, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "weir", Password: "secret", NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	closed.Start()
	t.Cleanup(closed.Shutdown)
	if !closed.ReadyForConnections(patience) {
		t.Fatal("NATS does not start")
	}
	for _, role := range []string{"worker", "api"} {
		for _, c := range []struct{ nats, postgres, reason string }{
			{i.nats, strings.Replace(i.postgres, "weir:", "weir:wrong", 1), "password authentication failed"},
			{i.nats, strings.Replace(i.postgres, "/weir?", "/nobodys?", 1), "does not exist"},
			{closed.ClientURL(), i.postgres, "nats: Authorization Violation"},
		} {
			fails(t, 1, []string{c.reason}, role, "--nats", c.nats, "--postgres", c.postgres, "--log-level", "error")
		}
	}
	waiting := start(t, "worker", flags[0], "nats://127.0.0.1:1", flags[2], flags[3])
	until(t, "a worker to wait", func() bool { return strings.Contains(waiting.stderr.String(), "waiting for NATS") })
	waiting.stop()
}
