package query_test

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/query"
	"weir/pkg/store"
)

// occurrence is an event of either of the two aggregations that are joined.
type occurrence struct {
	fault bool // of the second
	shard string
	at    int64
	seq   uint64
	api   string
	code  int64
	extra string // the key that only one aggregation has, by another name in each
	ms    int64
	size  float64
	ok    bool
	lacks []string // measures that were added to the aggregation later
}

// joinable defines an aggregation with every kind of measure. Its keys are two
// that every such aggregation has, and one that it has alone.
func joinable(name, extra string, zone *time.Location, keys ...string) *aggregation.Definition {
	def := &aggregation.Definition{
		Name: name, Zone: zone, PartitionByID: true,
		Measures: []aggregation.Measure{
			{Name: "n", Op: aggregation.Count},
			{Name: "ms", Op: aggregation.Sum, Arg: "ms", ArgKind: event.Int},
			{Name: "mean", Op: aggregation.Avg, Arg: "ms", ArgKind: event.Int},
			{Name: "least", Op: aggregation.Min, Arg: "size", ArgKind: event.Float},
			{Name: "allOk", Op: aggregation.Min, Arg: "ok", ArgKind: event.Bool},
			{Name: "newest", Op: aggregation.Last, Arg: "ms", ArgKind: event.Int},
			{Name: "oldest", Op: aggregation.First, Arg: "extra", ArgKind: event.String},
			{Name: "extras", Op: aggregation.Distinct, Arg: "extra", ArgKind: event.String},
			{Name: "p50", Op: aggregation.Quantile, Percent: 50, Arg: "size", ArgKind: event.Float},
			{Name: "p90", Op: aggregation.Quantile, Percent: 90, Arg: "size", ArgKind: event.Float, Shares: "p50"},
			{Name: "spread", Op: aggregation.Deviation, Arg: "size", ArgKind: event.Float},
		},
		Granularities: []aggregation.Granularity{aggregation.Seconds, aggregation.Hours, aggregation.Days, aggregation.Months},
	}
	const api, code, extraAt, ms, size, okAt = 0, 1, 2, 3, 4, 5
	input := aggregation.Input{Stream: "s", Where: -1, Args: []int{-1, ms, ms, size, okAt, ms, extraAt, extraAt, size, size, size}}
	for _, key := range keys {
		at := map[string]int{"api": api, "code": code, extra: extraAt}[key]
		kind := event.String
		if at == code {
			kind = event.Int
		}
		def.Keys = append(def.Keys, aggregation.Key{Name: key, Kind: kind})
		input.Keys = append(input.Keys, at)
	}
	def.Inputs = []aggregation.Input{input}
	return def
}

func fold(def *aggregation.Definition, events []occurrence) aggregation.Delta {
	schema := &event.Schema{Name: "s", Attributes: []event.Attribute{
		{Name: "api", Kind: event.String},
		{Name: "code", Kind: event.Int},
		{Name: "extra", Kind: event.String},
		{Name: "ms", Kind: event.Int},
		{Name: "size", Kind: event.Float},
		{Name: "ok", Kind: event.Bool},
	}}
	c := event.NewColumns(schema, event.NewDictionary())
	for i, e := range events {
		c.Times, c.Sequences = append(c.Times, e.at), append(c.Sequences, e.seq)
		c.Messages, c.Offsets, c.Dropped = append(c.Messages, int32(i)), append(c.Offsets, 0), append(c.Dropped, false)
		c.Checksums = append(c.Checksums, 0)
		for at, cell := range []event.Cell{
			c.Dict.Intern(e.api), event.Cell(e.code), c.Dict.Intern(e.extra), event.Cell(e.ms), event.FloatCell(e.size), event.BoolCell(e.ok),
		} {
			c.Cells[at] = append(c.Cells[at], cell)
		}
	}
	return aggregation.NewFolder(nil).Fold([]*aggregation.Definition{def}, []*event.Columns{c})
}

