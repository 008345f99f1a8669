package vectors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// vector is one file; the README beside it says what the fields mean.
type vector struct {
	ID           string
	Kind         string
	Stream       *streamText
	Aggregation  *aggregationText
	Aggregations []*aggregationText
	Node         struct {
		PartitionByID bool `json:"node_partition_by_id"`
	} `json:"upstream_config"`
	Purge   struct{ Retention map[string]string }
	Events  []event
	Steps   []step
	Queries []*question
	Expect  struct{ Reason string }
}

type streamText struct {
	Name   string
	Fields []struct{ Name, Type string }
}

type aggregationText struct {
	Name          string
	EventTime     *eventTime `json:"event_time"` // nil: the time of arrival
	GroupBy       []string   `json:"group_by"`
	Select        []column
	Granularities []string
	Timezone      string
	PartitionByID *bool     `json:"partition_by_id"`
	Shards        *[]string // nil: the vector is not about shards
	OnlyShard     string    `json:"only_shard"`
}

type eventTime struct{ Field, Encoding string }

type column struct {
	As, Fn string
	Arg    *string
	Value  any // of a constant
}

func (c column) arg() string {
	if c.Arg == nil {
		return ""
	}
	return *c.Arg
}

type event struct {
	Seq    int64
	Shard  string
	T      *int64 // nil: cannot be read
	Fields map[string]any
}

// node is where the event arrives.
func (e event) node() string {
	if e.Shard == "" {
		return "node"
	}
	return e.Shard
}

type step struct {
	Op  string
	Seq upTo
	ID  string
	Now int64 `json:"now_ms"`
}

// upTo is the last event of a step, written as a number or as [first, last].
type upTo int64

func (u *upTo) UnmarshalJSON(data []byte) error {
	var bounds []int64
	if err := json.Unmarshal(data, &bounds); err == nil && len(bounds) > 0 {
		*u = upTo(bounds[len(bounds)-1])
		return nil
	}
	return json.Unmarshal(data, (*int64)(u))
}

type question struct {
	ID          string
	Aggregation string
	Within      *struct {
		AsWritten []any `json:"as_written"`
	}
	Per    any
	Filter *struct {
		Field, Op string
		Value     any
	}
	GroupBy *[]string `json:"group_by"`
	Select  []column
	Columns []string // instead of Select: by name
	OrderBy []string `json:"order_by"`

	Expected        [][]any
	CorrectExpected *[][]any `json:"correct_expected"`
	RowCount        *int     `json:"expected_row_count"`
	Undetermined    []string `json:"undetermined_columns"`
	ExpectError     *bool    `json:"expect_error"`
}

// readVectors reads all of them, or skips the test aloud.
func readVectors(t *testing.T) []*vector {
	t.Helper()
	folder := os.Getenv("WEIR_VECTORS")
	if folder == "" {
		folder = "../../../shared/vectors"
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 && os.Getenv("WEIR_VECTORS") == "" {
		t.Skipf("the Siddhi test vectors are not beside the project: no *.json in %s", folder)
	}
	if len(files) == 0 {
		t.Fatalf("WEIR_VECTORS: no *.json in %s", folder)
	}
	var all []*vector
	for _, file := range files {
		v, err := readVector(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func readVector(file string) (*vector, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	v := &vector{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // numbers are sent and compared as they are written
	if err := decoder.Decode(v); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	slices.SortFunc(v.Events, func(a, b event) int { return cmp.Compare(a.Seq, b.Seq) })
	if v.Aggregation != nil {
		v.Aggregations = append(v.Aggregations, v.Aggregation)
	}
	return v, nil
}

// script is what happens, step by step: as the vector says, or first all
// events and then all questions.
func (v *vector) script() []step {
	if len(v.Steps) > 0 {
		return v.Steps
	}
	all := step{Op: "events"}
	for _, e := range v.Events {
		all.Seq = max(all.Seq, upTo(e.Seq))
	}
	steps := []step{all}
	for _, q := range v.Queries {
		steps = append(steps, step{Op: "query", ID: q.ID})
	}
	return steps
}

func (v *vector) question(id string) *question {
	for _, q := range v.Queries {
		if q.ID == id {
			return q
		}
	}
	return nil
}

// needsShardID reports that the vector is about a node without a shard id on
// which something is sharded.
func (v *vector) needsShardID() bool {
	for _, a := range v.Aggregations {
		sharded := v.Node.PartitionByID
		if a.PartitionByID != nil {
			sharded = *a.PartitionByID
		}
		if a.Shards != nil && len(*a.Shards) == 0 && sharded {
			return true
		}
	}
	return false
}
