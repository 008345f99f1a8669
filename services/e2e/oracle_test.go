package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// The real logs, in the folder beside the repository.
const (
	sharedData = "../../../shared/data/"
	elasticLog = sharedData + "elastic-apache/apache_logs.gz"
	nasaLog    = sharedData + "nasa-http/nasa_19950801.tsv.gz"
)

// oracle holds the true numbers of a log, computed by another program.
type oracle struct {
	Format         string           `json:"format"`
	Records        int64            `json:"records"`
	Malformed      int              `json:"malformed"`
	MalformedLines []malformedLine  `json:"malformed_lines"`
	First          time.Time        `json:"first"`
	PerHour        map[string]int64 `json:"per_hour_utc"`
	PerDay         map[string]int64 `json:"per_day_utc"`
	PerMonth       map[string]int64 `json:"per_month_utc"`
	PerStatus      map[string]int64 `json:"per_status"`
	PerClass       map[string]int64 `json:"per_status_class"`
	PerMethod      map[string]int64 `json:"per_method"`
	DistinctPaths  int              `json:"distinct_paths"`
}

type malformedLine struct {
	Line int `json:"line"`
}

// readOracle reads the oracle of a log. Where the data are not there, the test is skipped.
func readOracle(t *testing.T, log string) *oracle {
	t.Helper()
	text, err := os.ReadFile(log + ".oracle.json")
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED, NOTHING IS SHOWN: the real logs are not beside the repository: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var o oracle
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	if o.Records == 0 || len(o.PerHour) == 0 || len(o.PerStatus) == 0 {
		t.Fatalf("%s.oracle.json does not say what it used to", log)
	}
	return &o
}

// check compares everything the instance says about the log's year with the oracle.
func (o *oracle) check(t *testing.T, i *instance) {
	t.Helper()
	year := fmt.Sprintf("within=%d-01-01,%d-01-01", o.First.Year(), o.First.Year()+1)
	const calls, count = "ApiVersionPerAppAgg", "totalRequestCount"
	for _, buckets := range []struct {
		per  string
		want map[string]int64
		name int // length of the oracle's name of a bucket
	}{
		{"hours", o.PerHour, len("2015-05-17T10")},
		{"days", o.PerDay, len("2015-05-17")},
		{"months", o.PerMonth, len("2015-05")},
	} {
		got := map[string]int64{}
		for bucket, n := range i.sums(t, calls, "bucket", count, "per="+buckets.per, year) {
			got[bucket[:buckets.name]] = n
		}
		same(t, "per "+buckets.per, got, buckets.want)
	}
	same(t, "by method", i.sums(t, "ApiResPathPerApp", "apiMethod", count, year), o.PerMethod)
	same(t, "by status", i.sums(t, "ApiErrorAnalysisAgg", "responseCode", "responseCount", year), o.PerStatus)
	for class, want := range map[string]int64{"_2xx": o.PerClass["2xx"], "_4xx": o.PerClass["4xx"], "_5xx": o.PerClass["5xx"]} {
		if got := i.total(t, "ApiErrorAnalysisAgg", class, year); got != want {
			t.Errorf("%s: got %d, want %d", class, got, want)
		}
	}
	paths := i.sums(t, "ApiResPathPerApp", "apiResourceTemplate", count, year)
	if strings.Contains(o.Format, "without the query string") && len(paths) != o.DistinctPaths {
		t.Errorf("got %d paths, want %d", len(paths), o.DistinctPaths)
	}
	for _, per := range []string{"seconds", "minutes", "hours", "days", "months", "years"} {
		if got := i.total(t, calls, count, "per="+per, year); got != o.Records {
			t.Errorf("total per %s: got %d, want %d", per, got, o.Records)
		}
		if got := i.total(t, "APIM_ReqCountAgg", "successCount", "per="+per, year); got != o.Records {
			t.Errorf("APIM_ReqCountAgg per %s: got %d, want %d", per, got, o.Records)
		}
	}
}

// same compares counts by name.
func same(t *testing.T, what string, got, want map[string]int64) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %s: got %d, want %d", what, name, got[name], n)
		}
	}
	for name, n := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: got %d of %q, which should not be there", what, n, name)
		}
	}
}
