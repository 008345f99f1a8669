package bench

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/definition"
)

func TestMedian_IsTheMiddleOfTheRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 100, 1}, 5}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		given := slices.Clone(c.values)
		if got := median(given); got != c.want {
			t.Errorf("median of %v: got %g, want %g", c.values, got, c.want)
		}
		if !slices.Equal(given, c.values) {
			t.Errorf("the runs are in another order: %v", given)
		}
	}
}

func TestPercentile_IsTheNearestRank(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)) // 100 … 1
	}
	for _, c := range []struct {
		values []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 99, 0},
		{[]time.Duration{7}, 1, 7},
		{[]time.Duration{7}, 100, 7},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{hundred, 1, 1},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("%g %% of %d values: got %d, want %d", c.p, len(c.values), got, c.want)
		}
	}
}

func TestParseStat_ReadsTheTimesWhateverTheName(t *testing.T) {
	t.Parallel()
	const rest = " S 42 591 591 0 -1 4194560 100 200 0 0 150 50 7 3 20 0 1 0 3600 1000 200 18446744073709551615"
	want := procStat{parent: 42, own: 2 * time.Second, children: 100 * time.Millisecond}
	for _, name := range []string{"weir", "a) S 1 (b", ")(", "x y"} {
		got, err := parseStat("591 (" + name + ")" + rest)
		if err != nil || got != want {
			t.Errorf("name %q: got %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, text := range []string{"", "591", "591 (weir) S 42", "591 (weir) S x 591 591 0 -1 4194560 100 200 0 0 150 50 7 3 20 0 1"} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestParseStatus_ReadsSizes(t *testing.T) {
	t.Parallel()
	got := parseStatus("Name:\tweir\nVmHWM:\t  2048 kB\nThreads:\t9\nRssAnon:\t1 kB\nRssShmem:\tx kB\n")
	if len(got) != 2 || got["VmHWM"] != 2<<20 || got["RssAnon"] != 1<<10 {
		t.Errorf("got %v", got)
	}
}

func TestParseBusy_LeavesOutWhatIsIdle(t *testing.T) {
	t.Parallel()
	if got := parseBusy("cpu  1 2 3 1000 1000 4 5 6 7 8\ncpu0 1 1 1 1\n"); got != 21*clockTick {
		t.Errorf("got %s, want %s", got, 21*clockTick)
	}
}

func TestTreeCPU_HasWhatThisProcessUses(t *testing.T) {
	t.Parallel()
	if !measurable() {
		t.Skip("this system has no /proc")
	}
	deadline := time.Now().Add(20 * time.Second)
	for x := 1.0; ; x = math.Sqrt(x + 1) {
		used, err := treeCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if used >= 2*clockTick {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 s of work are %s of CPU (%g)", used, x)
		}
	}
}

func TestZipf_DrawsInProportion(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct{ skew, first, last float64 }{{0, 0.25, 0.25}, {1, 0.48, 0.12}} { // 1, 1/2, 1/3, 1/4 of 25/12
		const draws = 20_000
		var seen [4]int
		z := newZipf(4, c.skew)
		for range draws {
			seen[z.draw(random)]++
		}
		for i, want := range map[int]float64{0: c.first, 3: c.last} {
			if got := float64(seen[i]) / draws; math.Abs(got-want) > 0.02 {
				t.Errorf("skew %g: %d was drawn %.3f of the times, want %.3f", c.skew, i, got, want)
			}
		}
	}
}

// loads are those that are measured.
func loads(c Config) map[string]load {
	return map[string]load{"full pack": packLoad(c), "one aggregation": peersLoad(c)}
}

func TestGenerator_MakesEventsOfTheSizeThatTheTallyHas(t *testing.T) {
	t.Parallel()
	for _, size := range []int{480, 700, 2000} {
		c := Default()
		c.EventSize = size
		for name, l := range loads(c) {
			g := newGenerator(l)
			types := map[string]int64{}
			bytes := 0
			start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
			const n = 5000
			for i := range n {
				e := g.next(start.Add(time.Duration(i) * time.Millisecond))
				var attributes map[string]any
				if err := json.Unmarshal(e.json, &attributes); err != nil {
					t.Fatalf("%s: %v in %s", name, err, e.json)
				}
				types[e.eventType]++
				bytes += len(e.json)
			}
			if mean := bytes / n; mean < size || mean > size+15 {
				t.Errorf("%s: events have %d bytes on average, want %d", name, mean, size)
			}
			var sum counts
			for _, c := range g.tally.level("years") {
				sum.add(c)
			}
			if sum.requests != types[typeRequest] || sum.faults != types[typeFault] || sum.throttles != types[typeThrottle] {
				t.Errorf("%s: the tally has %+v, made were %v", name, sum, types)
			}
			if sum.succeeded == 0 || sum.succeeded+sum.failed >= sum.requests || sum.responseTime == 0 {
				t.Errorf("%s: the tally has %+v", name, sum)
			}
		}
	}
}

func TestGenerator_RepeatsItself(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for name, l := range loads(Default()) {
		first, again := newGenerator(l), newGenerator(l)
		for i := range 1000 {
			one := string(first.next(now).json)
			if two := string(again.next(now).json); one != two {
				t.Fatalf("%s: event %d is %s, and then %s", name, i, one, two)
			}
		}
	}
}

func TestGenerator_MakesTheShareOfLateEventsThatIsAskedFor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	c := Default()
	c.Late = 0.1
	g := newGenerator(packLoad(c))
	const n = 10_000
	for range n {
		g.next(now)
	}
	late := 0.0
	for key, c := range g.tally.counts {
		switch age := now.Unix() - key.second; {
		case age > int64(lateBy.Seconds()) || age < 0:
			t.Fatalf("an event is %d s late", age)
		case age > 0:
			late += float64(c.requests + c.faults + c.throttles)
		}
	}
	if share := late / n; share < 0.08 || share > 0.12 {
		t.Errorf("%.3f of the events are late, want 0.1", share)
	}
}

func TestTally_AddsUpPerLevel(t *testing.T) {
	t.Parallel()
	all := newTally()
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	a, b := api{1, 0}, api{2, 0}
	for _, text := range []string{"2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z", "2026-02-01T00:00:00Z"} {
		all.request(at(text), a, 200, 10)
	}
	all.request(at("2026-01-01T00:00:00Z"), b, 503, 7)
	for level, want := range map[string]int{"seconds": 6, "minutes": 5, "hours": 4, "days": 4, "months": 4, "years": 3} {
		if got := len(all.level(level)); got != want {
			t.Errorf("%s: %d buckets of APIs, want %d", level, got, want)
		}
	}
	got := *all.level("years")[tallyKey{at("2026-01-01T00:00:00Z").Unix(), a}]
	if want := (counts{requests: 4, succeeded: 4, responseTime: 40}); got != want {
		t.Errorf("2026: got %+v, want %+v", got, want)
	}
}

func TestSheets_KnowEveryAggregationThatIsMeasured(t *testing.T) {
	t.Parallel()
	pack, err := packFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []map[string]string{pack, oneFiles()} {
		dir := t.TempDir()
		for name, text := range files {
			if strings.Contains(text, "seconds: 5 minutes") || strings.Contains(text, "seconds: 1 hour") {
				t.Errorf("%s: seconds may be purged before they are compared", name)
			}
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		catalog, err := definition.LoadWith(os.DirFS(dir), definition.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, def := range catalog.Aggregations {
			if _, ok := sheets()[def.Name]; !ok {
				t.Errorf("nothing is known of what %s must have", def.Name)
			}
		}
	}
}

func TestComparison_FindsWhatIsLostDoubledOrMisplaced(t *testing.T) {
	t.Parallel()
	a, b := api{1, 0}, api{2, 1}
	want := map[tallyKey]*counts{{60, a}: {requests: 2}, {60, b}: {requests: 1}}
	type row struct {
		bucket  int64
		context string
		n       int64
	}
	for name, c := range map[string]struct {
		rows  []row
		wrong bool
	}{
		"equal":        {[]row{{60, a.context(), 2}, {60, b.context(), 1}}, false},
		"lost":         {[]row{{60, a.context(), 1}, {60, b.context(), 1}}, true},
		"doubled":      {[]row{{60, a.context(), 3}, {60, b.context(), 1}}, true},
		"swapped":      {[]row{{60, a.context(), 1}, {60, b.context(), 2}}, true},
		"no row":       {[]row{{60, a.context(), 2}}, true},
		"other bucket": {[]row{{60, a.context(), 2}, {120, b.context(), 1}}, true},
		"other API":    {[]row{{60, a.context(), 2}, {60, b.context(), 1}, {60, "__other__", 1}}, true},
		// Of groups beyond the cap it is not known of which API they are.
		"beyond the cap":              {[]row{{60, a.context(), 1}, {60, "__other__", 2}}, false},
		"lost beyond the cap":         {[]row{{60, a.context(), 1}, {60, "__other__", 1}}, true},
		"doubled beside the cap":      {[]row{{60, a.context(), 3}, {60, "__other__", 0}}, true},
		"beyond another bucket's cap": {[]row{{60, a.context(), 1}, {60, b.context(), 1}, {120, "__other__", 1}}, true},
	} {
		c2 := newComparison(name, sheets()["ApiVersionPerAppAgg"], want)
		for _, r := range c.rows {
			c2.row(r.bucket, r.context, []int64{r.n})
		}
		c2.judge()
		if got := len(c2.problems) > 0; got != c.wrong {
			t.Errorf("%s: problems %v", name, c2.problems)
		}
	}
}

func TestConfig_RefusesNonsenseWithASentence(t *testing.T) {
	t.Parallel()
	if problems := Default().Problems(); len(problems) > 0 {
		t.Errorf("the default: %v", problems)
	}
	for want, change := range map[string]func(*Config){
		"--events must be from":                      func(c *Config) { c.Events = 0 },
		"--batch must be from":                       func(c *Config) { c.Batch = -1 },
		"--batch 100 times --event-size 50000 is":    func(c *Config) { c.EventSize = 50_000 },
		"--batch 5000 is more than --events 2000":    func(c *Config) { c.Batch, c.EventSize, c.Events = 5000, 400, 2000 },
		"--runs must be from":                        func(c *Config) { c.Runs = 0 },
		"--workers must be from 1 to 64, it is 1000": func(c *Config) { c.Workers = 1000 },
		"--history must be from":                     func(c *Config) { c.History = -5 },
		"--cardinality must be from":                 func(c *Config) { c.Cardinality = math.NaN() },
		"--skew must be from":                        func(c *Config) { c.Skew = -1 },
		"--late must be from 0 to 1":                 func(c *Config) { c.Late = 1.5 },
		"--measure takes bare, full-pack":            func(c *Config) { c.Measure = []string{"everything"} },
		"--measure must name one":                    func(c *Config) { c.Measure = nil },
		"--live must be 1s at least":                 func(c *Config) { c.LiveFor = 0 },
		"--live-rate must be from":                   func(c *Config) { c.LiveRate = -1 },
		"or give --live-rate":                        func(c *Config) { c.Measure = []string{MeasureLive} },
	} {
		c := Default()
		change(&c)
		if problems := c.Problems(); len(problems) != 1 || !strings.Contains(problems[0], want) {
			t.Errorf("got %q, want one with %q", problems, want)
		}
	}
}

func TestResult_ComparesEachRunWithTheBareConsumerOfTheSameRun(t *testing.T) {
	t.Parallel()
	cpu := &CPU{1, 2, 3}
	s := series{
		bare:     []*bare{{rate: 100, cpu: cpu}, {rate: 400, cpu: cpu}, {rate: 100, cpu: cpu}},
		measured: []*folded{{rate: 50, cpu: cpu, checked: 4}, {rate: 100, cpu: cpu, checked: 4}, {rate: 30, cpu: cpu, checked: 4}},
	}
	r := s.result(4)
	if r.EventsPerSecond != 50 || *r.Ratio != 0.3 || *r.RatioSpread != (Spread{0.25, 0.5}) || !r.Exact || *r.CPU != *cpu {
		t.Errorf("got %+v, ratio %g, spread %+v", r, *r.Ratio, *r.RatioSpread)
	}
	for name, change := range map[string]func(*folded){
		"a level was not compared": func(f *folded) { f.checked = 3 },
		"a count is wrong":         func(f *folded) { f.problems = []string{"wrong"} },
	} {
		changed := *s.measured[1]
		change(&changed)
		if (series{measured: []*folded{s.measured[0], &changed}}).result(4).Exact {
			t.Errorf("%s, and the result is exact", name)
		}
	}
}

func TestTable_SaysWhatIsWrongAndWhatWasNotMeasured(t *testing.T) {
	t.Parallel()
	r := &Report{Batch: 100, Workers: 2, Runs: 3, Events: 1_234_567, FullPack: &FoldResult{Problems: []string{"one is lost"}}}
	text := r.Table()
	for _, want := range []string{"1,234,567 events", "2 workers", "not measured", "WRONG: one is lost", "no /proc"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
