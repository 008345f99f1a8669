package event_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/streams"
)

// benchStart is the event time of the first event, in milliseconds.
const benchStart = 1_795_341_600_000

// traffic makes request events with the skew of real ones: 100 APIs of 3
// versions and 20 resources, 50 applications, 5,000 users, 30 user agents,
// 60,000 addresses.
type traffic struct {
	random                                        *rand.Rand
	api, resource, application, user, agent, from *rand.Zipf
	n                                             int
}

func newTraffic() *traffic {
	r := rand.New(rand.NewPCG(1, 2))
	zipf := func(n uint64) *rand.Zipf { return rand.NewZipf(r, 1.2, 2, n-1) }
	return &traffic{random: r, api: zipf(100), resource: zipf(20), application: zipf(50), user: zipf(5000), agent: zipf(30), from: zipf(60_000)}
}

// compact appends an event of 20 attributes, about 480 bytes.
func (t *traffic) compact(b *bytes.Buffer) {
	api, application, user, ip := t.api.Uint64(), t.application.Uint64(), t.user.Uint64(), t.from.Uint64()
	fmt.Fprintf(b, `{"requestTimestamp":%d,"apiName":"Api%d","apiVersion":"%d.0.0","apiContext":"/api%d/%d.0.0","apiCreator":"admin","apiCreatorTenantDomain":"carbon.super",`,
		benchStart+t.n/20, api, api%3, api, api%3)
	fmt.Fprintf(b, `"apiResourcePath":"/res%d/7","apiResourceTemplate":"/res%d/{id}","apiMethod":"GET","apiHostname":"gw-%d","applicationId":"%d","applicationName":"App%d",`,
		t.resource.Uint64(), t.resource.Uint64(), t.random.IntN(3), application, application)
	fmt.Fprintf(b, `"username":"user%d","userTenantDomain":"carbon.super","userIp":"10.%d.%d.%d","userAgent":"Agent/%d.0","responseCode":%d,"responseTime":%d,"responseSize":%d,"throttledOut":false}`,
		user, ip>>16, ip>>8&255, ip&255, t.agent.Uint64(), t.code(), t.random.IntN(900), t.random.IntN(40_000))
	t.n++
}

func (t *traffic) code() int { return []int{200, 200, 200, 201, 404, 500}[t.random.IntN(6)] }

// full appends an event of all 38 attributes, about 1,060 bytes.
func (t *traffic) full(b *bytes.Buffer) {
	api, application, user, ip, response := t.api.Uint64(), t.application.Uint64(), t.user.Uint64(), t.from.Uint64(), t.random.IntN(900)
	fmt.Fprintf(b, `{"meta_clientType":"server","applicationConsumerKey":"key_%08d","applicationName":"App%d","applicationId":"%d","applicationOwner":"owner%d",`,
		application, application, application, application%7)
	fmt.Fprintf(b, `"apiContext":"/api%d/%d.0.0","apiName":"Api%d","apiVersion":"%d.0.0","apiResourcePath":"/res%d/7","apiResourceTemplate":"/res%d/{id}","apiMethod":"GET",`,
		api, api%3, api, api%3, t.resource.Uint64(), t.resource.Uint64())
	fmt.Fprintf(b, `"apiCreator":"admin","apiCreatorTenantDomain":"carbon.super","apiTier":"Gold","apiHostname":"gw-%d","username":"user%d","userTenantDomain":"carbon.super",`,
		t.random.IntN(3), user)
	fmt.Fprintf(b, `"userIp":"10.%d.%d.%d","userAgent":"Mozilla/5.0 (X11; Linux x86_64) Agent/%d.0","requestTimestamp":%d,"throttledOut":false,"responseTime":%d,"serviceTime":%d,"backendTime":%d,`,
		ip>>16, ip>>8&255, ip&255, t.agent.Uint64(), benchStart+t.n/20, response, response/10, response-response/10)
	fmt.Fprintf(b, `"responseCacheHit":false,"responseSize":%d,"protocol":"https-8243","responseCode":%d,"destination":"https://backend%d.internal:9443/svc","securityLatency":%d,`,
		t.random.IntN(40_000), t.code(), api, t.random.IntN(9))
	fmt.Fprintf(b, `"throttlingLatency":1,"requestMedLat":2,"responseMedLat":3,"backendLatency":%d,"otherLatency":0,"gatewayType":"SYNAPSE","label":"Production","properties":"{}"}`, response)
	t.n++
}

