package aggregation_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/streams"
)

// load makes batches of events as columns, as decoding would: 94 % requests, 3 %
// faults, 3 % throttled calls, over 100 APIs in 3 versions with 20 resources
// each, 50 applications, 5,000 users of 12 addresses each, 30 user agents and 3
// gateways, all by Zipf's law but the last and the addresses, and 20,000 events a second of
// event time.
type load struct {
	catalog *definition.Catalog
	random  *rand.Rand
	zipf    map[int]*rand.Zipf
	at      int64 // event time, microseconds
	number  uint64
}

const loadEventsPerSecond = 20_000

func newLoad(tb testing.TB) *load {
	tb.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return &load{
		catalog: catalog, random: rand.New(rand.NewPCG(1, 2)), zipf: map[int]*rand.Zipf{},
		at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMicro(),
	}
}

// draw returns a number below n, by Zipf's law.
func (l *load) draw(n int) int {
	z := l.zipf[n]
	if z == nil {
		z = rand.NewZipf(l.random, 1.1, 1, uint64(n-1))
		l.zipf[n] = z
	}
	return int(z.Uint64())
}

// batch returns n events.
func (l *load) batch(n int, dict *event.Dictionary) []*event.Columns {
	byName := map[string]*event.Columns{}
	var all []*event.Columns
	for range n {
		name := "request"
		switch l.random.IntN(100) {
		case 0, 1, 2:
			name = "fault"
		case 3, 4, 5:
			name = "throttle"
		}
		c := byName[name]
		if c == nil {
			c = event.NewColumns(l.catalog.Stream(name), dict)
			byName[name] = c
			all = append(all, c)
		}
		l.append(c)
	}
	return all
}

func (l *load) append(c *event.Columns) {
	l.at += int64(time.Second/time.Microsecond) / loadEventsPerSecond
	l.number++
	c.Times = append(c.Times, l.at-int64(l.random.IntN(20_000))) // three gateways, none with the same delay
	c.Sequences = append(c.Sequences, l.number/100)
	c.Messages = append(c.Messages, int32(l.number/100))
	c.Offsets = append(c.Offsets, int32(l.number%100))
	c.Checksums = append(c.Checksums, event.Checksum(1, l.number, 0))
	c.Dropped = append(c.Dropped, false)
	api, version, resource, app, user := l.draw(100), l.draw(3), l.draw(20), l.draw(50), l.draw(5000)
	agent, gateway, address := l.draw(30), l.random.IntN(3), 12*user+l.random.IntN(12)
	code := event.Cell(200)
	if at := l.random.IntN(100); at < 8 {
		code = []event.Cell{201, 204, 400, 401, 404, 500, 502, 503}[at]
	}
	texts := map[string]string{
		"apiContext": fmt.Sprintf("/api%d/v%d", api, version), "apiName": fmt.Sprintf("API-%d", api), "apiVersion": fmt.Sprintf("v%d", version),
		"apiCreator": fmt.Sprintf("creator-%d", api%10), "apiCreatorTenantDomain": "carbon.super", "apiHostname": fmt.Sprintf("gateway-%d", gateway),
		"hostname": fmt.Sprintf("gateway-%d", gateway), "apiResourceTemplate": fmt.Sprintf("/r%d/{id}", resource),
		"apiMethod": []string{"GET", "POST", "PUT"}[resource%3], "applicationId": fmt.Sprint(app), "applicationName": fmt.Sprintf("application-%d", app),
		"applicationOwner": fmt.Sprintf("owner-%d", app%20), "subscriber": fmt.Sprintf("owner-%d", app%20), "username": fmt.Sprintf("user-%d@carbon.super", user),
		"userTenantDomain": "carbon.super", "destination": fmt.Sprintf("http://backend-%d/", api), "operatingSystem": fmt.Sprintf("os-%d", agent%5),
		"browser": fmt.Sprintf("browser-%d", agent%7), "country": fmt.Sprintf("country-%d", address%40), "city": fmt.Sprintf("city-%d", address%400),
		"regionalID": "default", "gatewayType": "SYNAPSE", "label": "Production", "userIp": fmt.Sprintf("10.%d.%d.1", address/256, address%256),
	}
	numbers := map[string]event.Cell{
		"responseCode": code, "successCount": 1, "responseCount": 1, "_2xx": event.BoolCell(code < 300), "_4xx": event.BoolCell(code >= 400 && code < 500),
		"_5xx": event.BoolCell(code >= 500), "faultCount": 0, "throttledCount": 0, "throttleCount": 0, "quotaExceededValue": 0,
	}
	for i, a := range c.Schema.Attributes {
		cell := event.Cell(1 + l.random.IntN(100))
		if known, ok := numbers[a.Name]; ok {
			cell = known
		}
		switch {
		case a.Kind == event.String:
			cell = c.Dict.Intern(texts[a.Name])
		case strings.HasPrefix(a.Name, event.HiddenPrefix):
			cell = event.BoolCell(code < 300) // of MonetizationAgg
		case a.Kind == event.Float:
			cell = event.FloatCell(float64(cell))
		case a.Kind == event.Time:
			cell = event.Cell(l.at)
		}
		c.Cells[i] = append(c.Cells[i], cell)
	}
}

// shift moves events in time.
func shift(batch []*event.Columns, by time.Duration) {
	for _, c := range batch {
		for row := range c.Times {
			c.Times[row] += by.Microseconds()
		}
	}
}

