package query_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"weir/pkg/query"
	"weir/pkg/store"
)

func TestParse_SaysWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	unsharded := calls(time.UTC)
	unsharded.Name, unsharded.PartitionByID = "Unsharded", false
	catalog := catalogOf(calls(time.UTC), visits(), unsharded)
	const good = "within=2026-01-01,2026-01-02\nper=hours\n"
	for _, tt := range []struct{ name, question, want string }{
		{"Cals", good, `there is no aggregation "Cals", did you mean Calls?`},
		{"Calls", "per=hours", "within is missing: give the interval as START,END, for example"},
		{"Calls", "within=2026-01-01,2026-01-02", "per is missing: give the granularity; Calls keeps seconds, minutes, hours, days, months, years"},
		{"Calls", "within=2026-01-01,2026-01-02\nper=1000", `"1000" is no granularity; Calls keeps`},
		{"Calls", "within=2026-01-02,2026-01-01\nper=hours", "which is not before its end"},
		{"Calls", "within=2026-01-01,2026-01-01\nper=hours", "which is not before its end"},
		{"Calls", "within=1513578087000\nper=hours", "a single value must be a text with wildcards"},
		{"Calls", "within=2017-06-** **:**:**:1000\nper=hours", "neither START,END nor a time with wildcards"},
		{"Calls", "within=2017-**-01 **:**:**\nper=hours", "wildcards come last"},
		{"Calls", "within=2017-13-** **:**:**\nper=hours", "no such day"},
		{"Calls", "within=yesterday,today\nper=hours", `"yesterday" is no time; write`},
		{"Calls", "within=2026-02-30,2026-03-01\nper=hours", "no such day"},
		{"Calls", "within=1,2,3\nper=hours", "two ends, START,END, not 3"},
		{"Calls", "within=0,99999999999999999\nper=hours", "out of range"},
		{"Calls", good + "selct=hits", `there is no parameter "selct", did you mean select?`},
		{"Calls", good + "select=hit", `Calls has no column "hit", did you mean hits?`},
		{"Calls", good + "select=AGG_TIMESTAMP2", "its columns are bucket, apiName, code, cached, hits, bytes, avgBytes, least, most, label, seenAt, shard_id"},
		{"Unsharded", good + "group_by=Shard_ID", "Unsharded has no column shard_id, because its partition_by_id is false; set it to true"},
		{"Unsharded", good + "where=shard_id == \"a\"", "because its partition_by_id is false"},
		{"Calls", good + "select=median(hits)", "there is no function median; there are sum, min, max, avg, count and last"},
		{"Calls", good + "select=sum(apiName)", "sum needs numbers, and apiName is a text"},
		{"Calls", good + "select=sum(hits, bytes)", "sum takes one column"},
		{"Calls", good + "select=sum(sum(hits))", "no place here"},
		{"Calls", good + "select=hits,code as hits", "two columns are called hits"},
		{"Calls", good + "select=hits bytes", "not understood"},
		{"Calls", good + "where=sum(hits) > 1", "no place here"},
		{"Calls", good + "where=apiName", "where: apiName is a text, not a condition; compare it, for example apiName =="},
		{"Calls", good + "where=apiName == 5", "a text cannot be compared with a number; a text is in quotes"},
		{"Calls", good + "where=apiName == Alpha", `no column "Alpha"`},
		{"Calls", good + "where=apiName == \"a", "not understood"},
		{"Calls", good + "where=not apiName == \"a\"", "not negates apiName, which is a text; put what it shall negate in parentheses"},
		{"Calls", good + "where=cached and hits", "and connects conditions, and hits is a number"},
		{"Calls", good + "where=cached < true", "true and false have no order"},
		{"Calls", good + "where=code in 200", "in needs a list in brackets"},
		{"Calls", good + "where=code in [\"200\"]", "a number cannot be compared with a text"},
		{"Calls", good + "where=code contains \"2\"", "contains needs texts, and code is a number"},
		{"Calls", good + "where=apiName matches \".*\"", "is more than is understood here"},
		{"Calls", good + "where=let x = 1; x > 0", "not understood"},
		{"Calls", good + "where=apiName[0] == \"a\"", "is more than is understood here"},
		{"Calls", good + "where=bucket > \"noon\"", `"noon" is no time`},
		{"Calls", good + "where=apiName == \"a\\u0000\"", "without NUL"},
		{"Calls", good + "where=" + strings.Repeat("(", 5000), "at most 4096 are read"},
		{"Calls", good + "where=" + strings.Repeat("(", 4000), "not understood"},
		{"Calls", good + "having=sum(hits) > 1", "no place here; it needs group_by"},
		{"Visits", good + "group_by=spread", "group_by: spread has a value only when rows are merged"},
		{"Calls", good + "group_by=sum(hits)", `no column "sum(hits)"`},
		{"Calls", good + "order_by=hits down", "not understood"},
		{"Calls", good + "limit=-1", "no number of rows"},
		{"Calls", good + "offset=many", "no number of rows"},
		{"Calls", good + "time=unix", "it is rfc3339 or ms"},
	} {
		_, err := query.Parse(catalog, tt.name, valuesOf(tt.question))
		var refused *query.Error
		if !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s:\n got %v\nwant an error with %q", tt.name, tt.question, err, tt.want)
		}
	}
	if _, err := query.Parse(catalog, "Calls", url.Values{"within": {"2026-01-01,2026-01-02"}, "per": {"days", "hours"}}); err == nil {
		t.Error("a parameter given twice: got no error")
	}
}

