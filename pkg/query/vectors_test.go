package query_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/query"
	"weir/pkg/store"
)

// vector is what this test reads of a file in shared/vectors; its README says
// what the fields mean.
type vector struct {
	Kind   string `json:"kind"`
	Stream struct {
		Fields []struct{ Name, Type string } `json:"fields"`
	} `json:"stream"`
	Aggregation *struct {
		Select        []vectorColumn `json:"select"`
		Granularities []string       `json:"granularities"`
		Timezone      string         `json:"timezone"`
	} `json:"aggregation"`
	Events []struct {
		Seq    int64          `json:"seq"`
		Shard  string         `json:"shard"`
		T      *int64         `json:"t"`
		Fields map[string]any `json:"fields"`
	} `json:"events"`
	Queries []vectorQuery `json:"queries"`
	Steps   []any         `json:"steps"`
	Initial any           `json:"initial_store"`

	name string
	def  *aggregation.Definition
}

type vectorColumn struct {
	As, Fn, Arg string
	Value       string
}

type vectorQuery struct {
	Within *struct {
		AsWritten []any `json:"as_written"`
	} `json:"within"`
	Per     any                                `json:"per"`
	Filter  *struct{ Field, Op, Value string } `json:"filter"`
	GroupBy *[]string                          `json:"group_by"`
	Select  []vectorColumn                     `json:"select"`
	OrderBy []string                           `json:"order_by"`
	Columns []string                           `json:"columns"`

	Expected        [][]any `json:"expected"`
	CorrectExpected [][]any `json:"correct_expected"`
	ExpectError     bool    `json:"expect_error"`
}

// TestAsk_AnswersSiddhiVectors asks the questions of the vectors of rows that
// are written as workers write them, every event a batch of its own.
func TestAsk_AnswersSiddhiVectors(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../shared/vectors/*.json")
	if err != nil || len(files) == 0 {
		t.Skip("no vectors in ../../../shared/vectors: this test needs that folder beside the repository")
	}
	var vectors []*vector
	var defs []*aggregation.Definition
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		v := &vector{name: strings.TrimSuffix(filepath.Base(path), ".json")}
		if err := json.Unmarshal(data, v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		// Purging and restarts are not about questions.
		if !strings.HasPrefix(v.Kind, "query") || v.Aggregation == nil || v.Initial != nil || v.Steps != nil {
			continue
		}
		v.def = v.definition(t)
		vectors, defs = append(vectors, v), append(defs, v.def)
	}
	db, raw := database(t, defs...)
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			v.run(t, db, raw)
		})
	}
}

func (v *vector) run(t *testing.T, db *store.DB, raw *sql.DB) {
	def := v.def
	insert(t, raw, def, v.groups(t, def))
	for _, q := range v.Queries {
		question, err := query.Parse(catalogOf(def), def.Name, q.values())
		if q.ExpectError != (err != nil) {
			t.Errorf("%v: got error %v, want one: %t", q.values(), err, q.ExpectError)
		}
		if err != nil || q.ExpectError {
			continue
		}
		answer, err := question.Ask(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		want := q.Expected
		if q.CorrectExpected != nil {
			want = q.CorrectExpected
		}
		if want == nil {
			want = [][]any{}
		}
		for _, row := range answer.Rows {
			for i := range row {
				if n, ok := row[i].(int64); ok {
					row[i] = float64(n) // as the vector's numbers are read
				}
			}
		}
		if q.OrderBy == nil || q.OrderBy[0] == "AGG_TIMESTAMP" { // ties may come in any order
			for _, rows := range [][][]any{answer.Rows, want} {
				slices.SortFunc(rows, func(a, b []any) int { return strings.Compare(fmt.Sprint(a...), fmt.Sprint(b...)) })
			}
		}
		wantRows(t, fmt.Sprint(q.values()), answer.Rows, want)
	}
}

func (q *vectorQuery) values() url.Values {
	values := url.Values{"time": {"ms"}}
	if q.Within != nil {
		var ends []string
		for _, end := range q.Within.AsWritten {
			if n, ok := end.(float64); ok {
				end = int64(n)
			}
			ends = append(ends, fmt.Sprint(end))
		}
		values.Set("within", strings.Join(ends, ","))
	}
	if q.Per != nil {
		values.Set("per", fmt.Sprint(q.Per))
	}
	if q.Filter != nil {
		values.Set("where", fmt.Sprintf("%s %s %q", q.Filter.Field, q.Filter.Op, q.Filter.Value))
	}
	if q.GroupBy != nil {
		values.Set("group_by", strings.Join(*q.GroupBy, ","))
	}
	items := slices.Clone(q.Columns)
	for _, c := range q.Select {
		items = append(items, map[string]string{
			"bucket_start": "bucket", "col": c.Arg, "const": fmt.Sprintf("%q", c.Value), "sum": "sum(" + c.Arg + ")",
		}[c.Fn]+" as "+c.As)
	}
	values.Set("select", strings.Join(items, ", "))
	values.Set("order_by", strings.Join(q.OrderBy, ", "))
	return values
}

func (v *vector) definition(t *testing.T) *aggregation.Definition {
	def := &aggregation.Definition{PartitionByID: true, Name: strings.ReplaceAll(v.name, "-", "_"), Zone: zone(t, v.Aggregation.Timezone)}
	for _, name := range v.Aggregation.Granularities {
		g, err := aggregation.ParseGranularity(name)
		if err != nil {
			t.Fatal(err)
		}
		def.Granularities = append(def.Granularities, g)
	}
	for _, c := range v.Aggregation.Select {
		if c.Fn == "key" {
			def.Keys = append(def.Keys, aggregation.Key{Name: c.As, Kind: v.kind(c.Arg)})
			continue
		}
		op, ok := aggregation.ParseOp(c.Fn)
		if !ok {
			t.Fatalf("function %q", c.Fn)
		}
		def.Measures = append(def.Measures, aggregation.Measure{Name: c.As, Op: op, Arg: c.Arg, ArgKind: v.kind(c.Arg)})
	}
	return def
}

func (v *vector) kind(arg string) event.Kind {
	for _, f := range v.Stream.Fields {
		if f.Name == arg {
			return map[string]event.Kind{"string": event.String, "int": event.Int, "long": event.Int}[f.Type] + map[string]event.Kind{"float": event.Float, "double": event.Float}[f.Type]
		}
	}
	return event.Float // a product
}

// groups makes one group of each event.
func (v *vector) groups(t *testing.T, def *aggregation.Definition) []packed {
	var out []packed
	for _, e := range v.Events {
		if e.T == nil {
			continue
		}
		at := *e.T * 1000
		value := func(arg string) any {
			if a, b, ok := strings.Cut(arg, " * "); ok {
				return e.Fields[a].(float64) * e.Fields[b].(float64)
			}
			if n, ok := e.Fields[arg].(float64); ok && v.kind(arg) == event.Int {
				return int64(n)
			}
			return e.Fields[arg]
		}
		g := packed{
			bucket: bucketOf(def.Finest(), at, def.Zone), shard: "shard " + e.Shard, batch: e.Seq, events: 1, time: at, seq: e.Seq,
		}
		for _, c := range v.Aggregation.Select {
			switch c.Fn {
			case "key":
				g.keys = append(g.keys, value(c.Arg))
			case "count":
			case "distinct_count":
				m := def.Measures[def.MeasureIndex(c.As)]
				g.measures = append(g.measures, sketchOf(t, m, value(c.Arg)))
			default:
				g.measures = append(g.measures, value(c.Arg))
			}
		}
		out = append(out, g)
	}
	return out
}
