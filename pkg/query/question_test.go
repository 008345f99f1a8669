package query_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// traffic makes calls in bursts around the given times: late, in any order,
// with equal times, over three shards.
func traffic(seed uint64, n int, around ...time.Time) []call {
	random := rand.New(rand.NewPCG(seed, 0))
	all := make([]call, n)
	for i := range all {
		at := around[random.IntN(len(around))].Add(time.Duration(random.IntN(7_200_000)-3_600_000) * time.Millisecond)
		if i > 0 && random.IntN(4) == 0 {
			at = time.UnixMicro(all[random.IntN(i)].at)
		}
		all[i] = call{
			at: at.UnixMicro(), seq: int64(i + 1), shard: fmt.Sprintf("w%d", random.IntN(3)),
			api: []string{"Alpha", "beta", "Ölçü", `it's "q"`}[random.IntN(4)], code: []int64{200, 404, -1}[random.IntN(3)],
			cache: random.IntN(2) == 0, bytes: int64(random.IntN(1000) - 100), load: float64(random.IntN(1000))/8 - 20,
			label: fmt.Sprintf("label-%d", i),
		}
	}
	return all
}

// naturalRows is the oracle: default columns and order, buckets in [from, until).
func naturalRows(all []call, per aggregation.Granularity, zone *time.Location, from, until int64) [][]any {
	type id struct {
		bucket int64
		api    string
		code   int64
		cache  bool
	}
	groups := map[id][]call{}
	for _, c := range all {
		key := id{bucketOf(per, c.at, zone), c.api, c.code, c.cache}
		if key.bucket >= from && key.bucket < until {
			groups[key] = append(groups[key], c)
		}
	}
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b id) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), strings.Compare(a.api, b.api), cmp.Compare(a.code, b.code), compareBool(a.cache, b.cache))
	})
	rows := [][]any{}
	for _, k := range keys {
		rows = append(rows, append([]any{stamp(k.bucket), k.api, k.code, k.cache}, merge(groups[k]).measures()...))
	}
	return rows
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestAsk_NaturalRowsAreRightInEveryZoneAtEveryGranularity(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"UTC", "Asia/Kolkata", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Auckland"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := zone(t, name)
			def := calls(z)
			db, raw := database(t, def)
			all := traffic(1, 600,
				time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC),  // Berlin: clocks go forward
				time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC), // and back
				time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC),
				time.Date(2026, 4, 4, 14, 0, 0, 0, time.UTC), // Auckland: back
				time.Date(2026, 2, 28, 23, 30, 0, 0, time.UTC),
				time.Date(1969, 12, 31, 23, 59, 0, 0, time.UTC))
			insert(t, raw, def, pack(def, all, 50))
			for _, per := range aggregation.Granularities() {
				for _, within := range [][2]time.Time{
					{time.UnixMilli(-62135596800000), time.UnixMilli(253402300800000)}, // all that can be asked for
					{time.Date(2026, 3, 28, 23, 30, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)},
					{time.Date(2026, 3, 29, 0, 59, 59, 1000, time.UTC), time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)},
					{time.Date(2025, 12, 31, 18, 30, 0, 0, time.UTC), time.Date(2025, 12, 31, 18, 30, 0, 1000, time.UTC)},
					{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)},
				} {
					from, until := within[0].UTC(), within[1].UTC()
					ends := from.Format(time.RFC3339Nano) + "," + until.Format(time.RFC3339Nano)
					if until.Year() > 9999 {
						ends = fmt.Sprintf("%d,%d", from.UnixMilli(), until.UnixMilli())
					}
					got := ask(t, db, def, "within="+ends+"\nper="+per.String())
					wantRows(t, ends+" per "+per.String(), got.Rows, naturalRows(all, per, z, from.UnixMicro(), until.UnixMicro()))
				}
			}
		})
	}
}

func TestAsk_HoursKeepBothOfAnAutumnClockChangeApart(t *testing.T) {
	t.Parallel()
	def := calls(zone(t, "Europe/Berlin"))
	db, raw := database(t, def)
	all := []call{
		{at: time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC).UnixMicro(), seq: 1, shard: "a", api: "x"}, // 02:30 summer time
		{at: time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC).UnixMicro(), seq: 2, shard: "a", api: "x"}, // 02:30 winter time
	}
	insert(t, raw, def, pack(def, all, 1))
	got := ask(t, db, def, "within=2026-10-** **:**:**\nper=hours\nselect=bucket,hits")
	wantRows(t, "hours", got.Rows, [][]any{{"2026-10-25T00:00:00Z", int64(1)}, {"2026-10-25T01:00:00Z", int64(1)}})
	got = ask(t, db, def, "within=2026-10-** **:**:** +02:00\nper=days\nselect=bucket,hits")
	wantRows(t, "days", got.Rows, [][]any{{"2026-10-24T22:00:00Z", int64(2)}})
}

