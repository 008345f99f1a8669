package query

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/config"
	"weir/services/wire"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestQuery_PrintsTheSameFromTheAPIAndTheDatabase(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Postgres.URL = config.URL(embeddedtest.Postgres(t))
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db, err := wire.Store(t.Context(), cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Apply(t.Context(), catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(query.NewHandler(query.Server{Catalog: catalog, DB: db}))
	t.Cleanup(server.Close)
	run := func(args ...string) (string, error) {
		cmd := Command()
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	question := []string{"ApiVersionPerAppAgg", "--within", "2026-01-01,2026-01-02", "--per", "hours", "--select", "bucket, sum(totalRequestCount) as n", "--order-by", "n desc"}
	for _, format := range []struct{ flag, want string }{
		{"--json", "{\"columns\":[\"bucket\",\"n\"],\"rows\":[],\"complete_through\":null}\n"},
		{"--csv", "bucket,n\n"},
		{"--time=ms", "bucket  n\n"},
	} {
		for _, from := range []string{"--http=" + server.URL, "--postgres=" + string(cfg.Postgres.URL)} {
			if got, err := run(append(question, format.flag, from)...); err != nil || got != format.want {
				t.Errorf("%s of %s: got %q, %v, want %q", format.flag, from, got, err, format.want)
			}
		}
	}
	for _, from := range []string{"--http=" + server.URL, "--postgres=" + string(cfg.Postgres.URL)} {
		_, err := run("ApiVersionPerAppAgg", "--within", "2026-01-01,2026-01-02", "--per", "weeks", from)
		var refused *query.Error
		if !errors.As(err, &refused) || refused.ExitCode() != 2 || !strings.Contains(err.Error(), "keeps seconds, minutes") {
			t.Errorf("%s: got %v, want a refusal that says what is kept", from, err)
		}
	}
}

func TestSetLast_BeginsWithTheBucketOfTheAggregationsZone(t *testing.T) {
	t.Parallel()
	colombo, err := time.LoadLocation("Asia/Colombo") // 05:30 ahead of UTC
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC) // in Colombo it is half past midnight
	for _, tt := range []struct {
		last, per string
		zone      *time.Location
		want      time.Time
	}{
		{"1h", "days", time.UTC, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)},
		{"1h", "days", colombo, time.Date(2026, 11, 22, 0, 0, 0, 0, colombo)}, // it begins before midnight
		{"15m", "days", colombo, time.Date(2026, 11, 23, 0, 0, 0, 0, colombo)},
		{"90s", "hours", colombo, time.Date(2026, 11, 23, 0, 0, 0, 0, colombo)},
		{"7d", "months", colombo, time.Date(2026, 11, 1, 0, 0, 0, 0, colombo)},
		{"15m", "minutes", time.UTC, time.Date(2026, 11, 22, 18, 45, 0, 0, time.UTC)},
	} {
		values := url.Values{"per": {tt.per}}
		if err := setLast(values, tt.last, now, tt.zone); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%d,%d", tt.want.UnixMilli(), now.UnixMilli()+1); values.Get("within") != want {
			t.Errorf("--last %s --per %s in %s: %s, want %s", tt.last, tt.per, tt.zone, values.Get("within"), want)
		}
	}
	for _, last := range []string{"", "0s", "-1h", "yesterday", "1.5d", "d"} {
		if err := setLast(url.Values{}, last, now, time.UTC); err == nil {
			t.Errorf("--last %q is taken", last)
		}
	}
}