// filler writes what the workers of one shard would of one aggregation.
type filler struct {
	db      *store.DB
	def     *aggregation.Definition
	lease   *store.Lease
	shard   string
	cascade *aggregation.Cascade
}

// flush commits events, and gives some levels what they lack.
func (f *filler) flush(t *rapid.T, events []occurrence, due []aggregation.Granularity) {
	defs := []*aggregation.Definition{f.def}
	if f.cascade == nil {
		f.cascade = aggregation.NewCascade(defs, nil)
	}
	delta := fold(f.def, events)
	f.cascade.Add(delta)
	flushed := f.cascade.Prepare(func(g aggregation.Granularity) bool { return slices.Contains(due, g) })
	err := f.db.InTx(t.Context(), func(tx *store.Tx) error {
		batch, err := tx.NextBatch(t.Context(), f.lease, store.Totals{})
		return errors.Join(err, tx.WriteDelta(t.Context(), f.shard, batch, delta), tx.WriteLevels(t.Context(), f.shard, batch, flushed))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.cascade.Commit(flushed)
}

// naive is a question as the oracle knows it.
type naive struct {
	per     aggregation.Granularity
	group   []string // of bucket, api, code, shard_id
	code    int64    // only these; 0 is all
	join    string   // "" for none
	natural bool     // makes the product merge natural rows first
}

func (n naive) parameters(second string) string {
	lines := []string{"within=2000-01-01,2100-01-01", "per=" + n.per.String(), "group_by=" + strings.Join(n.group, ",")}
	var where []string
	if n.code != 0 {
		where = append(where, fmt.Sprintf("code == %d", n.code))
	}
	if n.natural {
		where = append(where, "n >= 0")
	}
	if n.join != "" {
		lines = append(lines, "join="+second, "join_type="+n.join)
	}
	return strings.Join(append(lines, "where="+strings.Join(where, " and ")), "\n")
}

// answer is the oracle: a loop over all events.
func (n naive) answer(zone *time.Location, all []occurrence) [][]any {
	groups, keys := map[string][]occurrence{}, map[string][]any{}
	for _, e := range all {
		if n.code != 0 && e.code != n.code || n.join == "" && e.fault {
			continue
		}
		var key []any
		for _, name := range n.group {
			key = append(key, map[string]any{"bucket": stamp(n.per.Truncate(e.at, zone)), "api": e.api, "code": e.code, "shard_id": e.shard}[name])
		}
		text := fmt.Sprintf("%q", key)
		groups[text], keys[text] = append(groups[text], e), key
	}
	var rows [][]any
	for text, events := range groups {
		var sides [2][]occurrence
		for _, e := range events {
			if e.fault {
				sides[1] = append(sides[1], e)
			} else {
				sides[0] = append(sides[0], e)
			}
		}
		if (n.join == "inner" || n.join == "left") && sides[0] == nil || (n.join == "inner" || n.join == "right") && sides[1] == nil {
			continue
		}
		row := append(keys[text], naiveMeasures(sides[0])...)
		if n.join != "" {
			row = append(row, naiveMeasures(sides[1])...)
		}
		rows = append(rows, row)
	}
	return rows
}

// naiveMeasures are those of joinable, in its order.
func naiveMeasures(events []occurrence) []any {
	slices.SortFunc(events, func(a, b occurrence) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) })
	having := func(measure string) (some []occurrence) {
		for _, e := range events {
			if !slices.Contains(e.lacks, measure) {
				some = append(some, e)
			}
		}
		return some
	}
	sum := func(events []occurrence) (sum int64) {
		for _, e := range events {
			sum += e.ms
		}
		return sum
	}
	row := make([]any, 11)
	row[0] = int64(len(events))
	if some := having("ms"); some != nil || events == nil {
		row[1] = sum(some)
	}
	if some := having("mean"); some != nil {
		row[2] = float64(sum(some)) / float64(len(some))
	}
	if some := having("least"); some != nil {
		row[3] = slices.MinFunc(some, func(a, b occurrence) int { return cmp.Compare(a.size, b.size) }).size
	}
	if some := having("allOk"); some != nil {
		row[4] = !slices.ContainsFunc(some, func(e occurrence) bool { return !e.ok })
	}
	if some := having("newest"); some != nil {
		row[5] = some[len(some)-1].ms
	}
	if some := having("oldest"); some != nil {
		row[6] = some[0].extra
	}
	different := map[string]bool{}
	some := having("extras")
	for _, e := range some {
		different[e.extra] = true
	}
	if some != nil || events == nil {
		row[7] = int64(len(different))
	}
	if sizes := sizesOf(having("p50")); sizes != nil {
		row[8], row[9] = sizes[50*(len(sizes)-1)/100], sizes[90*(len(sizes)-1)/100]
	}
	if sizes := sizesOf(having("spread")); sizes != nil {
		mean, squares := 0.0, 0.0
		for _, size := range sizes {
			mean += size / float64(len(sizes))
		}
		for _, size := range sizes {
			squares += (size - mean) * (size - mean)
		}
		row[10] = math.Sqrt(squares / float64(len(sizes)))
	}
	return row
}

