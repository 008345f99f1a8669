package store

import (
	"strings"
	"testing"
	"time"
)

// The plain name is always that of the current version; others have theirs
// under the name of the version, and readers keep their rights.
func TestApply_NamesViewsByVersion(t *testing.T) {
	t.Parallel()
	first, second := growing("Calls", 0, true), byAPI(1)
	db := migrated(t, first)
	folded(t, db, "w", first, everyLevel, triedAt(1, 1))
	mustExec(t, db, `GRANT SELECT ON weir_view.calls_days TO PUBLIC`)
	views := func() string {
		return ask[string](t, db, `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'weir_view'::regnamespace AND relname NOT LIKE '%hours' AND relname NOT LIKE '%seconds'`)
	}
	check := func(wantViews, name string, wantCalls int) {
		t.Helper()
		if got := views(); got != wantViews {
			t.Errorf("views %s, want %s", got, wantViews)
		}
		if got := ask[int](t, db, `SELECT coalesce(sum(calls), 0) FROM weir_view."`+name+`_days"`); got != wantCalls {
			t.Errorf("%s has %d calls, want %d", name, got, wantCalls)
		}
		if !ask[bool](t, db, `SELECT relacl::text LIKE '%{=r/%' OR relacl::text LIKE '%,=r/%' FROM pg_class WHERE oid = 'weir_view."`+name+`_days"'::regclass`) {
			t.Errorf("%s lost its rights", name)
		}
	}
	mustApply(t, db, PlanOptions{}, second)
	check("calls@1_days calls@1_months calls_days", "calls", 0)
	check("calls@1_days calls@1_months calls_days", "calls@1", 1)
	if plan := planned(t, db, PlanOptions{}); strings.Contains(plan, "make views") {
		t.Errorf("without any definition the plan makes views: %s", plan)
	}
	mustApply(t, db, PlanOptions{}, first)
	check("calls@2_days calls_days calls_months", "calls", 1)
	mustApply(t, db, all, first)
	check("calls_days calls_months", "calls", 1)
}

func TestSpoken_SaysDurationsAsPeopleDo(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for want, d := range map[string]time.Duration{
		"10 years": 3650 * day, "1 year": 365 * day, "30 days": 30 * day, "400 days": 400 * day, "72 hours": 72 * time.Hour, "1 hour": time.Hour,
		"90 minutes": 90 * time.Minute, "2 minutes": 120 * time.Second, "61 seconds": 61 * time.Second, "1.5s": 1500 * time.Millisecond,
	} {
		if got := spoken(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
