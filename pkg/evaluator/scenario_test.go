package evaluator

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/streams"
)

// epoch is when every scenario begins.
var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// scenario is a file of testdata: what happens, and which alerts must come of it. testdata/README.md
// says how it is written.
type scenario struct {
	name        string
	definitions string
	defaults    map[string]map[string]string // by stream, as they are at the end of the file
	events      []happening
	thresholds  []setting
	through     time.Time
	expect      []expected
	local       map[int]map[string]int
	catalog     *definition.Catalog
}

// happening is one event.
type happening struct {
	line   int
	stream string
	at     time.Time
	after  time.Time // when it is published
	values map[string]string
}

// setting is a threshold that is set before anything happens.
type setting struct {
	line int
	alert.Threshold
}

type expected struct {
	line       int
	rule, name string
	state      alert.State
	at         time.Time
	values     map[string]string
}

func readScenarios(t *testing.T) []*scenario {
	t.Helper()
	files, err := fs.Glob(os.DirFS("testdata"), "*.test")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var all []*scenario
	for _, name := range files {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseScenario(strings.TrimSuffix(name, ".test"), data)
		if err != nil {
			t.Fatalf("testdata/%s: %v", name, err)
		}
		all = append(all, s)
	}
	return all
}

// section is what indented lines belong to.
type section struct {
	of     string
	stream string
	after  time.Duration
}

