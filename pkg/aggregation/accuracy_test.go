package aggregation

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weir/pkg/event"
)

// quantileBound and distinctBound are what is promised.
const (
	quantileBound = 0.01
	distinctBound = 0.02
)

// samples are generated: tails of all weights, and the odd ones.
func samples() map[string][]float64 {
	random := rand.New(rand.NewPCG(7, 7))
	fill := func(n int, next func() float64) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = next()
		}
		return values
	}
	return map[string][]float64{
		"log-normal":             fill(100_000, func() float64 { return math.Exp(5 + 2*random.NormFloat64()) }),
		"Pareto 1.1":             fill(100_000, func() float64 { return 10 / math.Pow(1-random.Float64(), 1/1.1) }),
		"Pareto 0.5":             fill(100_000, func() float64 { return 1 / math.Pow(1-random.Float64(), 2) }),
		"whole milliseconds":     fill(100_000, func() float64 { return math.Floor(20 * random.ExpFloat64()) }),
		"constant":               fill(1000, func() float64 { return 12.34 }),
		"one value":              {42},
		"two values":             {1, 1e9},
		"zeros":                  fill(1000, func() float64 { return 0 }),
		"negative":               fill(10_000, func() float64 { return -math.Exp(3 * random.NormFloat64()) }),
		"both signs":             fill(10_000, func() float64 { return 1e6 * random.NormFloat64() }),
		"a thousandth not 0":     fill(100_000, func() float64 { return math.Floor(1.001 * random.Float64()) }),
		"from smallest to great": fill(10_000, func() float64 { return math.Pow(10, 400*random.Float64()-200) }),
	}
}

func TestQuantile_IsWithinOnePercent(t *testing.T) {
	t.Parallel()
	for name, values := range samples() {
		checkQuantiles(t, name, values)
	}
}

// checkQuantiles compares with sorting, over sketches of parts as shards and
// buckets make them.
func checkQuantiles(t *testing.T, name string, values []float64) {
	t.Helper()
	var blocks []byte
	for part := range slices.Chunk(values, 1000) {
		s := newQuantile()
		for _, v := range part {
			s.add(event.FloatCell(v))
		}
		blocks = append(blocks, encode(s)...)
	}
	sorted := slices.Sorted(slices.Values(values))
	worst := 0.0
	for _, percent := range []float64{0.1, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99} {
		m := Measure{Name: name, Op: Quantile, ArgKind: event.Float, Percent: percent}
		cell, _ := finished(t, m, blocks)
		got, want := cell.Float(), ranked(sorted, percent)
		if !near(got, want, quantileBound) {
			t.Errorf("%s: p%v is %v, exactly %v", name, percent, got, want)
		}
		if want != 0 {
			worst = max(worst, math.Abs(got/want-1))
		}
	}
	t.Logf("%s: %d values, greatest relative error of a quantile %.3f %%", name, len(values), 100*worst)
}

func TestDeviation_IsThatOfThePopulation(t *testing.T) {
	t.Parallel()
	// Siddhi divides by n, not by n-1.
	if got, _ := measured(t, Measure{Op: Deviation, ArgKind: event.Int}, []event.Cell{2, 4, 4, 4, 5, 5, 7, 9}); got.Float() != 2 {
		t.Errorf("deviation %v, want 2", got.Float())
	}
	for name, values := range samples() {
		if name == "from smallest to great" { // squares beyond floats
			continue
		}
		got, _ := measured(t, Measure{Op: Deviation, ArgKind: event.Float}, floats(values...))
		if want := populationDeviation(values); !near(got.Float(), want, 1e-9) && math.Abs(got.Float()-want) > 1e-9 {
			t.Errorf("%s: deviation %v, want %v", name, got.Float(), want)
		}
	}
	// A small spread far from zero, where Σx²-n·mean² has no digits left.
	values := floats(1e15+1, 1e15+2, 1e15+3)
	if got, _ := measured(t, Measure{Op: Deviation, ArgKind: event.Float}, values); !near(got.Float(), math.Sqrt(2.0/3), 1e-12) {
		t.Errorf("deviation %v, want √(2/3)", got.Float())
	}
}

