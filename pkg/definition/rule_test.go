package definition_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"weir/pkg/definition"
)

func TestLoad_RuleMayHaveNoThresholdOfItsOwn(t *testing.T) {
	t.Parallel()
	_, base, _ := readBroken(t)
	load := func(bound string) (*definition.Catalog, error) {
		return definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(base + "rules:\n" +
			"  e: {type: event, severity: 1, value: volume, above: " + bound + ", key: [name], message: \"{value} {threshold}\"}\n" +
			"  c: {type: count, severity: 1, window: 1 hour, more_than: " + bound + ", message: m}\n")}})
	}
	for _, bound := range []string{"unset", `"unset"`, "7"} {
		catalog, err := load(bound)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range catalog.Rules {
			if unset := bound != "7"; rule.Unset != unset || (rule.Threshold == 0) != unset {
				t.Errorf("%s: rule %s: unset %v, threshold %v", bound, rule.Name, rule.Unset, rule.Threshold)
			}
		}
		run(t, catalog)
	}
	if _, err := load("Unset"); err == nil || strings.Count(err.Error(), `it is "Unset"`) != 2 {
		t.Errorf("got %v", err)
	}
}