func TestAsk_BucketsAreCutOnceWhereMidnightDoesNotExist(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def := calls(zone(t, name))
			db, raw := database(t, def)
			all := traffic(2, 200, time.Date(2018, 11, 4, 3, 0, 0, 0, time.UTC), time.Date(2024, 3, 10, 5, 0, 0, 0, time.UTC),
				time.Date(2022, 3, 26, 22, 0, 0, 0, time.UTC), time.Date(2024, 10, 5, 15, 30, 0, 0, time.UTC), time.Date(2024, 4, 6, 15, 0, 0, 0, time.UTC))
			insert(t, raw, def, pack(def, all, 40))
			for _, per := range []aggregation.Granularity{aggregation.Hours, aggregation.Days, aggregation.Months} {
				want := map[string]int64{}
				for _, c := range all {
					want[stamp(per.Truncate(c.at, def.Zone))]++
				}
				got := ask(t, db, def, "within=2000-01-01,2030-01-01\ngroup_by=bucket\nselect=bucket,hits\nper="+per.String())
				have := map[string]int64{}
				for _, row := range got.Rows {
					have[row[0].(string)] = row[1].(int64)
				}
				if !maps.Equal(have, want) {
					t.Errorf("%s: got %v, want %v", per, have, want)
				}
			}
		})
	}
}

func TestAsk_IntervalIsHalfOpenOnTheBucketStart(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	var all []call
	for i := range 5 {
		all = append(all, call{at: time.Date(2026, 1, 1, 10, i, 59, 0, time.UTC).UnixMicro(), seq: int64(i), shard: "a", api: "x"})
	}
	insert(t, raw, def, pack(def, all, 2))
	for within, want := range map[string][]string{
		"2026-01-01 10:01:00,2026-01-01 10:03:00":             {"10:01", "10:02"},
		"2026-01-01 10:01:01,2026-01-01 10:03:01":             {"10:02", "10:03"},
		"2026-01-01 10:00:00.001,2026-01-01 10:01:00.001":     {"10:01"},
		"2026-01-01T15:31:00 05:30,2026-01-01T10:02:00Z":      {"10:01"}, // + lost in a URL
		"1767261660000,1767261720000":                         {"10:01"},
		"2026-01-01 10:03:**":                                 {"10:03"},
		"2026-01-01 15:33:** +05:30":                          {"10:03"},
		"2026-01-01 10:03:00":                                 {"10:03"},
		"2026-01-01 10:03:01":                                 {},
		"2026-**-** **:**:**":                                 {"10:00", "10:01", "10:02", "10:03", "10:04"},
		"2026-01-01,2026-01-02":                               {"10:00", "10:01", "10:02", "10:03", "10:04"},
		"2026-01-01 10:04,2026-01-02 00:00":                   {"10:04"},
		"2026-01-01t10:04:00.000+00:00, 2026-01-02t00:00:00z": {"10:04"},
	} {
		var rows [][]any
		for _, minute := range want {
			rows = append(rows, []any{"2026-01-01T" + minute + ":00Z"})
		}
		wantRows(t, within, ask(t, db, def, "within="+within+"\nper=min\nselect=bucket").Rows, rows)
	}
}

// regroup is the oracle of the questions below.
func regroup[K cmp.Ordered](all []call, by func(call) K, row func(K, []call) []any) [][]any {
	groups := map[K][]call{}
	for _, c := range all {
		groups[by(c)] = append(groups[by(c)], c)
	}
	var rows [][]any
	for _, k := range slices.Sorted(maps.Keys(groups)) {
		rows = append(rows, row(k, groups[k]))
	}
	return rows
}

