package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestThresholds_AreSetWhileEverythingRuns(t *testing.T) {
	t.Parallel()
	i := up(t)
	_, address := gateway(t, i, "--source", "edge")
	n := 0
	// raises publishes calls of 3 s until one raises an alert, or none does; it
	// returns the threshold of the alert.
	raises := func(wanted bool) (threshold float64) {
		t.Helper()
		untilEvery(t, askTick, fmt.Sprintf("a call of 3 s to raise an alert: %v", wanted), func() bool {
			n++
			method := fmt.Sprintf("M%d", n) // a key of its own
			if status, answer := post(t, address+"/api/v1/events/request", requestEvent("pizza", `,"responseTime":3000,"apiMethod":"`+method+`"`)); status != http.StatusAccepted {
				t.Fatalf("got %d %s, want 202", status, answer)
			}
			i.drain(t)
			_, body := get(t, i.http+"/api/v1/alerts?rule="+slow+"&scope=local&limit=1000")
			var answer struct {
				Alerts []struct {
					Key       map[string]string
					Threshold float64
				}
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(err)
			}
			for _, a := range answer.Alerts {
				if a.Key["apiMethod"] == method {
					threshold = a.Threshold
					return wanted
				}
			}
			return !wanted
		})
		return threshold
	}
	api, database := []string{"--http", i.http}, []string{"--postgres", i.postgres}
	for _, from := range [][]string{api, database} {
		run := func(args ...string) string {
			t.Helper()
			return weir(t, append(append([]string{"thresholds"}, args...), from...)...)
		}
		raises(false)
		if got, want := run("set", slow, "2000", "--api", "pizza", "--by", "ann"), slow+": 2000 for api=pizza\n"; got != want {
			t.Errorf("%s: got %q, want %q", from[0], got, want)
		}
		if got := raises(true); got != 2000 {
			t.Errorf("%s: the alert's threshold is %v", from[0], got)
		}
		run("set", "tier-crossing", "0.5", "--case", "subscription", "--application", "7")
		table := strings.Split(strings.TrimSpace(run("list")), "\n")
		if len(table) != 3 || !strings.HasPrefix(table[0], "rule ") || !strings.Contains(table[1], "api=pizza") || !strings.Contains(table[1], "2000  ann") ||
			!strings.Contains(table[2], "subscription  application=7") || !strings.Contains(table[2], "@") {
			t.Errorf("%s: got\n%s", from[0], strings.Join(table, "\n"))
		}
		var listed struct {
			Rule, Case, Application, API string
			Value                        float64
		}
		if line := run("list", "--rule", "tier-crossing", "--json"); json.Unmarshal([]byte(line), &listed) != nil || strings.Count(line, "\n") != 1 ||
			listed.Case != "subscription" || listed.Application != "7" || listed.API != "" || listed.Value != 0.5 {
			t.Errorf("%s: got %s", from[0], line)
		}
		run("unset", "tier-crossing", "--case", "subscription", "--application", "7")
		if got, want := run("unset", slow, "--api", "pizza"), slow+": unset for api=pizza\n"; got != want {
			t.Errorf("%s: got %q, want %q", from[0], got, want)
		}
		if got := run("list"); strings.Count(got, "\n") != 1 {
			t.Errorf("%s: after unset: got %q, want no threshold", from[0], got)
		}
	}
	raises(false)
	refusesThresholds(t, api, database)
}

// refusesThresholds: what is wrong is refused with what would be right, whoever is
// asked.
func refusesThresholds(t *testing.T, api, database []string) {
	t.Helper()
	for _, c := range []struct {
		code  int
		args  string
		texts []string
	}{
		{2, "set abnormal-response-tim 1", []string{`rule: there is no "abnormal-response-tim"`, "did you mean abnormal-response-time?"}},
		{2, "set tier-crossing 1 --case subskription", []string{`case: there is no "subskription"`, "did you mean subscription?"}},
		{2, "set abnormal-response-time 1 --case x", []string{"has no cases"}},
		{2, "set abnormal-response-time 1 --application 7", []string{"cannot have thresholds by application", "it can have them by: api, version, resource, method, tenant"}},
		{2, "set tier-crossing NaN", []string{`"NaN" is no threshold`}},
		{2, "set tier-crossing 1s", []string{`"1s" is no threshold: it is a number, as in 2000 or 0.95`}},
		{2, "set api-silent 1", []string{"api-silent has no threshold"}},
		{2, "set abnormal-request-count 100", []string{"say which case it is for"}},
		{2, "list --rule tier-crosing", []string{"did you mean tier-crossing?"}},
		{2, "unset tier-crosing", []string{"did you mean tier-crossing?"}},
		{1, "unset tier-crossing --api nothing", []string{"nobody has set a threshold for exactly this: api=nothing of tier-crossing", "weir thresholds list"}},
	} {
		for _, from := range [][]string{api, database} {
			fails(t, c.code, c.texts, append(append([]string{"thresholds"}, strings.Fields(c.args)...), from...)...)
		}
	}
	fails(t, 2, []string{`unknown command "sett"`, "did you mean set?"}, "thresholds", "sett")
}
