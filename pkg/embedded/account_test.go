package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPostgres_OpensItsOwnPrivateDirectoryToTheServer(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	dir := tempDir(t) // mode 0700, like mktemp -d
	closePostgres(t, startTestPostgres(t, PostgresConfig{Dir: dir}))
	want := map[string]os.FileMode{"": 0o700, "postgres": 0o700, "postgres/data": 0o700, "postgres/password": 0o600}
	if os.Geteuid() == 0 {
		want[""] = 0o711
	}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("mode of %q = %o, want %o", name, got, mode)
		}
	}
}

func TestPostgres_NamesTheParentItMayNotEnter(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL as another user")
	}
	parent := tempDir(t)
	_, err := StartPostgres(t.Context(), PostgresConfig{Dir: filepath.Join(parent, "weir")})
	if err == nil || !strings.Contains(err.Error(), "may not enter "+parent+":") || !strings.Contains(err.Error(), "/var/lib") {
		t.Errorf("error = %v, want one that names %s and a better place", err, parent)
	}
	if info, err := os.Stat(parent); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the parent was changed: %v, %v", info.Mode(), err)
	}
}
