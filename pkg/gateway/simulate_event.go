package gateway

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Names of the streams that simulated events belong to.
const (
	TypeRequest  = "request"
	TypeFault    = "fault"
	TypeThrottle = "throttle"
)

// What labels an event as generated: the creator of its API, and its properties; a request event also
// has the label.
const (
	generated           = "generated"
	generatedProperties = `{"generated":true}`
)

// Values that every simulated event has.
const (
	simTenant   = "carbon.super"
	simGateway  = "SYNAPSE"
	simProtocol = "https-8243"
)

// simCommon is what the three streams share.
type simCommon struct {
	ApplicationName        string `json:"applicationName"`
	ApplicationID          string `json:"applicationId"`
	APIName                string `json:"apiName"`
	APIVersion             string `json:"apiVersion"`
	APIContext             string `json:"apiContext"`
	APIResourceTemplate    string `json:"apiResourceTemplate"`
	APIMethod              string `json:"apiMethod"`
	APICreator             string `json:"apiCreator"`
	APICreatorTenantDomain string `json:"apiCreatorTenantDomain"`
	Username               string `json:"username"`
	UserTenantDomain       string `json:"userTenantDomain"`
	Properties             string `json:"properties"`
}

type simRequest struct {
	simCommon
	ApplicationConsumerKey string `json:"applicationConsumerKey"`
	ApplicationOwner       string `json:"applicationOwner"`
	APIResourcePath        string `json:"apiResourcePath"`
	APITier                string `json:"apiTier"`
	APIHostname            string `json:"apiHostname"`
	UserIP                 string `json:"userIp"`
	UserAgent              string `json:"userAgent"`
	RequestTimestamp       int64  `json:"requestTimestamp"`
	ThrottledOut           bool   `json:"throttledOut"`
	ResponseTime           int64  `json:"responseTime"`
	ServiceTime            int64  `json:"serviceTime"`
	BackendTime            int64  `json:"backendTime"`
	ResponseCacheHit       bool   `json:"responseCacheHit"`
	ResponseSize           int64  `json:"responseSize"`
	Protocol               string `json:"protocol"`
	ResponseCode           int    `json:"responseCode"`
	Destination            string `json:"destination"`
	SecurityLatency        int64  `json:"securityLatency"`
	ThrottlingLatency      int64  `json:"throttlingLatency"`
	RequestMedLat          int64  `json:"requestMedLat"`
	ResponseMedLat         int64  `json:"responseMedLat"`
	BackendLatency         int64  `json:"backendLatency"`
	OtherLatency           int64  `json:"otherLatency"`
	GatewayType            string `json:"gatewayType"`
	Label                  string `json:"label"`
}

type simFault struct {
	simCommon
	ApplicationConsumerKey string `json:"applicationConsumerKey"`
	ApplicationOwner       string `json:"applicationOwner"`
	APIResourcePath        string `json:"apiResourcePath"`
	Hostname               string `json:"hostname"`
	Protocol               string `json:"protocol"`
	ErrorCode              string `json:"errorCode"`
	ErrorMessage           string `json:"errorMessage"`
	RequestTimestamp       int64  `json:"requestTimestamp"`
}

type simThrottle struct {
	simCommon
	Subscriber            string `json:"subscriber"`
	ThrottledOutReason    string `json:"throttledOutReason"`
	GatewayType           string `json:"gatewayType"`
	ThrottledOutTimestamp int64  `json:"throttledOutTimestamp"`
	Hostname              string `json:"hostname"`
}

// call is one API call before it is known how it ended.
type call struct {
	api      *simAPI
	app      *simApplication
	user     *simUser
	resource simResource
	at       int // the step of the application's round that the user comes to by it
}

func (c call) common() simCommon {
	return simCommon{
		ApplicationName:        c.app.name,
		ApplicationID:          c.app.id,
		APIName:                c.api.name,
		APIVersion:             c.api.version,
		APIContext:             c.api.context,
		APIResourceTemplate:    c.resource.template,
		APIMethod:              c.resource.method,
		APICreator:             generated,
		APICreatorTenantDomain: simTenant,
		Username:               c.user.name,
		UserTenantDomain:       simTenant,
		Properties:             generatedProperties,
	}
}

