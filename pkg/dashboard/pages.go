package dashboard

// The aggregations that panels ask, all of the default pack.
const (
	outcomes     = "ApiErrorAnalysisAgg" // what became of every call: its code, or that it failed or was throttled out
	traffic      = "ApiVersionPerAppAgg"
	times        = "ApiExeTime"    // means, by resource and part
	latencies    = "ApiLatencyAgg" // percentiles, sizes and cache hits, by API
	reasons      = "ApiThrottleReasonAgg"
	faultCodes   = "ApiFaultCodeAgg"
	users        = "ApiUserPerAppAgg"
	resources    = "ApiResPathPerApp"
	destinations = "ApiPerDestinationAgg"
	agents       = "ApiUserBrowserAgg"
	places       = "GeoLocationAgg"
)

// pages are all pages, in the order of the navigation.
func pages() []page {
	return []page{
		livePage(), apisPage(), apiPage(), applicationsPage(), errorsPage(), latencyPage(), throttlingPage(), devicesPage(), alertsPage(), pipelinePage(),
	}
}

// Expressions over outcomes.
const (
	calls   = "responseCount + faultCount + throttledCount"
	failed  = "_4xx + _5xx + faultCount"
	ofCalls = " / (" + calls + ")"
)

// Tones of what is no answer of a backend.
const (
	faulty  tone = "fault"
	refused tone = "throttle"
)

// Links from what a row is about.

func toAPI() *link { return &link{"/apis/one", map[string]string{"api": "api"}} }

func toVersion() *link {
	return &link{"/apis/one", map[string]string{"api": "api", "version": "version"}}
}
func toApplication() *link { return &link{"/applications", map[string]string{"app": "app"}} }

// Columns that several panels have.

func apiColumn() column { return column{name: "api", ask: "apiName", title: "API", to: toAPI()} }

func versionColumn() column {
	return column{name: "version", ask: "apiVersion", title: "Version", to: toVersion()}
}

func appColumns() []column {
	return []column{
		{name: "name", ask: "applicationName", title: "Application", to: toApplication()},
		{name: "app", ask: "applicationId", title: "Id"},
	}
}

// callsColumn is all calls, whatever became of them.
func callsColumn() column {
	return column{name: "calls", ask: calls, title: "Calls", unit: number, bar: true}
}

// servedColumn is the calls that have a request event: of what counts these alone.
func servedColumn(measure string) column {
	return column{name: "calls", ask: measure, title: "Served calls", unit: number, bar: true}
}

// errorColumns are the calls that failed, by class; the tone is that of faults, which in a chart differs from that of 5xx.
func errorColumns(faults tone) []column {
	return []column{
		{name: "c4xx", ask: "_4xx", title: "4xx", unit: number, tone: warn},
		{name: "c5xx", ask: "_5xx", title: "5xx", unit: number, tone: bad},
		{name: "faults", ask: "faultCount", title: "Faults", unit: number, tone: faults},
	}
}

func throttledColumn(t tone) column {
	return column{name: "throttled", ask: "throttledCount", title: "Throttled", unit: number, tone: t}
}

// outcomeColumns are what became of the calls.
func outcomeColumns() []column {
	return append(errorColumns(bad), throttledColumn(warn), rateColumn())
}

func rateColumn() column {
	return column{name: "errors", ask: "100 * (" + failed + ")" + ofCalls, title: "Error rate", unit: percent, tone: bad}
}

// Panels that several pages have.

// sums are the figures of all calls.
func sums() panel {
	return panel{
		id: "sums", form: tiles, wide: true, of: outcomes,
		columns: append([]column{
			{name: "calls", ask: calls, title: "Calls", unit: number},
			{name: "served", ask: "responseCount", title: "Served", unit: number},
			rateColumn(),
		}, append(errorColumns(bad), throttledColumn(warn))...),
	}
}

// byOutcome is traffic over time: what was served, by class of its code, and what was not.
func byOutcome() panel {
	return panel{
		id: "traffic", title: "Traffic by outcome", form: stack, of: outcomes, wide: true,
		columns: append([]column{
			{name: "ok", ask: "responseCount - _4xx - _5xx", title: "Below 400", unit: number, tone: good},
		}, append(errorColumns(faulty), throttledColumn(refused))...),
	}
}

// byAPI and byApplication are tables of all calls.

func byAPI() panel {
	return panel{
		id: "apis", title: "APIs", form: table, wide: true, of: outcomes, group: "apiName, apiVersion", order: "calls desc", limit: 20,
		columns: append(append([]column{apiColumn(), versionColumn(), callsColumn()}, outcomeColumns()...),
			column{name: "seen", ask: "bucket", title: "Last call", unit: moment}),
	}
}

func byApplication() panel {
	return panel{
		id: "applications", title: "Applications", form: table, wide: true, of: outcomes, group: "applicationId", order: "calls desc", limit: 20,
		columns: append(append(append(appColumns(), column{name: "owner", ask: "applicationOwner", title: "Owner"}, callsColumn()), outcomeColumns()...),
			column{name: "seen", ask: "bucket", title: "Last call", unit: moment}),
	}
}

func byResource() panel {
	return panel{
		id: "resources", title: "Resources", form: table, of: resources, group: "apiResourceTemplate, apiMethod", order: "calls desc",
		columns: []column{
			{name: "method", ask: "apiMethod", title: "Method"},
			{name: "resource", ask: "apiResourceTemplate", title: "Resource"},
			servedColumn("totalRequestCount"),
		},
	}
}