func TestAsk_RegroupsNaturalRows(t *testing.T) {
	t.Parallel()
	z := zone(t, "Europe/Berlin")
	def := calls(z)
	db, raw := database(t, def)
	all := traffic(3, 800, time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 3, 31, 21, 0, 0, 0, time.UTC))
	insert(t, raw, def, pack(def, all, 64))
	within := "within=2025-01-01,2027-01-01\n"
	naturals := naturalRows(all, aggregation.Hours, z, 0, 1<<62)
	byAPI := func(c call) string { return c.api }
	sumOfAverages := func(api string) (sum, n float64) {
		for _, row := range naturals {
			if row[1] == api {
				sum, n = sum+row[6].(float64), n+1
			}
		}
		return sum, n
	}
	newest := func(calls []call) call {
		return slices.MaxFunc(calls, func(a, b call) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) })
	}
	for _, tt := range []struct {
		name, question string
		want           [][]any
	}{
		{"a bare measure is merged from its parts", "per=hours\ngroup_by=apiName", regroup(all, byAPI, func(api string, c []call) []any {
			return append([]any{api}, merge(c).measures()...)
		})},
		{"one row over all", "per=days\ngroup_by=", [][]any{merge(all).measures()}},
		{"no rows is no row", "per=days\ngroup_by=\nwhere=apiName == \"none\"", nil},
		{
			"functions are over natural rows", "per=hours\ngroup_by=apiName\nselect=apiName, sum(avgBytes), avg(avgBytes) as mean, count(), count(*) as n, max(avgBytes) - min(avgBytes) as spread",
			regroup(all, byAPI, func(api string, _ []call) []any {
				sum, n := sumOfAverages(api)
				low, high := 1e9, -1e9
				for _, row := range naturals {
					if row[1] == api {
						low, high = min(low, row[6].(float64)), max(high, row[6].(float64))
					}
				}
				return []any{api, sum, sum / n, int64(n), int64(n), high - low}
			}),
		},
		{
			"other columns show the newest", "per=hours\ngroup_by=apiName\nselect=apiName,code,bucket,shard_id,label,last(code) as c",
			regroup(all, byAPI, func(api string, c []call) []any {
				n := newest(c)
				return []any{api, n.code, stamp(bucketOf(aggregation.Hours, n.at, z)), n.shard, n.label, n.code}
			}),
		},
		{
			"the newest is also found through natural rows", "per=hours\ngroup_by=apiName\nselect=apiName,code,label,count()>0 as any,last(bucket),last(hits*0+code)",
			regroup(all, byAPI, func(api string, c []call) []any {
				n := newest(c)
				return []any{api, n.code, n.label, true, stamp(bucketOf(aggregation.Hours, n.at, z)), n.code}
			}),
		},
		{
			"a function in select groups by what is beside it", "per=days\nselect=bucket,sum(hits),sum(bytes)/sum(hits) as ratio,avgBytes",
			regroup(all, func(c call) int64 { return bucketOf(aggregation.Days, c.at, z) }, func(b int64, c []call) []any {
				r := merge(c)
				mean := float64(r.bytes) / float64(r.hits)
				return []any{stamp(b), r.hits, mean, mean}
			}),
		},
		{"by shard", "per=years\ngroup_by=shard_id\nselect=shard_id,hits,label", regroup(all, func(c call) string { return c.shard }, func(s string, c []call) []any {
			return []any{s, int64(len(c)), merge(c).label}
		})},
		{"by a measure", "per=hours\ngroup_by=label\nwhere=label == \"" + naturals[0][9].(string) + "\"\nselect=label,hits", [][]any{{naturals[0][9], naturals[0][4]}}},
		{
			"having, order, limit and offset", "per=hours\ngroup_by=apiName\nselect=apiName,sum(hits) as n\nhaving=n > 0 and sum(bytes) > -1000000\norder_by=n desc\nlimit=2\noffset=1",
			func() [][]any {
				rows := regroup(all, byAPI, func(api string, c []call) []any { return []any{api, int64(len(c))} })
				slices.SortStableFunc(rows, func(a, b []any) int { return cmp.Compare(b[1].(int64), a[1].(int64)) })
				return rows[1:3]
			}(),
		},
		{"constants", "per=years\ngroup_by=apiName\nselect=\"IBM\" as name, 1+2 as three\nlimit=1", [][]any{{"IBM", int64(3)}}},
		{"limit 0", "per=years\nlimit=0", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantRows(t, tt.question, ask(t, db, def, within+tt.question).Rows, tt.want)
		})
	}
}