func (s *Simulator) request(c call, now time.Time) simRequest {
	total := s.responseTime(c.api)
	gateway := min(1+int64(s.random.ExpFloat64()*3), total)
	backend := total - gateway
	security, throttling, mediation := gateway/4, gateway/8, gateway/4
	cached := c.resource.method == "GET" && s.chance(0.08)
	code := s.responseCode(c.resource.method)
	size := int64(0)
	if code != 204 && code != 304 {
		size = int64(min(math.Exp(7.2+1.3*s.random.NormFloat64()), 50e6)) // median 1.3 kB
	}
	return simRequest{
		simCommon:              c.common(),
		ApplicationConsumerKey: c.app.key,
		ApplicationOwner:       c.app.owner,
		APIResourcePath:        c.path(s.random.IntN(10_000)),
		APITier:                "Gold",
		APIHostname:            s.config.Source,
		UserIP:                 c.user.ip,
		UserAgent:              c.user.agent,
		RequestTimestamp:       now.UnixMilli(),
		ThrottledOut:           s.chance(0.005),
		ResponseTime:           total,
		ServiceTime:            gateway,
		BackendTime:            backend,
		ResponseCacheHit:       cached,
		ResponseSize:           size,
		Protocol:               simProtocol,
		ResponseCode:           code,
		Destination:            "https://" + c.api.name + ".backend.example/" + c.api.version,
		SecurityLatency:        security,
		ThrottlingLatency:      throttling,
		RequestMedLat:          mediation,
		ResponseMedLat:         mediation,
		BackendLatency:         backend,
		OtherLatency:           gateway - security - throttling - 2*mediation,
		GatewayType:            simGateway,
		Label:                  generated,
	}
}

func (s *Simulator) fault(c call, now time.Time) simFault {
	cause := pick(s.random, []struct{ code, message string }{
		{"101503", "Error connecting to the back end"},
		{"101504", "Send timeout"},
		{"101508", "Connection timeout"},
		{"101505", "Connection closed by the remote server"},
	})
	return simFault{
		simCommon:              c.common(),
		ApplicationConsumerKey: c.app.key,
		ApplicationOwner:       c.app.owner,
		APIResourcePath:        c.path(s.random.IntN(10_000)),
		Hostname:               s.config.Source,
		Protocol:               simProtocol,
		ErrorCode:              cause.code,
		ErrorMessage:           cause.message,
		RequestTimestamp:       now.UnixMilli(),
	}
}

func (s *Simulator) throttle(c call, reason string, now time.Time) simThrottle {
	return simThrottle{
		simCommon:             c.common(),
		Subscriber:            c.app.owner,
		ThrottledOutReason:    reason,
		GatewayType:           simGateway,
		ThrottledOutTimestamp: now.UnixMilli(),
		Hostname:              s.config.Source,
	}
}

// path is the resource with an id in place of {id}.
func (c call) path(id int) string {
	return c.api.context + strings.Replace(c.resource.template, "{id}", strconv.Itoa(id), 1)
}

// responseTime draws from a log-normal distribution around the API's median, and one time in a thousand
// from a backend that hangs: 5 to 20 seconds.
func (s *Simulator) responseTime(api *simAPI) int64 {
	if s.chance(0.001) {
		return 5001 + int64(s.random.Float64()*15_000)
	}
	return 1 + int64(min(api.median*math.Exp(0.6*s.random.NormFloat64()), 4900))
}

// responseCode draws a status: about 4 % 4xx and 0.8 % 5xx.
func (s *Simulator) responseCode(method string) int {
	switch at := s.random.Float64(); {
	case at < 0.003:
		return 500
	case at < 0.006:
		return 503
	case at < 0.008:
		return 504
	case at < 0.028:
		return 404
	case at < 0.036:
		return 401
	case at < 0.044:
		return 400
	case at < 0.048:
		return 403
	case method == "POST":
		return 201
	case method == "DELETE":
		return 204
	case method == "GET" && at > 0.95:
		return 304
	}
	return 200
}
