package evaluator

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/gateway"
	"weir/streams"
)

const nasaLog = "../../../shared/data/nasa-http/nasa_19950801.tsv.gz"

// The server of the log was shut down for a hurricane at 18:52:01. Nothing is told of that but what absence
// rules say: the built-in one for each API, and one for all traffic together.
func TestNASA_SilenceIsNoticedWhereTheLogHasItAndNowhereElse(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs NATS and Postgres")
	}
	if _, err := os.Stat(nasaLog); errors.Is(err, fs.ErrNotExist) {
		t.Skip(nasaLog + " is not there: the log lies beside the project")
	}
	log, err := gateway.OpenLog(t.Context(), nasaLog, nil, gateway.NASA)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	through := time.Date(1995, 8, 1, 20, 0, 0, 0, time.UTC)
	want := silences(t, log, through)
	if n := len(want[""]); n != 1 {
		t.Fatalf("the log itself is silent %d times, want once", n)
	}

	s := &scenario{name: "NASA", through: through}
	s.catalog = nasaCatalog(t)
	site := newSite(t, s)
	defer site.start(2, 1)()
	if _, err := gateway.Replay(t.Context(), site.conn, log, gateway.ReplayConfig{}); err != nil {
		t.Fatal(err)
	}
	site.send(rand.New(rand.NewPCG(1, 1)), map[string]int{}, []sent{{happening{stream: "request", at: through.Add(2 * DefaultGrace), values: map[string]string{"apiName": "after"}}, through}}) //nolint:gosec // a test
	site.awaitClock(through.Add(DefaultGrace))

	got := map[string][]time.Time{}
	for _, a := range site.alerts(alert.ScopeGlobal) {
		if a.State != alert.Firing || a.FiredAt.After(through) {
			continue
		}
		switch a.Rule {
		case "site-silent":
			got[""] = append(got[""], a.FiredAt)
		case "api-silent":
			got[a.Key["apiName"]] = append(got[a.Key["apiName"]], a.FiredAt)
		}
	}
	for api := range want {
		if !slices.EqualFunc(got[api], want[api], time.Time.Equal) {
			t.Errorf("%q: silent from %v, the log says from %v", cmp.Or(api, "all"), got[api], want[api])
		}
		delete(got, api)
	}
	for api, times := range got {
		t.Errorf("%q: silent from %v, which the log does not say", api, times)
	}
}

func nasaCatalog(t *testing.T) *definition.Catalog {
	t.Helper()
	files := fstest.MapFS{"site.yaml": {Data: []byte(`
rules:
  site-silent:
    type: absence
    stream: request
    severity: 1
    window: 10 minutes
    message: no call at all for {window}
`)}}
	err := fs.WalkDir(streams.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(streams.Files, path)
		files[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := definition.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	catalog.Aggregations = nil
	return catalog
}

// silences are from when on each API of the log, and "" all of them, had no call for ten minutes, told
// ten minutes after the end of the ten seconds in which the last one was.
func silences(t *testing.T, log *gateway.Log, through time.Time) map[string][]time.Time {
	t.Helper()
	calls := map[string][]time.Time{}
	for line, err := range log.Read("replay", 0) {
		if err != nil {
			t.Fatal(err)
		}
		var event struct {
			APIName string `json:"apiName"`
		}
		if line.Event == nil {
			continue
		}
		if err := json.Unmarshal(line.Event, &event); err != nil {
			t.Fatal(err)
		}
		calls[event.APIName] = append(calls[event.APIName], line.Time)
		calls[""] = append(calls[""], line.Time)
	}
	silent := map[string][]time.Time{}
	for api, times := range calls {
		for i, at := range times {
			told := at.Truncate(10 * time.Second).Add(10*time.Second + 10*time.Minute)
			next := through.Add(time.Hour)
			if i+1 < len(times) {
				next = times[i+1].Truncate(10 * time.Second).Add(10 * time.Second)
			}
			if told.Before(next) && !told.After(through) {
				silent[api] = append(silent[api], told)
			}
		}
	}
	return silent
}
