package chaos

import (
	"strconv"
	"strings"
	"time"
)

// sheet is the oracle's own account of one aggregation of the pack: written by hand from the definition, it
// shares nothing with the code that folds.
type sheet struct {
	name     string
	keys     []string // columns of the view
	measures []string // of whole numbers; averages come as avg(x) and are compared as sums
	// row is what an event adds; not ok: the aggregation does not have it.
	row func(e made) (keys []string, measures []int64, ok bool)
}

// levels are the granularities of every aggregation of the pack, the finest first.
func levels() []string { return []string{"seconds", "minutes", "hours", "days", "months", "years"} }

// bucketOf is the start of the bucket, in seconds since 1970 UTC.
func bucketOf(level string, second int64) int64 {
	t := time.Unix(second, 0).UTC()
	switch level {
	case "minutes":
		return second - second%60
	case "hours":
		return second - second%3600
	case "days":
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix()
	case "months":
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).Unix()
	case "years":
		return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	}
	return second
}

// cell is a group in a bucket: its key is the bucket and the group keys.
type cell struct {
	events   int64
	measures [9]int64
}

func cellKey(bucket int64, keys []string) string {
	return strconv.FormatInt(bucket, 10) + "\x00" + strings.Join(keys, "\x00")
}

// account is a sheet filled in, at the finest level.
type account map[string]*cell

// fill adds up events naively.
func (s sheet) fill(events []made) account {
	a := account{}
	for _, e := range events {
		keys, measures, ok := s.row(e)
		if !ok {
			continue
		}
		key := cellKey(e.millis/1000, keys)
		c := a[key]
		if c == nil {
			c = &cell{}
			a[key] = c
		}
		c.events++
		for i, m := range measures {
			c.measures[i] += m
		}
	}
	return a
}

// at is the account of a coarser level.
func (a account) at(level string) account {
	if level == "seconds" {
		return a
	}
	b := account{}
	for key, c := range a {
		text, rest, _ := strings.Cut(key, "\x00")
		second, _ := strconv.ParseInt(text, 10, 64) // it was formatted above
		key := strconv.FormatInt(bucketOf(level, second), 10) + "\x00" + rest
		sum := b[key]
		if sum == nil {
			sum = &cell{}
			b[key] = sum
		}
		sum.events += c.events
		for i, m := range c.measures {
			sum.measures[i] += m
		}
	}
	return b
}

func (a account) events() (n int64) {
	for _, c := range a {
		n += c.events
	}
	return n
}

