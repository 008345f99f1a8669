package worker

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/gateway"
	"weir/pkg/store"
)

// oracle is what an independent program counted in a log.
type oracle struct {
	Records   int64            `json:"records"`
	Malformed int64            `json:"malformed"`
	Hours     map[string]int64 `json:"per_hour_utc"`
	Days      map[string]int64 `json:"per_day_utc"`
	Months    map[string]int64 `json:"per_month_utc"`
	Statuses  map[string]int64 `json:"per_status"`
	Classes   map[string]int64 `json:"per_status_class"`
	Methods   map[string]int64 `json:"per_method"`
	Paths     int64            `json:"distinct_paths"`
}

func readOracle(t *testing.T, path string) (o oracle) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// realLog is one of the real logs; they do not overlap in time.
type realLog struct {
	path, years string // years: the condition that selects its buckets
	oracle      oracle
}

func theLogs(t *testing.T) (logs []realLog) {
	t.Helper()
	for path, years := range map[string]string{
		"elastic-apache/apache_logs.gz":  `bucket >= '2000-01-01'`,
		"nasa-http/nasa_19950801.tsv.gz": `bucket < '2000-01-01'`,
	} {
		logs = append(logs, realLog{data(t, path), years, readOracle(t, data(t, path+".oracle.json"))})
	}
	return logs
}

func TestReplay_OfTheRealLogsEqualsTheirOracle(t *testing.T) {
	t.Parallel()
	logs := theLogs(t)
	for _, workers := range []int{2, 4} { // one alone does so in services/e2e
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			t.Parallel()
			h := newHarnessOn(t, servers{ackWait: time.Minute})
			h.run(workers)
			h.replayAll(logs, gateway.ReplayConfig{})
			want := store.Totals{Messages: 100 + 310, Events: 9999 + 30969}
			if got := h.totals(); got != want {
				t.Errorf("control totals: got %+v, want %+v", got, want)
			}
			switch workers {
			case 2: // once more, cut differently
				h.replayAll(logs, gateway.ReplayConfig{Batch: 730})
				if got := h.totals(); got != want {
					t.Errorf("control totals after the second replay: got %+v, want %+v", got, want)
				}
			case 4:
				h.wantSameTotals(map[string]int64{"request": want.Events})
			}
		})
	}
}

func (h *harness) replay(path string, config gateway.ReplayConfig) gateway.ReplayResult {
	h.t.Helper()
	log, err := gateway.OpenLog(h.t.Context(), path, nil, "")
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	result, err := gateway.Replay(h.t.Context(), h.conn, log, config)
	if err != nil {
		h.t.Fatal(err)
	}
	return result
}

// replayAll replays the logs, waits until they are folded, and compares.
func (h *harness) replayAll(logs []realLog, config gateway.ReplayConfig) {
	h.t.Helper()
	for _, log := range logs {
		result := h.replay(log.path, config)
		if result.Published != log.oracle.Records || result.Malformed != log.oracle.Malformed {
			h.t.Errorf("replay of %s: %+v", log.path, result)
		}
	}
	h.drain()
	for _, log := range logs {
		h.wantOracle(log)
	}
}

func (h *harness) wantOracle(log realLog) {
	h.t.Helper()
	const errors, times = `weir_data.apierroranalysisagg_seconds`, `weir_data.apiexetime_seconds`
	per := func(unit, format string) string {
		return `SELECT to_char(date_trunc('` + unit + `', bucket, 'UTC') AT TIME ZONE 'UTC', '` + format + `'), sum(n)::bigint
			FROM ` + errors + `, unnest(weir_events) AS n WHERE ` + log.years + ` GROUP BY 1`
	}
	want := func(what string, want map[string]int64, query string) {
		h.t.Helper()
		if got := h.counts(query); !maps.Equal(got, want) {
			h.t.Errorf("%s of %s: got %v, want %v", what, log.path, got, want)
		}
	}
	want("hours", log.oracle.Hours, per("hour", `YYYY-MM-DD"T"HH24`))
	want("days", log.oracle.Days, per("day", `YYYY-MM-DD`))
	want("months", log.oracle.Months, per("month", `YYYY-MM`))
	want("statuses", log.oracle.Statuses, `SELECT status::text, sum(n)::bigint FROM `+errors+`, unnest(responsecode, weir_events) AS u (status, n)
		WHERE `+log.years+` GROUP BY 1`)
	want("methods", log.oracle.Methods, `SELECT method, sum(n)::bigint FROM `+times+`, unnest(weir_view.texts(apimethod), weir_events) AS u (method, n)
		WHERE `+log.years+` GROUP BY 1`)
	classes := maps.Clone(log.oracle.Classes)
	delete(classes, "3xx") // has no measure
	want("classes", classes, `SELECT class, sum(n)::bigint FROM `+errors+`, LATERAL (
			SELECT '2xx', n FROM unnest(_2xx) AS n UNION ALL SELECT '4xx', n FROM unnest(_4xx) AS n UNION ALL SELECT '5xx', n FROM unnest(_5xx) AS n
		) AS u (class, n) WHERE `+log.years+` GROUP BY 1 HAVING sum(n) > 0`)
	if strings.Contains(log.path, "nasa") {
		return // its oracle counts paths with their queries
	}
	want("paths", map[string]int64{"paths": log.oracle.Paths}, `SELECT 'paths', count(DISTINCT path) FROM `+times+`, unnest(weir_view.texts(apiresourcetemplate)) AS path
		WHERE `+log.years)
}

