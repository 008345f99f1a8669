// Package embeddedtest gives tests real servers: NATS inside the test process, and a private PostgreSQL
// from the programs found on the machine.
//
// A test binary that uses Postgres should end its cluster in TestMain:
//
//	func TestMain(m *testing.M) { embeddedtest.Main(m) }
//
// Without it the cluster ends with the process all the same, but its files stay until a later test run
// clears them away.
package embeddedtest

import (
	"context"
	"os"
	"testing"
	"time"

	"weir/pkg/embedded"
)

// timeout bounds each start, stop and statement; a loaded machine needs some seconds for a first start.
const timeout = 2 * time.Minute

// NATS starts a NATS server with JetStream for this test alone, on a free port with an empty store,
// and returns its URL. It ends with the test.
func NATS(t testing.TB) string {
	t.Helper()
	n, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n.URL()
}

// Postgres returns the URL of an empty database for this test alone, in the one cluster that the test
// binary shares; it is dropped with the test. With -short the test is skipped; without PostgreSQL it fails
// and says how to install it. The cluster does not sync its writes: it forgets in a power cut, not in a crash.
func Postgres(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	return dropAfter(t, func() (*database, error) { return shared.createDatabase("") })
}

// PostgresLike is Postgres, and the database is a copy of one that prepare filled. The first test of the
// binary that gives the key has that made, for all that give it; prepare must close its connections. To copy
// the tables of the default pack takes a quarter of the time of making them.
func PostgresLike(t testing.TB, key string, prepare func(url string) error) string {
	t.Helper()
	skipIfShort(t)
	return dropAfter(t, func() (*database, error) {
		template, err := shared.template(key, prepare)
		if err != nil {
			return nil, err
		}
		return shared.createDatabase(" TEMPLATE " + template)
	})
}

// dropAfter makes a database that is dropped with the test, and returns its URL.
func dropAfter(t testing.TB, create func() (*database, error)) string {
	t.Helper()
	made, err := create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.run("DROP DATABASE " + made.name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return made.url
}

// Dir makes an empty directory, for Weir's data directory to be it or in it, and removes it with the test.
// Unlike that of t.TempDir, its way is open to the user PostgreSQL runs as where the tests run as root.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-dir-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// PostgresServer starts a durable PostgreSQL server for this test alone, to be closed and started again by
// it (embedded.StartPostgres with the server's Config). It ends with the test.
func PostgresServer(t testing.TB) *embedded.Postgres {
	t.Helper()
	skipIfShort(t)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: Dir(t), Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres; run without -short")
	}
}
