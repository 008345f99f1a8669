package alert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("alert.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("alert.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// valid is what the schema says of a body.
func valid(schema *jsonschema.Schema, body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// whole has every field.
func whole() Alert {
	at := time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC)
	return Alert{
		ID: "0123456789abcdef", FiringID: "fedcba9876543210", Rule: "tier-crossing", Case: "application", Scope: ScopeGlobal, State: Resolved,
		Key: map[string]string{"apiName": "<Shop> & \"Söhne\"\n"}, Severity: 3, Message: "a < b && c > d", Value: 11.5, Threshold: 10,
		Details: map[string]string{"ip": "::1"}, Labels: map[string]string{"team": "api"},
		Stakeholder: Stakeholder{Role: Subscriber, User: "anna", Tenant: "t"},
		FiredAt:     at, ResolvedAt: at.Add(time.Minute), Reason: "gone", ShardID: "w1",
	}
}

func TestEncode_IsOneReadableLineThatDecodesToTheSame(t *testing.T) {
	t.Parallel()
	schema := compiled(t)
	least := Alert{ID: "x", Rule: "r", Scope: ScopeLocal, State: Firing, Key: map[string]string{}, Severity: 1, FiredAt: time.Unix(1, 0).UTC()}
	for _, a := range []Alert{whole(), least} {
		body, err := Encode(&a)
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(schema, body); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if got, err := Decode(body); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: got %+v, %v, want %+v", body, got, err, a)
		}
		if bytes.ContainsAny(body, "\r\n") {
			t.Errorf("%q is not one line", body)
		}
	}
	all := whole()
	body, _ := Encode(&all)
	if !bytes.Contains(body, []byte(`"message":"a < b && c > d"`)) || !bytes.Contains(body, []byte(`<Shop> & \"Söhne\"`)) {
		t.Errorf("%s is not readable", body)
	}
}

// One figure that JSON has no number for would keep all alerts in the outbox.
func TestEncode_WritesEveryFigure(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]float64{math.Inf(1): math.MaxFloat64, math.Inf(-1): -math.MaxFloat64} {
		a := whole()
		a.Value, a.Threshold, a.Key = value, math.NaN(), nil
		body, err := Encode(&a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(body); err != nil || got.Value != want || got.Threshold != 0 || got.Key == nil {
			t.Errorf("%s: got %+v, %v", body, got, err)
		}
	}
}

// A field that is added to alerts is added to the schema.
func TestSchema_HasTheFieldsThatAlertsHave(t *testing.T) {
	t.Parallel()
	var schema struct {
		Required   []string
		Properties map[string]struct {
			Required   []string
			Properties map[string]any
		}
	}
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil {
		t.Fatal(err)
	}
	compare := func(of reflect.Type, has func(string) bool, n int, required []string) {
		fields := 0
		for i := range of.NumField() {
			if !of.Field(i).IsExported() {
				continue
			}
			fields++
			name, options, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			if !has(name) {
				t.Errorf("the schema has no %s of %s", name, of)
			}
			if slices.Contains(required, name) != (options == "") {
				t.Errorf("%s of %s: required in the schema is %v", name, of, slices.Contains(required, name))
			}
		}
		if n != fields {
			t.Errorf("the schema has %d fields of %s, which has %d", n, of, fields)
		}
	}
	compare(reflect.TypeFor[Alert](), func(name string) bool { _, ok := schema.Properties[name]; return ok }, len(schema.Properties), schema.Required)
	whom := schema.Properties["stakeholder"]
	compare(reflect.TypeFor[Stakeholder](), func(name string) bool { _, ok := whom.Properties[name]; return ok }, len(whom.Properties), whom.Required)
}

