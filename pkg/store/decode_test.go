package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lib/pq"
	"pgregory.net/rapid"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// everyColumn is an aggregation with columns of every sort: keys and measures of
// every kind, some of which hang on a key, moments and sketches.
func everyColumn() *aggregation.Definition {
	def := allKinds()
	def.Name = "EveryColumn"
	def.Keys = append(def.Keys, aggregation.Key{Name: "api", Kind: event.String})
	def.Measures = append(def.Measures,
		aggregation.Measure{Name: "name", Op: aggregation.Last, Arg: "x", ArgKind: event.String},
		aggregation.Measure{Name: "oldest", Op: aggregation.First, Arg: "x", ArgKind: event.String},
		aggregation.Measure{Name: "total", Op: aggregation.Sum, Arg: "x", ArgKind: event.Int},
		aggregation.Measure{Name: "until", Op: aggregation.Max, Arg: "x", ArgKind: event.Time},
		aggregation.Measure{Name: "different", Op: aggregation.Distinct, Arg: "x", ArgKind: event.Int},
		aggregation.Measure{Name: "p50", Op: aggregation.Quantile, Percent: 50, Arg: "x", ArgKind: event.Float},
	)
	return def
}

// randomPart makes a part of so many groups, with so many different texts.
func randomPart(r *rand.Rand, def *aggregation.Definition, level aggregation.Granularity, dict *event.Dictionary, bucket int64, groups, different int) aggregation.Part {
	p := emptyPart(def, level)
	p.Bucket = bucket
	p.Missing = make([]event.Cell, groups)
	values := valuesOf(nil, &p, columnsOf(def))
	far, lack := r.IntN(2) == 0, r.IntN(2) == 0
	for n := range groups {
		text := r.IntN(different)
		for i := range values {
			v := &values[i]
			switch {
			case v.sketched():
				v.append(0, []byte(randomText(r, r.IntN(different))))
			case v.moment() && far:
				v.append(event.Cell(r.Int64()>>r.IntN(40)), nil)
			case v.moment():
				v.append(event.Cell(1_790_000_000_000_000+1000*r.Int64N(30_000)), nil)
			case v.kind == event.String && r.IntN(50) > 0: // mostly hangs on any other
				v.append(dict.Intern(randomText(rand.New(rand.NewPCG(1, uint64(text))), text)), nil)
			default:
				v.append(randomCell(r, dict, v, different), nil)
			}
			if lack && v.missing != 0 && r.IntN(5) == 0 {
				p.Missing[n] |= v.missing
			}
		}
		if lack && r.IntN(5) == 0 {
			p.LastTime[n] = neverLast
		}
		if lack && r.IntN(5) == 0 {
			p.FirstTime[n] = neverFirst
		}
	}
	return p
}

func randomCell(r *rand.Rand, dict *event.Dictionary, v *values, different int) event.Cell {
	switch v.kind {
	case event.String:
		return dict.Intern(randomText(r, r.IntN(different)))
	case event.Float:
		some := []float64{0, math.Copysign(0, -1), 1.0 / 3, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), r.NormFloat64()}
		return event.FloatCell(some[r.IntN(len(some))])
	case event.Bool:
		return event.BoolCell(r.IntN(2) == 0)
	case event.Time:
		return event.Cell(micro(1, 1, 1) + r.Int64N(micro(9999, 12, 31)-micro(1, 1, 1)))
	case event.Int:
	}
	if v.name == colChecksum {
		return event.Cell(int32(r.Uint32()))
	}
	some := []int64{0, 1, -1, 200, math.MaxInt64, math.MinInt64, 999_999_999_999_999_999, -1_000_000_000_000_000_000, r.Int64() >> r.IntN(64)}
	return event.Cell(some[r.IntN(len(some))])
}