func TestAsk_KeepsShardsApartWhereTheyAreMentioned(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC).UnixMicro()
	insert(t, raw, def, pack(def, []call{
		{at: at, seq: 1, shard: "a", api: "x", bytes: 1}, {at: at, seq: 2, shard: "b", api: "x", bytes: 2}, {at: at, seq: 3, shard: "b", api: "x", bytes: 4},
	}, 1))
	within := "within=2026-01-01,2026-01-02\nper=hours\n"
	for question, want := range map[string][][]any{
		"select=shard_id,bytes":                             {{"a", int64(1)}, {"b", int64(6)}},
		"select=bytes":                                      {{int64(7)}},
		"select=bytes\nwhere=shard_id == \"b\"":             {{int64(6)}},
		"select=bytes\norder_by=shard_id desc":              {{int64(6)}, {int64(1)}},
		"group_by=\nselect=count()":                         {{int64(1)}},
		"group_by=\nselect=count()\nwhere=shard_id != \"\"": {{int64(2)}},
	} {
		wantRows(t, question, ask(t, db, def, within+question).Rows, want)
	}
}

func TestAsk_FiltersOnEveryColumn(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	all := traffic(4, 500, time.Date(2026, 5, 5, 5, 0, 0, 0, time.UTC))
	insert(t, raw, def, pack(def, all, 32))
	rows := naturalRows(all, aggregation.Minutes, time.UTC, 0, 1<<62)
	const api, code, cached, hits, bytes, avg, least, label = 1, 2, 3, 4, 5, 6, 7, 9
	str := func(c int, row []any) string { return row[c].(string) }
	num := func(c int, row []any) int64 { return row[c].(int64) }
	for where, keep := range map[string]func(row []any) bool{
		`apiName == "Alpha"`:                                             func(r []any) bool { return str(api, r) == "Alpha" },
		`apiName = 'Alpha' AND NOT (code <> 404)`:                        func(r []any) bool { return str(api, r) == "Alpha" && num(code, r) == 404 },
		`APINAME in ["Alpha", "beta"] or cached`:                         func(r []any) bool { return str(api, r) == "Alpha" || str(api, r) == "beta" || r[cached].(bool) },
		`apiName NOT IN ["Alpha"]`:                                       func(r []any) bool { return str(api, r) != "Alpha" },
		`apiName in []`:                                                  func([]any) bool { return false },
		`apiName contains "'s" || apiName endsWith "a"`:                  func(r []any) bool { return strings.Contains(str(api, r), "'s") || strings.HasSuffix(str(api, r), "a") },
		`apiName startsWith "Ö" and apiName > "beta"`:                    func(r []any) bool { return strings.HasPrefix(str(api, r), "Ö") },
		`apiName == 'it\'s "q"'`:                                         func(r []any) bool { return str(api, r) == `it's "q"` },
		`code in [200, -1] && !cached`:                                   func(r []any) bool { return num(code, r) != 404 && !r[cached].(bool) },
		`code in [200.5, 404.0]`:                                         func(r []any) bool { return num(code, r) == 404 },
		`cached == false`:                                                func(r []any) bool { return !r[cached].(bool) },
		`hits > 1`:                                                       func(r []any) bool { return num(hits, r) > 1 },
		`bytes / hits >= 500 and hits * 2 - 1 > 0`:                       func(r []any) bool { return float64(num(bytes, r))/float64(num(hits, r)) >= 500 },
		`avgBytes < 100.5 and least <= 1e2`:                              func(r []any) bool { return r[avg].(float64) < 100.5 && r[least].(float64) <= 100 },
		`label == "label-17" or -bytes > 0`:                              func(r []any) bool { return str(label, r) == "label-17" || num(bytes, r) < 0 },
		`bucket >= "2026-05-05 05:00:00"`:                                func(r []any) bool { return str(0, r) >= "2026-05-05T05:00:00Z" },
		`bucket in ["2026-05-05 04:30:00", "2026-05-05T11:00:00+05:30"]`: func(r []any) bool { return str(0, r) == "2026-05-05T04:30:00Z" || str(0, r) == "2026-05-05T05:30:00Z" },
		`1777957200000 <= bucket`:                                        func(r []any) bool { return str(0, r) >= "2026-05-05T05:00:00Z" },
		`hits / (code + 1) > 0`:                                          func(r []any) bool { return num(code, r) > 0 }, // a division by zero is no value
	} {
		var want [][]any
		for _, row := range rows {
			if keep(row) {
				want = append(want, row)
			}
		}
		wantRows(t, where, ask(t, db, def, "within=2026-**-** **:**:**\nper=minutes\nwhere="+where).Rows, want)
		wantRows(t, "having "+where, ask(t, db, def, "within=2026-**-** **:**:**\nper=minutes\nhaving="+where).Rows, want)
	}
}