func parseScenario(name string, data []byte) (*scenario, error) {
	s := &scenario{name: name, defaults: map[string]map[string]string{}, local: map[int]map[string]int{}}
	var in section
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(strings.TrimSpace(line), "#") || strings.TrimSpace(line) == "" {
			continue
		}
		var err error
		if strings.HasPrefix(line, "  ") {
			err = s.indented(&in, n, line[2:])
		} else {
			err = s.begin(&in, n, line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if s.through.IsZero() {
		return nil, errors.New("it has no end: write through TIME")
	}
	var files fs.FS = streams.Files
	if s.definitions != "" {
		files = fstest.MapFS{"rules.yaml": {Data: []byte(s.definitions)}}
	}
	var err error
	if s.catalog, err = definition.Load(files); err != nil {
		return nil, err
	}
	s.catalog.Aggregations = nil // rules are decided by evidence alone, and 90 tables a shard take their time
	return s, s.sound()
}

// form is what a line should have been.
func form(text string) error { return fmt.Errorf("it should be: %s", text) }

func (s *scenario) begin(in *section, n int, line string) (err error) {
	words, err := fields(line)
	if err != nil {
		return err
	}
	*in = section{of: words[0]}
	switch words[0] {
	case "definitions", "expect":
		if len(words) > 1 {
			return form(words[0] + ", and what belongs to it indented below")
		}
	case "defaults":
		if len(words) < 2 {
			return form("defaults STREAM attribute=value …")
		}
		s.defaults[words[1]], err = values(words[2:])
	case "load":
		if len(words) != 2 && (len(words) != 4 || words[2] != "after") {
			return form("load STREAM, or load STREAM after TIME")
		}
		if in.stream = words[1]; len(words) == 4 {
			in.after, err = time.ParseDuration(words[3])
		}
	case "threshold":
		return s.threshold(n, words)
	case "through":
		if len(words) != 2 {
			return form("through TIME")
		}
		var d time.Duration
		d, err = time.ParseDuration(words[1])
		s.through = epoch.Add(d)
	case "local":
		return s.localCount(line)
	default:
		return fmt.Errorf("there is no %q; there are: definitions, defaults, load, threshold, through, expect, local", words[0])
	}
	return err
}

func (s *scenario) threshold(n int, words []string) (err error) {
	if len(words) < 3 {
		return form("threshold RULE[/CASE] VALUE dimension=value …")
	}
	set := setting{line: n}
	set.Rule, set.Case, _ = strings.Cut(words[1], "/")
	if set.Value, err = strconv.ParseFloat(words[2], 64); err != nil {
		return fmt.Errorf("%q is no threshold", words[2])
	}
	of, err := values(words[3:])
	if err != nil {
		return err
	}
	for name := range of {
		if !slices.Contains(alert.DimensionNames(), name) {
			return fmt.Errorf("there is no dimension %q; there are: %s", name, strings.Join(alert.DimensionNames(), ", "))
		}
	}
	set.Dimensions = alert.Dimensions{
		API: of["api"], Version: of["version"], Resource: of["resource"], Method: of["method"], Application: of["application"], Tenant: of["tenant"],
	}
	s.thresholds = append(s.thresholds, set)
	return nil
}

func (s *scenario) localCount(line string) error {
	var workers, count int
	var rule string
	if _, err := fmt.Sscanf(line, "local with %d: %s %d", &workers, &rule, &count); err != nil || !slices.Contains(numbersOfWorkers(), workers) {
		return form("local with 1, 2 or 8: RULE COUNT")
	}
	if s.local[workers] == nil {
		s.local[workers] = map[string]int{}
	}
	s.local[workers][rule] = count
	return nil
}

func (s *scenario) indented(in *section, n int, line string) error {
	switch in.of {
	case "definitions":
		s.definitions += line + "\n"
		return nil
	case "load":
		return s.load(in, n, line)
	case "expect":
		words, err := fields(line)
		if err != nil {
			return err
		}
		if len(words) < 3 || words[1] != string(alert.Firing) && words[1] != string(alert.Resolved) {
			return form("RULE[/CASE] firing|resolved TIME name=value …")
		}
		e := expected{line: n, state: alert.State(words[1])}
		e.rule, e.name, _ = strings.Cut(words[0], "/")
		at, err := time.ParseDuration(words[2])
		if err != nil {
			return err
		}
		e.at = epoch.Add(at)
		e.values, err = values(words[3:])
		s.expect = append(s.expect, e)
		return err
	}
	return fmt.Errorf("nothing may be indented below %q", in.of)
}

func (s *scenario) load(in *section, n int, line string) error {
	const should = "TIME: attribute=value …, or TIME xN every STEP: attribute=value …"
	when, what, ok := strings.Cut(line+" ", ": ")
	words := strings.Fields(when)
	if !ok || len(words) != 1 && (len(words) != 4 || words[2] != "every" || !strings.HasPrefix(words[1], "x")) {
		return form(should)
	}
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	count, every := 1, time.Duration(0)
	if len(words) == 4 {
		if count, err = strconv.Atoi(words[1][1:]); err != nil || count < 1 {
			return form(should)
		}
		if every, err = time.ParseDuration(words[3]); err != nil {
			return err
		}
	}
	given, err := fields(what)
	if err != nil {
		return err
	}
	own, err := values(given)
	if err != nil {
		return err
	}
	for i := range count {
		h := happening{line: n, stream: in.stream, at: epoch.Add(at + time.Duration(i)*every), values: map[string]string{}}
		maps.Copy(h.values, s.defaults[in.stream])
		for name, value := range own {
			h.values[name] = strings.ReplaceAll(value, "%d", strconv.Itoa(i))
		}
		h.after = h.at
		if in.after > 0 {
			h.after = epoch.Add(in.after)
		}
		s.events = append(s.events, h)
	}
	return nil
}

// fields are the words of a line, quotes kept together.
func fields(line string) (words []string, err error) {
	if strings.Count(line, `"`)%2 != 0 {
		return nil, errors.New("a quote is not closed")
	}
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		end, quoted := 0, false
		for ; end < len(line) && (quoted || line[end] != ' '); end++ {
			if line[end] == '"' {
				quoted = !quoted
			}
		}
		words = append(words, line[:end])
		line = line[end:]
	}
	return words, nil
}

func values(words []string) (map[string]string, error) {
	all := map[string]string{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is no name=value", word)
		}
		if _, twice := all[name]; twice {
			return nil, fmt.Errorf("%s is given twice", name)
		}
		all[name] = strings.Trim(value, `"`)
	}
	return all, nil
}
