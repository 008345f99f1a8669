package query_test

import (
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/pkg/query"
	"weir/streams"
)

func TestParse_SaysWhyAJoinIsNotPossible(t *testing.T) {
	t.Parallel()
	calls := joinable("Calls", "app", time.UTC, "api", "app", "code")
	faults := joinable("Faults", "host", time.UTC, "host", "code", "api")
	faults.Measures[1].Name = "faultMs"
	elsewhere := joinable("Elsewhere", "host", zone(t, "Asia/Kolkata"), "api")
	yearly := joinable("Yearly", "host", time.UTC, "api")
	yearly.Granularities = []aggregation.Granularity{aggregation.Years}
	typed := joinable("Typed", "host", time.UTC, "api")
	typed.Keys[0].Kind = event.Int
	catalog := catalogOf(calls, faults, elsewhere, yearly, typed)
	const right = "within=2026-01-01,2026-01-02\nper=hours\njoin=Faults\n"
	for parameters, want := range map[string]string{
		right + "join=Fault":                                       `join: there is no aggregation "Fault", did you mean Faults?`,
		right + "join=calls":                                       "join: Calls is what is asked already",
		right + "join=Elsewhere":                                   "join: Calls cuts its buckets by the time of UTC and Elsewhere by that of Asia/Kolkata",
		right + "join=Yearly":                                      "per: Yearly does not keep hours; Calls and Yearly keep none that is the same",
		right + "per=minutes":                                      "per: Calls does not keep minutes; Calls and Faults both keep seconds, hours, days, months",
		right + "join_type=outer":                                  `join_type: there is no "outer"; it is full (the default), inner, left or right`,
		right + "where=app == \"x\"":                               "where: app is a group key of Calls alone; a join goes by what both have, which is bucket, api, code",
		right + "group_by=bucket,host":                             "group_by: host is a group key of Faults alone",
		right + "select=faultMs":                                   "select: faultMs is a measure of Faults: write Faults.faultMs",
		right + "select=Calls.faultMs":                             "select: faultMs is a measure of Faults: write Faults.faultMs",
		right + "select=Faults.nn":                                 `select: Calls joined with Faults has no column "Faults.nn", did you mean Faults.n?; the columns are bucket, api, code, n, `,
		right + "join=Typed\nselect=api":                           "select: api is not of one type in Calls and Typed",
		"within=2026\njoin_type=inner":                             "join_type is about a join: give the other aggregation too, as in join=NAME",
		right + "select=a.b.c":                                     `is more than is understood here`,
		right + "select=n, Calls.n":                                "select: two columns are called n; give one of them another name with as",
		right + "group_by=Faults.p50":                              "group_by: Faults.p50 has a value only when rows are merged",
		right + "having=Faults.n":                                  "having: Faults.n is a number, not a condition",
		right + "order_by=Other.n":                                 `order_by: Calls joined with Faults has no column "Other.n"`,
		"within=2026-01-01,2026-01-02\nper=hours\nselect=Faults.n": `select: Calls has no column "Faults.n"`,
	} {
		_, err := query.Parse(catalog, "Calls", valuesOf(parameters))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", parameters, err, want)
		}
	}
	for parameters, want := range map[string]string{
		right: "bucket api code n ms mean least allOk newest oldest extras p50 p90 spread Faults.n Faults.faultMs Faults.mean Faults.least Faults.allOk Faults.newest Faults.oldest Faults.extras Faults.p50 Faults.p90 Faults.spread",
		right + "group_by=faults.API\nselect=calls.api, Faults.bucket, Faults.faultms, calls.N, sum(Faults.n), Faults.n / Calls.n as rate\norder_by=Faults.n desc": "api bucket Faults.faultMs n sum(Faults.n) rate",
	} {
		q, err := query.Parse(catalog, "Calls", valuesOf(parameters))
		if err != nil || strings.Join(q.Columns, " ") != want {
			t.Errorf("%s\n got %v, %v\nwant %s", parameters, q, err, want)
		}
	}
}

