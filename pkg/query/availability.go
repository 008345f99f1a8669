package query

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/store"
)

// APIState is how an API does.
type APIState string

// The states, the one that is shown before the others first.
const (
	ServerError  APIState = "server error"
	Silent       APIState = "silent"
	HighResponse APIState = "high response time"
	Available    APIState = "available"
)

// APIStates are the names of all states.
func APIStates() []string {
	return []string{string(Available), string(HighResponse), string(ServerError), string(Silent)}
}

// Availability is how one API does: what alerts say of it.
type Availability struct {
	APIName    string   `json:"api_name"`
	APIVersion string   `json:"api_version"`
	Tenant     string   `json:"tenant"` // of the publisher
	State      APIState `json:"state"`
	// Since is when the first of the alerts fired that still count, or, of an API that
	// is available, when the last one was over; zero if that is more than a day ago.
	Since time.Time `json:"since,omitzero"`
	Rule  string    `json:"rule,omitempty"` // that says so
}

const (
	// knownFor is how long an API is shown after its last call, and for how long is
	// known when it became available again.
	knownFor = 24 * time.Hour
	// localFor is how long a local alert counts: nobody says when that is over.
	localFor = 10 * time.Minute
	// traffic is the aggregation that knows the APIs: one with few groups.
	traffic = "APIM_ReqCountAgg"
)

// stateBy is what an alert of a case of a rule says of its API.
func stateBy(rule, of string) (APIState, bool) {
	switch {
	case rule == "api-health" && of == "error":
		return ServerError, true
	case rule == "api-silent":
		return Silent, true
	case rule == "api-health" && of == "slow", rule == "abnormal-response-time":
		return HighResponse, true
	}
	return Available, false
}

// Board is the availability board, by name, version and tenant: the APIs that
// had calls within a day, and those of which alerts tell.
func Board(ctx context.Context, catalog *definition.Catalog, db *store.DB, now time.Time) ([]Availability, error) {
	known, err := knownAPIs(ctx, catalog, db, now)
	if err != nil {
		return nil, err
	}
	alerts, err := db.AlertsByAPI(ctx, []string{"api-health", "api-silent", "abnormal-response-time"}, now.Add(-knownFor), now.Add(-localFor))
	if err != nil {
		return nil, err
	}
	return board(known, alerts), nil
}

// knownAPIs had calls within knownFor; none, if nothing is defined that would know.
func knownAPIs(ctx context.Context, catalog *definition.Catalog, db *store.DB, now time.Time) (known []Availability, err error) {
	if def, err := find(catalog, traffic); err != nil || def.KeyIndex("apiName") < 0 || def.KeyIndex("apiVersion") < 0 || def.KeyIndex("apiCreatorTenantDomain") < 0 {
		return nil, nil //nolint:nilerr // definitions of one's own need not have it
	}
	question, err := Parse(catalog, traffic, url.Values{
		"within": {now.Add(-knownFor).UTC().Truncate(time.Hour).Format(time.RFC3339) + "," + now.Add(knownFor).UTC().Format(time.RFC3339)},
		"per":    {"hours"}, "select": {"apiName, apiVersion, apiCreatorTenantDomain"}, "group_by": {"apiName, apiVersion, apiCreatorTenantDomain"},
	})
	if err != nil {
		return nil, err
	}
	err = question.Each(ctx, db, func(cells []any) error {
		a := Availability{State: Available}
		for i, to := range []*string{&a.APIName, &a.APIVersion, &a.Tenant} {
			*to, _ = cells[i].(string)
		}
		known = append(known, a)
		return nil
	})
	return known, err
}

// board adds to APIs that are known what alerts tell of them, and APIs of which
// only alerts tell.
func board(known []Availability, alerts []store.APIAlerts) []Availability {
	apis := slices.Clone(known)
	byName := map[string][]*store.APIAlerts{}
	for i := range alerts {
		byName[alerts[i].APIName] = append(byName[alerts[i].APIName], &alerts[i])
	}
	names := map[string][]Availability{}
	for _, a := range apis {
		names[a.APIName] = append(names[a.APIName], a)
	}
	for i := range alerts {
		g := &alerts[i]
		if g.Since.IsZero() || slices.ContainsFunc(names[g.APIName], func(a Availability) bool { return tells(g, &a) }) {
			continue
		}
		a := Availability{APIName: g.APIName, APIVersion: g.APIVersion, Tenant: g.Tenant, State: Available}
		apis, names[a.APIName] = append(apis, a), append(names[a.APIName], a)
	}
	for i := range apis {
		judge(&apis[i], byName[apis[i].APIName])
	}
	slices.SortFunc(apis, func(a, b Availability) int {
		return slices.Compare([]string{a.APIName, a.APIVersion, a.Tenant}, []string{b.APIName, b.APIVersion, b.Tenant})
	})
	return apis
}

// tells reports whether alerts are about an API: what their key lacks is any.
func tells(g *store.APIAlerts, a *Availability) bool {
	return g.APIName == a.APIName && (g.APIVersion == "" || g.APIVersion == a.APIVersion) && (g.Tenant == "" || g.Tenant == a.Tenant)
}

// judge says how an API does by the alerts on APIs of its name. A global alert
// counts until it is resolved. A local one counts for localFor, unless a global one of the
// same rule has been resolved since: that one knows better.
func judge(a *Availability, alerts []*store.APIAlerts) {
	over := map[string]time.Time{} // by rule and case: when the last global one was
	for _, g := range alerts {
		if g.Scope == string(alert.ScopeGlobal) && tells(g, a) && g.Last.After(over[g.Rule+" "+g.Case]) {
			over[g.Rule+" "+g.Case] = g.Last
		}
	}
	var free time.Time
	for _, g := range alerts {
		state, ok := stateBy(g.Rule, g.Case)
		if !ok || !tells(g, a) {
			continue
		}
		end, counts := g.Last, !g.Since.IsZero()
		if g.Scope == string(alert.ScopeLocal) {
			end = g.Last.Add(localFor)
			if resolved := over[g.Rule+" "+g.Case]; !resolved.Before(g.Last) {
				end, counts = resolved, false
			}
		}
		if !counts {
			if end.After(free) {
				free = end
			}
			continue
		}
		if worse := urgency(state) - urgency(a.State); worse < 0 || worse == 0 && g.Since.Before(a.Since) {
			a.State, a.Since, a.Rule = state, g.Since, g.Rule
		}
	}
	if a.State == Available {
		a.Since = free
	}
}

// urgency orders the states: the lowest is shown.
func urgency(s APIState) int {
	return slices.Index([]APIState{ServerError, Silent, HighResponse, Available}, s)
}

func (s *Server) availability(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values, "tenant", "state"); err != nil {
		return err
	}
	if err := oneOf("state", values.Get("state"), APIStates()); err != nil {
		return wrong(err)
	}
	apis, err := Board(r.Context(), s.Catalog, s.DB, s.Now())
	if err != nil {
		return err
	}
	apis = ChooseAvailability(apis, values.Get("tenant"), APIState(values.Get("state")))
	counts := map[APIState]int{ServerError: 0, Silent: 0, HighResponse: 0, Available: 0}
	for _, a := range apis {
		counts[a.State]++
	}
	return s.json(w, r, map[string]any{"apis": apis, "counts": counts})
}

// ChooseAvailability are the APIs of a tenant that are in a state; "" is any.
func ChooseAvailability(apis []Availability, tenant string, state APIState) []Availability {
	chosen := []Availability{}
	for _, a := range apis {
		if (tenant == "" || a.Tenant == tenant) && (state == "" || a.State == state) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}
