package definition_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
)

// brokenCase is one case of testdata/broken.txt, which says how it is written.
type brokenCase struct {
	name   string
	source string // as in the file, "@base" not expanded
	want   string
}

func readBroken(t testing.TB) (head, base string, cases []brokenCase) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "broken.txt"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(data), "\n== ")
	head = parts[0]
	_, base, _ = strings.Cut(head, "@base\n")
	for _, part := range parts[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		c := brokenCase{name: name}
		for line := range strings.Lines(rest) {
			if text, ok := strings.CutPrefix(line, "=> "); ok {
				c.want += text
			} else if line != "\n" {
				c.source += line
			}
		}
		c.want = strings.TrimSuffix(c.want, "\n")
		cases = append(cases, c)
	}
	return head, base, cases
}

// files returns the case as the folder that it describes.
func (c brokenCase) files(base string) fstest.MapFS {
	folder := fstest.MapFS{}
	first, second, two := strings.Cut(strings.Replace(c.source, "@base\n", base, 1), "-- b.yaml\n")
	folder["a.yaml"] = &fstest.MapFile{Data: []byte(first)}
	if two {
		folder["b.yaml"] = &fstest.MapFile{Data: []byte(second)}
	}
	return folder
}

func TestLoad_RefusesBrokenDefinitionsWithFileAndLine(t *testing.T) {
	t.Parallel()
	head, base, cases := readBroken(t)
	if len(cases) < 100 {
		t.Fatalf("got %d cases, want at least 100", len(cases))
	}
	rewritten := head
	for _, c := range cases {
		_, err := definition.Load(c.files(base))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if got := err.Error(); got != c.want && !*update {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
		rewritten += "\n== " + c.name + "\n" + c.source + "=> " + strings.ReplaceAll(err.Error(), "\n", "\n=> ") + "\n"
	}
	if *update {
		if err := os.WriteFile(filepath.Join("testdata", "broken.txt"), []byte(rewritten), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad_ReportsAllProblemsInOrder(t *testing.T) {
	t.Parallel()
	_, err := definition.LoadWith(fstest.MapFS{
		"b.yaml": {Data: []byte("stream: t\nattributes: {a: intt, b: strin}\n")},
		"a.yaml": {Data: []byte("rules:\n  r: {type: event, stream: t, severity: 9, value: a, above: 1, message: m}\n")},
		"c.yml":  {Data: []byte("stream: u\n")},
	}, definition.Options{Dir: "mine"})
	want := strings.Join([]string{
		`mine/a.yaml:2: rule "r": severity must be 1 (severe), 2 (moderate) or 3 (mild), it is 9`,
		`mine/b.yaml:2: attribute "a": unknown type "intt"; did you mean "int"?`,
		`mine/b.yaml:2: attribute "b": unknown type "strin"; did you mean "string"?`,
		`mine/c.yml: only files that end in .yaml are read: rename it`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestLoad_RefusesAFolderWithoutDefinitions(t *testing.T) {
	t.Parallel()
	_, err := definition.Load(fstest.MapFS{"README.md": {Data: []byte("x")}})
	if want := "read definitions: no .yaml file found"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = definition.Load(fstest.MapFS{"a.yaml": {Data: []byte("rules: {}\n")}})
	if want := "definitions: no file defines a stream"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func FuzzLoad(f *testing.F) {
	_, base, cases := readBroken(f)
	for _, c := range cases {
		for _, file := range c.files(base) {
			f.Add(string(file.Data))
		}
	}
	f.Add(base + "derived: {x: price * volume}\naggregations:\n  A: {group_by: [name], select: {a: last(x), n: count()}, every: [sec, days]}\n")
	for _, every := range []string{"seconds...weeks", "hours...quarters", "5 minutes...years", "weeks...years", "2 days...90 days", "999 years"} {
		f.Add(base + "aggregations:\n  A: {group_by: [name], select: {n: count(), m: p95(volume * volume)}, every: " + every + "}\n")
	}
	f.Add(base + "rules:\n  r: {type: count, severity: 1, window: 0 seconds, more_than: 0, message: m}\n  q: {type: event, severity: 1, value: volume * price, above: 0, message: m}\n")
	for _, rule := range everyType() {
		f.Add(base + "aggregations: {A: {where: hot, group_by: [symbol], select: {n: count(), most: max(price), mean: avg(volume)}, every: days}}\nrules:\n  r: {severity: 1, " + rule + "}\n")
	}
	f.Fuzz(func(t *testing.T, text string) {
		catalog, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}})
		if (catalog == nil) == (err == nil) {
			t.Fatalf("catalogue %v and error %v", catalog, err)
		}
		if catalog != nil {
			run(t, catalog)
		}
	})
}

// everyType has a rule of each type, of the stream and the aggregation that fuzzing begins with.
func everyType() []string {
	return []string{
		"type: event, scope: local, value: price * 2, above: unset, where: hot, key: [name], details: [symbol], stakeholder: {role: publisher, user: name}, labels: {team: a}, message: \"{name} {value}\"",
		"type: count, window: 1 minute, cases: {more: {more_than: 1, message: m}, fewer: {fewer_than: 3, for: 1 minute, key: [symbol], message: \"{threshold} {window}\"}}",
		"type: threshold, aggregation: A, value: (most + mean) / n, below: 1, window: 1 hour, at_least: 1, keep_firing_for: 1 minute, where: price > 1, message: m",
		"type: ratio, aggregation: A, part: mean, of: n, above: 0.5, window: 2 minutes, suppress: 0 seconds, message: m",
		"type: absence, aggregation: A, window: 10 minutes, forget: 1 hour, message: \"{symbol}\"",
		"type: change, aggregation: A, value: most - n, above: 2, window: 1 hour, before: 1 day, message: m",
		"type: unseen, member: name, key: [symbol], at_least: 0, forget: 1 day, message: \"{name} {unseen}\"",
		"type: transition, member: name, state: symbol + name, below: 0.2, key: [symbol], message: \"{transition}\"",
		"type: run, in_a_row: 1, where: not hot, message: m",
		"type: interval, window: 7 days, lower: 1, upper: 99, at_least: 2, message: m",
		"type: underuse, aggregation: A, window: 30 days, at_least: 5, lower: 5, message: m",
	}
}

// run does with a catalogue what the roles do: what is accepted must not panic.
func run(t testing.TB, catalog *definition.Catalog) {
	cascade := aggregation.NewCascade(catalog.Aggregations, nil)
	local := alert.NewLocal(catalog.Rules, "shard")
	collector, global := alert.NewCollector(catalog.Rules), alert.NewGlobal(catalog.Rules)
	for _, schema := range catalog.Streams {
		columns := event.NewColumns(schema, event.NewDictionary())
		var d event.Decoder
		body := event.Body{Data: []byte(`[{}, {"at": 1795341599123, "name": "x", "price": 1.5, "volume": 9007199254740991, "hot": true}]`)}
		if _, _, err := d.Decode(body, event.Origin{Stored: 1795341599123000}, columns); err != nil {
			t.Fatal(err)
		}
		cascade.Add(aggregation.NewFolder(nil).Fold(catalog.Aggregations, []*event.Columns{columns}))
		local.Evaluate([]*event.Columns{columns})
		local.Commit()
		for _, body := range collector.Collect([]*event.Columns{columns}) {
			evidence, err := alert.DecodeEvidence(body)
			if err != nil {
				t.Fatal(err)
			}
			global.Add(evidence)
		}
	}
	global.Decide(time.UnixMicro(1795341599123000).Add(time.Hour))
	flush := cascade.Prepare(func(aggregation.Granularity) bool { return true })
	want := 0
	for _, def := range catalog.Aggregations {
		want += len(def.Granularities) - 1
		if len(def.Granularities) == 0 {
			t.Fatalf("%s keeps no level", def.Name)
		}
	}
	if len(flush.Levels) != want {
		t.Fatalf("%d levels are flushed, want %d", len(flush.Levels), want)
	}
}

func TestLoad_RangesHoldTheirEndsAndTheStandardUnitsBetween(t *testing.T) {
	t.Parallel()
	_, base, _ := readBroken(t)
	for every, want := range map[string]string{
		"seconds...years":       "seconds, minutes, hours, days, months, years",
		"sec...min":             "seconds, minutes",
		"seconds...weeks":       "seconds, minutes, hours, days, weeks",
		"seconds...2 weeks":     "seconds, minutes, hours, days, 2 weeks",
		"hours...quarters":      "hours, days, months, quarters",
		"5 minutes...years":     "5 minutes, hours, days, months, years",
		"15 minutes...6 hours":  "15 minutes, hours, 6 hours",
		"30 seconds...12 hours": "30 seconds, minutes, hours, 12 hours",
		"60 minutes...24 hours": "hours, days",
		"weeks...weeks":         "weeks",
		"months...5 years":      "months, years, 5 years",
		"weeks...2 weeks":       "weeks, 2 weeks",
	} {
		catalog, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(base + "aggregations: {A: {select: {n: count()}, every: " + every + "}}\n")}})
		if err != nil {
			t.Errorf("%s: %v", every, err)
			continue
		}
		var got []string
		for _, g := range catalog.Aggregations[0].Granularities {
			got = append(got, g.String())
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: got %s, want %s", every, strings.Join(got, ", "), want)
		}
		run(t, catalog)
	}
}

// Any two levels are a range, or refused; never anything else.
func TestLoad_EveryRangeIsTakenOrRefused(t *testing.T) {
	t.Parallel()
	_, base, _ := readBroken(t)
	taken := 0
	for _, n := range []int{1, 2, 7, 12, 30, 90, 999} {
		for _, m := range []int{1, 3, 4, 400} {
			for _, from := range []string{"seconds", "minutes", "hours", "days", "weeks", "months", "quarters", "years"} {
				for _, to := range []string{"seconds", "minutes", "hours", "days", "weeks", "months", "quarters", "years"} {
					text := fmt.Sprintf("%saggregations: {A: {select: {n: count()}, every: %d %s...%d %s}}\n", base, n, from, m, to)
					catalog, err := definition.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}})
					switch {
					case err == nil:
						taken++
						run(t, catalog)
					case !strings.Contains(err.Error(), "a.yaml:10: "):
						t.Errorf("%s: the error has no place: %v", text, err)
					}
				}
			}
		}
	}
	if taken < 100 {
		t.Errorf("%d ranges are taken", taken)
	}
}
