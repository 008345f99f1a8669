package alert_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/streams"
)

// requests makes batches of calls as columns, as decoding would: 20,000 a second of event time, of 50 applications,
// of which each calls 4 of 100 APIs with 20 resources each, and of 5,000 users of 3 addresses each, by Zipf's law. Users go
// through the resources in turn, but for every fiftieth step. A message has 100 events.
type requests struct {
	steps  map[int]int  // of users
	known  map[int]bool // filters that let through whose user is known, as all are
	schema *event.Schema
	random *rand.Rand
	zipf   map[int]*rand.Zipf
	at     int64
	number uint64
}

func newRequests(catalog *definition.Catalog) *requests {
	known := map[int]bool{}
	for _, rule := range catalog.Rules {
		if rule.Type == alert.Unseen || rule.Type == alert.Transition {
			known[rule.Cases[0].Inputs[0].Where] = true
		}
	}
	return &requests{
		steps: map[int]int{}, known: known, schema: catalog.Stream("request"), random: rand.New(rand.NewPCG(1, 2)), zipf: map[int]*rand.Zipf{},
		at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMicro(),
	}
}

func (q *requests) draw(n int) int {
	if q.zipf[n] == nil {
		q.zipf[n] = rand.NewZipf(q.random, 1.1, 1, uint64(n-1))
	}
	return int(q.zipf[n].Uint64())
}

func (q *requests) batch(n int) []*event.Columns {
	c := event.NewColumns(q.schema, event.NewDictionary())
	for range n {
		q.at += 50
		q.number++
		c.Times = append(c.Times, (q.at-int64(q.random.IntN(20_000)))/1000*1000)
		c.Sequences, c.Messages = append(c.Sequences, q.number/100), append(c.Messages, int32(q.number/100))
		c.Offsets, c.Checksums = append(c.Offsets, int32(q.number%100)), append(c.Checksums, 0)
		c.Dropped = append(c.Dropped, false)
		app, user := q.draw(50), q.draw(5000)
		step := q.steps[app*5000+user] + 1
		if q.random.IntN(50) == 0 {
			step = q.random.IntN(80)
		}
		q.steps[app*5000+user] = step
		api, version, resource := (app+step/20%4)%100, app%3, step%20
		texts := map[string]string{
			"apiContext": fmt.Sprintf("/api%d/v%d", api, version), "apiName": fmt.Sprintf("API-%d", api), "apiVersion": fmt.Sprintf("v%d", version),
			"apiCreator": fmt.Sprintf("creator-%d", api%10), "apiResourceTemplate": fmt.Sprintf("/r%d/{id}", resource),
			"apiMethod": []string{"GET", "POST", "PUT"}[resource%3], "applicationId": fmt.Sprint(app), "applicationName": fmt.Sprintf("application-%d", app),
			"applicationConsumerKey": fmt.Sprintf("5Um2VKOuNuTePF6cwGq7dZk%05d", app), "applicationOwner": fmt.Sprintf("owner-%d", app%20),
			"username": fmt.Sprintf("user-%d@carbon.super", user), "userIp": fmt.Sprintf("10.%d.%d.%d", user/256, user%256, q.random.IntN(3)),
		}
		code := event.Cell(200)
		if q.random.IntN(100) == 0 {
			code = 503
		}
		for i, a := range q.schema.Attributes {
			var cell event.Cell
			text, known := texts[a.Name]
			switch {
			case a.Derive != nil && a.Kind == event.String && strings.HasPrefix(a.Name, event.HiddenPrefix): // the state of a step
				cell = c.Dict.Intern(texts["apiMethod"] + " " + texts["apiContext"] + " " + texts["apiResourceTemplate"])
			case a.Kind == event.String && known:
				cell = c.Dict.Intern(text)
			case a.Kind == event.String:
				cell = c.Dict.Intern("carbon.super")
			case a.Name == "responseCode":
				cell = code
			case strings.HasPrefix(a.Name, event.HiddenPrefix): // a filter: a hit of a run, or a case of another rule
				cell = event.BoolCell(code >= 500 || q.known[i])
			case a.Kind == event.Int:
				cell = event.Cell(q.random.IntN(100))
			case a.Kind == event.Bool, a.Kind == event.Float, a.Kind == event.Time, a.Kind == event.String:
			}
			c.Cells[i] = append(c.Cells[i], cell)
		}
	}
	return []*event.Columns{c}
}

// oneOf are the rules with only one, and that with only one case.
func oneOf(rules []*alert.Rule) (named map[string][]*alert.Rule, names []string) {
	named, names = map[string][]*alert.Rule{"all": rules}, []string{"all"}
	for _, rule := range rules {
		for i := range rule.Cases {
			one := *rule
			one.Cases = rule.Cases[i : i+1]
			name := strings.TrimSuffix(rule.Name+"-"+rule.Cases[i].Name, "-")
			named[name], names = []*alert.Rule{&one}, append(names, name)
		}
	}
	return named, names
}

func pack(b *testing.B) *definition.Catalog {
	b.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return catalog
}

const batchEvents = 10_000

// cpu is the time that this process has computed, whatever else the machine does.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkCollect is what the worker does, by rule: ns and bytes of evidence per event.
func BenchmarkCollect(b *testing.B) {
	catalog := pack(b)
	batch := newRequests(catalog).batch(batchEvents)
	named, names := oneOf(catalog.Rules)
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			collector, size := alert.NewCollector(named[name]), 0
			before := cpu(b)
			for b.Loop() {
				size = 0
				for _, body := range collector.Collect(batch) {
					size += len(body)
				}
				collector.Commit()
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/batchEvents, "cpu-ns/event")
			b.ReportMetric(float64(size)/batchEvents, "B/event")
		})
	}
}

// BenchmarkGlobal is what the evaluator does, by rule: to decode, take in and decide evidence, half a second of
// events at a time, of keys that it knows.
func BenchmarkGlobal(b *testing.B) {
	catalog := pack(b)
	var batches [20][]*event.Columns
	var times [20]time.Time
	from := newRequests(catalog)
	for i := range batches {
		batches[i], times[i] = from.batch(batchEvents), time.UnixMicro(from.at-20_000)
	}
	named, names := oneOf(catalog.Rules)
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			collector := alert.NewCollector(named[name])
			var bodies [20][alert.Partitions][]byte
			for i := range bodies {
				bodies[i] = collector.Collect(batches[i])
				collector.Commit()
			}
			var global *alert.Global
			alerts, events, used := 0, 0, time.Duration(0)
			for b.Loop() {
				global = alert.NewGlobal(named[name]) // from the beginning: time does not go back
				for i := range bodies {
					before := cpu(b)
					for _, body := range bodies[i] {
						evidence, err := alert.DecodeEvidence(body)
						if err != nil {
							b.Fatal(err)
						}
						global.Add(evidence)
					}
					told := len(global.Decide(times[i]))
					if i >= len(bodies)/2 {
						used += cpu(b) - before
						events += batchEvents
						alerts += told
					}
				}
			}
			state := 0
			global.Save(func(r alert.Remembered) { state += len(r.Data) })
			b.ReportMetric(float64(used)/float64(events), "cpu-ns/event")
			b.ReportMetric(float64(state)/float64(max(1, global.Keys())), "B/key")
			b.ReportMetric(float64(alerts)/float64(events), "alerts/event")
		})
	}
}