func TestAsk_IntegersAreExactAtAnySize(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	big := int64(1<<63 - 1)
	insert(t, raw, def, pack(def, []call{
		{at: at, seq: 1, shard: "a", api: "x", bytes: big, load: 0.1}, {at: at, seq: 2, shard: "b", api: "x", bytes: big}, {at: at, seq: 3, shard: "c", api: "x", bytes: big},
	}, 1))
	got := ask(t, db, def, "within=2026-01-01,2026-01-02\nper=years\nselect=bytes,sum(bytes)*2 as twice,max(bytes)+1 as more,hits/0 as none\ntime=ms\ngroup_by=")
	var out strings.Builder
	if err := got.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	want := "{\"columns\":[\"bytes\",\"twice\",\"more\",\"none\"],\"rows\":[\n[27670116110564327421,55340232221128654842,27670116110564327422,null]],\"complete_through\":null}\n"
	if out.String() != want {
		t.Errorf("got  %s\nwant %s", out.String(), want)
	}
	got = ask(t, db, def, "within=2026-01-01,2026-01-02\nper=years\nselect=bucket,seenAt\ntime=ms")
	wantRows(t, "time=ms", got.Rows, [][]any{{at / 1000, at / 1000}})
}

func TestAsk_LastIsTheSameForEveryOrderOfArrival(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	at := time.Date(2026, 1, 1, 0, 0, 0, 500_000_000, time.UTC).UnixMicro()
	insert(t, raw, def, []packed{ // written in no order: by batch, the newest first
		{bucket: at - 500_000, shard: "a", batch: 1, keys: []any{"x", int64(1), true}, events: 1, measures: []any{int64(0), int64(0), 0.0, 0.0, "newest", time.UnixMicro(at)}, time: at, seq: 100},
		{bucket: at - 500_000, shard: "b", batch: 9, keys: []any{"x", int64(1), true}, events: 1, measures: []any{int64(0), int64(0), 0.0, 0.0, "same time, earlier", time.UnixMicro(at)}, time: at, seq: 99},
		{bucket: at - 500_000, shard: "c", batch: 20, keys: []any{"x", int64(1), true}, events: 1, measures: []any{int64(0), int64(0), 0.0, 0.0, "zzz late", time.UnixMicro(at - 1)}, time: at - 1, seq: 1 << 40},
	})
	for _, per := range []string{"seconds", "years"} {
		got := ask(t, db, def, "within=2026-**-** **:**:**\nper="+per+"\nselect=label")
		wantRows(t, per, got.Rows, [][]any{{"newest"}})
	}
}

func TestAsk_WithoutKeysOrLastMeasures(t *testing.T) {
	t.Parallel()
	def := &aggregation.Definition{
		Name: "Total", Granularities: []aggregation.Granularity{aggregation.Minutes, aggregation.Days}, Zone: time.UTC,
		Measures: []aggregation.Measure{{Name: "count", Op: aggregation.Count}, {Name: "allOk", Op: aggregation.Min, Arg: "ok", ArgKind: event.Bool}},
	}
	db, raw := database(t, def)
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	insert(t, raw, def, []packed{
		{bucket: day, shard: "a", batch: 1, events: 3, measures: []any{true}},
		{bucket: day + 60_000_000, shard: "b", batch: 1, events: 4, measures: []any{false}},
	})
	within := "within=2026-01-01,2026-01-02\n"
	wantRows(t, "days", ask(t, db, def, within+"per=day").Rows, [][]any{{"2026-01-01T00:00:00Z", int64(7), false}})
	wantRows(t, "minutes", ask(t, db, def, within+"per=minutes\nselect=count\norder_by=bucket desc").Rows, [][]any{{int64(4)}, {int64(3)}})
	wantRows(t, "all", ask(t, db, def, within+"per=minutes\ngroup_by=\nselect=bucket,sum(count),max(allOk)").Rows, [][]any{{"2026-01-01T00:01:00Z", int64(7), true}})
}
