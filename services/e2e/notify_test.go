package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// webhook is a receiver of notifications, and the file that names it as one of alerts of both scopes.
func webhook(t *testing.T) (file string, told chan alert) {
	t.Helper()
	told = make(chan alert, 10_000)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var a alert
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			t.Errorf("a notification is no alert: %v", err)
		}
		select {
		case told <- a:
		default: // nobody looks at so many
		}
	}))
	t.Cleanup(receiver.Close)
	file = filepath.Join(t.TempDir(), "notifiers.yaml")
	text := "notifiers:\n  hook: {type: webhook, url: " + receiver.URL + ", allow: [127.0.0.1], match: {scope: both}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, told
}

func TestUp_TellsNotifiers(t *testing.T) {
	t.Parallel()
	file, told := webhook(t)
	i := up(t, "--notify", file)
	_, address := gateway(t, i, "--source", "edge")
	if status, answer := post(t, address+"/api/v1/events/request", requestEvent("calc", `,"responseTime":9000`)); status != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", status, answer)
	}
	until(t, "the webhook to be told", func() bool { return len(told) > 0 || !i.running() })
	if a := <-told; a.Rule != slow || a.Value != 9000 || a.Key["apiName"] != "calc" {
		t.Errorf("told of %+v", a)
	}
}

func TestDemo_TellsNotifiers(t *testing.T) {
	t.Parallel()
	file, told := webhook(t)
	p, temporary := demo(t, "--rate", "1000", "--notify", file)
	until(t, "the webhook to be told", func() bool { return len(told) > 0 || !p.running() })
	p.signal(syscall.SIGINT)
	endsWell(t, p, temporary)
}

// What is wrong with the file ends the start, before any server is started.
func TestUp_RefusesAFileOfNotifiersThatIsWrong(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "notifiers.yaml")
	if err := os.WriteFile(file, []byte("notifiers:\n  hook: {type: webhok}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"up", "demo"} {
		p := start(t, role, "--notify", file)
		if code := p.within(patience); code == 0 || !strings.Contains(p.stderr.String(), `unknown type "webhok"`) {
			t.Errorf("%s: exit code %d\n%s", role, code, p.stderr.String())
		}
	}
}
