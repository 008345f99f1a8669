package store

import (
	"cmp"
	"context"
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
)

// cascadeDef is an aggregation with levels that skip, multiply and branch.
func cascadeDef(name string, zone *time.Location) *aggregation.Definition {
	g := func(text string) aggregation.Granularity {
		parsed, err := aggregation.ParseGranularity(text)
		if err != nil {
			panic(err)
		}
		return parsed
	}
	return &aggregation.Definition{
		Name: name, Zone: zone,
		Keys: []aggregation.Key{{Name: "api", Kind: event.String}, {Name: "code", Kind: event.Int}},
		Measures: []aggregation.Measure{
			{Name: "calls", Op: aggregation.Count},
			{Name: "millis", Op: aggregation.Sum, Arg: "ms", ArgKind: event.Int},
			{Name: "slowest", Op: aggregation.Max, Arg: "ms", ArgKind: event.Int},
			{Name: "newest", Op: aggregation.Last, Arg: "ms", ArgKind: event.Int},
			{Name: "oldest", Op: aggregation.First, Arg: "ms", ArgKind: event.Int},
			{Name: "p50", Op: aggregation.Quantile, Percent: 50, Arg: "size", ArgKind: event.Float},
			{Name: "sizes", Op: aggregation.Distinct, Arg: "size", ArgKind: event.Float},
			{Name: "spread", Op: aggregation.Deviation, Arg: "size", ArgKind: event.Float},
			{Name: "p90", Op: aggregation.Quantile, Percent: 90, Arg: "size", ArgKind: event.Float, Shares: "p50"},
			{Name: "since", Op: aggregation.Min, Arg: "at", ArgKind: event.Time},
			{Name: "until", Op: aggregation.Max, Arg: "at", ArgKind: event.Time},
		},
		Granularities: []aggregation.Granularity{g("seconds"), g("15 minutes"), g("hours"), g("6 hours"), g("days"), g("weeks"), g("months"), g("years")},
		Inputs:        []aggregation.Input{{Stream: "calls", Where: -1, Keys: []int{0, 1}, Args: []int{-1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4}}},
	}
}

// tried is an event as the oracle keeps it.
type tried struct {
	api      string
	code, ms int64
	size     float64
	at       int64
	sequence uint64
}

// checksum is of the events' place in the tests' stream.
func (e tried) checksum() uint32 { return event.Checksum(1, e.sequence, 0) }

func columnsOfTried(events []tried) *event.Columns {
	schema := &event.Schema{Name: "calls", Attributes: []event.Attribute{{Name: "api", Kind: event.String}, {Name: "code", Kind: event.Int}, {Name: "ms", Kind: event.Int}, {Name: "size", Kind: event.Float}, {Name: "at", Kind: event.Time}}}
	c := event.NewColumns(schema, event.NewDictionary())
	for i, e := range events {
		c.Times, c.Sequences = append(c.Times, e.at), append(c.Sequences, e.sequence)
		c.Messages, c.Offsets, c.Dropped = append(c.Messages, int32(i)), append(c.Offsets, 0), append(c.Dropped, false)
		c.Checksums = append(c.Checksums, e.checksum())
		for at, cell := range []event.Cell{c.Dict.Intern(e.api), event.Cell(e.code), event.Cell(e.ms), event.FloatCell(e.size), event.Cell(e.at)} {
			c.Cells[at] = append(c.Cells[at], cell)
		}
	}
	return c
}

// expect is the answer by a loop over all events.
func expect(def *aggregation.Definition, per aggregation.Granularity, events []tried) string {
	rows := map[string][]tried{}
	for _, e := range events {
		key := fmt.Sprintf("%s %s %d", time.UnixMicro(per.Truncate(e.at, def.Zone)).UTC().Format(time.RFC3339), e.api, e.code)
		rows[key] = append(rows[key], e)
	}
	var lines []string
	for key, events := range rows {
		slices.SortFunc(events, func(a, b tried) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sequence, b.sequence)) })
		oldest, newest := events[0], events[len(events)-1]
		millis, slowest := int64(0), oldest.ms
		different, sizes := map[float64]bool{}, []float64{}
		mean, squares := 0.0, 0.0
		for _, e := range events {
			millis += e.ms
			slowest = max(slowest, e.ms)
			different[e.size] = true
			sizes = append(sizes, e.size)
			mean += e.size / float64(len(events))
		}
		for _, size := range sizes {
			squares += (size - mean) * (size - mean)
		}
		slices.Sort(sizes)
		percent := func(p int) float64 { return sizes[p*(len(sizes)-1)/100] }
		lines = append(lines, line(key, int64(len(events)), millis, slowest, newest.ms, oldest.ms, percent(50), int64(len(different)),
			math.Sqrt(squares/float64(len(sizes))), percent(90), time.UnixMicro(oldest.at).UTC(), time.UnixMicro(newest.at).UTC()))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// line writes a row; quantiles are powers of 2 here, and so can be compared