func TestParse_NamesTheColumnsOfTheAnswer(t *testing.T) {
	t.Parallel()
	for question, want := range map[string]string{
		"": "bucket apiName code cached hits bytes avgBytes least most label seenAt",
		"select=BUCKET, APINAME,sum( HITS ),Max(code)":         "bucket apiName sum(hits) max(code)",
		"select=hits+1,sum(hits) as n, bytes AS b":             "hits+1 n b",
		"group_by=bucket,code":                                 "bucket code hits bytes avgBytes least most label seenAt",
		"group_by=":                                            "hits bytes avgBytes least most label seenAt",
		"select=count(),apiName == \"a,b\" as same,\"x as y\"": "count() same \"x as y\"",
	} {
		for _, per := range []string{"sec", "second", "seconds", "SEC", "min", "Hours", "day", "months", "year"} {
			q, err := query.Parse(catalogOf(calls(time.UTC)), "calls", valuesOf("within=2026-01-01,2026-01-02\nper="+per+"\n"+question))
			if err != nil {
				t.Errorf("%s: %v", question, err)
			} else if got := strings.Join(q.Columns, " "); got != want {
				t.Errorf("%s: got columns %q, want %q", question, got, want)
			}
		}
	}
}

// FuzzParse asks Postgres what was understood: whatever passes Parse must be
// good SQL, with nothing of the question in it but placeholders.
func FuzzParse(f *testing.F) {
	f.Add("bucket,sum(hits) as n", `apiName == 'a' AND hits / 2 > 1`, "bucket", "n > 1", "n desc")
	f.Add("count(*), last(label)", `code NOT IN [1, 2.5] || !cached`, "", "", "bucket")
	f.Add("hits*-bytes", `bucket >= 0 and apiName contains "\u00e9"`, "label", "avg(avgBytes) <> 0.1", "code,cached asc")
	f.Add(`"'; DROP TABLE x; --" as a, min(cached), max(apiName), last(bucket)`, `-code in [+1, 2*3]`, "shard_id", `"a" == 'a'`, "1, true desc")
	f.Add("", `bucket in ["2026-01-01", 5] and seenAt != bucket`, "none", "least - most < 1.5e3 or cached != true", "label, hits/0")
	def := calls(time.FixedZone("odd", 5*3600+1800))
	db, raw := database(f, def)
	insert(f, raw, def, pack(def, traffic(5, 20, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), 3))
	f.Fuzz(func(t *testing.T, selection, where, groupBy, having, orderBy string) {
		values := url.Values{
			"within": {"2026-01-01,2027-01-01"}, "per": {"hours"},
			"select": {selection}, "where": {where}, "having": {having}, "order_by": {orderBy},
		}
		if groupBy != "none" {
			values.Set("group_by", groupBy)
		}
		q, err := query.Parse(catalogOf(def), "Calls", values)
		var refused *query.Error
		if errors.As(err, &refused) {
			return
		}
		if err != nil {
			t.Fatalf("got %T %v, want a *query.Error", err, err)
		}
		answer, err := q.Ask(t.Context(), db)
		if err != nil && !store.OutOfRange(err) {
			t.Fatalf("%v: %v", values, err)
		}
		if err == nil && len(answer.Rows) > 0 && len(answer.Rows[0]) != len(q.Columns) {
			t.Fatalf("got %d cells in %d columns", len(answer.Rows[0]), len(q.Columns))
		}
	})
}

func FuzzParse_Within(f *testing.F) {
	for _, seed := range []string{"2019-06-** **:**:** +05:30", "0,1", "2026-01-01,2026-01-02 10:00", "2026-01-01T10:00:00.123456789Z,253402300800000", "2024-02-29 23:59:59 -12:00"} {
		f.Add(seed, "days")
	}
	f.Fuzz(func(t *testing.T, within, per string) {
		_, err := query.Parse(catalogOf(calls(time.UTC)), "Calls", url.Values{"within": {within}, "per": {per}})
		var refused *query.Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("got %T %v, want a *query.Error", err, err)
		}
	})
}
