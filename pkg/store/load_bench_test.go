package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"

	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
	"weir/streams"
)

// load makes batches of events as a busy gateway's: Zipf over 100 APIs of three
// versions, 20 resources, 50 applications, 5,000 users, 30 user agents; 2 % are
// faults and 1 % throttled calls. Event time advances 1 s per 20,000 events.
type load struct {
	catalog  *definition.Catalog
	random   *rand.Rand
	at       int64 // events so far
	decoder  event.Decoder
	api, res *rand.Zipf
	app, usr *rand.Zipf
	agent    *rand.Zipf
}

const loadPerSecond = 20_000

func newLoad(b *testing.B) *load {
	b.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{KeepAll: true})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	zipf := func(n uint64) *rand.Zipf { return rand.NewZipf(r, 1.1, 1, n-1) }
	return &load{catalog: catalog, random: r, api: zipf(100), res: zipf(20), app: zipf(50), usr: zipf(5000), agent: zipf(30)}
}

// batch returns the columns of n events.
func (l *load) batch(b *testing.B, n int) []*event.Columns {
	b.Helper()
	dict := event.NewDictionary()
	byStream := map[string]*event.Columns{}
	var batch []*event.Columns
	stored := time.Date(2026, 10, 1, 12, 30, 0, 0, time.UTC).UnixMicro()
	for i := range n {
		stream, text := l.event()
		c := byStream[stream]
		if c == nil {
			c = event.NewColumns(l.catalog.Stream(stream), dict)
			byStream[stream], batch = c, append(batch, c)
		}
		origin := event.Origin{Message: i, Sequence: uint64(l.at) / 100, Stored: stored, Base: 7, Number: uint64(l.at) / 100, Numbered: false}
		if err := l.decoder.DecodeEvent([]byte(text), origin, i%100, c); err != nil {
			b.Fatalf("%s: %v", text, err)
		}
		l.at++
	}
	return batch
}

func (l *load) event() (stream, text string) {
	at := time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC).UnixMilli() + l.at*1000/loadPerSecond
	api, res, app, usr := l.api.Uint64(), l.res.Uint64(), l.app.Uint64(), l.usr.Uint64()
	version := l.random.IntN(3)
	common := fmt.Sprintf(`"meta_clientType":"PRODUCTION","apiName":"Api%[1]d","apiVersion":"%[2]d.0.0","apiContext":"/tenant/api-%[1]d/%[2]d.0.0","apiCreator":"publisher-%[3]d",`+
		`"apiCreatorTenantDomain":"carbon.super","apiResourceTemplate":"/resource-%[4]d/{id}","apiMethod":"GET","username":"user-%[5]d@example.com","userTenantDomain":"carbon.super",`+
		`"applicationId":"%[6]d","applicationName":"Application %[6]d","applicationOwner":"owner-%[6]d","properties":"{}"`,
		api, version, api%10, res, usr, app)
	host := fmt.Sprintf("gateway-%d.example.com", l.random.IntN(3))
	switch n := l.random.IntN(100); {
	case n == 0:
		return "throttle", fmt.Sprintf(`{%s,"subscriber":"owner-%d","throttledOutReason":"SUBSCRIPTION_LIMIT_EXCEEDED","gatewayType":"SYNAPSE","throttledOutTimestamp":%d,"hostname":"%s"}`,
			common, app, at, host)
	case n <= 2:
		return "fault", fmt.Sprintf(`{%s,"applicationConsumerKey":"key-%d","apiResourcePath":"/resource-%d/7","hostname":"%s","protocol":"https-8243","errorCode":"101503","errorMessage":"Error connecting","requestTimestamp":%d}`,
			common, app, res, host, at)
	}
	code := []int{200, 200, 200, 200, 200, 201, 204, 400, 404, 500}[l.random.IntN(10)]
	return "request", fmt.Sprintf(`{%s,"applicationConsumerKey":"key-%d","apiResourcePath":"/resource-%d/7","apiTier":"Gold","apiHostname":"%s","userIp":"10.%d.%d.%d",`+
		`"userAgent":"Mozilla/5.0 (X11; Linux x86_64) Agent/%d","requestTimestamp":%d,"throttledOut":false,"responseTime":%d,"serviceTime":3,"backendTime":%d,"responseCacheHit":false,`+
		`"responseSize":%d,"protocol":"https-8243","responseCode":%d,"destination":"https://backend-%d.example.com/v1","securityLatency":1,"throttlingLatency":0,"requestMedLat":1,`+
		`"responseMedLat":1,"backendLatency":9,"otherLatency":2,"gatewayType":"SYNAPSE","label":"default"}`,
		common, app, res, host, l.random.IntN(4), l.random.IntN(125), l.random.IntN(120), l.agent.Uint64(), at, 10+l.random.IntN(200), 5+l.random.IntN(150), l.random.IntN(20_000), code, api)
}

