package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// Types of events, which are names of streams of the built-in pack.
const (
	typeRequest  = "request"
	typeFault    = "fault"
	typeThrottle = "throttle"
)

// flaw is why an event must become a dead letter.
type flaw uint8

const (
	sound     flaw = iota
	noTime         // it lacks its time
	wrongType      // an attribute that counts is a text
)

// made is an event of the generator: all that the oracle has to know of it.
type made struct {
	kind                      string // its type
	millis                    int64  // event time, since 1970 UTC
	api, app, user, path, gw  int
	agent                     int
	code                      int
	response, service, memory int64 // times, and a number that the other times derive from
	above                     bool
	flaw                      flaw
	slow                      bool   // it must raise an alert, of its worker and over all
	burst                     string // application that is throttled more or less often than it may be
	serial                    int    // of its message, so that no two events are the same
}

const (
	apis   = 6
	apps   = 4
	users  = 5
	paths  = 2
	tenant = "carbon.super"
	owner  = "generated"
)

// agent is a User-Agent header and what it is the header of.
type agent struct{ header, os, browser string }

func agents() []agent {
	return []agent{
		{"", "Other", "Other"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "Windows", "Chrome"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0", "Linux", "Firefox"},
	}
}

func (e made) apiName() string    { return fmt.Sprintf("Api%d", e.api) }
func (e made) apiVersion() string { return fmt.Sprintf("%d.0", 1+e.api%2) }
func (e made) context() string    { return fmt.Sprintf("/api%d/%s", e.api, e.apiVersion()) }
func (e made) applicationID() string {
	if e.burst != "" {
		return e.burst
	}
	return fmt.Sprintf("app-%d", e.app)
}
func (e made) application() string { return fmt.Sprintf("Application %d", e.app) }
func (e made) username() string    { return fmt.Sprintf("user%d@%s", e.user, tenant) }
func (e made) template() string    { return fmt.Sprintf("/things/{id}/%d", e.path) }
func (e made) method() string      { return []string{"GET", "POST"}[e.path%2] }
func (e made) host() string        { return fmt.Sprintf("gateway-%d", e.gw) }
func (e made) reason() string {
	if e.burst != "" {
		return "SUBSCRIPTION_LIMIT_EXCEEDED"
	}
	return "OTHER"
}
func (e made) destination() string { return fmt.Sprintf("https://backend%d.example", e.api%4) }

// times are the nine measured times of a request, in the order of ApiExeTime.
func (e made) times() []int64 {
	return []int64{e.response, e.service, e.response - e.service, e.memory % 7, e.memory % 11, e.memory % 13, e.memory % 17, e.memory % 19, e.memory % 23}
}

// newEvent draws an event. Most are of about now, some late by up to 40 days.
func newEvent(r *rand.Rand, kind string, now int64, serial int) made {
	e := made{
		kind: kind, millis: now - int64(r.IntN(1500)), serial: serial,
		api: skewed(r, apis), app: skewed(r, apps), user: skewed(r, users), path: r.IntN(paths), gw: 1 + r.IntN(2),
		agent: r.IntN(3), code: []int{200, 200, 200, 201, 204, 304, 404, 500}[r.IntN(8)],
		response: 10 + int64(r.IntN(900)), memory: int64(r.IntN(1000)), above: r.IntN(50) == 0,
	}
	e.service = int64(r.IntN(10))
	if r.IntN(50) == 0 {
		// Late, in one of few hours, so that late events meet in buckets.
		e.millis -= int64(r.IntN(960)) * 3_600_000
	}
	return e
}

// skewed draws a number below n, small ones more often.
func skewed(r *rand.Rand, n int) int { return min(r.IntN(n), r.IntN(n)) }

// body is the event as its gateway sends it.
func (e made) body() []byte {
	m := map[string]any{
		"apiName": e.apiName(), "apiVersion": e.apiVersion(), "apiContext": e.context(), "apiCreator": owner,
		"apiCreatorTenantDomain": tenant, "apiMethod": e.method(), "apiResourceTemplate": e.template(),
		"applicationId": e.applicationID(), "applicationName": e.application(), "username": e.username(),
		"userTenantDomain": tenant, "meta_clientType": "", "properties": fmt.Sprintf(`{"serial":%d}`, e.serial),
	}
	switch e.kind {
	case typeRequest:
		e.request(m)
	case typeFault:
		m["applicationConsumerKey"], m["applicationOwner"], m["apiResourcePath"] = "key", owner, "/things/1"
		m["hostname"], m["protocol"], m["errorCode"], m["errorMessage"] = e.host(), "https-8243", "101503", "Error connecting to the back end"
		m["requestTimestamp"] = e.millis
	case typeThrottle:
		m["subscriber"], m["throttledOutReason"], m["gatewayType"] = owner, e.reason(), "SYNAPSE"
		m["throttledOutTimestamp"], m["hostname"] = e.millis, e.host()
	}
	switch e.flaw {
	case noTime:
		delete(m, "requestTimestamp")
		delete(m, "throttledOutTimestamp")
	case wrongType:
		m["requestTimestamp"], m["throttledOutTimestamp"] = "not a time", "not a time"
	case sound:
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts and numbers
	}
	return text
}

func (e made) request(m map[string]any) {
	t := e.times()
	for i, name := range timeNames() {
		m[name] = t[i]
	}
	m["applicationConsumerKey"], m["applicationOwner"], m["apiResourcePath"] = "key", owner, "/things/1"
	m["apiTier"], m["apiHostname"], m["userIp"], m["userAgent"] = "Gold", e.host(), "192.0.2.1", agents()[e.agent].header
	m["requestTimestamp"], m["throttledOut"], m["responseCacheHit"], m["responseSize"] = e.millis, e.above, false, e.memory
	m["protocol"], m["responseCode"], m["destination"] = "https-8243", e.code, e.destination()
	m["gatewayType"], m["label"] = "SYNAPSE", "generated"
}

func timeNames() []string {
	return []string{
		"responseTime", "serviceTime", "backendTime", "securityLatency", "throttlingLatency",
		"requestMedLat", "responseMedLat", "backendLatency", "otherLatency",
	}
}