// exactly.
func line(key string, measures ...any) string {
	power := func(v any) any {
		f, ok := v.(float64)
		if !ok || f == 0 {
			return v
		}
		return math.Copysign(math.Exp2(math.Round(math.Log2(math.Abs(f)))), f)
	}
	measures[5], measures[8] = power(measures[5]), power(measures[8])
	if spread, ok := measures[7].(float64); ok {
		measures[7] = fmt.Sprintf("%.5f", spread)
	}
	return fmt.Sprint(append([]any{key}, measures...)...)
}

// everything asks for all keys and measures of all time.
func everything(def *aggregation.Definition, per aggregation.Granularity) *Question {
	field := func(role Role, i int, kind event.Kind) Expr {
		return Expr{Op: OpField, Kind: kind, Field: Field{Role: role, Index: i}}
	}
	q := &Question{
		Aggregation: def, Per: per, From: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), Until: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(),
		Limit: -1,
		Group: []Field{{Role: BucketField}, {Role: KeyField}, {Role: KeyField, Index: 1}},
		Select: []Expr{
			field(BucketField, 0, event.Time), field(KeyField, 0, event.String), field(KeyField, 1, event.Int),
		},
	}
	for i, m := range def.Measures {
		q.Select = append(q.Select, field(MeasureField, i, m.Kind()))
	}
	return q
}

