package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	spike = "tier-crossing"
	// graceOfEvents is the alerter's default: for so long events may come out of order.
	graceOfEvents = 5
)

// happening is one event of a load. Times are seconds since the load's beginning; nothing in it is faster.
type happening struct {
	at     int64
	kind   string // request, throttle
	key    alertKey
	took   int64  // milliseconds that a call took
	reason string // why a call was throttled
}

// alertKey is what the load tells keys apart by: the rest is the same everywhere.
type alertKey struct{ api, application, user, template string }

func (h happening) body(begin time.Time) json.RawMessage {
	at := begin.Add(time.Duration(h.at) * time.Second).UnixMilli()
	m := map[string]any{
		"apiName": h.key.api, "apiVersion": "1.0.0", "apiCreator": "ann", "apiCreatorTenantDomain": "a.com",
		"applicationId": h.key.application, "username": h.key.user, "apiResourceTemplate": h.key.template, "apiMethod": "GET",
	}
	if h.kind == "throttle" {
		m["throttledOutTimestamp"], m["throttledOutReason"], m["subscriber"] = at, h.reason, "sue"
	} else {
		m["requestTimestamp"], m["responseTime"], m["responseCode"], m["userIp"] = at, h.took, 200, "192.0.2.1"
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts and numbers
	}
	return body
}

// told is what can be said of an alert beforehand.
type told struct {
	rule, name, state string
	key               string
	at                int64   // when it fires, or is resolved
	value             float64 // of one that fires
}

// madeLoad draws two and a half hours of calls: slow ones, some of them again within the ten minutes in which an alert is
// not told anew, and throttled ones, a few more or fewer than the limit within the hour. All APIs are called all the time, so
// that none is silent, and no slow call follows another. At the end every partition of the keys has an alert.
func madeLoad(r *rand.Rand) (load []happening, through int64) {
	const length = 9000
	add := func(h happening) { load = append(load, h) }
	call := func(at int64, api, template string, took int64) {
		add(happening{at: at, kind: "request", key: alertKey{api, "web", "u", template}, took: took})
	}
	for api := range 5 {
		name := fmt.Sprintf("api-%d", api)
		for at := int64(0); at <= length; at += 240 {
			call(at, name, "/", 10)
		}
		for template := range 3 {
			for range 6 {
				at := r.Int64N(length)
				call(at, name, fmt.Sprintf("/slow/%d", template), 5001+r.Int64N(3000))
				call(at, name, "/", 10)
			}
		}
	}
	for n := range 24 {
		h := happening{kind: "throttle", key: alertKey{fmt.Sprintf("api-%d", n%5), fmt.Sprintf("app-%d", n), "u", "/"}, reason: "SUBSCRIPTION_LIMIT_EXCEEDED"}
		if n%2 == 1 {
			h.reason = "APPLICATION_LIMIT_EXCEEDED"
		}
		for range 1 + r.IntN(2) {
			from, over := r.Int64N(length), 600+r.Int64N(3600)
			for range []int{10, 11, 12, 25}[r.IntN(4)] {
				if h.at = from + r.Int64N(over); h.at < length {
					add(h)
				}
			}
		}
	}
	for n := range 64 {
		call(length, fmt.Sprintf("api-%d", n%5), fmt.Sprintf("/last/%d", n), 6000)
		call(length, fmt.Sprintf("api-%d", n%5), "/", 10)
	}
	slices.SortStableFunc(load, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
	return load, length + 1
}

// oracle goes through the load naively, key by key and step by step, and says which alerts must come of it, up to a time.
func oracleOf(load []happening, through int64) map[told]int {
	by := map[told][]happening{}
	for _, h := range load {
		switch {
		case h.kind == "request" && h.took > 5000:
			of := told{rule: slow, key: fmt.Sprintf("apiCreator=ann apiCreatorTenantDomain=a.com apiMethod=GET apiName=%s apiResourceTemplate=%s apiVersion=1.0.0", h.key.api, h.key.template)}
			by[of] = append(by[of], h)
		case h.reason == "SUBSCRIPTION_LIMIT_EXCEEDED":
			of := told{rule: spike, name: "subscription", key: fmt.Sprintf("apiCreator=ann apiName=%s apiVersion=1.0.0 applicationId=%s", h.key.api, h.key.application)}
			by[of] = append(by[of], h)
		case h.reason == "APPLICATION_LIMIT_EXCEEDED":
			of := told{rule: spike, name: "application", key: fmt.Sprintf("apiName=%s apiVersion=1.0.0 applicationId=%s username=%s", h.key.api, h.key.application, h.key.user)}
			by[of] = append(by[of], h)
		}
	}
	want := map[told]int{}
	for of, events := range by {
		o := alertOracle{of: of, events: events, step: 10, window: 3600, most: 10}
		if of.rule == slow {
			o.step, o.window, o.most, o.keep = 1, 1, 0, 600
		}
		for at := o.step; at <= through; at += o.step {
			o.advance(at, func(a told) { want[a]++ })
		}
	}
	return want
}

// alertOracle is the life of one key's alerts.
type alertOracle struct {
	of                       told
	events                   []happening
	step, window, most, keep int64

	firing       bool
	fired, ended int64
}

// advance is a step's end. More than most events in the window fire; if there is one in the step itself, again
// ten minutes after the last time; once they are not more for as long as keep, that is resolved.
func (o *alertOracle) advance(at int64, say func(told)) {
	n, slowest, fresh := int64(0), int64(0), false
	for _, e := range o.events {
		if end := e.at/o.step*o.step + o.step; end > at-o.window && end <= at {
			n, fresh, slowest = n+1, fresh || end == at, max(slowest, e.took)
		}
	}
	a := o.of
	a.at, a.value = at, float64(n)
	if o.of.rule == slow {
		a.value = float64(slowest)
	}
	switch {
	case n > o.most:
		o.ended = 0
		if (!o.firing || fresh) && (o.fired == 0 || at-o.fired >= 600) {
			o.firing, o.fired, a.state = true, at, "firing"
			say(a)
		}
	case o.firing:
		if o.ended == 0 {
			o.ended = at
		}
		if at-o.ended >= o.keep {
			o.firing, o.ended, a.state, a.value = false, 0, "resolved", 0
			say(a)
		}
	}
}

// tell is a published alert as the oracle tells it.
func (a *publishedAlert) tell(begin time.Time) told {
	var key []string
	for _, name := range slices.Sorted(maps.Keys(a.Key)) {
		key = append(key, name+"="+a.Key[name])
	}
	of := told{rule: a.Rule, name: a.Case, state: a.State, key: strings.Join(key, " "), value: a.Value}
	at := a.FiredAt
	if a.State == "resolved" {
		at, of.value = a.ResolvedAt, 0
	}
	of.at = int64(at.Sub(begin) / time.Second)
	return of
}