// randomText returns one of the odd texts, or something of that number.
func randomText(r *rand.Rand, number int) string {
	odd := []string{
		"", " ", `"`, `\`, `\\"`, ",", "{", "}", `{"a",NULL}`, "NULL", "null", "\n\t\r\v\f", "é", "日本語", "👩‍👩‍👧", "\x01\x1c\x7f", "A", "1", "1@@@@@", aggregation.OtherGroup,
		`\x41`, "'", strings.Repeat(`x"\`, 300),
	}
	if r.IntN(2) == 0 {
		return odd[number%len(odd)]
	}
	return fmt.Sprint("/tenant/api-", number)
}

// described lists what a delta says, group by group.
func described(delta aggregation.Delta) (lines []string) {
	for i := range delta.Parts {
		p := &delta.Parts[i]
		for n := range p.Len() {
			line := []any{p.Level, p.Bucket}
			for _, v := range valuesOf(nil, p, columnsOf(p.Definition)) {
				switch {
				case v.unknown(p, n):
					line = append(line, "NULL")
				case v.sketched():
					line = append(line, hex.EncodeToString((*v.sketches)[n]))
				case v.kind == event.String:
					line = append(line, fmt.Sprintf("%q", delta.Dict.Text((*v.cells)[n])))
				case v.kind == event.Float:
					line = append(line, (*v.cells)[n].Float())
				default:
					line = append(line, int64((*v.cells)[n]))
				}
			}
			lines = append(lines, fmt.Sprintln(line...))
		}
	}
	slices.Sort(lines) // what order plain rows are in is not said
	return lines
}

// stored is the delta with the checksums of packed groups as a row keeps them:
// their sum is the first one's.
func stored(delta aggregation.Delta) aggregation.Delta {
	delta.Parts = slices.Clone(delta.Parts)
	for i := range delta.Parts {
		p := &delta.Parts[i]
		if !p.Definition.Packed(p.Level) {
			continue
		}
		sums := make([]event.Cell, p.Len())
		for n, checksum := range p.Checksums {
			first := &sums[n-n%packedGroups]
			*first = event.Cell(int32(*first + checksum))
		}
		p.Checksums = sums
	}
	return delta
}

// readBack reads all rows of a level in the transaction; bySQL by what
// Postgres's own functions make of packed ones, in a row per group.
func readBack(ctx context.Context, tx *Tx, reader *groupReader, def *aggregation.Definition, level aggregation.Granularity, bySQL bool) (lines []string, err error) {
	use := func(delta aggregation.Delta) error {
		lines = append(lines, described(delta)...)
		return nil
	}
	if !bySQL {
		err = reader.read(ctx, tx.tx, def, level, use, "SELECT "+storedList(def)+" FROM "+tableOf(def, level))
		slices.Sort(lines)
		return lines, err
	}
	// The first group has the checksum of all.
	list := strings.Replace(groupList(def, columnsOf(def), level), `unnest("weir_checksum")`, `unnest(weir_checksum || array_fill(0, ARRAY[cardinality(weir_events) - 1]))`, 1)
	rows, err := tx.tx.QueryContext(ctx, "SELECT bucket, "+list+" FROM "+tableOf(def, level))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	reader.def, reader.level, reader.columns, reader.use = def, level, columnsOf(def), use
	err = errors.Join(reader.plain(rows), rows.Err())
	slices.Sort(lines)
	return lines, err
}

// What is read is what was written, and what Postgres's own functions show of it,
// also of rows that are older than a column, and whatever the session's settings
// are.
func TestGroupReader_ReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	def := everyColumn()
	db := migrated(t, def)
	mustLease(t, db, "s", def)
	levels := []aggregation.Granularity{aggregation.Seconds, aggregation.Days}
	optional := columnsOf(def)[len(def.Keys)+2:]
	for _, level := range levels {
		for _, c := range optional {
			mustExec(t, db, "ALTER TABLE "+tableOf(def, level)+" ALTER "+pq.QuoteIdentifier(c.name)+" DROP NOT NULL")
		}
	}
	var reader groupReader
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		written := aggregation.Delta{Dict: event.NewDictionary()}
		for _, level := range levels {
			for range rapid.IntRange(1, 3).Draw(t, "parts") {
				groups := rapid.SampledFrom([]int{1, 3, 5, 30, 200}).Draw(t, "groups")
				different := rapid.SampledFrom([]int{1, 3, 70, 1000}).Draw(t, "different")
				bucket := int64(len(written.Parts)) * 3600e6
				written.Parts = append(written.Parts, randomPart(r, def, level, written.Dict, bucket, groups, different))
			}
		}
		err := db.InTx(t.Context(), func(tx *Tx) error {
			if err := tx.WriteDelta(t.Context(), "s", 7, written); err != nil {
				return err
			}
			if _, err := tx.tx.ExecContext(t.Context(), rapid.SampledFrom([]string{"", `SET LOCAL timezone = 'America/Sao_Paulo'; SET LOCAL bytea_output = 'escape'; SET LOCAL extra_float_digits = 3`}).Draw(t, "session")); err != nil {
				return err
			}
			var got []string
			for _, level := range levels {
				lines, err := readBack(t.Context(), tx, &reader, def, level, false)
				if err != nil {
					return err
				}
				got = append(got, lines...)
			}
			slices.Sort(got)
			sameLines(t, "written", got, described(stored(written)))
			for _, level := range levels {
				old := optional[r.IntN(len(optional))]
				if _, err := tx.tx.ExecContext(t.Context(), "UPDATE "+tableOf(def, level)+" SET "+pq.QuoteIdentifier(old.name)+" = NULL"); err != nil {
					return err
				}
				got, err := readBack(t.Context(), tx, &reader, def, level, false)
				if err != nil {
					return err
				}
				shown, err := readBack(t.Context(), tx, &reader, def, level, true)
				if err != nil {
					return err
				}
				sameLines(t, "shown by Postgres without "+old.name, got, shown)
			}
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			t.Fatal(err)
		}
	})
}

func sameLines(t testContext, what string, got, want []string) {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatal(fmt.Sprintf("%s: %d groups, want %d; group %d: got\n%.3000s\nwant\n%.3000s", what, len(got), len(want), i, got[min(i, len(got)):min(i+1, len(got))], want[min(i, len(want)):min(i+1, len(want))]))
		}
	}
}

// So many groups that they are several rows, and so many texts that their numbers
// take two and three digits; the dictionary is replaced meanwhile.
func TestGroupReader_ReadsLargeRows(t *testing.T) {
	t.Parallel()
	def := everyColumn()
	db := migrated(t, def)
	mustLease(t, db, "s", def)
	var reader groupReader
	for _, size := range []struct{ different, groups int }{{65, 200}, {4000, 5000}, {50_000, packedGroups + 70}} {
		different, groups := size.different, size.groups
		r := rand.New(rand.NewPCG(2, uint64(different)))
		written := aggregation.Delta{Dict: event.NewDictionary()}
		written.Parts = append(written.Parts, randomPart(r, def, aggregation.Seconds, written.Dict, 0, groups, different))
		written.Parts[0].Missing = nil
		clear(written.Parts[0].LastTime)
		clear(written.Parts[0].FirstTime)
		err := db.InTx(t.Context(), func(tx *Tx) error {
			if err := tx.WriteDelta(t.Context(), "s", 7, written); err != nil {
				return err
			}
			got, err := readBack(t.Context(), tx, &reader, def, aggregation.Seconds, false)
			if err != nil {
				return err
			}
			sameLines(t, fmt.Sprint(different, " texts"), got, described(stored(written)))
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			t.Fatal(err)
		}
	}
}

// What no encoder writes is refused, and named.
func TestGroupReader_RefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	def := calls("Fits")
	good := []string{`{"1@A@A@",a,b}`, `{1,2,3,4,5}`, `{1,1,1,1,1}`, `45`, `{1,2,3,4,5}`}
	for _, c := range []struct {
		column          int
		array, complain string
	}{
		{0, `{"1@A@A@",a,b}`, ""},
		{0, `{"1@A@AB",a,b}`, "text 2 of 2"},
		{0, `{"1@A@A",a,b}`, "has 4 values for 5"},
		{0, `{"2@A@A@",a,b}`, "which group has which"},
		{0, `{B,a,b}`, "which group has which"},
		{0, `{NULL,a,b}`, "not an array"},
		{0, `{}`, "not an array"},
		{0, `{"",a,b,c,d,NULL}`, "NULL of group 4"},
		{1, `{1,2,3,4}`, "has 4 values for"},
		{1, `{1,2,3,4,x}`, "not a number"},
		{1, `[0:1]={1,2}`, "not an array"},
		{1, `{{1,2}}`, "not an array"},
		{2, `{1,2,3,4,9999999999999999999}`, "out of range"},
		{3, `{7,8,9,10,11}`, "not a number"},
		{4, `{1,2,3,4,5,NULL}`, "more values than 5 groups"},
	} {
		r := groupReader{def: def, level: def.Finest(), columns: columnsOf(def), part: emptyPart(def, def.Finest())}
		r.begin()
		err := r.unpack(rawRow(len(r.columns), func(i int) string {
			if i == c.column {
				return c.array
			}
			return good[i]
		}))
		if c.complain == "" && err != nil || c.complain != "" && (err == nil || !strings.Contains(err.Error(), c.complain)) {
			t.Errorf("column %d as %s: got %v, want %q", c.column, c.array, err, c.complain)
		}
	}
}
