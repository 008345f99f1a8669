package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestVersion_IsALine(t *testing.T) {
	t.Parallel()
	if got := weir(t, "version"); !strings.HasPrefix(got, "weir ") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestCheck_SaysWhereADefinitionIsWrong(t *testing.T) {
	t.Parallel()
	if got := weir(t, "check"); !strings.HasPrefix(got, "ok: 3 streams, 12 aggregations, ") {
		t.Errorf("the built-in definitions: got %q", got)
	}
	pack, err := filepath.Glob("../../streams/*.yaml")
	if err != nil || len(pack) == 0 {
		t.Fatalf("no definitions: %v", err)
	}
	dir := t.TempDir()
	for _, path := range pack {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "request.yaml" {
			text = []byte(strings.Replace(string(text), "group_by: [apiContext, country, city]", "group_by: [apiContext, cuntry, city]", 1))
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broken := filepath.Join(dir, "request.yaml")
	text, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	fails(t, 1, []string{lineOf(t, broken, string(text), "cuntry"), "country"}, "check", "--streams", dir)
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	fails(t, 1, []string{filepath.Join(dir, "alerts.yaml") + ":", "request"}, "check", "--streams", dir)
	fails(t, 1, []string{"no-such-directory"}, "check", "--streams", filepath.Join(dir, "no-such-directory"))
}

// lineOf is path:line of the first line with the word.
func lineOf(t *testing.T, path, text, word string) string {
	t.Helper()
	before, _, found := strings.Cut(text, word)
	if !found {
		t.Fatalf("no %s in %s", word, path)
	}
	return path + ":" + strconv.Itoa(1+strings.Count(before, "\n"))
}

func TestConfig_IsPrintedWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("nats:\n  url: nats://gw:hidden-1@nats.example:4222\npostgres:\n  max_open: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := weir(t, "WEIR_POSTGRES_URL=postgres://weir:hidden-2@db.example/weir?password=hidden-3", "WEIR_POSTGRES_MAX_IDLE=3",
		"config", "print", "--config", file, "--shard-id", "w9")
	for _, want := range []string{"nats.example:4222", "db.example", "max_open: 7", "max_idle: 3", "w9", file + ":4", "WEIR_POSTGRES_MAX_IDLE", "--shard-id"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "hidden") {
		t.Errorf("a password is shown:\n%s", out)
	}
}

func TestUsage_WrongSettingsAreRefusedWithWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("log:\n  level: info\nnats:\n  ulr: nats://localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		texts []string
	}{
		{[]string{"worker", "--nast", "x"}, []string{"unknown flag: --nast", "weir worker --help"}},
		{[]string{"WEIR_NATS_ULR=nats://localhost", "config", "print"}, []string{"WEIR_NATS_ULR", "WEIR_NATS_URL"}},
		{[]string{"config", "print", "--config", file}, []string{file + ":4", "nats.ulr", "nats.url"}},
		{[]string{"WEIR_CONFIG=" + file, "check"}, []string{file + ":4"}},
		{[]string{"wrker"}, []string{`unknown command "wrker"`, "worker"}},
		{
			[]string{"worker", "--nats", "nats://localhost", "--postgres", "postgres://localhost/weir", "--shard-id", "abcdefghijklmnopqrstu"},
			[]string{"at most 20 characters", "has 21"},
		},
		{[]string{"worker", "--nats", "nats://localhost:1"}, []string{"--postgres", "WEIR_POSTGRES_URL"}},
		{[]string{"up", "--workers", "-1"}, []string{"--workers: -1 should be 0 to 64"}},
		{[]string{"up", "--retention", "none"}, []string{"--retention", "definitions or all"}},
		{[]string{"demo", "--rate", "0"}, []string{"--rate"}},
		{[]string{"query"}, []string{"weir query --help"}},
	} {
		fails(t, 2, c.texts, c.args...)
	}
}
