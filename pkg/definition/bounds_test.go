package definition_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"weir/pkg/definition"
	"weir/pkg/event"
)

func TestLoad_ReadsBoundsOfTheEventTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]time.Duration{
		"":                               {0, 0},
		"future: all\npast: all\n":       {0, 0},
		"past: 90 days\n":                {0, 90 * 24 * time.Hour},
		"future: 1 day\npast: 2 hours\n": {24 * time.Hour, 2 * time.Hour},
	} {
		catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte("stream: s\ntime: at\n" + text + "attributes: {at: time}\n")}})
		if err != nil {
			t.Fatal(err)
		}
		if s := catalog.Stream("s"); s.Future != want[0] || s.Past != want[1] {
			t.Errorf("%q: got future %s, past %s, want %s, %s", text, s.Future, s.Past, want[0], want[1])
		}
	}
}

func TestLoad_CapsGroupsOfAggregationsWithATextKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"group_by: [name]":                    1_000_000,
		"group_by: [n, name]":                 1_000_000,
		"group_by: [n]":                       0,
		"group_by: [n], max_groups: all":      0,
		"every: days":                         0,
		"group_by: [name], max_groups: 5000":  5000,
		"group_by: [name], max_groups: 1_000": 1000,
		"group_by: [name], max_groups: all":   0,
	} {
		if text != "every: days" {
			text += ", every: days"
		}
		catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte("stream: s\nattributes: {n: int, name: string}\naggregations: {A: {select: {c: count()}, " + text + "}}\n")}})
		if err != nil {
			t.Fatal(err)
		}
		if got := catalog.Aggregation("A").MaxGroups; got != want {
			t.Errorf("%s: got %d groups at most, want %d", text, got, want)
		}
	}
}

// The key keeps the attribute's name; what is sent wins over what is computed.
func TestLoad_IfEmptyStandsForMissingAndEmptyTexts(t *testing.T) {
	t.Parallel()
	catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte(`
stream: s
attributes:
  resource: {type: string, if_empty: "template(path)"}
  path: {type: string, default: ""}
  plain: {type: string, if_empty: path}
derived: {where: "resource + '!'"}
aggregations: {A: {group_by: [resource], select: {c: count()}, every: days}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	columns := event.NewColumns(catalog.Stream("s"), event.NewDictionary())
	var decoder event.Decoder
	_, rejects, err := decoder.Decode(event.Body{Data: []byte(`[{"path":"/a/1"},{"path":"/a/2","resource":""},{"path":"/a/3","resource":"/a/*"},{}]`)}, event.Origin{}, columns)
	if err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	var got []string
	for row := range columns.Len() {
		got = append(got, columns.Text(0, row)+" "+columns.Text(2, row)+" "+columns.Text(3, row))
	}
	if want := "[/a/{id} /a/1 /a/{id}! /a/{id} /a/2 /a/{id}! /a/* /a/3 /a/*!   !]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if a := catalog.Aggregation("A"); a.Keys[0].Name != "resource" || a.Inputs[0].Keys[0] != 0 {
		t.Errorf("the key is %+v of attribute %v", a.Keys, a.Inputs[0].Keys)
	}
}