// sheets are those of all aggregations of the pack.
func sheets() []sheet {
	one := []int64{1}
	request := func(row func(e made) ([]string, []int64)) func(made) ([]string, []int64, bool) {
		return only(typeRequest, row)
	}
	return []sheet{
		{"GeoLocationAgg", []string{"apicontext", "country", "city"}, []string{"totalcount"}, request(func(e made) ([]string, []int64) {
			return []string{e.context(), "Unknown", "Unknown"}, one
		})},
		{"ApiVersionPerAppAgg", []string{"apicontext", "apihostname", "applicationid"}, []string{"totalrequestcount", "abovequotacount"}, request(func(e made) ([]string, []int64) {
			return []string{e.context(), e.host(), e.applicationID()}, []int64{1, count(e.above)}
		})},
		{"ApiResPathPerApp", []string{"apicontext", "apihostname", "applicationid", "apiresourcetemplate", "apimethod"}, []string{"totalrequestcount"}, request(func(e made) ([]string, []int64) {
			return []string{e.context(), e.host(), e.applicationID(), e.template(), e.method()}, one
		})},
		{"ApiPerDestinationAgg", []string{"apicontext", "apihostname", "destination"}, []string{"totalrequestcount"}, request(func(e made) ([]string, []int64) {
			return []string{e.context(), e.host(), e.destination()}, one
		})},
		{"ApiUserPerAppAgg", []string{"apicontext", "apihostname", "applicationid", "username", "usertenantdomain"}, []string{"totalrequestcount"}, request(func(e made) ([]string, []int64) {
			return []string{e.context(), e.host(), e.applicationID(), e.username(), tenant}, one
		})},
		{"ApiUserBrowserAgg", []string{"apicontext", "apicreator", "apicreatortenantdomain", "operatingsystem", "browser"}, []string{"totalrequestcount"}, request(func(e made) ([]string, []int64) {
			a := agents()[e.agent]
			return []string{e.context(), owner, tenant, a.os, a.browser}, one
		})},
		{"ApiExeTime", []string{"apicontext", "apihostname", "apiresourcetemplate", "apimethod"}, averages(), request(func(e made) ([]string, []int64) {
			return []string{e.context(), e.host(), e.template(), e.method()}, e.times()
		})},
		{"APIM_ReqCountAgg", []string{"apiname", "apiversion", "apicreator", "apicreatortenantdomain", "applicationname"}, []string{"successcount", "throttlecount"}, func(e made) ([]string, []int64, bool) {
			return []string{e.apiName(), e.apiVersion(), owner, tenant, e.application()}, []int64{count(e.kind == typeRequest), count(e.kind == typeThrottle)}, e.kind != typeFault
		}},
		{"ApiErrorAnalysisAgg", []string{"apiname", "apiversion", "responsecode", "apiresourcetemplate", "applicationid"}, []string{"_2xx", "_4xx", "_5xx", "responsecount", "faultcount", "throttledcount"}, errorAnalysis},
		{"MonetizationAgg", []string{"apiname", "apiversion", "apicreator", "apicreatortenantdomain", "applicationid"}, []string{"requestcount"}, func(e made) ([]string, []int64, bool) {
			return []string{e.apiName(), e.apiVersion(), owner, tenant, e.applicationID()}, one, e.kind == typeRequest && e.code/100 == 2
		}},
		{"ApiFaultyInvocationAgg", []string{"apicontext", "applicationid", "hostname"}, []string{"totalfaultcount"}, only(typeFault, func(e made) ([]string, []int64) {
			return []string{e.context(), e.applicationID(), e.host()}, one
		})},
		{"ApiThrottledOutAgg", []string{"apicontext", "applicationid", "hostname"}, []string{"throttledoutcount"}, only(typeThrottle, func(e made) ([]string, []int64) {
			return []string{e.context(), e.applicationID(), e.host()}, one
		})},
		{"ApiLatencyAgg", []string{"apiname", "apiversion", "apicreatortenantdomain"}, []string{"totalcount", "sent", "cachehits"}, request(func(e made) ([]string, []int64) {
			return []string{e.apiName(), e.apiVersion(), tenant}, []int64{1, e.memory, 0}
		})},
		{"ApiFaultCodeAgg", []string{"apiname", "apiversion", "apicreatortenantdomain", "applicationid", "errorcode"}, []string{"totalfaultcount"}, only(typeFault, func(e made) ([]string, []int64) {
			return []string{e.apiName(), e.apiVersion(), tenant, e.applicationID(), "101503"}, one
		})},
		{"ApiThrottleReasonAgg", []string{"apiname", "apiversion", "apicreatortenantdomain", "applicationid", "throttledoutreason"}, []string{"throttledoutcount"}, only(typeThrottle, func(e made) ([]string, []int64) {
			return []string{e.apiName(), e.apiVersion(), tenant, e.applicationID(), e.reason()}, one
		})},
	}
}

func errorAnalysis(e made) ([]string, []int64, bool) {
	code, status := 0, 0
	if e.kind == typeRequest {
		code, status = e.code, e.code/100
	}
	keys := []string{e.apiName(), e.apiVersion(), strconv.Itoa(code), e.template(), e.applicationID()}
	return keys, []int64{
		count(status == 2), count(status == 4), count(status == 5),
		count(e.kind == typeRequest), count(e.kind == typeFault), count(e.kind == typeThrottle),
	}, true
}

func averages() []string {
	var columns []string
	for _, name := range timeNames() {
		columns = append(columns, "avg("+strings.ToLower(name)+")")
	}
	return columns
}

func only(kind string, row func(made) ([]string, []int64)) func(made) ([]string, []int64, bool) {
	return func(e made) ([]string, []int64, bool) {
		keys, measures := row(e)
		return keys, measures, e.kind == kind
	}
}

func count(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
