package store

import (
	"strings"
	"testing"

	"weir/pkg/aggregation"
)

func TestBind_TakesTablesThatHaveMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	old, newer := growing("Calls", 0, false), growing("Calls", 1, true)
	db := migrated(t, old)
	mustApply(t, db, PlanOptions{}, newer)
	bound, _, missing, err := db.Bind(t.Context(), []*aggregation.Definition{old})
	if err != nil || missing != "" || len(bound) != 1 || bound[0].Version != 1 {
		t.Errorf("bound to %+v, missing %q, %v", bound, missing, err)
	}
	overtaken, err := db.Overtaken(t.Context(), []*aggregation.Definition{old})
	if want := "the database has a newer definition of Calls (measure slowest, level months): start this worker with it"; err != nil || overtaken != want {
		t.Errorf("overtaken: %q, %v, want %q", overtaken, err, want)
	}
	if overtaken, err := db.Overtaken(t.Context(), []*aggregation.Definition{newer}); err != nil || overtaken != "" {
		t.Errorf("the new definition is overtaken: %q, %v", overtaken, err)
	}
}

// Months that are filled from hours, beside workers that fill them from days,
// would count twice.
func TestBind_RefusesLevelsThatAreFilledFromOthers(t *testing.T) {
	t.Parallel()
	with, without := growing("Calls", 0, true), growing("Calls", 0, true)
	without.Granularities = []aggregation.Granularity{aggregation.Seconds, aggregation.Hours, aggregation.Months}
	db := migrated(t, with)
	if missing, err := db.Missing(t.Context(), []*aggregation.Definition{without}); err != nil || !strings.Contains(missing, "aggregation Calls") {
		t.Errorf("missing %q, %v", missing, err)
	}
}

func TestPlan_ComparesWhatIsComputed(t *testing.T) {
	t.Parallel()
	define := func() *aggregation.Definition {
		def := growing("Calls", 0, false)
		def.Filter, def.Measures[1].Arg = `code > 1 and api != "a b"`, "ms + 1"
		return def
	}
	db := migrated(t, define())
	for what, c := range map[string]struct {
		change func(*aggregation.Definition)
		want   string
	}{
		"argument":          {func(d *aggregation.Definition) { d.Measures[1].Arg = "ms + 2" }, "create version 2"},
		"condition":         {func(d *aggregation.Definition) { d.Filter = `code > 1 and api != "ab"` }, "create version 2"},
		"stream":            {func(d *aggregation.Definition) { d.Inputs[0].Stream = "requests" }, "from requests, was calls"},
		"space":             {func(d *aggregation.Definition) { d.Measures[1].Arg, d.Filter = "ms+1", `code>1  and api!="a b"` }, "written otherwise"},
		"nothing":           {func(*aggregation.Definition) {}, ""},
		"what it was about": {func(d *aggregation.Definition) { d.Doc = "Calls." }, "make views"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			def := define()
			c.change(def)
			if plan := planned(t, db, PlanOptions{}, def); !strings.Contains(plan, c.want) || c.want == "" && plan != "" {
				t.Errorf("plan %q, want %q", plan, c.want)
			}
		})
	}
}

func TestTight_KeepsWordsAndTextsApart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		" a  + b ": "a+b", "a and b": "a and b", "a - -b": "a- -b", `x == "a  b" or y`: `x=="a  b"or y`, `x == "\" c" `: `x=="\" c"`, "f( a , b )": "f(a,b)",
	} {
		if got := tight(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
