package definition_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/streams"
)

var update = flag.Bool("update", false, "rewrite the golden files from what is there")

func defaultPack(t testing.TB) *definition.Catalog {
	t.Helper()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{Dir: "streams"})
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

func TestDefaultPack_IsWhatTheGoldenListingSays(t *testing.T) {
	t.Parallel()
	got := list(defaultPack(t))
	golden := filepath.Join("testdata", "pack.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("line %d: got\n%s\nwant\n%s\n(-update rewrites %s)", i+1, g[i], w[i], golden)
		}
	}
	t.Fatalf("got %d lines, want %d (-update rewrites %s)", len(g), len(w), golden)
}

func TestDefaultPack_HasAllTwelveAggregationsAndThoseOfTheDashboard(t *testing.T) {
	t.Parallel()
	catalog := defaultPack(t)
	for _, name := range []string{
		"GeoLocationAgg", "ApiVersionPerAppAgg", "ApiResPathPerApp", "ApiPerDestinationAgg",
		"ApiUserPerAppAgg", "ApiUserBrowserAgg", "ApiExeTime", "ApiFaultyInvocationAgg", "ApiThrottledOutAgg",
		"APIM_ReqCountAgg", "ApiErrorAnalysisAgg", "MonetizationAgg",
		"ApiLatencyAgg", "ApiFaultCodeAgg", "ApiThrottleReasonAgg",
	} {
		if catalog.Aggregation(name) == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if got := len(catalog.Aggregations); got != 15 {
		t.Errorf("got %d aggregations, want 15", got)
	}
}

// list writes down a catalogue, one thing a line.
func list(c *definition.Catalog) string {
	var b strings.Builder
	for _, s := range c.Streams {
		fmt.Fprintf(&b, "stream %s: time %s, future %s\n", s.Name, name(s, s.EventTime), s.Future)
		for i := range s.Attributes {
			fmt.Fprintf(&b, "  %s\n", attribute(&s.Attributes[i]))
		}
	}
	for _, a := range c.Aggregations {
		fmt.Fprintf(&b, "aggregation %s: zone %s, partition_by_id %t, max_groups %d\n", a.Name, a.Zone, a.PartitionByID, a.MaxGroups)
		for _, in := range a.Inputs {
			fmt.Fprintf(&b, "  from %s where %s\n", in.Stream, name(c.Stream(in.Stream), in.Where))
			checkInput(&b, c, a, in)
		}
		for _, k := range a.Keys {
			fmt.Fprintf(&b, "  key %s %s\n", k.Name, k.Kind)
		}
		for _, m := range a.Measures {
			fmt.Fprintf(&b, "  %s %s = %s(%s)\n", m.Name, m.Kind(), m.Op, m.Arg)
		}
		for _, g := range a.Granularities {
			fmt.Fprintf(&b, "  every %s, kept %s\n", g, a.Retention[g])
		}
	}
	for _, r := range c.Rules {
		listRule(&b, c, r)
	}
	return b.String()
}

// listRule writes down all that a rule has.
func listRule(b *strings.Builder, c *definition.Catalog, r *alert.Rule) {
	fmt.Fprintf(b, "rule %s: %s", r.Name, figures(r))
	if r.Stream != "" {
		fmt.Fprintf(b, ", of stream %s", r.Stream)
	}
	fmt.Fprintf(b, "\n  %s\n", r.Doc)
	for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
		fmt.Fprintf(b, "  label %s = %s\n", label, r.Labels[label])
	}
	for _, k := range r.Cases {
		fmt.Fprintf(b, "  case %q", k.Name)
		if k.Own != nil {
			fmt.Fprintf(b, ": %s", figures(k.Own))
		}
		b.WriteString("\n")
		if s := c.Stream(r.Stream); s != nil && r.Local {
			fmt.Fprintf(b, "    local where %s value %s\n", name(s, k.Where), name(s, r.Value))
		}
		for _, in := range k.Inputs {
			listEvidence(b, c.Stream(in.Stream), in, k)
		}
		for i, merge := range k.Merges {
			fmt.Fprintf(b, "    value %d is merged by %s\n", i, []string{"sum", "min", "max"}[merge])
		}
		if k.Compute != nil {
			value, ok := k.Compute(2, []float64{3, 5, 7, 11}[:len(k.Merges)])
			fmt.Fprintf(b, "    computed of 2 events with the values 3, 5, 7 …: %.6g %t\n", value, ok)
		}
		if k.Stakeholder.Role != "" {
			fmt.Fprintf(b, "    concerns the %s %s of %s\n", k.Stakeholder.Role, k.Stakeholder.User, k.Stakeholder.Tenant)
		}
		fmt.Fprintf(b, "    %s\n", k.Message)
	}
}

// figures are those of a rule that have been given or have a default.
func figures(r *alert.Rule) string {
	text := fmt.Sprintf("%s, severity %d", r.Type, r.Severity)
	add := func(given bool, format string, args ...any) {
		if given {
			text += ", " + fmt.Sprintf(format, args...)
		}
	}
	add(r.Local, "local")
	add(r.Global, "global")
	add(r.Unset, "threshold unset")
	add(!r.Unset, "threshold %g", r.Threshold)
	add(r.Below, "below")
	add(r.AtLeast != 0, "at least %d", r.AtLeast)
	add(r.Lower != 0, "lower %g", r.Lower)
	add(r.Upper != 0, "upper %g", r.Upper)
	add(r.Member != "", "member %s", r.Member)
	for _, of := range []struct {
		name string
		is   time.Duration
	}{
		{"window", r.Window},
		{"step", r.Step},
		{"before", r.Before},
		{"for", r.For},
		{"keep firing for", r.KeepFiring},
		{"suppress", r.Suppress},
		{"forget", r.Forget},
	} {
		add(of.is != 0, "%s %s", of.name, of.is)
	}
	return text
}

