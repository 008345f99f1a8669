package evaluator

import (
	"bufio"
	"bytes"
	"encoding/json"
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
	"weir/pkg/event"
	"weir/streams"
)

// epoch is when every scenario begins.
var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// scenario is a file of testdata: what happens, and which alerts must come of it.
//
//	# a comment
//	definitions                 the built-in pack where it is left out
//	  stream: call
//	  …
//	defaults request a=1        attributes of the events that follow
//	load request                events; TIME is since the beginning, values that hold spaces are quoted
//	  TIME [xN every STEP]: attribute=value …
//	load request after TIME     events that are published only when all before TIME are: late ones
//	threshold RULE[/CASE] VALUE dimension=value …
//	through TIME                what is expected is all that is decided up to here
//	expect                      the global alerts, each in a line, without order
//	  RULE[/CASE] firing|resolved TIME [value=V] key=value …
//	local with N: RULE COUNT    how many local alerts N workers raise
type scenario struct {
	name        string
	definitions string
	events      []happening
	thresholds  []alert.Threshold
	through     time.Time
	expect      []expected
	local       map[int]map[string]int
	catalog     *definition.Catalog
}

// happening is one event.
type happening struct {
	stream string
	at     time.Time
	after  time.Time // when it is published
	values map[string]string
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
	of       string
	stream   string
	after    time.Duration
	defaults map[string]map[string]string
}

func parseScenario(name string, data []byte) (*scenario, error) {
	s := &scenario{name: name, local: map[int]map[string]int{}}
	in := section{defaults: map[string]map[string]string{}}
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
			err = s.begin(&in, line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	var files fs.FS = streams.Files
	if s.definitions != "" {
		files = fstest.MapFS{"rules.yaml": {Data: []byte(s.definitions)}}
	}
	var err error
	if s.catalog, err = definition.Load(files); err != nil {
		return nil, err
	}
	s.catalog.Aggregations = nil // rules are decided by evidence alone, and 72 tables a shard take their time
	return s, nil
}

func (s *scenario) begin(in *section, line string) (err error) {
	words := fields(line)
	*in = section{of: words[0], defaults: in.defaults}
	switch words[0] {
	case "definitions", "expect":
	case "defaults":
		in.defaults[words[1]] = values(words[2:])
	case "load":
		in.stream = words[1]
		if len(words) == 4 && words[2] == "after" {
			in.after, err = time.ParseDuration(words[3])
		}
	case "threshold":
		var t alert.Threshold
		t.Rule, t.Case, _ = strings.Cut(words[1], "/")
		of := values(words[3:])
		t.Dimensions = alert.Dimensions{API: of["api"], Version: of["version"], Application: of["application"], Tenant: of["tenant"]}
		t.Value, err = strconv.ParseFloat(words[2], 64)
		s.thresholds = append(s.thresholds, t)
	case "through":
		var d time.Duration
		d, err = time.ParseDuration(words[1])
		s.through = epoch.Add(d)
	case "local":
		workers, err := strconv.Atoi(strings.TrimSuffix(words[2], ":"))
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(words[4])
		if err != nil {
			return err
		}
		if s.local[workers] == nil {
			s.local[workers] = map[string]int{}
		}
		s.local[workers][words[3]] = count
	default:
		return fmt.Errorf("there is no %q", words[0])
	}
	return err
}

func (s *scenario) indented(in *section, n int, line string) error {
	switch in.of {
	case "definitions":
		s.definitions += line + "\n"
		return nil
	case "load":
		return s.load(in, line)
	case "expect":
		words := fields(line)
		at, err := time.ParseDuration(words[2])
		if err != nil {
			return err
		}
		e := expected{line: n, state: alert.State(words[1]), at: epoch.Add(at), values: values(words[3:])}
		e.rule, e.name, _ = strings.Cut(words[0], "/")
		s.expect = append(s.expect, e)
		return nil
	}
	return fmt.Errorf("nothing may be indented below %q", in.of)
}

func (s *scenario) load(in *section, line string) error {
	when, what, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("no colon in %q", line)
	}
	words := strings.Fields(when)
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	count, every := 1, time.Duration(0)
	if len(words) == 4 {
		if count, err = strconv.Atoi(strings.TrimPrefix(words[1], "x")); err != nil {
			return err
		}
		if every, err = time.ParseDuration(words[3]); err != nil {
			return err
		}
	}
	for i := range count {
		h := happening{stream: in.stream, at: epoch.Add(at + time.Duration(i)*every), values: maps.Clone(in.defaults[in.stream])}
		if h.values == nil {
			h.values = map[string]string{}
		}
		for name, value := range values(fields(what)) {
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
func fields(line string) (words []string) {
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
	return words
}

func values(words []string) map[string]string {
	all := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		all[name] = strings.Trim(value, `"`)
	}
	return all
}

// body is the event as gateways send it.
func (s *scenario) body(h happening) (json.RawMessage, error) {
	at := slices.IndexFunc(s.catalog.Streams, func(of *event.Schema) bool { return of.Name == h.stream })
	if at < 0 {
		return nil, fmt.Errorf("there is no stream %q", h.stream)
	}
	schema := s.catalog.Streams[at]
	object := map[string]any{}
	for name, text := range h.values {
		i := schema.Index(name)
		switch {
		case i < 0:
			return nil, fmt.Errorf("stream %s has no attribute %q", h.stream, name)
		case schema.Attributes[i].Kind == event.String:
			object[name] = text
		default:
			object[name] = json.RawMessage(text)
		}
	}
	if schema.EventTime < 0 {
		return nil, fmt.Errorf("stream %s has no event time", h.stream)
	}
	object[schema.Attributes[schema.EventTime].Name] = h.at.UnixMilli()
	return json.Marshal(object)
}

// check compares what was decided up to the end of the scenario with what is expected.
func (s *scenario) check(t *testing.T, decided []alert.Alert) {
	t.Helper()
	left := slices.Clone(decided)
	for _, e := range s.expect {
		at := slices.IndexFunc(left, e.matches)
		if at < 0 {
			t.Errorf("testdata/%s.test:%d: no alert as expected", s.name, e.line)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	for _, a := range left {
		t.Errorf("%s: not expected: %s", s.name, describe(a))
	}
	if t.Failed() {
		for _, a := range decided {
			t.Logf("%s: decided: %s", s.name, describe(a))
		}
	}
}

func (e expected) matches(a alert.Alert) bool {
	at := a.FiredAt
	if a.State == alert.Resolved {
		at = a.ResolvedAt
	}
	if a.Rule != e.rule || a.Case != e.name || a.State != e.state || !at.Equal(e.at) {
		return false
	}
	for name, want := range e.values {
		got, ok := a.Key[name]
		if !ok {
			got = a.Details[name]
		}
		switch name {
		case "value":
			got = strconv.FormatFloat(a.Value, 'g', 6, 64)
		case "threshold":
			got = strconv.FormatFloat(a.Threshold, 'g', 6, 64)
		case "reason":
			got = a.Reason
		case "message":
			got = a.Message
		}
		if got != want {
			return false
		}
	}
	return true
}

func describe(a alert.Alert) string {
	at := a.FiredAt
	if a.State == alert.Resolved {
		at = a.ResolvedAt
	}
	return fmt.Sprintf("%s/%s %s %s value=%g %v %v %s %q", a.Rule, a.Case, a.State, at.Sub(epoch), a.Value, a.Key, a.Details, a.Reason, a.Message)
}
