package report

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// mostTop is how many a list of those with most calls has.
const mostTop = 10

// Month is what a report tells.
type Month struct {
	Start, End time.Time // [Start, End), in the zone of the calls' aggregation
	Made       time.Time
	Through    time.Time // all that the stream had up to then is counted; zero where that is not known
	Kept       string    // how long months are kept; "" where that is not known
	Rows       []Row     // by tenant, API, version and application
	Users      []Ranked  // with most calls
	Days       []Day     // of the month, those to come left out; empty where days are not kept
}

// Row is one application's use of one version of an API.
type Row struct {
	Tenant, API, Version, ApplicationID string

	Application, Owner string
	Figures
}

// Figures are numbers of calls.
type Figures struct {
	Requests  int64 // answered calls
	Codes4xx  int64 // of these
	Codes5xx  int64 // of these
	Faults    int64 // failed in the gateway
	Throttled int64 // refused, because a quota was used up
}

func (f *Figures) add(g Figures) {
	f.Requests += g.Requests
	f.Codes4xx += g.Codes4xx
	f.Codes5xx += g.Codes5xx
	f.Faults += g.Faults
	f.Throttled += g.Throttled
}

// ErrorShare is the share of calls, in percent, that were answered with a code from 500 on or failed in the gateway.
func (f Figures) ErrorShare() float64 {
	calls := f.Requests + f.Faults
	if calls == 0 {
		return 0
	}
	return 100 * float64(f.Codes5xx+f.Faults) / float64(calls)
}

// Ranked is one of those with most calls.
type Ranked struct {
	Name string
	Figures
}

// Day is the calls of a day.
type Day struct {
	Start    time.Time
	Requests int64
}

// Over reports whether the month is over, and all its events counted, as far as that is known.
func (m *Month) Over() bool {
	return !m.Made.Before(m.End) && (m.Through.IsZero() || !m.Through.Before(m.End))
}

// Caveat says what a reader must know before the figures; "" where nothing.
func (m *Month) Caveat() string {
	upTo := ""
	if !m.Through.IsZero() {
		upTo = ": everything up to " + m.Through.In(m.Start.Location()).Format("2006-01-02 15:04:05 MST") + " is in these figures"
	}
	switch {
	case m.Made.Before(m.End):
		return m.Name() + " is not over yet" + upTo + ". As calls go on, figures that are asked for one after another may differ a little"
	case !m.Over():
		return "Not all events of " + m.Name() + " are counted yet" + upTo
	}
	return ""
}

// Name is the name of the month.
func (m *Month) Name() string { return m.Start.Format("January 2006") }

// Totals are those of all rows.
func (m *Month) Totals() Figures {
	var total Figures
	for i := range m.Rows {
		total.add(m.Rows[i].Figures)
	}
	return total
}

// APIs are the APIs with most calls.
func (m *Month) APIs() []Ranked {
	return m.ranked(func(r *Row) string { return strings.TrimSpace(r.API + " " + r.Version) })
}

// Applications are the applications with most calls.
func (m *Month) Applications() []Ranked {
	return m.ranked(func(r *Row) string {
		return cmp.Or(r.Application, r.ApplicationID) + " (" + cmp.Or(r.Owner, "no owner") + ")"
	})
}

func (m *Month) ranked(name func(*Row) string) []Ranked {
	var all []Ranked
	known := map[string]int{}
	for i := range m.Rows {
		r := &m.Rows[i]
		at, ok := known[name(r)]
		if !ok {
			at, all = len(all), append(all, Ranked{Name: name(r)})
			known[name(r)] = at
		}
		all[at].add(r.Figures)
	}
	slices.SortFunc(all, func(a, b Ranked) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Name, b.Name))
	})
	return all[:min(len(all), mostTop)]
}
