package embeddedtest

import (
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded"
)

func TestMain(m *testing.M) { Main(m) }

// query runs SQL in the database at url and returns psql's unadorned output.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(shared.server.BinDir(), "psql"), "-XAtq", "-c", sql, url).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestPostgres_GivesEachTestAnEmptyDatabaseInOneCluster(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	hosts := make(chan string, 8)
	t.Run("databases", func(t *testing.T) {
		for range cap(hosts) {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				begun := time.Now()
				address := Postgres(t)
				t.Logf("database after %s", time.Since(begun))
				// Fails if another test made the table in the same database.
				query(t, address, "CREATE TABLE mine (x int)")
				u, err := url.Parse(address)
				if err != nil {
					t.Fatal(err)
				}
				hosts <- u.Host
			})
		}
	})
	first := <-hosts
	for range cap(hosts) - 1 {
		if next := <-hosts; next != first {
			t.Errorf("cluster at %s, another at %s; want one", first, next)
		}
	}
}

func TestPostgres_DropsTheDatabaseWithTheTest(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	var address string
	t.Run("inner", func(t *testing.T) { address = Postgres(t) })
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	count := query(t, shared.server.URL(), "SELECT count(*) FROM pg_database WHERE datname = '"+strings.TrimPrefix(u.Path, "/")+"'")
	if count != "0" {
		t.Errorf("database %s is still there", u.Path)
	}
}

func TestPostgresServer_StartsAgainAtTheSameURL(t *testing.T) {
	t.Parallel()
	first := PostgresServer(t)
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := embedded.StartPostgres(t.Context(), first.Config())
	if err != nil {
		t.Fatal(err)
	}
	if second.URL() != first.URL() {
		t.Errorf("URL = %s, want %s", second.URL(), first.URL())
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func BenchmarkPostgres_CreateDatabase(b *testing.B) {
	Postgres(b) // starts the cluster
	for b.Loop() {
		Postgres(b)
	}
}
