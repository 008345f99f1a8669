package definition_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"weir/pkg/definition"
)

// vector is the part of a Siddhi test vector that concerns definitions.
type vector struct {
	ID     string `json:"id"`
	Stream *struct {
		Fields []struct{ Name, Type string } `json:"fields"`
	} `json:"stream"`
	Aggregation *struct {
		Name      string                            `json:"name"`
		EventTime *struct{ Field, Encoding string } `json:"event_time"`
		GroupBy   []string                          `json:"group_by"`
		Select    []struct {
			As, Fn string
			Arg    *string
		} `json:"select"`
		Levels []string `json:"granularities"`
		Zone   string   `json:"timezone"`
		ByID   *bool    `json:"partition_by_id"`
	} `json:"aggregation"`
	Expect struct{ Accepted bool } `json:"expect"`
}

// refusals are the vectors that a definition of Weir must refuse, and why.
func refusals() map[string]string {
	return map[string]string{
		"val-def-max-noarg":  `select "sumPrice": max needs an argument, as in max(responseTime)`,
		"val-def-min-string": `select "sumPrice": min needs a number or a time, symbol is string`,
		"val-def-no-stream":  `from: unknown stream "stockStream"`,
		"val-def-sum-noarg":  `select "sumPrice": sum needs an argument, as in sum(responseTime)`,
		"val-def-sum-string": `select "sumPrice": sum needs a number, symbol is string`,
		"val-def-timezone":   `unknown time zone "Asia/Singapo"`,
		"val-def-week":       `every: unknown granularity "week"`,
	}
}

// unsharded are vectors about a node that has no shard id. A worker of Weir
// always has one, so their definitions are good.
func unsharded(id string) bool { return strings.HasPrefix(id, "val-def-shard-") }

func TestLoad_JudgesSiddhiDefinitionsAsSiddhiDoes(t *testing.T) {
	t.Parallel()
	const folder = "../../../shared/vectors"
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Skipf("SKIPPED: the Siddhi test vectors are absent: no *.json in %s", folder)
	}
	refused := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if v.Aggregation == nil {
			continue // several aggregations
		}
		_, err = definition.Load(v.folder())
		want := refusals()[v.ID]
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: refused: %v", v.ID, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error with %s", v.ID, err, want)
		case want != "":
			refused++
		case strings.HasPrefix(v.ID, "val-def-") && !v.Expect.Accepted && !unsharded(v.ID):
			t.Errorf("%s: accepted, Siddhi refuses it", v.ID)
		}
	}
	if refused != len(refusals()) {
		t.Errorf("found %d of %d vectors that must be refused", refused, len(refusals()))
	}
}

// folder writes the vector as a definition.
func (v *vector) folder() fstest.MapFS {
	var stream, b strings.Builder
	a := v.Aggregation
	if v.Stream == nil {
		stream.WriteString("stream: other\nattributes: {price: int, arrival: time}\n")
	} else {
		stream.WriteString("stream: stock\nattributes:\n")
		for _, f := range v.Stream.Fields {
			kind := map[string]string{"long": "int", "double": "float"}[f.Type]
			if kind == "" {
				kind = f.Type
			}
			if a.EventTime != nil && a.EventTime.Field == f.Name {
				kind = "time"
			}
			fmt.Fprintf(&stream, "  %s: %s\n", f.Name, kind)
		}
		if a.EventTime != nil {
			fmt.Fprintf(&stream, "time: %s\n", a.EventTime.Field)
		}
	}
	from := "stock"
	if v.Stream == nil {
		from = "stockStream"
	}
	fmt.Fprintf(&b, "aggregations:\n  %s:\n    from: %s\n    group_by: [%s]\n    zone: %s\n    every: [%s]\n    select:\n",
		a.Name, from, strings.Join(a.GroupBy, ", "), a.Zone, strings.Join(a.Levels, ", "))
	for _, s := range a.Select {
		arg := ""
		if s.Arg != nil {
			arg = *s.Arg
		}
		if s.Fn != "key" {
			fmt.Fprintf(&b, "      %s: %s(%s)\n", s.As, s.Fn, arg)
		} else if s.As != arg { // a key under another name
			fmt.Fprintf(&b, "      %s: last(%s)\n", s.As, arg)
		}
	}
	if a.ByID != nil {
		fmt.Fprintf(&b, "    partition_by_id: %t\n", *a.ByID)
	}
	return fstest.MapFS{"v.yaml": {Data: []byte(stream.String() + b.String())}}
}