// answer asks for the same.
func answer(t testContext, db *DB, def *aggregation.Definition, per aggregation.Granularity) string {
	var lines []string
	err := db.Ask(t.Context(), everything(def, per), func(v []any) error {
		bucket, _ := v[0].(time.Time)
		lines = append(lines, line(fmt.Sprintf("%s %s %d", bucket.Format(time.RFC3339), v[1], v[2]), v[3:]...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var errRollBack = errors.New("rolled back by the test")

// shardState is one worker's side in the test.
type shardState struct {
	lease   *Lease
	cascade *aggregation.Cascade
	last    *aggregation.Flush // committed
}

// complete gives the levels all that they lack.
func (s *shardState) complete(t testContext, db *DB, def *aggregation.Definition) {
	for s.last = nil; s.last == nil || !s.last.Complete; {
		s.flush(t, db, def, nil, def.Granularities, false)
	}
}

// Whatever is flushed when, rolled back, left behind, forgotten in a crash, rolled up by
// somebody else, and meanwhile compacted, purged or moved here from another
// shard by another process: at every level the answer is that of a loop over all
// events, as of the last commit, and the numbers and checksums of events add up
// to those of that loop and to the control totals. Once all is flushed and compacted there is one
// row per bucket and key.
func TestCascade_AnswersEqualTheOracleAtEveryLevel(t *testing.T) {
	t.Parallel()
	address := migratedAddress(t)
	db, another := open(t, address), open(t, address)
	var defs []*aggregation.Definition
	for _, name := range []string{"UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		defs = append(defs, cascadeDef("Calls_"+name[len(name)-3:], zone))
	}
	if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	leases := []*Lease{mustLease(t, db, "a", defs...), mustLease(t, db, "b", defs...)}
	rapid.Check(t, func(t *rapid.T) {
		db.someBatches = rapid.SampledFrom([]int{1, 2, someBatches}).Draw(t, "batches looked for at first")
		another.mostGroups = rapid.SampledFrom([]int{3, mostGroups}).Draw(t, "groups merged at a time")
		another.mergeRoom = rapid.SampledFrom([]int{1, mergeRoom, mergeRoom}).Draw(t, "room to merge")
		db.levelGroups = rapid.SampledFrom([]int{1, 5, levelGroups}).Draw(t, "groups at a time")
		def := rapid.SampledFrom(defs).Draw(t, "aggregation")
		emptyTables(t, db, def)
		keeper := housekeeper{db: another, def: def, purging: rapid.Bool().Draw(t, "purging")}
		shards := []*shardState{{lease: leases[0]}, {lease: leases[1]}}
		var committed []tried
		for n := range rapid.IntRange(1, 10).Draw(t, "flushes") {
			s := rapid.SampledFrom(shards).Draw(t, "shard")
			events := rapid.SliceOfN(rapid.Custom(drawTried), 0, 12).Draw(t, "events")
			for i := range events {
				events[i].sequence = uint64(100*n + i)
			}
			due := rapid.SliceOf(rapid.SampledFrom(def.Granularities)).Draw(t, "due")
			rollBack := rapid.IntRange(0, 3).Draw(t, "fate") == 0
			if s.flush(t, db, def, events, due, rollBack) {
				committed = append(committed, events...)
			}
			switch rapid.IntRange(0, 7).Draw(t, "crash") {
			case 0, 1:
				s.cascade = nil
			case 2, 3:
				s.leave(t, def)
			}
			keeper.tidy(t)
		}
		check := func(levels int) {
			wantProof(t, db, def, committed)
			for _, per := range rapid.SliceOfNDistinct(rapid.SampledFrom(keeper.kept()), levels, levels, rapid.ID).Draw(t, "per") {
				if got, want := answer(t, db, def, per), expect(def, per, committed); got != want {
					t.Fatalf("per %s in %s: got\n%s\nwant\n%s", per, def.Zone, got, want)
				} else if got := viewed(t, db, def, per); got != want {
					t.Fatalf("the view per %s in %s: got\n%s\nwant\n%s", per, def.Zone, got, want)
				}
			}
		}
		check(3)
		for _, s := range shards {
			s.complete(t, db, def)
		}
		if rapid.Bool().Draw(t, "moved") {
			keeper.move(t)
		}
		keeper.compact(t)
		keeper.wantOneRowPerKey(t)
		check(1)
	})
}

func drawTried(t *rapid.T) tried {
	base := rapid.SampledFrom([]time.Time{
		time.Date(2026, 10, 24, 20, 0, 0, 0, time.UTC),
		time.Date(2018, 11, 3, 22, 0, 0, 0, time.UTC),
		time.Date(2024, 12, 31, 12, 0, 0, 0, time.UTC),
	}).Draw(t, "base")
	return tried{
		api: rapid.SampledFrom([]string{"", "pizza", "ü\t\n\\"}).Draw(t, "api"), code: rapid.SampledFrom([]int64{0, 200, -5}).Draw(t, "code"),
		ms: rapid.Int64Range(-3, 9000).Draw(t, "ms"), size: rapid.SampledFrom([]float64{0, 1, -4, 64, 1024, 0.5}).Draw(t, "size"),
		at: base.UnixMicro() + rapid.Int64Range(0, 30*3600).Draw(t, "second")*1_000_000,
	}
}

func (s *shardState) flush(t testContext, db *DB, def *aggregation.Definition, events []tried, due []aggregation.Granularity, rollBack bool) bool {
	err := s.tryFlush(t.Context(), db, def, events, due, rollBack)
	if err != nil && !errors.Is(err, errRollBack) {
		t.Fatal(err)
	}
	return err == nil
}

func (s *shardState) tryFlush(ctx context.Context, db *DB, def *aggregation.Definition, events []tried, due []aggregation.Granularity, rollBack bool) error {
	defs := []*aggregation.Definition{def}
	var err error
	if s.cascade == nil {
		if s.cascade, _, err = db.LoadCascade(ctx, s.lease.ShardID, defs, nil, 0); err != nil {
			return err
		}
	}
	columns := []*event.Columns{columnsOfTried(events)}
	delta := aggregation.NewFolder(nil).Fold(defs, columns)
	levels, err := db.PrepareLevels(ctx, s.lease.ShardID, s.cascade, func(l aggregation.FlushedLevel) bool { return slices.Contains(due, l.Level) })
	if err != nil {
		return err
	}
	err = db.InTx(ctx, func(tx *Tx) error {
		number, err := tx.NextBatch(ctx, s.lease, Totals{})
		if err != nil {
			return err
		}
		if err := tx.WriteDelta(ctx, s.lease.ShardID, number, delta); err != nil {
			return err
		}
		if err := tx.WriteControl(ctx, s.lease.ShardID, aggregation.Controls(defs, columns)); err != nil {
			return err
		}
		if err := tx.WriteLevels(ctx, s.lease.ShardID, number-1, levels); err != nil {
			return err
		}
		if rollBack {
			return errRollBack
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.cascade.Commit(levels)
	s.cascade.Add(delta)
	s.last = levels
	return nil
}

// leave leaves some level behind, or those that hold most.
func (s *shardState) leave(t *rapid.T, def *aggregation.Definition) {
	if s.cascade == nil {
		return
	}
	if rapid.Bool().Draw(t, "largest") {
		s.cascade.Shrink(1)
		return
	}
	s.cascade.Leave(aggregation.FlushedLevel{Definition: def, Level: rapid.SampledFrom(def.Granularities[1:]).Draw(t, "left behind")})
}

func TestLoadCascade_RefusesCorruptedSketches(t *testing.T) {
	t.Parallel()
	def := cascadeDef("Calls", time.UTC)
	db := migrated(t, def)
	lease := mustLease(t, db, "a", def)
	defs := []*aggregation.Definition{def}
	err := db.InTx(t.Context(), func(tx *Tx) error {
		number, err := tx.NextBatch(t.Context(), lease, Totals{})
		if err != nil {
			return err
		}
		return tx.WriteDelta(t.Context(), "a", number, aggregation.NewFolder(nil).Fold(defs, []*event.Columns{columnsOfTried([]tried{{api: "x", at: 1, size: 3}})}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.LoadCascade(t.Context(), "a", defs, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := db.sql.ExecContext(t.Context(), `UPDATE `+tableOf(def, def.Finest())+` SET sizes = ARRAY['\x0563'::bytea]`); err != nil {
		t.Fatal(err)
	}
	_, _, err = db.LoadCascade(t.Context(), "a", defs, nil, 0)
	if err == nil || !strings.Contains(err.Error(), "corrupted sketch") {
		t.Errorf("got error %v, want one about a corrupted sketch", err)
	}
}