// BenchmarkFold folds batches of the default pack's events, three in turn, each
// with a dictionary of its own, that move on in time.
func BenchmarkFold(b *testing.B) {
	for _, n := range []int{5000, 20_000, 50_000} {
		b.Run(fmt.Sprint("batch=", n), func(b *testing.B) {
			l := newLoad(b)
			var batches [3][]*event.Columns
			for i := range batches {
				batches[i] = l.batch(n, event.NewDictionary())
			}
			span := time.Duration(3*n) * time.Second / loadEventsPerSecond
			guard := aggregation.NewGuard()
			folder := folderOf(guard)
			groups := 0
			i := 0
			b.ReportAllocs()
			started := used(b)
			for b.Loop() {
				batch := batches[i%3]
				delta := folder(l.catalog.Aggregations, batch)
				guard.Commit()
				groups += delta.Groups()
				shift(batch, span)
				i++
			}
			b.ReportMetric(float64((used(b)-started).Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/event")
			b.ReportMetric(float64(groups)/float64(b.N)/float64(n), "groups/event")
		})
	}
}

// BenchmarkControls is the control totals of the same batches.
func BenchmarkControls(b *testing.B) {
	for _, n := range []int{5000, 50_000} {
		b.Run(fmt.Sprint("batch=", n), func(b *testing.B) {
			l := newLoad(b)
			batch := l.batch(n, event.NewDictionary())
			b.ReportAllocs()
			started := used(b)
			for b.Loop() {
				aggregation.Controls(l.catalog.Aggregations, batch)
			}
			b.ReportMetric(float64((used(b)-started).Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/event")
		})
	}
}

// BenchmarkCascade gives the coarser levels what the default pack's batches of
// 50,000 events add, and flushes them after every half minute of event time. One
// iteration is such a half minute; metrics are per event.
func BenchmarkCascade(b *testing.B) {
	const n, perRound, different = 50_000, 12, 4
	l := newLoad(b)
	guard := aggregation.NewGuard()
	var deltas [different]aggregation.Delta
	for i := range deltas {
		deltas[i] = folderOf(guard)(l.catalog.Aggregations, l.batch(n, event.NewDictionary()))
		guard.Commit()
	}
	for _, due := range []struct {
		name string
		is   func(aggregation.Granularity) bool
	}{
		{"minutes", func(g aggregation.Granularity) bool { return g <= aggregation.Minutes }},
		{"all", func(aggregation.Granularity) bool { return true }},
	} {
		b.Run("due="+due.name, func(b *testing.B) {
			cascade := aggregation.NewCascade(l.catalog.Aggregations, guard)
			var add, nothing, prepare, commit time.Duration
			groups := 0
			b.ReportAllocs()
			for b.Loop() {
				for k := range perRound {
					delta := &deltas[k%different]
					for p := range delta.Parts {
						delta.Parts[p].Bucket += different * int64(n) * int64(time.Second/time.Microsecond) / loadEventsPerSecond
					}
					started := used(b)
					none := cascade.Prepare(func(aggregation.Granularity) bool { return false })
					cascade.Commit(none)
					nothing += used(b) - started
					started = used(b)
					cascade.Add(*delta)
					add += used(b) - started
				}
				started := used(b)
				flush := cascade.Prepare(due.is)
				prepare += used(b) - started
				groups += flush.Delta.Groups()
				started = used(b)
				cascade.Commit(flush)
				commit += used(b) - started
			}
			events := float64(b.N) * perRound * n
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64((add+nothing+prepare+commit).Nanoseconds())/events, "cpu-ns/event")
			b.ReportMetric(float64(add.Nanoseconds())/events, "add-ns/event")
			b.ReportMetric(float64(nothing.Nanoseconds())/events, "idle-ns/event")
			b.ReportMetric(float64(prepare.Nanoseconds())/events, "prepare-ns/event")
			b.ReportMetric(float64(commit.Nanoseconds())/events, "commit-ns/event")
			b.ReportMetric(float64(groups)/events, "groups/event")
		})
	}
}

// used is the CPU time of this process so far: others share the machine.
func used(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func folderOf(guard *aggregation.Guard) func([]*aggregation.Definition, []*event.Columns) aggregation.Delta {
	folder := aggregation.NewFolder(guard)
	return func(defs []*aggregation.Definition, batch []*event.Columns) aggregation.Delta {
		return folder.Fold(defs, batch)
	}
}

// BenchmarkCollect reduces batches to what the rules over all shards need, next to which Fold is the
// work that is always done; and then takes that in, as evaluators do. One iteration is a batch of 50,000
// events, a second and a half after the one before.
func BenchmarkCollect(b *testing.B) {
	const batch = 50_000
	l := newLoad(b)
	var batches [3][]*event.Columns
	for i := range batches {
		batches[i] = l.batch(batch, event.NewDictionary())
	}
	span := time.Duration(3*batch) * time.Second / loadEventsPerSecond
	rules := map[string][]*alert.Rule{"all": l.catalog.Rules}
	for _, rule := range l.catalog.Rules {
		rules[rule.Name] = []*alert.Rule{rule}
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		b.Run(name, func(b *testing.B) {
			collector, global, bytes := alert.NewCollector(rules[name]), alert.NewGlobal(rules[name]), 0
			var collecting, taking time.Duration
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				columns := batches[n%3]
				started := used(b)
				bodies := collector.Collect(columns)
				collector.Commit()
				collected := used(b)
				for _, body := range bodies {
					bytes += len(body)
					all, err := alert.DecodeEvidence(body)
					if err != nil {
						b.Fatal(err)
					}
					global.Add(all)
				}
				global.Decide(time.UnixMicro(columns[0].Times[0]))
				collecting, taking = collecting+collected-started, taking+used(b)-collected
				shift(columns, span)
			}
			per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(b.N) / batch }
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(per(collecting), "collect-ns/event")
			b.ReportMetric(per(taking), "take-in-ns/event")
			b.ReportMetric(float64(bytes)/float64(b.N)/batch, "bytes/event")
		})
	}
}