// listEvidence writes down what of a stream's events a case looks at.
func listEvidence(b *strings.Builder, s *event.Schema, in alert.Input, k alert.Case) {
	fmt.Fprintf(b, "    from %s where %s key", s.Name, name(s, in.Where))
	for i, at := range in.Keys {
		fmt.Fprintf(b, " %s(%s %s)", k.Key[i].Name, name(s, at), k.Key[i].Kind)
	}
	for i, at := range in.Details {
		fmt.Fprintf(b, " and %s(%s)", k.Details[i], name(s, at))
	}
	for _, of := range []struct {
		name string
		at   int
	}{{"member", in.Member}, {"hit", in.Hit}} {
		if of.at >= 0 {
			fmt.Fprintf(b, " %s %s", of.name, name(s, of.at))
		}
	}
	for _, at := range in.States {
		fmt.Fprintf(b, " state %s", name(s, at))
	}
	for _, at := range in.Values {
		fmt.Fprintf(b, " value %s", name(s, at))
	}
	b.WriteString("\n")
}

func attribute(a *event.Attribute) string {
	switch {
	case a.Derive != nil:
		return fmt.Sprintf("%s %s, derived", a.Name, a.Kind)
	case a.Required:
		return fmt.Sprintf("%s %s of %s, required", a.Name, a.Kind, a.Unit)
	case a.Min != nil:
		return fmt.Sprintf("%s %s, default %d, min %g", a.Name, a.Kind, a.Default.Cell, *a.Min)
	case a.IfEmpty != nil:
		return fmt.Sprintf("%s %s, computed if empty", a.Name, a.Kind)
	case a.Kind == event.String:
		return fmt.Sprintf("%s %s, default %q", a.Name, a.Kind, a.Default.Text)
	}
	return fmt.Sprintf("%s %s, default %d", a.Name, a.Kind, a.Default.Cell)
}

func name(s *event.Schema, at int) string {
	if at < 0 {
		return "-"
	}
	return s.Attributes[at].Name
}

// checkInput notes where an input does not fit its definition.
func checkInput(b *strings.Builder, c *definition.Catalog, a *aggregation.Definition, in aggregation.Input) {
	s := c.Stream(in.Stream)
	for i, at := range in.Keys {
		if name(s, at) != a.Keys[i].Name || s.Attributes[at].Kind != a.Keys[i].Kind {
			fmt.Fprintf(b, "  WRONG key %d: %s\n", i, name(s, at))
		}
	}
	for i, at := range in.Args {
		m := a.Measures[i]
		if at < 0 && m.Op == aggregation.Count {
			continue
		}
		if !slices.Contains([]string{m.Arg, "=" + m.Arg}, name(s, at)) || s.Attributes[at].Kind != m.ArgKind {
			fmt.Fprintf(b, "  WRONG argument of %s: %s\n", m.Name, name(s, at))
		}
	}
}

func TestDefaultPack_FillsWhatOlderGatewaysDoNotSend(t *testing.T) {
	t.Parallel()
	catalog := defaultPack(t)
	for _, c := range []struct{ stream, body, want string }{
		{
			"request", `{"requestTimestamp":1600000000123,"responseCode":503,"throttledOut":true}`,
			"apiName=None userAgent= browser=Other operatingSystem=Other country=Unknown city=Unknown regionalID=default " +
				"quotaExceededValue=1 responseTime=0 _2xx=0 _4xx=0 _5xx=1 responseCount=1 faultCount=0",
		},
		{
			"request", `{"requestTimestamp":1600000000123,"apiResourcePath":"/menu/7?x","apiResourceTemplate":""}`,
			"apiResourcePath=/menu/7?x apiResourceTemplate=/menu/{id}",
		},
		{
			"request", `{"requestTimestamp":1600000000123,"apiResourceTemplate":"/menu/7","apiResourcePath":"/menu/8"}`,
			"apiResourceTemplate=/menu/7",
		},
		{
			"fault", `{"requestTimestamp":1600000000123,"apiResourcePath":"/menu/7"}`,
			"apiResourceTemplate=/menu/{id}",
		},
		{
			"fault", `{"requestTimestamp":1600000000123,"apiName":"a","errorCode":"101503"}`,
			"apiName=a apiResourceTemplate=None applicationOwner=None responseCode=0 faultCount=1 throttledCount=0",
		},
		{
			"throttle", `{"throttledOutTimestamp":1600000000123,"subscriber":"ann"}`,
			"apiMethod=None apiResourceTemplate=None applicationOwner=ann responseCode=0 throttledCount=1 throttleCount=1",
		},
	} {
		schema := catalog.Stream(c.stream)
		columns := event.NewColumns(schema, event.NewDictionary())
		var decoder event.Decoder
		n, rejects, err := decoder.Decode(event.Body{Data: []byte(c.body)}, event.Origin{Sequence: 1, Stored: 1_600_000_001_000_000}, columns)
		if err != nil || n != 1 || len(rejects) != 0 {
			t.Errorf("%s: %d events, rejects %v, error %v", c.stream, n, rejects, err)
			continue
		}
		var got []string
		for field := range strings.FieldsSeq(c.want) {
			attribute, _, _ := strings.Cut(field, "=")
			at := schema.Index(attribute)
			if schema.Attributes[at].Kind == event.String {
				got = append(got, attribute+"="+columns.Text(at, 0))
			} else {
				got = append(got, fmt.Sprintf("%s=%d", attribute, columns.Cells[at][0]))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.stream, strings.Join(got, " "), c.want)
		}
	}
}