func byUser() panel {
	return panel{
		id: "users", title: "Users", form: table, of: users, group: "username, userTenantDomain", order: "calls desc",
		columns: []column{
			{name: "user", ask: "username", title: "User"},
			{name: "tenant", ask: "userTenantDomain", title: "Tenant"},
			servedColumn("totalRequestCount"),
		},
	}
}

// parts are where the time of a call goes, on average: columns, and their names.
func parts() (columns []column, names []string) {
	for _, part := range [][2]string{
		{"securityLatency", "Security"},
		{"throttlingLatency", "Throttling"},
		{"requestMedLat", "Request mediation"},
		{"backendLatency", "Backend"},
		{"responseMedLat", "Response mediation"},
		{"otherLatency", "Other"},
	} {
		columns = append(columns, column{name: part[0], title: part[1], unit: millis})
		names = append(names, part[0])
	}
	return columns, names
}

func partsOverTime() panel {
	columns, _ := parts()
	return panel{id: "parts", title: "Mean latency by part", form: stack, of: times, columns: columns}
}

// slowest are resources by their mean response time, split into its parts.
func slowest(wide bool) panel {
	columns, names := parts()
	return panel{
		id: "slowest", title: "Slowest resources", about: "Means of served calls; the bars show where the time goes.", form: table, wide: wide, of: times,
		group: "apiContext, apiResourceTemplate, apiMethod", order: "response desc", limit: 15, split: names,
		columns: append([]column{
			{name: "api", ask: "apiName", title: "API", to: toAPI()},
			{name: "version", ask: "apiVersion", title: "Version"},
			{name: "method", ask: "apiMethod", title: "Method"},
			{name: "resource", ask: "apiResourceTemplate", title: "Resource"},
			{name: "response", ask: "responseTime", title: "Response", unit: millis},
		}, hidden(columns)...),
	}
}

// hidden are columns that are seen only as parts of a bar.
func hidden(columns []column) []column {
	for i := range columns {
		columns[i].hidden = true
	}
	return columns
}

func percentileColumns() []column {
	return []column{
		{name: "p50", title: "p50", unit: millis},
		{name: "p95", title: "p95", unit: millis},
		{name: "p99", title: "p99", unit: millis},
	}
}

// percentiles are those of the response time, over time.
func percentiles(wide bool) panel {
	return panel{id: "percentiles", title: "Response time", form: lines, wide: wide, of: latencies, columns: percentileColumns()}
}

// speeds are the figures of response times and of what was sent.
func speeds() panel {
	return panel{
		id: "speeds", form: tiles, wide: true, of: latencies,
		columns: append(percentileColumns(),
			column{name: "longest", title: "Longest", unit: millis},
			column{name: "sent", title: "Sent", unit: octets},
			column{name: "cached", ask: "100 * cacheHits / totalCount", title: "From the cache", unit: percent}),
	}
}

// byCode are the errors by HTTP status.
func byCode() panel {
	return panel{
		id: "codes", title: "Errors by status", form: table, of: outcomes, group: "responseCode", where: "responseCode >= 400", order: "answers desc",
		columns: []column{
			{name: "code", ask: "responseCode", title: "Status", unit: status},
			{name: "answers", ask: "responseCount", title: "Answers", unit: number, bar: true, tone: bad},
			{name: "seen", ask: "bucket", title: "Last", unit: moment},
		},
	}
}

// byFault are the faults by the gateway's error code.
func byFault() panel {
	return panel{
		id: "faults", title: "Faults by error code", form: table, of: faultCodes, group: "errorCode", order: "faults desc",
		columns: []column{
			{name: "code", ask: "errorCode", title: "Code"},
			{name: "message", ask: "errorMessage", title: "Last message"},
			{name: "faults", ask: "totalFaultCount", title: "Faults", unit: number, bar: true, tone: faulty},
		},
	}
}

// byReason are the calls that were throttled out, by the limit they met.
func byReason() panel {
	return panel{
		id: "reasons", title: "Throttled by reason", form: table, of: reasons, group: "throttledOutReason", order: "throttled desc",
		columns: []column{
			{name: "reason", ask: "throttledOutReason", title: "Limit"},
			{name: "throttled", ask: "throttledOutCount", title: "Throttled", unit: number, bar: true, tone: refused},
			{name: "seen", ask: "bucket", title: "Last", unit: moment},
		},
	}
}

func errorsOverTime() panel {
	return panel{id: "errors", title: "Errors by class", form: stack, of: outcomes, wide: true, columns: errorColumns(faulty)}
}

// byKey is a table of served calls by one key of an aggregation.
func byKey(id, title, of, key, heading, measure string) panel {
	return panel{
		id: id, title: title, form: table, of: of, group: key, order: "calls desc",
		columns: []column{{name: "name", ask: key, title: heading}, servedColumn(measure)},
	}
}

func byPlatform() panel {
	return byKey("platforms", "Platforms", agents, "operatingSystem", "Operating system", "totalRequestCount")
}

func byBrowser() panel {
	return byKey("browsers", "User agents", agents, "browser", "User agent", "totalRequestCount")
}

func byCountry() panel {
	p := byKey("countries", "Countries", places, "country", "Country", "totalCount")
	p.about = "By the address of the client; Unknown where no GeoIP file is given."
	return p
}