func TestDecode_RefusesWhatTheSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := compiled(t)
	all := whole()
	good, err := Encode(&all)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, body []byte) {
		if _, err := Decode(body); err == nil {
			t.Errorf("%s: %s is decoded", name, body)
		}
		if valid(schema, body) == nil {
			t.Errorf("%s: %s is valid by the schema", name, body)
		}
	}
	for _, name := range []string{"id", "rule", "scope", "state", "key", "severity", "fired_at", "firing_id", "resolved_at"} {
		fields := map[string]any{}
		if err := json.Unmarshal(good, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, name)
		without, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		refused("without "+name, without)
	}
	for was, is := range map[string]string{
		`"severity":3`: `"severity":4`, `"scope":"global"`: `"scope":"world"`, `"state":"resolved"`: `"state":"on"`,
		`"rule":"tier-crossing"`: `"rule":"a.b"`, `"value":11.5`: `"value":"11.5"`, `"key":{`: `"key":{"n":1,`,
		`"fired_at":"2026`: `"fired_at":"on 2026`, `"id":"0123456789abcdef"`: `"id":""`, `"firing_id":"fedcba9876543210"`: `"firing_id":""`,
	} {
		body := strings.Replace(string(good), was, is, 1)
		if body == string(good) {
			t.Fatalf("there is no %s in %s", was, good)
		}
		refused(is, []byte(body))
	}
	nameless := all
	nameless.Stakeholder.Role = ""
	body, err := Encode(&nameless)
	if err != nil {
		t.Fatal(err)
	}
	refused("a stakeholder without a role", body)
	for _, body := range []string{``, `null`, `[]`, `{}`, `"x"`, string(good) + "{}"} {
		if a, err := Decode([]byte(body)); err == nil {
			t.Errorf("%q is decoded as %+v", body, a)
		}
	}
	newer := strings.Replace(string(good), `{`, `{"added":{"later":1},`, 1)
	if got, err := Decode([]byte(newer)); err != nil || !reflect.DeepEqual(got, all) || valid(schema, []byte(newer)) != nil {
		t.Errorf("with a field that was added: got %+v, %v", got, err)
	}
}

// Whatever is published where alerts should be is one that can be handed on, or an error.
func FuzzDecode(f *testing.F) {
	all := whole()
	good, err := Encode(&all)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"id":"x","rule":"r","scope":"local","state":"firing","key":{},"severity":1,"fired_at":"2026-11-22T10:00:00+01:00","ID":"y"}`))
	f.Add([]byte(`{"id":"\ud800","key":null,"value":1e400}`))
	schema := compiled(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := Decode(body)
		if err != nil {
			if !reflect.DeepEqual(a, Alert{}) || err.Error() == "" {
				t.Fatalf("%q: %+v beside %v", body, a, err)
			}
			return
		}
		again, err := Encode(&a)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if b, err := Decode(again); err != nil || !reflect.DeepEqual(normal(b), normal(a)) {
			t.Fatalf("%q: decoded as %+v, and again as %+v, %v", body, a, b, err)
		}
		if a.Stakeholder.Role == "" || a.Stakeholder.Role == Publisher || a.Stakeholder.Role == Subscriber {
			if err := valid(schema, again); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
		}
	})
}

// normal is an alert without the differences between what is empty and what is
// not there, and between zones.
func normal(a Alert) string {
	a.FiredAt, a.ResolvedAt = a.FiredAt.UTC(), a.ResolvedAt.UTC()
	if len(a.Details) == 0 {
		a.Details = nil
	}
	if len(a.Labels) == 0 {
		a.Labels = nil
	}
	return fmt.Sprintf("%+v", a)
}

func TestSeen_TellsTwiceFromOnceAmongTheLast(t *testing.T) {
	t.Parallel()
	seen := NewSeen(3)
	for i, step := range []struct {
		id   string
		want bool
	}{{"a", true}, {"a", false}, {"b", true}, {"c", true}, {"a", false}, {"d", true}, {"b", false}, {"a", true}, {"b", true}, {"d", false}} {
		if got := seen.Add(step.id); got != step.want {
			t.Errorf("%d: %s is new: %v, want %v", i, step.id, got, step.want)
		}
	}
	if len(seen.ids) != 3 {
		t.Errorf("%d ids are remembered, want 3", len(seen.ids))
	}
}
