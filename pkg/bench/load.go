package bench

import (
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"time"
)

// Types of events.
const (
	typeRequest  = "request"
	typeFault    = "fault"
	typeThrottle = "throttle"
)

// load says what the events of one stream are like.
type load struct {
	apis, versions, resources, methods   int
	applications, users, agents, clients int
	gateways                             int

	// perSecond events have the same second of event time.
	perSecond int
	// late is the share of events that are up to lateBy older than their neighbours.
	late   float64
	lateBy time.Duration
	// faults and throttles are the shares of events of these types.
	faults, throttles float64
	// skew is the exponent of Zipf's law by which everything is drawn; 0 draws evenly.
	skew float64
	size int // bytes of an event, at least
	seed uint64
	// walks: each user has one application and two networks, and goes through the calls of that application again and
	// again in the same order, as people and programs do. Otherwise everything is drawn for each event by itself.
	walks bool
}

// packLoad is the traffic of a busy gateway, for the whole pack. By one flush of 50,000 events the twelve aggregations have
// about five groups an event at their finest level.
func packLoad(c Config) load {
	return load{
		apis: c.many(100), versions: 3, resources: 20, methods: 5,
		applications: c.many(50), users: c.many(5_000), agents: 30, clients: c.many(60_000), gateways: 3,
		perSecond: 20_000, late: c.lateOr(0), lateBy: lateBy,
		faults: 0.02, throttles: 0.01, skew: c.Skew, size: c.EventSize, seed: 1,
	}
}

// alertsLoad is packLoad by users who behave as rules expect of them: where nobody does anything twice in the same order, everything is
// abnormal.
func alertsLoad(c Config) load {
	l := packLoad(c)
	l.walks, l.seed = true, 3
	return l
}

// peersLoad is what the stream processors that Weir is compared with were given: 200 groups, a thousand events a second
// of event time, 2 % of them late.
func peersLoad(c Config) load {
	return load{
		apis: c.many(10), versions: 2, resources: 10, methods: 1,
		applications: c.many(50), users: c.many(5_000), agents: 30, clients: c.many(60_000), gateways: 1,
		perSecond: 1_000, late: c.lateOr(0.02), lateBy: lateBy,
		skew: c.Skew, size: c.EventSize, seed: 2,
	}
}

const (
	lateBy = 10 * time.Minute
	owner  = "acme"
	tenant = "acme.org"

	// An attribute of one's own fills an event up.
	fillOpen, fillShut = `,"properties":"`, `"}`
)

// made is one event.
type made struct {
	eventType string
	gateway   int
	json      []byte // valid until the next
}

// generator makes the events of a load, and keeps a tally of them. Equal loads make equal events.
type generator struct {
	load   load
	random *rand.Rand
	tally  *tally
	buffer []byte
	events int     // made
	bytes  float64 // of them together

	api, version, resource, method, application, user, agent, client zipf
	orders                                                           map[int][]call // by application
	places                                                           map[int]int    // by user: in that of its application
	turn                                                             int            // the user who called last
}

// call is who calls what.
type call struct {
	api
	resource, method          int
	application, user, client int
}

const (
	walkCalls = 12
	strayOnce = 5_000 // calls are in order but for one

	userStride = 1_237 // from one caller to the next
)

func newGenerator(l load) *generator {
	return &generator{
		load: l, random: rand.New(rand.NewPCG(l.seed, 0)), tally: newTally(), orders: map[int][]call{}, places: map[int]int{},
		api: newZipf(l.apis, l.skew), version: newZipf(l.versions, l.skew), resource: newZipf(l.resources, l.skew), method: newZipf(l.methods, l.skew),
		application: newZipf(l.applications, l.skew), user: newZipf(l.users, l.skew), agent: newZipf(l.agents, l.skew), client: newZipf(l.clients, l.skew),
	}
}

// next makes an event at the time, or before it where it is late.
func (g *generator) next(now time.Time) made {
	if g.load.late > 0 && g.random.Float64() < g.load.late {
		now = now.Add(-time.Duration(g.random.Int64N(int64(g.load.lateBy))))
	}
	gateway := g.random.IntN(g.load.gateways)
	switch kind := g.random.Float64(); {
	case kind < g.load.faults:
		return g.fault(now, g.stray(), gateway)
	case kind < g.load.faults+g.load.throttles:
		return g.throttle(now, g.stray(), gateway)
	}
	return g.request(now, g.call(), gateway)
}

