package observe

import (
	"os"
	"os/exec"
	"testing"

	"go.yaml.in/yaml/v3"
)

// promtool runs Prometheus's own tool on the files, and fails where it is missing.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs promtool; run without -short")
	}
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: apt-get install -y prometheus (brew install prometheus)")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestRules_AreWhatPrometheusTakes(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "prometheus/prometheus.yml") // and the rules that it names
	promtool(t, "check", "rules", "--lint-fatal", "prometheus/rules.yml")
}

func TestRules_FireWhenTheyShouldAndAreQuietWhenNot(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "prometheus/rules_test.yml")
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range read[struct {
		Tests []struct {
			Rules []struct {
				Alert  string      `yaml:"alertname"`
				Expect []yaml.Node `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}](t, "prometheus/rules_test.yml").Tests {
		for _, r := range test.Rules {
			fires[r.Alert] = fires[r.Alert] || len(r.Expect) > 0
			quiet[r.Alert] = quiet[r.Alert] || len(r.Expect) == 0
		}
	}
	for _, r := range rules(t) {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: a test that it fires: %t, and one that it is quiet: %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks a severity, a summary or a description", r.Alert)
		}
	}
}

type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	for _, g := range read[struct{ Groups []struct{ Rules []rule } }](t, "prometheus/rules.yml").Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no rules")
	}
	return all
}

// read reads a YAML file, or one of JSON, which is that too.
func read[T any](t *testing.T, path string) (value T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, &value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func operating(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
