package observe

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/lib/pq" // as Grafana asks
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/gateway"
	"weir/pkg/notify"
	"weir/services/config"
	"weir/services/local"
	"weir/services/metrics"
	"weir/services/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const (
	requests  = 600
	faults    = 40
	throttles = 30
	broken    = 5
	patience  = 4 * time.Minute
)

// Everything in one process, with traffic of which it is known how much it is: the metrics say so, each that is named
// somewhere is among them, and every panel shows something.
func TestObserve_ShowsTrafficAsItIs(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs Postgres; run without -short")
	}
	i := start(t)
	publish(t, i)
	until(t, "everything to be folded", func() bool {
		f, err := i.DB.Figures(t.Context())
		return err == nil && f.Events == requests+faults+throttles && f.DeadLetters == broken
	})
	t.Run("metrics are counted right", func(t *testing.T) { countedRight(t, i) })
	t.Run("metrics keep the conventions", func(t *testing.T) {
		problems, err := testutil.GatherAndLint(i.Metrics)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if !strings.HasPrefix(p.Metric, "go_") && !strings.HasPrefix(p.Metric, "process_") {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	})
	t.Run("what is named exists", func(t *testing.T) { namedExists(t, i) })
	t.Run("every panel of traffic has rows", func(t *testing.T) { panelsHaveRows(t, i) })
}