func sizesOf(events []occurrence) []float64 {
	var sizes []float64
	for _, e := range events {
		sizes = append(sizes, e.size)
	}
	slices.Sort(sizes)
	return sizes
}

// sorted writes rows so that they can be compared; quantiles, which are within
// 1 %, are powers of 2 here.
func sorted(rows [][]any) string {
	var lines []string
	for _, row := range rows {
		var cells []string
		for _, cell := range row {
			if f, ok := cell.(float64); ok {
				cell = fmt.Sprintf("%.6f", f)
				if near := math.Exp2(math.Round(math.Log2(f))); f > 1e-9 && math.Abs(near-f) < 0.01*near { // less is rounding
					cell = near
				}
			}
			cells = append(cells, fmt.Sprintf("%v", cell))
		}
		lines = append(lines, strings.Join(cells, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func drawOccurrence(t *rapid.T) occurrence {
	days := rapid.SampledFrom([]time.Time{
		time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC),
	}).Draw(t, "day")
	return occurrence{
		at:  days.Add(time.Duration(rapid.IntRange(0, 5*7200).Draw(t, "at")) * time.Second / 2).UnixMicro(),
		api: rapid.SampledFrom([]string{"/a", "/b", "ö"}).Draw(t, "api"), code: rapid.SampledFrom([]int64{200, 500}).Draw(t, "code"),
		extra: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "extra"), ms: rapid.Int64Range(0, 100).Draw(t, "ms"),
		size: rapid.SampledFrom([]float64{0.5, 2, 16, 1024}).Draw(t, "size"), ok: rapid.Bool().Draw(t, "ok"),
	}
}

// Whatever was flushed when, whichever measures old rows lack, over two shards
// whose levels lack different things in each of two aggregations: questions to
// one and to both answer what a loop over all events does.
func TestAsk_JoinsAndMissingMeasuresEqualTheOracle(t *testing.T) {
	t.Parallel()
	berlin := zone(t, "Europe/Berlin")
	defs := []*aggregation.Definition{
		joinable("Calls", "app", berlin, "api", "app", "code"), joinable("Faults", "host", berlin, "host", "code", "api"),
	}
	db, raw := database(t)
	if err := db.Apply(t.Context(), defs, store.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	leases := map[string]*store.Lease{}
	for _, shard := range []string{"w1", "w2"} {
		lease, err := db.LeaseShard(t.Context(), shard, "test", time.Second, defs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = lease.Close() })
		leases[shard] = lease
	}
	added := []string{"ms", "mean", "least", "allOk", "newest", "oldest", "extras", "p50", "spread"}
	for _, def := range defs {
		for _, level := range def.Granularities {
			for _, column := range append([]string{"weir_first_time", "weir_first_seq", "weir_last_time", "weir_last_seq"}, added...) {
				exec(t, raw, fmt.Sprintf(`ALTER TABLE weir_data.%q ALTER %q DROP NOT NULL`, def.Table(level), strings.ToLower(column)))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		all := fill(t, db, leases, defs, added, func(statement string) {
			if _, err := raw.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		})
		for range 6 {
			q := naive{
				per:   rapid.SampledFrom(defs[0].Granularities).Draw(t, "per"),
				group: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"bucket", "api", "code", "shard_id"}), rapid.ID).Draw(t, "group"),
				code:  rapid.SampledFrom([]int64{0, 0, 200}).Draw(t, "code"),
				join:  rapid.SampledFrom([]string{"", "full", "inner", "left", "right"}).Draw(t, "join"), natural: rapid.Bool().Draw(t, "natural"),
			}
			parsed, err := query.Parse(catalogOf(defs...), "Calls", valuesOf(q.parameters("Faults")))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parsed.Ask(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := sorted(got.Rows), sorted(q.answer(berlin, all)); got != want {
				t.Fatalf("%s\n got\n%s\nwant\n%s", q.parameters("Faults"), got, want)
			}
		}
	})
}

// fill empties the tables and has two shards write events of both aggregations.
// Between two flushes all that is stored may lose a measure, as if it had been
// added only then.
func fill(
	t *rapid.T, db *store.DB, leases map[string]*store.Lease, defs []*aggregation.Definition, added []string, exec func(string),
) (all []occurrence) {
	exec("DELETE FROM weir.watermark")
	var fillers []*filler
	for _, def := range defs {
		for _, level := range def.Granularities {
			exec(fmt.Sprintf("DELETE FROM weir_data.%q", def.Table(level)))
		}
		for shard, lease := range leases {
			fillers = append(fillers, &filler{db: db, def: def, lease: lease, shard: shard})
		}
	}
	slices.SortFunc(fillers, func(a, b *filler) int { return cmp.Compare(a.def.Name+a.shard, b.def.Name+b.shard) })
	for n := range rapid.IntRange(1, 8).Draw(t, "flushes") {
		f := rapid.SampledFrom(fillers).Draw(t, "filler")
		events := rapid.SliceOfN(rapid.Custom(drawOccurrence), 0, 10).Draw(t, "events")
		for i := range events {
			events[i].seq, events[i].shard, events[i].fault = uint64(100*n+i), f.shard, f.def == defs[1]
		}
		f.flush(t, events, rapid.SliceOf(rapid.SampledFrom(f.def.Granularities)).Draw(t, "due"))
		all = append(all, events...)
		if rapid.IntRange(0, 3).Draw(t, "add a measure") > 0 {
			continue
		}
		for _, other := range fillers {
			if other.def == f.def {
				other.flush(t, nil, f.def.Granularities)
			}
		}
		lacks := rapid.SliceOfDistinct(rapid.SampledFrom(added), rapid.ID).Draw(t, "lacks")
		for i := range all {
			if all[i].fault == (f.def == defs[1]) {
				all[i].lacks = append(slices.Clone(all[i].lacks), lacks...)
			}
		}
		if slices.Contains(lacks, "oldest") { // the only one of its kind: with it come the times
			lacks = append(lacks, "weir_first_time", "weir_first_seq")
		}
		if slices.Contains(lacks, "newest") {
			lacks = append(lacks, "weir_last_time", "weir_last_seq")
		}
		for _, level := range f.def.Granularities {
			for _, measure := range lacks {
				exec(fmt.Sprintf("UPDATE weir_data.%q SET %q = NULL", f.def.Table(level), strings.ToLower(measure)))
			}
		}
	}
	return all
}