// stray draws a call that is in no order.
func (g *generator) stray() call {
	return g.drawn(g.user.draw(g.random), g.application.draw(g.random), g.client.draw(g.random)/250)
}

// call draws the next call.
func (g *generator) call() call {
	if !g.load.walks {
		return g.stray()
	}
	// In turn, a quarter of a second of event time apart: nobody waits for an answer for less than a millisecond, which is as exactly
	// as gateways tell times.
	g.turn = (g.turn + userStride) % g.load.users
	user := g.turn
	application, network := user%g.load.applications, user%240
	if g.random.IntN(strayOnce) == 0 {
		return g.drawn(user, application, network)
	}
	order := g.orders[application]
	for len(order) < walkCalls {
		order = append(order, g.drawn(0, application, 0))
		g.orders[application] = order
	}
	g.places[user] = (g.places[user] + 1) % walkCalls
	of := order[g.places[user]]
	of.user, of.client = user, network
	return of
}

func (g *generator) drawn(user, application, client int) call {
	return call{
		api{name: g.api.draw(g.random), version: g.version.draw(g.random)}, g.resource.draw(g.random), g.method.draw(g.random), application, user, client,
	}
}

func (g *generator) request(now time.Time, of call, gateway int) made {
	service := 1 + g.random.Int64N(9)
	total := service + int64(min(40*math.Exp(0.6*g.random.NormFloat64()), 60_000))
	code := g.code()
	w := g.begin(of)
	w.number("responseCode", int64(code))
	w.text("apiHostname", "gw-", gateway)
	g.caller(w, of)
	w.text("userIp", "10."+strconv.Itoa(of.client)+".0.", g.random.IntN(2)) // two networks a client
	w.raw(`,"userAgent":"`)
	w.raw(agents[g.agent.draw(g.random)%len(agents)])
	w.raw(`"`)
	w.number("requestTimestamp", now.UnixMilli())
	w.number("responseTime", total)
	w.number("serviceTime", service)
	w.number("backendTime", total-service)
	w.text("destination", "http://backend-", of.name)
	for _, more := range furtherAttributes {
		if len(w.bytes)+len(more)+len(fillOpen)+len(fillShut) < g.load.size {
			w.raw(more)
		}
	}
	g.tally.request(now, of.api, code, total)
	return made{typeRequest, gateway, g.end(w)}
}

func (g *generator) fault(now time.Time, of call, gateway int) made {
	w := g.begin(of)
	w.text("hostname", "gw-", gateway)
	g.caller(w, of)
	w.raw(`,"protocol":"https-8243","errorCode":"101503","errorMessage":"Error connecting to the back end"`)
	w.number("requestTimestamp", now.UnixMilli())
	g.tally.at(now, of.api).faults++
	return made{typeFault, gateway, g.end(w)}
}

func (g *generator) throttle(now time.Time, of call, gateway int) made {
	w := g.begin(of)
	w.text("hostname", "gw-", gateway)
	g.caller(w, of)
	w.raw(`,"subscriber":"acme","throttledOutReason":"SUBSCRIPTION_LIMIT_EXCEEDED","gatewayType":"SYNAPSE"`)
	w.number("throttledOutTimestamp", now.UnixMilli())
	g.tally.at(now, of.api).throttles++
	return made{typeThrottle, gateway, g.end(w)}
}

// begin writes what every type has.
func (g *generator) begin(of call) *writer {
	w := &writer{bytes: g.buffer[:0]}
	w.raw(`{"apiName":"`)
	w.raw(of.apiName())
	w.raw(`"`)
	w.text("apiVersion", "1.", of.version)
	w.raw(`,"apiContext":"`)
	w.raw(of.context())
	w.raw(`"`)
	w.text("apiResourceTemplate", "/part/{id}/", of.resource)
	w.raw(`,"apiMethod":"`)
	w.raw(methods[of.method%len(methods)])
	w.raw(`","apiCreator":"` + owner + `","apiCreatorTenantDomain":"` + tenant + `"`)
	return w
}

func (g *generator) caller(w *writer, of call) {
	w.digits("applicationId", of.application)
	w.text("applicationName", "app-", of.application)
	w.text("username", "user-", of.user)
	w.raw(`,"userTenantDomain":"` + tenant + `"`)
}

