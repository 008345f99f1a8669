package definition_test

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/streams"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

func alertsDoc(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// packFiles are the files of the default pack.
func packFiles(t testing.TB) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(streams.Files, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(streams.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// Each example of the documentation is loaded beside the default pack; together they are of every type.
func TestAlertsDoc_HasExamplesOfEveryTypeThatLoad(t *testing.T) {
	t.Parallel()
	files := packFiles(t)
	blocks := yamlBlock.FindAllStringSubmatch(alertsDoc(t), -1)
	for i, block := range blocks {
		files[fmt.Sprintf("example-%02d.yaml", i)] = &fstest.MapFile{Data: []byte(block[1])}
	}
	catalog, err := definition.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	run(t, catalog)
	seen := map[alert.Type]bool{}
	for _, r := range catalog.Rules[len(defaultPack(t).Rules):] {
		seen[r.Type] = true
	}
	for of := alert.PerEvent; of <= alert.Underuse; of++ {
		if !seen[of] {
			t.Errorf("no example is of type %s", of)
		}
	}
}

// The table of the rules that come with Weir says what they are.
func TestAlertsDoc_ListsTheRulesOfThePack(t *testing.T) {
	t.Parallel()
	text := alertsDoc(t)
	var want []string
	for _, r := range defaultPack(t).Rules {
		for i := range r.Cases {
			c := &r.Cases[i]
			of := r
			if c.Own != nil {
				of = c.Own
			}
			name := "`" + r.Name + "`"
			if c.Name != "" {
				name += ", " + c.Name
			}
			kind := r.Type.String()
			threshold := fmt.Sprint(of.Threshold)
			switch {
			case of.Unset:
				threshold = "unset"
			case r.Type == alert.Measured && strings.Contains(text, "| "+name+" | ratio |"):
				kind = "ratio"
			case r.Type == alert.Absent:
				threshold = fmt.Sprint(of.Window.Seconds())
			case r.Type == alert.Unseen:
				threshold = fmt.Sprint(of.AtLeast)
			case r.Type == alert.Interval:
				threshold = fmt.Sprintf("%g, %g", of.Lower, of.Upper)
			case r.Type == alert.Underuse:
				threshold = fmt.Sprint(of.Lower)
			}
			var key []string
			for _, part := range c.Key {
				key = append(key, part.Name)
			}
			row := fmt.Sprintf("| %s | %s | %s | %s | %d |", name, kind, threshold, strings.Join(key, ", "), r.Severity)
			want = append(want, row)
			if !strings.Contains(text, "\n"+row) {
				t.Errorf("docs/alerts.md lacks the row\n%s", row)
			}
		}
	}
	_, table, _ := strings.Cut(text, "## Rules that come with Weir")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| `") && !slices.ContainsFunc(want, func(row string) bool { return strings.HasPrefix(line, row) }) {
			t.Errorf("docs/alerts.md has a row of no rule: %s", line)
		}
	}
}

// Whatever a rule can have is explained.
func TestAlertsDoc_NamesEveryField(t *testing.T) {
	t.Parallel()
	text := alertsDoc(t)
	_, base, _ := readBroken(t)
	_, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(base + "rules: {r: {type: event, severity: 1, value: price, above: 1, message: m}}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range definition.RuleFields() {
		if !strings.Contains(text, "`"+field) {
			t.Errorf("docs/alerts.md does not name %s", field)
		}
	}
}