// wantSameTotals checks that every aggregation holds every event of its
// streams, and that its counts and sums are the same at every granularity.
func (h *harness) wantSameTotals(events map[string]int64) {
	h.t.Helper()
	for _, def := range h.catalog.Aggregations {
		if def.Name != "MonetizationAgg" { // takes some of them only
			var want int64
			for _, input := range def.Inputs {
				want += events[input.Stream]
			}
			if got := h.folded(def.Name); got != want {
				h.t.Errorf("%s: %d events, want %d", def.Name, got, want)
			}
		}
		var finest string
		for _, per := range def.Granularities {
			buckets, totals := h.sums(def, per)
			if per == def.Finest() {
				finest = totals
			} else if totals != finest {
				h.t.Errorf("%s per %s: totals %s over %d buckets, per %s %s", def.Name, per, totals, buckets, def.Finest(), finest)
			}
		}
	}
}

// sums asks for all counts and integer sums per bucket, and adds them up.
func (h *harness) sums(def *aggregation.Definition, per aggregation.Granularity) (buckets int, totals string) {
	h.t.Helper()
	q := &store.Question{
		Aggregation: def, Per: per, From: 0, Until: math.MaxInt64 / 4, Limit: -1,
		Group: []store.Field{{Role: store.BucketField}},
	}
	for i, m := range def.Measures {
		if m.Op == aggregation.Count || m.Op == aggregation.Sum {
			field := store.Expr{Op: store.OpField, Kind: event.Int, Field: store.Field{Role: store.MeasureField, Index: i}}
			q.Select = append(q.Select, store.Expr{Op: store.OpSum, Kind: event.Int, Args: []store.Expr{field}})
		}
	}
	sums := make([]int64, len(q.Select))
	if len(sums) == 0 {
		return 0, ""
	}
	err := h.db.Ask(h.t.Context(), q, func(values []any) error {
		buckets++
		for i, v := range values {
			n, ok := v.(int64)
			if !ok {
				return fmt.Errorf("column %d is %v", i, v)
			}
			sums[i] += n
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return buckets, fmt.Sprint(sums)
}

func TestAggregations_HoldEveryEventAtEveryGranularity(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.run(3)
	start := time.Date(2023, 12, 30, 23, 59, 58, 0, time.UTC)
	published := map[string]int64{}
	for n := range 300 {
		at := start.Add(time.Duration(n*n) * 7 * time.Minute).UnixMilli() // over more than a year
		kind, field, more := "request", "requestTimestamp", fmt.Sprintf(`,"responseCode":%d`, 200+n%400)
		switch n % 5 {
		case 0:
			kind, more = "fault", ""
		case 1:
			kind, field, more = "throttle", "throttledOutTimestamp", ""
		}
		published[kind]++
		h.publish(fmt.Sprintf("events.%s.gw%d", kind, n%3), "", "", fmt.Sprintf(`{"apiName":"api%d","apiContext":"/c%d","%s":%d%s}`, n%7, n%7, field, at, more))
	}
	h.drain()
	h.wantSameTotals(published)
	if buckets, totals := h.sums(h.catalog.Aggregation("ApiErrorAnalysisAgg"), aggregation.Years); buckets != 3 || !strings.HasSuffix(totals, " 180 60 60]") {
		t.Errorf("ApiErrorAnalysisAgg per year: %d buckets with %s, want 3 with 180 responses, 60 faults and 60 throttled calls", buckets, totals)
	}
	if got := h.totals(); got.Events != 300 || got.DeadLetters != 0 {
		t.Errorf("control totals %+v", got)
	}
}