func TestDistinct_IsExactWhileFewAndWithinTwoPercentBeyond(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 100, 511, 512, 513, 1000, 5000, 10_000, 20_000, 30_000, 50_000, 100_000, 500_000} {
		runs := max(1, min(20, 150_000/n))
		worst := 0.0
		for run := range runs {
			d := &distinct{}
			for i := range n {
				v := event.Cell(run*10_000_000 + i)
				d.add(hashOf(event.Int, v, nil))
				if i%3 == 0 { // seen before
					d.add(hashOf(event.Int, v, nil))
				}
			}
			got, _ := finished(t, Measure{Op: Distinct}, encode(d))
			worst = max(worst, math.Abs(float64(got)/float64(n)-1))
		}
		if n <= exactDistinct && worst != 0 || worst > distinctBound {
			t.Errorf("%d different values: off by %.2f %%", n, 100*worst)
		}
		t.Logf("%d different values, %d times: greatest error %.2f %%", n, runs, 100*worst)
	}
}

// The real logs' true answers come from the oracle beside each, and from
// sorting.
func TestSketch_AgreesWithRealLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file string
		read func(line string) (client, bytes string)
	}{
		{"nasa-http/nasa_19950801.tsv.gz", func(line string) (string, string) {
			fields := strings.Split(line, "\t")
			return fields[0], fields[6]
		}},
		{"elastic-apache/apache_logs.gz", func(line string) (string, string) {
			client, rest, _ := strings.Cut(line, " ")
			_, rest, _ = strings.Cut(rest, `" `) // the request ends
			return client, strings.Fields(rest + " - -")[1]
		}},
	} {
		path := filepath.Join("../../../shared/data", c.file)
		lines, want, err := readLog(path)
		if errors.Is(err, fs.ErrNotExist) {
			t.Skipf("SKIPPED: the real logs are absent: no %s", path)
		}
		if err != nil {
			t.Fatal(err)
		}
		dict, m, d := event.NewDictionary(), Measure{Op: Distinct, ArgKind: event.String}, &distinct{}
		var bytes []float64
		for _, line := range lines {
			client, size := c.read(line)
			d.add(m.operand(dict.Intern(client), dict))
			if n, err := strconv.ParseFloat(size, 64); err == nil {
				bytes = append(bytes, n)
			}
		}
		got, _ := finished(t, m, encode(d))
		t.Logf("%s: %d clients, exactly %d", c.file, got, want)
		if math.Abs(float64(got)/float64(want)-1) > distinctBound || dict.Len() != want {
			t.Errorf("%s: %d clients, exactly %d, of which the test read %d", c.file, got, want, dict.Len())
		}
		checkQuantiles(t, c.file+" bytes", bytes)
	}
}

// readLog reads the good lines of a log, and how many clients its oracle says
// there are.
func readLog(path string) (lines []string, clients int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = file.Close() }() // only read
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, 0, err
	}
	var oracle struct {
		Clients int    `json:"distinct_clients"`
		Format  string `json:"format"`
		Bad     []struct {
			Line int `json:"line"`
		} `json:"malformed_lines"`
	}
	text, err := os.ReadFile(path + ".oracle.json")
	if err != nil {
		return nil, 0, err
	}
	if err := json.Unmarshal(text, &oracle); err != nil {
		return nil, 0, err
	}
	scanner := bufio.NewScanner(unzipped)
	for n := 1; scanner.Scan(); n++ {
		bad := n == 1 && strings.HasPrefix(oracle.Format, "TSV")
		for _, b := range oracle.Bad {
			bad = bad || b.Line == n
		}
		if !bad {
			lines = append(lines, scanner.Text())
		}
	}
	return lines, oracle.Clients, scanner.Err()
}