func start(t *testing.T) *local.Instance {
	t.Helper()
	settings := config.Default()
	settings.HTTP.Listen = "127.0.0.1:0"
	catalog, err := wire.Catalog(settings)
	if err != nil {
		t.Fatal(err)
	}
	i, err := local.Start(t.Context(), local.Options{
		Role: "up", Dir: filepath.Join(embeddedtest.Dir(t), "data"), Workers: 2, Catalog: catalog, Settings: settings, Plan: io.Discard, Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// publish publishes events of now, some of which cannot be folded.
func publish(t *testing.T, i *local.Instance) {
	t.Helper()
	p, err := gateway.NewPublisher(i.Conn, gateway.PublisherConfig{Source: "gw-1", BatchEvents: 50})
	if err != nil {
		t.Fatal(err)
	}
	i.Metrics.MustRegister(gateway.Publishers{p})
	at := time.Now().UnixMilli()
	one := func(kind, rest string, n int) {
		for k := range n {
			e := fmt.Sprintf(`{"apiName":"shop","apiVersion":"1.%d","apiContext":"/shop/1.%d","apiCreator":"acme","apiCreatorTenantDomain":"acme.org","applicationId":"%d","applicationName":"app-%d",
				"apiResourceTemplate":"/orders/{id}","apiMethod":"GET","username":"user-%d","userTenantDomain":"acme.org",%s}`, k%3, k%3, k%5, k%5, k%20, fmt.Sprintf(rest, at))
			if err := p.Publish(t.Context(), kind, []byte(e)); err != nil {
				t.Fatal(err)
			}
		}
	}
	one("request", `"requestTimestamp":%d,"responseCode":200,"responseTime":30,"backendTime":20,"serviceTime":10,"apiHostname":"gw-1","userIp":"192.0.2.7","userAgent":"curl/8.5.0","destination":"http://backend"`, requests)
	one("fault", `"requestTimestamp":%d,"hostname":"gw-1","protocol":"https","errorCode":"101503","errorMessage":"no answer"`, faults)
	one("throttle", `"throttledOutTimestamp":%d,"hostname":"gw-1","throttledOutReason":"SUBSCRIPTION_LIMIT_EXCEEDED"`, throttles)
	one("request", `"requestTimestamp":"yesterday, about %d"`, broken)
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); !condition(); <-tick.C {
		if time.Since(begin) > patience {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// sum adds up the series of a metric; of a histogram, how often it was observed.
func sum(t *testing.T, i *local.Instance, name string) (total float64) {
	t.Helper()
	families, err := i.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}

func countedRight(t *testing.T, i *local.Instance) {
	until(t, "the consumer to know that all is acknowledged", func() bool {
		state, err := i.Conn.State(t.Context())
		return err == nil && state.Behind == 0 && time.Since(state.CompleteThrough) < time.Minute
	})
	f, err := i.DB.Figures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, body := get(t, i.HTTPURL+"/api/v1/aggregations/ApiVersionPerAppAgg?within=1990-01-01,2200-01-01&per=years&group_by=&select=sum(totalRequestCount)")
	if status != http.StatusOK || !strings.Contains(body, fmt.Sprintf("[%d]", requests)) {
		t.Fatalf("the API says %d %s", status, body)
	}
	for name, want := range map[string]float64{
		"weir_worker_events_folded_total":    requests + faults + throttles,
		"weir_worker_dead_letters_total":     broken,
		"weir_events_total":                  requests + faults + throttles,
		"weir_dead_letters_total":            broken,
		"weir_messages_total":                float64(f.Messages),
		"weir_worker_retries_total":          0,
		"weir_worker_events_refused_total":   0,
		"weir_publisher_events_total":        requests + faults + throttles + broken,
		"weir_publisher_waiting_events":      0,
		"weir_consumer_behind_messages":      0,
		"weir_live_shards":                   2,
		"weir_stream_up":                     1,
		"weir_postgres_up":                   1,
		"weir_build_info":                    1,
		"weir_questions_asked_total":         1,
		"weir_questions_waiting":             0,
		"weir_audit_open_findings":           0,
		"weir_evaluator_partitions":          8,
		"weir_worker_messages_fetched_total": float64(f.Messages) + sum(t, i, "weir_worker_messages_redelivered_total"),
	} {
		if got := sum(t, i, name); got != want && !(name == "weir_messages_total" && got > want) { // a heartbeat may have come
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if n := sum(t, i, "weir_worker_batch_messages"); n < 1 || n > sum(t, i, "weir_worker_flush_seconds") {
		t.Errorf("%v batches in %v flushes", n, sum(t, i, "weir_worker_flush_seconds"))
	}
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	answer, err := http.Get(address) //nolint:gosec // an address of the test
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

var named = regexp.MustCompile(`\b(?:weir|go|process)_[a-z0-9_]+`)

// namedExists: rules and dashboards name only metrics that some role has.
func namedExists(t *testing.T, i *local.Instance) {
	catalog, err := wire.Catalog(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	ingest, err := gateway.NewIngest(i.Conn, gateway.PublisherConfig{Source: "edge-1"}, catalog.Streams)
	if err != nil {
		t.Fatal(err)
	}
	i.Metrics.MustRegister(ingest)
	status, text := get(t, i.HTTPURL+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, text)
	}
	text += notifying(t, i)
	there := map[string]bool{}
	for _, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			there[name], there[name+"_total"] = true, true
		}
	}
	var exprs []string
	for _, r := range rules(t) {
		exprs = append(exprs, r.Expr)
	}
	for _, p := range panels(t, "pipeline") {
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	for _, expr := range exprs {
		names := named.FindAllString(expr, -1)
		if len(names) == 0 && !strings.HasPrefix(expr, "up{") {
			t.Errorf("%q names no metric", expr)
		}
		for _, name := range names {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !there[name] && !there[base] {
				t.Errorf("%s does not exist: %s", name, expr)
			}
		}
	}
	documented(t, text)
}

// notifying is what an alerter with a notifier tells: its series have begun.
func notifying(t *testing.T, i *local.Instance) string {
	t.Helper()
	m, registry := notify.NewMetrics(), metrics.New("alerter")
	registry.MustRegister(m)
	notify.New(i.DB, notify.Config{Targets: []*notify.Target{{Name: "on-call"}}, Metrics: m}, zap.NewNop())
	answer := httptest.NewRecorder()
	registry.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	var own []string
	for _, line := range strings.Split(answer.Body.String(), "\n") {
		if strings.Contains(line, "weir_notifi") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "\n")
}

type panel struct {
	Title, Type string
	Targets     []struct{ Expr, RawSQL string }
}

func panels(t *testing.T, name string) []panel {
	t.Helper()
	d := read[struct {
		UID    string
		Panels []struct {
			Title, Type string
			Targets     []struct {
				Expr   string
				RawSQL string `yaml:"rawSql"`
			}
		}
	}](t, "grafana/dashboards/"+name+".json")
	var all []panel
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		q := panel{Title: p.Title, Type: p.Type}
		for _, target := range p.Targets {
			q.Targets = append(q.Targets, struct{ Expr, RawSQL string }{target.Expr, target.RawSQL})
		}
		all = append(all, q)
	}
	if d.UID != "weir-"+name || len(all) < 10 {
		t.Fatalf("%s: uid %q, %d panels", name, d.UID, len(all))
	}
	return all
}

// panelsHaveRows asks what each panel asks, as Grafana's macros make it.
func panelsHaveRows(t *testing.T, i *local.Instance) {
	db, err := sql.Open("postgres", i.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, per := range []string{"seconds", "minutes", "days"} {
		macros := strings.NewReplacer(
			"$__timeFilter(bucket)", "bucket BETWEEN now() - interval '2 days' AND now() + interval '1 minute'",
			"${per}", per, "${api:sqlstring}", "'/shop/1.0','/shop/1.1','/shop/1.2'")
		for _, p := range panels(t, "traffic") {
			for _, target := range p.Targets {
				query := macros.Replace(target.RawSQL)
				if query == "" || strings.Contains(query, "$") {
					t.Errorf("%s: %q", p.Title, query)
					continue
				}
				columns, rows := ask(t, db, query)
				if len(rows) == 0 || slices.ContainsFunc(rows, func(row []any) bool { return slices.Contains(row, nil) }) {
					t.Errorf("%s per %s: %v", p.Title, per, rows)
				}
				if p.Type == "timeseries" && columns[0] != "time" {
					t.Errorf("%s: a series needs a column time, there are %v", p.Title, columns)
				}
				if p.Title == "Calls" && fmt.Sprint(rows[0][0]) != fmt.Sprint(requests) {
					t.Errorf("%s per %s: %v, want %d", p.Title, per, rows[0][0], requests)
				}
			}
		}
	}
}

func ask(t *testing.T, db *sql.DB, query string) (columns []string, all [][]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	if columns, err = rows.Columns(); err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row, targets := make([]any, len(columns)), make([]any, len(columns))
		for n := range row {
			targets[n] = &row[n]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for n, cell := range row {
			if text, ok := cell.([]byte); ok {
				row[n] = string(bytes.TrimSpace(text))
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return columns, all
}

// documented: docs/operating.md has a row for each metric of ours, and none for others.
func documented(t *testing.T, text string) {
	t.Helper()
	described := map[string]bool{}
	for _, line := range strings.Split(operating(t), "\n") {
		if row, ok := strings.CutPrefix(line, "| `weir_"); ok {
			name, _, _ := strings.Cut("weir_"+row, "`")
			name, _, _ = strings.Cut(name, "{")
			described[name] = true
		}
	}
	for _, line := range strings.Split(text, "\n") {
		name, ok := strings.CutPrefix(line, "# TYPE weir_")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut("weir_"+name, " ")
		if !described[name] {
			t.Errorf("docs/operating.md does not say what %s is", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("docs/operating.md tells of %s, which does not exist", name)
	}
}
