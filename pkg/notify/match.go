package notify

import (
	"slices"
	"strings"

	"weir/pkg/alert"
)

// SuperTenant is the tenant of whatever names none, as in WSO2.
const SuperTenant = "carbon.super"

// Match chooses alerts; an empty field chooses all, but for Scopes.
type Match struct {
	Scopes   []alert.Scope // empty: global
	Rules    []string
	Severity int               // at most: 1 takes the severe ones only
	Labels   map[string]string // each must be there with this value
	Tenant   string
}

// scopes are those of the alerts that are chosen.
func (m *Match) scopes() []alert.Scope {
	if len(m.Scopes) == 0 {
		return []alert.Scope{alert.ScopeGlobal}
	}
	return m.Scopes
}

func (m *Match) matches(a *alert.Alert) bool {
	for name, value := range m.Labels {
		if got, ok := a.Labels[name]; !ok || got != value {
			return false
		}
	}
	return slices.Contains(m.scopes(), a.Scope) &&
		(len(m.Rules) == 0 || slices.Contains(m.Rules, a.Rule)) &&
		(m.Severity == 0 || a.Severity <= m.Severity) &&
		(m.Tenant == "" || m.Tenant == tenantOf(a))
}

// tenantOf is the tenant that an alert concerns: that of its stakeholder, else
// the one in its key.
func tenantOf(a *alert.Alert) string {
	if a.Stakeholder.Tenant != "" {
		return a.Stakeholder.Tenant
	}
	if _, tenant := splitUser(a.Stakeholder.User); tenant != "" {
		return tenant
	}
	for _, part := range []string{"apiCreatorTenantDomain", "userTenantDomain", "tenantDomain"} {
		if tenant := a.Key[part]; tenant != "" {
			return tenant
		}
	}
	return SuperTenant
}

// splitUser parts bob@example.com into bob and example.com; the tenant is "" where there is none.
func splitUser(user string) (name, tenant string) {
	at := strings.LastIndexByte(user, '@')
	if at < 0 {
		return user, ""
	}
	return user[:at], user[at+1:]
}

// fullUser is the user with the tenant, which WSO2 leaves out for its first one:
// bob and bob@carbon.super are the same in that.
func fullUser(user, tenant string) string {
	if user == "" || strings.HasSuffix(user, "@"+tenant) {
		return user
	}
	return user + "@" + tenant
}
