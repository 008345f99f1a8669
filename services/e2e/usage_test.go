package e2e

import (
	"net"
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
	if got := weir(t, "check"); !strings.HasPrefix(got, "ok: 4 streams, 15 aggregations, ") {
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
	fails(t, 2, []string{"no-such-directory"}, "check", "--streams", filepath.Join(dir, "no-such-directory"))
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
		{[]string{"demo", "--for", "0s"}, []string{"--for: 0s should be above 0"}},
		{[]string{"up", "--nats-listen", "nowhere"}, []string{`--nats-listen: "nowhere" should be host:port`}},
		{[]string{"up", "--postgres-listen", "127.0.0.1:99999"}, []string{"--postgres-listen", "0 to 65535"}},
		{[]string{"up", "--streams", file}, []string{"streams must be a directory", file}},
		{[]string{"config", "print", "--config", file + ".not"}, []string{"no such file"}},
		{
			[]string{"worker", "--nats", "nats://localhost", "--postgres", "postgres://localhost/weir", "--shard-id", ""},
			[]string{"--shard-id: worker.shard_id must not be empty"},
		},
		{[]string{"alerts", "--follow", "--nats", "nats://localhost:1", "--rule", "nope"}, []string{`--rule: there is no "nope"; there are: abnormal-`}},
		{[]string{"alerts", "--postgres", "postgres://localhost:1/weir", "--scope", "moon"}, []string{`--scope: there is no "moon"; there are: local, global`}},
		{[]string{"query"}, []string{"weir query --help"}},
	} {
		fails(t, 2, c.texts, c.args...)
	}
}

func TestUsage_OneSetOfFlagsFitsAllRoles(t *testing.T) {
	t.Parallel()
	flags := []string{"--nats", "nats://localhost:1", "--postgres", "postgres://localhost:1/weir"}
	for _, role := range []string{"check", "version"} {
		weir(t, append([]string{role}, flags...)...)
	}
	fails(t, 1, []string{"connect to NATS"}, append([]string{"gateway"}, flags...)...)
}

func TestUsage_ClientsSayThatNothingRuns(t *testing.T) {
	t.Parallel()
	for _, c := range [][]string{
		{"query", "ApiVersionPerAppAgg", "--last", "1h", "--per", "hours"},
		{"alerts"},
		{"deadletters", "list"},
		{"thresholds", "list"},
	} {
		// Nothing listens at the default address, unless this machine runs a weir of its own.
		if listens(t, "127.0.0.1:8080") {
			t.Skip("something listens at the default address of the API")
		}
		fails(t, 1, []string{"no running instance found on this machine; start `weir up` or give --http URL"}, c...)
	}
}

func TestUsage_HelpNamesTheDirectoryThatIsUsed(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	if help := weir(t, "XDG_STATE_HOME="+state, "up", "--help"); !strings.Contains(help, `(default "`+filepath.Join(state, "weir")+`")`) {
		t.Errorf("got:\n%s", help)
	}
}

// listens reports whether a server listens at the address.
func listens(t *testing.T, address string) bool {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