// The question of the package comment, to the definitions that weir comes with.
func TestAsk_ErrorRatePerAPIAndHour(t *testing.T) {
	t.Parallel()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	calls, faults := catalog.Aggregation("ApiVersionPerAppAgg"), catalog.Aggregation("ApiFaultyInvocationAgg")
	db, raw := database(t, calls, faults)
	at := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC).UnixMicro()
	row := func(def *aggregation.Definition, bucket int64, api, app, host string, events int64) packed {
		p := packed{bucket: bucket, shard: "w1", batch: 1, events: events, time: bucket}
		for _, key := range def.Keys {
			p.keys = append(p.keys, map[string]string{"apiContext": api, "applicationId": app}[key.Name]+map[string]string{"hostname": host, "apiHostname": host}[key.Name])
		}
		for _, m := range def.Measures {
			var value any = int64(0)
			switch m.ArgKind {
			case event.String:
				value = ""
			case event.Time:
				value = time.UnixMicro(bucket)
			case event.Int, event.Float, event.Bool:
			}
			if m.Stored() {
				p.measures = append(p.measures, value)
			}
		}
		return p
	}
	const hour = 3_600_000_000
	insert(t, raw, calls, []packed{
		row(calls, at, "/calc", "1", "a", 30), row(calls, at+hour/2, "/calc", "2", "b", 10), row(calls, at, "/quiet", "1", "a", 5), row(calls, at+hour, "/calc", "1", "a", 8),
	})
	insert(t, raw, faults, []packed{row(faults, at, "/calc", "1", "c", 3), row(faults, at+hour/4, "/calc", "2", "d", 1), row(faults, at, "/broken", "1", "c", 2)})
	const hourly = "within=2026-01-01,2026-01-02\nper=hours\njoin=ApiFaultyInvocationAgg\n"
	for question, want := range map[string][][]any{
		"group_by=bucket,apiContext\nselect=bucket, apiContext, ApiFaultyInvocationAgg.totalFaultCount / totalRequestCount as error_rate": {
			{"2026-01-01T10:00:00Z", "/broken", nil}, {"2026-01-01T10:00:00Z", "/calc", 0.1}, {"2026-01-01T10:00:00Z", "/quiet", 0.0}, {"2026-01-01T11:00:00Z", "/calc", 0.0},
		},
		"group_by=apiContext\nselect=apiContext, ApiFaultyInvocationAgg.totalFaultCount / totalRequestCount as rate\norder_by=rate desc\nlimit=1\nhaving=totalRequestCount > 0": {
			{"/calc", 4.0 / 48},
		},
		"join_type=inner\nselect=bucket, apiContext, applicationId, ApiFaultyInvocationAgg.totalFaultCount as faults, totalRequestCount as calls": {
			{"2026-01-01T10:00:00Z", "/calc", "1", int64(3), int64(30)}, {"2026-01-01T10:00:00Z", "/calc", "2", int64(1), int64(10)},
		},
		"join_type=right\nwhere=ApiFaultyInvocationAgg.totalFaultCount >= 2\nselect=apiContext, totalRequestCount as calls, apiName\norder_by=calls": {
			{"/broken", int64(0), nil}, {"/calc", int64(30), ""},
		},
		// Natural rows: of four with faults or calls at ten, two have faults and one no calls.
		"group_by=\nwhere=bucket < \"2026-01-01 11:00:00\"\nselect=count() as rows, sum(ApiFaultyInvocationAgg.totalFaultCount) as faults, avg(totalRequestCount) as mean": {
			{int64(4), int64(6), 45.0 / 4},
		},
	} {
		q, err := query.Parse(catalog, calls.Name, valuesOf(hourly+question))
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.Ask(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		wantRows(t, question, got.Rows, want)
	}
}