// end fills the event up to its size.
func (g *generator) end(w *writer) []byte {
	if fill := g.load.size - len(w.bytes) - len(fillOpen) - len(fillShut); fill > 0 {
		w.raw(fillOpen)
		for range fill {
			w.bytes = append(w.bytes, 'x')
		}
		w.raw(fillShut)
	} else {
		w.raw("}")
	}
	g.buffer = w.bytes
	g.events++
	g.bytes += float64(len(w.bytes))
	return w.bytes
}

// code is a status: 2xx but for one in twenty.
func (g *generator) code() int {
	switch at := g.random.Float64(); {
	case at < 0.01:
		return 500 + g.random.IntN(5)
	case at < 0.05:
		return 400 + g.random.IntN(5)
	case at < 0.2:
		return 201
	}
	return 200
}

var methods = [...]string{"GET", "POST", "PUT", "DELETE", "PATCH"} //nolint:gochecknoglobals // a constant table

var agents = [...]string{ //nolint:gochecknoglobals // a constant table
	"okhttp/4.12.0", "okhttp/4.9.3", "okhttp/3.14.9", "curl/8.5.0", "curl/7.88.1", "curl/7.81.0",
	"python-requests/2.31.0", "python-requests/2.28.2", "Java/17.0.9", "Java/11.0.21", "Java/1.8.0_392",
	"Go-http-client/1.1", "Go-http-client/2.0", "axios/1.6.2", "axios/0.27.2", "node-fetch/1.0", "Wget/1.21.3",
	"PostmanRuntime/7.36.0", "PostmanRuntime/7.29.2", "Dalvik/2.1.0 (Linux; U; Android 13)", "Dalvik/2.1.0 (Linux; U; Android 12)",
	"Apache-HttpClient/4.5.14", "Apache-HttpClient/5.2.1", "insomnia/8.4.5", "HTTPie/3.2.2", "Ruby", "PHP/8.2.13",
	"Firefox/120.0 (X11; Linux x86_64)", "Firefox/119.0 (Windows NT 10.0)", "Chrome/119.0.0.0 (Windows NT 10.0)",
}

// furtherAttributes are those of a request that no aggregation of the load needs: an event that is to be larger has them first.
var furtherAttributes = [...]string{ //nolint:gochecknoglobals // a constant table
	`,"applicationOwner":"acme"`, `,"apiTier":"Gold"`, `,"throttledOut":false`, `,"responseCacheHit":false`, `,"responseSize":1375`,
	`,"protocol":"https-8243"`, `,"securityLatency":1`, `,"throttlingLatency":1`, `,"requestMedLat":1`, `,"responseMedLat":1`,
	`,"backendLatency":38`, `,"otherLatency":2`, `,"gatewayType":"SYNAPSE"`, `,"label":"production"`, `,"meta_clientType":"external"`,
	`,"applicationConsumerKey":"vYDoc9s7IgAFdkSyNDaswBX7ejoa"`, `,"apiResourcePath":"/part/4711/7"`,
}

// api is an API in one version.
type api struct{ name, version int }

func (a api) apiName() string    { return "api-" + strconv.Itoa(a.name) }
func (a api) apiVersion() string { return "1." + strconv.Itoa(a.version) }
func (a api) context() string    { return "/" + a.apiName() + "/" + a.apiVersion() }

// writer appends JSON.
type writer struct{ bytes []byte }

func (w *writer) raw(text string) { w.bytes = append(w.bytes, text...) }

// name begins an attribute that is not the first.
func (w *writer) name(name string) {
	w.raw(`,"`)
	w.raw(name)
	w.raw(`":`)
}

func (w *writer) number(name string, n int64) {
	w.name(name)
	w.bytes = strconv.AppendInt(w.bytes, n, 10)
}

// text writes a string that ends with a number.
func (w *writer) text(name, prefix string, n int) {
	w.name(name)
	w.raw(`"`)
	w.raw(prefix)
	w.bytes = strconv.AppendInt(w.bytes, int64(n), 10)
	w.raw(`"`)
}

// digits writes a string that is a number.
func (w *writer) digits(name string, n int) { w.text(name, "", n) }

// zipf draws 0 … n-1, k in proportion to 1/(k+1)^s.
type zipf struct{ sums []float64 }

func newZipf(n int, s float64) zipf {
	sums := make([]float64, n)
	total := 0.0
	for k := range sums {
		total += math.Pow(float64(k+1), -s)
		sums[k] = total
	}
	return zipf{sums}
}

func (z zipf) draw(random *rand.Rand) int {
	last := len(z.sums) - 1
	return min(last, sort.SearchFloat64s(z.sums, random.Float64()*z.sums[last]))
}
