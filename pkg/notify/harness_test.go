package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pkg/alert"
	"weir/pkg/child"
	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/store"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// database is one of the test's own with Weir's tables.
func database(t *testing.T) string {
	t.Helper()
	return embeddedtest.PostgresLike(t, "migrated", func(url string) error {
		db, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), nil, store.PlanOptions{}), db.Close())
	})
}

func open(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func write(t *testing.T, db *store.DB, alerts ...alert.Alert) {
	t.Helper()
	if err := db.InTx(t.Context(), func(tx *store.Tx) error { return tx.WriteAlerts(t.Context(), alerts) }); err != nil {
		t.Fatal(err)
	}
}

func firing(id string) alert.Alert {
	return alert.Alert{
		ID: id, Rule: "abnormal-response-time", Scope: alert.ScopeGlobal, State: alert.Firing, Severity: 2,
		Key: map[string]string{"apiName": "Pizza " + id, "apiVersion": "1.0"}, Labels: map[string]string{"team": "food"},
		Details: map[string]string{"apiCreator": "alice"}, Message: "GET /menu of Pizza took 7000 ms, more than 5000 ms", Value: 7000, Threshold: 5000,
		Stakeholder: alert.Stakeholder{Role: alert.Publisher, User: "alice", Tenant: SuperTenant},
		FiredAt:     time.Now().UTC().Truncate(time.Millisecond).Add(-time.Minute),
	}
}

func resolved(of alert.Alert) alert.Alert {
	of.ID, of.FiringID, of.State, of.ResolvedAt = of.ID+"r", of.ID, alert.Resolved, of.FiredAt.Add(30*time.Second)
	return of
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute until %s", what)
		}
	}
}

// fast is the pace of tests: nothing is waited for longer than need be, and a
// process that is slow does not lose what it holds.
func fast() pace {
	p := defaultPace()
	p.poll, p.idle, p.backoff, p.most, p.silence = 10*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond, 20*time.Millisecond
	return p
}

// start runs a Sender; stop ends it and returns when it has ended.
func start(t *testing.T, db *store.DB, p pace, cfg Config) (stop func()) {
	t.Helper()
	s := New(db, cfg, zap.NewNop())
	s.pace = p
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it ends with stop, before the database does
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("the sender does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func nopLog() *zap.Logger { return zap.NewNop() }

// postgresServer is one of the test's own, to be stopped and started.
func postgresServer(t *testing.T) *embedded.Postgres {
	t.Helper()
	return embeddedtest.PostgresServer(t)
}

// restart stops the server, does meanwhile, and starts it again.
func restart(t *testing.T, server *embedded.Postgres, meanwhile func()) {
	t.Helper()
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	meanwhile()
	again, err := embedded.StartPostgres(t.Context(), server.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:usetesting // the test's has ended
		defer cancel()
		if err := again.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// received is what a receiver got: the request's header, and its body.
type received struct {
	header http.Header
	body   []byte
	alert  alert.Alert
}

// receiver is a web server that takes webhooks.
type receiver struct {
	url string

	mu     sync.Mutex
	answer func(n int, w http.ResponseWriter, r *http.Request) // n: of the request, from 1; nil: 200
	got    []received
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	re := &receiver{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		one := received{header: r.Header, body: body}
		_ = json.Unmarshal(body, &one.alert)
		re.mu.Lock()
		re.got = append(re.got, one)
		n, answer := len(re.got), re.answer
		re.mu.Unlock()
		if answer != nil {
			answer(n, w, r)
		}
	}))
	t.Cleanup(server.Close)
	re.url = server.URL
	return re
}

func (re *receiver) all() []received {
	re.mu.Lock()
	defer re.mu.Unlock()
	return append([]received{}, re.got...)
}

// ids are those of the alerts that came, in their order.
func (re *receiver) ids() (ids []string) {
	for _, one := range re.all() {
		ids = append(ids, one.alert.ID)
	}
	return ids
}

func thisMachine() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

var testSecret = NewSecret("0123456789abcdef")

func hook(name, url string) *Target {
	return &Target{Name: name, Type: "webhook", Timeout: time.Minute, Notifier: NewWebhook(WebhookConfig{URL: NewSecret(url), Secret: testSecret, Allow: thisMachine()})}
}

// manager is Debian's Alertmanager, in a process of its own.
type manager struct{ url string }

var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

func startManager(t *testing.T) *manager {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Alertmanager; run without -short")
	}
	program, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		program, err = exec.LookPath("alertmanager") // its name elsewhere
	}
	if err != nil {
		t.Fatal("neither prometheus-alertmanager nor alertmanager found in PATH: " +
			"install it with `apt-get install -y prometheus-alertmanager` (Debian, Ubuntu) or from https://prometheus.io/download")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(config, []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+config, "--storage.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Signal(syscall.SIGKILL)
		<-process.Done()
	})
	address := make(chan string, 1)
	go func() {
		defer close(address)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	select {
	case at, ok := <-address:
		if !ok {
			t.Fatal("Alertmanager ended, and said nowhere that it listens")
		}
		return &manager{url: "http://" + at}
	case <-time.After(time.Minute):
		t.Fatal("Alertmanager does not listen")
		return nil
	}
}

// listed is an alert as Alertmanager lists those that are active.
type listed struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
}

func (m *manager) alerts(t *testing.T) (all []listed) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url+"/api/v2/alerts", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager answers %s", answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// have reports whether it lists as many.
func (m *manager) have(t *testing.T, n int) func() bool {
	return func() bool { return len(m.alerts(t)) == n }
}

func numbered(n int) (alerts []alert.Alert) {
	for i := range n {
		alerts = append(alerts, firing(fmt.Sprintf("a%04d", i)))
	}
	return alerts
}