// messages makes bodies of so many events each.
func messages(one func(b *bytes.Buffer), events, each int) (bodies []event.Body, size float64) {
	for range events / each {
		var b bytes.Buffer
		b.WriteByte('[')
		for i := range each {
			if i > 0 {
				b.WriteByte(',')
			}
			one(&b)
		}
		b.WriteByte(']')
		body := b.Bytes()
		if each == 1 {
			body = body[1 : len(body)-1]
		}
		bodies = append(bodies, event.Body{Data: body, ContentType: "application/json"})
		size += float64(len(body))
	}
	return bodies, size / float64(events)
}

// pack is the schema of the default pack's requests.
func pack(t testing.TB) *event.Schema {
	t.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{Dir: "streams"})
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Stream("request")
}

// Not parallel: others would allocate meanwhile.
func TestDecode_AllocatesNothingForEventsAsThoseBefore(t *testing.T) {
	for name, one := range map[string]func(b *bytes.Buffer){"compact": newTraffic().compact, "full": newTraffic().full} {
		bodies, _ := messages(one, 2000, 100)
		columns := event.NewColumns(pack(t), event.NewDictionary())
		var d event.Decoder
		batch := func() {
			columns.Reset()
			for i, body := range bodies {
				if _, rejects, err := d.Decode(body, event.Origin{Message: i, Stored: benchStart * 1000}, columns); err != nil || len(rejects) > 0 {
					t.Fatal(rejects, err)
				}
			}
		}
		batch()
		if n := testing.AllocsPerRun(5, batch); n > 0 {
			t.Errorf("%s: %v allocations for %d events", name, n, columns.Len())
		}
	}
}

// BenchmarkDecode reads events into the columns of the default pack, all that it
// derives included: batches of 20,000 into the same columns, one after another.
func BenchmarkDecode(b *testing.B) {
	schema := pack(b)
	const events = 20_000
	for _, kind := range []struct {
		name     string
		of       func(b *bytes.Buffer)
		each     int
		encoding string
	}{
		{"compact/100", newTraffic().compact, 100, ""},
		{"compact/1", newTraffic().compact, 1, ""},
		{"full/100", newTraffic().full, 100, ""},
		{"full/1", newTraffic().full, 1, ""},
		{"compact-gzip/100", newTraffic().compact, 100, "gzip"},
		{"compact-zstd/100", newTraffic().compact, 100, "zstd"},
	} {
		bodies, size := messages(kind.of, events, kind.each)
		for i := range bodies {
			bodies[i].Data, bodies[i].Encoding = compressed(b, kind.encoding, bodies[i].Data), kind.encoding
		}
		b.Run(kind.name, func(b *testing.B) {
			benchmarkDecode(b, &event.Decoder{}, schema, bodies, events)
			b.ReportMetric(size, "B/event")
		})
		b.Run(kind.name+"/exact", func(b *testing.B) {
			benchmarkDecode(b, event.ExactDecoder(), schema, bodies, events)
		})
	}
}

func benchmarkDecode(b *testing.B, d *event.Decoder, schema *event.Schema, bodies []event.Body, events int) {
	b.ReportAllocs()
	columns := event.NewColumns(schema, event.NewDictionary())
	batch := func() {
		columns.Reset()
		for i, body := range bodies {
			origin := event.Origin{Message: i, Sequence: uint64(i + 1), Stored: benchStart * 1000, Number: uint64(i)}
			if _, rejects, err := d.Decode(body, origin, columns); err != nil || len(rejects) > 0 {
				b.Fatal(rejects, err)
			}
		}
	}
	batch()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	started, least := cpuTime(b), time.Hour
	for b.Loop() {
		from := cpuTime(b)
		batch()
		least = min(least, cpuTime(b)-from)
	}
	used := cpuTime(b) - started
	runtime.ReadMemStats(&after)
	n := float64(b.N) * float64(events)
	b.ReportMetric(float64(used.Nanoseconds())/n, "cpu-ns/event")
	b.ReportMetric(float64(least.Nanoseconds())/float64(events), "least-cpu-ns/event") // of a batch: what the cost is while nobody else disturbs
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/event")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/event")
	b.ReportMetric(0, "ns/op")
}

func compressed(b *testing.B, encoding string, data []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			b.Fatal(err)
		}
		return encoder.EncodeAll(data, nil)
	default:
		return data
	}
	if _, err := w.Write(data); err != nil || w.Close() != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// cpuTime is what this process has used: on a machine that others use too, it
// says more than the time on the wall.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