// meter measures what a benchmark's calls of measure cost, on both sides.
type meter struct {
	b      *testing.B
	db     *DB
	server *embedded.Postgres
	trips  *atomic.Int64

	client, postgres, elapsed time.Duration
	wal                       float64
	roundTrips                int64
	calls                     int
}

// newMeter starts a server for the benchmark alone.
func newMeter(b *testing.B) *meter {
	b.Helper()
	server := embeddedtest.PostgresServer(b)
	db, trips := countedDB(b, server.URL())
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	return &meter{b: b, db: db, server: server, trips: trips}
}

// countedDB opens a pool that counts round trips: reads after writes.
func countedDB(b *testing.B, url string) (*DB, *atomic.Int64) {
	b.Helper()
	cfg := Config{URL: url, StatementTimeout: -1}.withDefaults()
	db, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	dsn, err := cfg.dsn()
	if err != nil {
		b.Fatal(err)
	}
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		b.Fatal(err)
	}
	d := &countingDialer{}
	connector.Dialer(d)
	_ = db.sql.Close()
	db.sql = sql.OpenDB(connector)
	b.Cleanup(func() { _ = db.Close() })
	return db, &d.trips
}

type countingDialer struct{ trips atomic.Int64 }

func (d *countingDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialTimeout(network, address, 0)
}

func (d *countingDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return d.DialContext(ctx, network, address)
}

func (d *countingDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countingConn{Conn: conn, trips: &d.trips}, nil
}

type countingConn struct {
	net.Conn

	trips *atomic.Int64
	wrote atomic.Bool
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	return c.Conn.Write(p)
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.wrote.Swap(false) {
		c.trips.Add(1)
	}
	return n, err
}

// measure adds what f costs.
func (m *meter) measure(f func() error) {
	m.b.Helper()
	runtime.GC() // of what came before
	wal := ask[string](m.b, m.db, `SELECT pg_current_wal_lsn()::text`)
	client, postgres, trips, begun := embeddedtest.OwnCPU(), embeddedtest.PostgresCPU(m.server), m.trips.Load(), time.Now()
	if err := f(); err != nil {
		m.b.Fatal(err)
	}
	m.elapsed += time.Since(begun)
	m.roundTrips += m.trips.Load() - trips
	m.client += embeddedtest.OwnCPU() - client
	m.postgres += embeddedtest.PostgresCPU(m.server) - postgres
	m.wal += ask[float64](m.b, m.db, `SELECT pg_current_wal_lsn() - $1::pg_lsn`, wal)
	m.calls++
}

// report says it per event, or whatever n counts.
func (m *meter) report(n float64, of string) {
	m.b.ReportMetric(float64(m.client.Nanoseconds())/1000/n, "client-µs/"+of)
	m.b.ReportMetric(float64(m.postgres.Nanoseconds())/1000/n, "postgres-µs/"+of)
	m.b.ReportMetric(float64(m.elapsed.Nanoseconds())/1000/n, "wall-µs/"+of)
	m.b.ReportMetric(m.wal/n, "WAL-B/"+of)
	m.b.ReportMetric(float64(m.roundTrips)/float64(m.calls), "round-trips")
	m.b.ReportMetric(0, "ns/op")
}
