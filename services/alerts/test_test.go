package alerts

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testing runs `weir alerts test` and returns what it prints.
func runTest(t *testing.T, file string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notifiers.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := testCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "--notify", path))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTest_TriesEveryNotifierOrTheOneThatIsNamed(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + r.Header.Get("Weir-Test")
		if r.URL.Path == "/broken" {
			http.Error(w, "out of order", http.StatusServiceUnavailable)
		}
	}))
	defer receiver.Close()
	file := strings.ReplaceAll(`notifiers:
  broken: {type: webhook, url: URL/broken, allow: 127.0.0.1, match: {rules: tier-crossing}}
  well: {type: webhook, url: URL/well, allow: 127.0.0.1}
`, "URL", receiver.URL)
	out, err := runTest(t, file)
	if out != "well (webhook): accepted\n" || err == nil || !strings.Contains(err.Error(), "test notifier broken: ") || !strings.Contains(err.Error(), "503 Service Unavailable: out of order") {
		t.Errorf("printed %q, %v", out, err)
	}
	if first, second := <-asked, <-asked; first != "/broken true" || second != "/well true" {
		t.Errorf("asked %s, %s", first, second)
	}
	if out, err = runTest(t, file, "--notifier", "well"); out != "well (webhook): accepted\n" || err != nil || len(asked) != 1 {
		t.Errorf("printed %q, %v; %d were asked", out, err, len(asked))
	}
	if _, err = runTest(t, file, "--notifier", "wel"); err == nil || !strings.Contains(err.Error(), "there are: broken, well") {
		t.Errorf("of one that there is not: %v", err)
	}
	if _, err = runTest(t, strings.ReplaceAll(file, "tier-crossing", "tier")); err == nil || !strings.Contains(err.Error(), `notifiers.yaml:2: notifier "broken": match: there is no rule "tier"`) {
		t.Errorf("of a rule that there is not: %v", err)
	}
}
