package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// APIAlerts sums up the alerts of one case of a rule, in one scope, on one API.
type APIAlerts struct {
	Rule, Case, Scope           string
	APIName, APIVersion, Tenant string // "" where the rule's key does not have it
	// Since is when the first of those fired that still count: global ones that fire
	// now, and local ones that are recent. It is zero where there are none.
	Since time.Time
	// Last is when the last of the global ones that do not fire any more was over, or
	// when the last of the local ones fired. It is zero where there are none.
	Last time.Time
}

// AlertsByAPI sums up the alerts of some rules whose key has an apiName: the
// global ones that fire now or were over after a time, and the local ones that
// fired after it; they are recent if they fired after another one.
func (db *DB) AlertsByAPI(ctx context.Context, rules []string, after, recent time.Time) ([]APIAlerts, error) {
	rows, err := db.sql.QueryContext(ctx, `
		SELECT a.rule, a.rule_case, a.scope, a.key ->> 'apiName', coalesce(a.key ->> 'apiVersion', ''),
			coalesce(a.key ->> 'apiCreatorTenantDomain', a.key ->> 'tenantDomain', ''),
			min(a.fired_at) FILTER (WHERE a.scope = 'global' AND a.resolved_at IS NULL OR a.scope = 'local' AND a.fired_at > $3),
			max(CASE a.scope WHEN 'global' THEN a.resolved_at ELSE a.fired_at END)
		FROM weir.alert a
		WHERE a.rule = ANY ($1) AND a.state = 'firing' AND a.key ? 'apiName'
			AND (a.scope = 'global' AND (a.resolved_at IS NULL OR a.resolved_at > $2) OR a.scope = 'local' AND a.fired_at > $2)
		GROUP BY 1, 2, 3, 4, 5, 6`, pq.Array(rules), after.UTC(), recent.UTC())
	if err != nil {
		return nil, fmt.Errorf("sum up alerts by API: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []APIAlerts
	for rows.Next() {
		var g APIAlerts
		var since, last sql.NullTime
		if err := rows.Scan(&g.Rule, &g.Case, &g.Scope, &g.APIName, &g.APIVersion, &g.Tenant, &since, &last); err != nil {
			return nil, fmt.Errorf("sum up alerts by API: %w", err)
		}
		g.Since, g.Last = since.Time.UTC(), last.Time.UTC()
		all = append(all, g)
	}
	return all, rows.Err()
}
