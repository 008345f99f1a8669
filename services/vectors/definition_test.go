package vectors

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/fstest"

	"weir/pkg/definition"
)

// Attributes that are sent beside the fields of the vector.
const (
	// timeAttribute is the event time where it is no field, or a field that the
	// aggregation uses as a value too. Nobody can choose when the stream stores a
	// message, so where a vector aggregates by the time of arrival, that time is
	// replayed as an attribute.
	timeAttribute = "time_of_event"
	// nodeAttribute is where the event arrives, for aggregations that are fed
	// from one node alone: in Siddhi the others do not define them.
	nodeAttribute = "node_of_arrival"
)

// input is a stream of Weir: the vector's stream with one event time.
type input struct {
	name         string
	time         *eventTime
	timeType     string // of its field
	aggregations []*aggregationText
}

// inputs are the vector's stream once for each way to tell its event time.
func (v *vector) inputs() []*input {
	name := "stockstream"
	if v.Stream != nil {
		name = strings.ToLower(v.Stream.Name)
	}
	all := []*input{}
	for _, a := range v.Aggregations {
		at := slices.IndexFunc(all, func(in *input) bool {
			return in.time == nil && a.EventTime == nil || in.time != nil && a.EventTime != nil && *in.time == *a.EventTime
		})
		if at < 0 {
			at = len(all)
			all = append(all, &input{name: fmt.Sprintf("%s-%d", name, at+1), time: a.EventTime, timeType: v.fieldType(a.EventTime)})
		}
		all[at].aggregations = append(all[at].aggregations, a)
	}
	if len(all) == 0 {
		all = append(all, &input{name: name + "-1"})
	}
	return all
}

// fieldType is the type of the field that holds the event time.
func (v *vector) fieldType(at *eventTime) string {
	if at == nil || v.Stream == nil {
		return ""
	}
	for _, f := range v.Stream.Fields {
		if f.Name == at.Field {
			return f.Type
		}
	}
	return ""
}

// timed reports whether the event time is a field of a type that Siddhi takes
// for one. Any other is left as it is, for Weir to refuse.
func (in *input) timed() bool { return in.timeType == "long" || in.timeType == "string" }

// attribute is the name under which the event time is sent.
func (in *input) attribute() string {
	if in.time == nil {
		return timeAttribute
	}
	used := slices.ContainsFunc(in.aggregations, func(a *aggregationText) bool { return a.mentions(in.time.Field) })
	if used && in.timed() {
		return timeAttribute
	}
	return in.time.Field
}

// mentions reports whether the field is used as a value.
func (a *aggregationText) mentions(field string) bool {
	word := func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	return slices.Contains(a.GroupBy, field) || slices.ContainsFunc(a.Select, func(c column) bool {
		return slices.Contains(strings.FieldsFunc(c.arg(), word), field)
	})
}

// unit is that of an event time sent as a number.
func (in *input) unit() string {
	if in.time == nil {
		return "ms"
	}
	if unit, ok := strings.CutPrefix(in.time.Encoding, "epoch_"); ok {
		return unit
	}
	return "ms"
}

// load reads the vector's definition as Weir does.
func (v *vector) load() (*definition.Catalog, error) {
	folder := fstest.MapFS{}
	for _, in := range v.inputs() {
		folder[in.name+".yaml"] = &fstest.MapFile{Data: []byte(v.yaml(in))}
	}
	return definition.Load(folder)
}

// yaml writes one stream and the aggregations over it.
func (v *vector) yaml(in *input) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if v.Stream != nil {
		line("stream: %s\ntime: %s\nattributes:", in.name, in.attribute())
		for _, f := range v.Stream.Fields {
			if f.Name == in.attribute() && in.timed() {
				line("  %s: {type: time, unit: %s}", f.Name, in.unit())
			} else {
				line("  %s: %s", f.Name, kind(f.Type))
			}
		}
		if in.attribute() == timeAttribute {
			line("  %s: {type: time, unit: %s}", timeAttribute, in.unit())
		}
		line("  %s: string", nodeAttribute)
	}
	if derived := in.renamed(); len(derived) > 0 {
		line("derived:")
		for _, name := range slices.Sorted(maps.Keys(derived)) {
			line("  %s: %s", name, derived[name])
		}
	}
	if len(in.aggregations) > 0 {
		line("aggregations:")
	}
	for _, a := range in.aggregations {
		v.writeAggregation(line, in, a)
	}
	return b.String()
}

func (v *vector) writeAggregation(line func(string, ...any), in *input, a *aggregationText) {
	line("  %s:\n    from: %s", a.Name, in.name)
	line("    every: [%s]", strings.Join(a.Granularities, ", "))
	if a.Timezone != "" {
		line("    zone: %q", a.Timezone)
	}
	if a.PartitionByID != nil {
		line("    partition_by_id: %t", *a.PartitionByID)
	}
	if a.OnlyShard != "" {
		line("    where: '%s == %q'", nodeAttribute, a.OnlyShard)
	}
	if keys := a.keys(); len(keys) > 0 {
		line("    group_by: [%s]", strings.Join(keys, ", "))
	}
	line("    select:")
	for _, c := range a.Select {
		switch c.Fn {
		case "key":
		case "count": // Siddhi's count has an argument that says nothing
			line("      %s: count()", c.As)
		default:
			line("      %s: %q", c.As, c.Fn+"("+c.arg()+")")
		}
	}
	if kept := v.Purge.Retention; len(kept) > 0 {
		line("    retention:")
		for _, level := range slices.Sorted(maps.Keys(kept)) {
			line("      %s: %s", level, kept[level])
		}
	}
}

// keys are the group keys by the names of their columns.
func (a *aggregationText) keys() []string {
	var names []string
	for _, arg := range a.GroupBy {
		name := arg
		for _, c := range a.Select {
			if c.Fn == "key" && c.arg() == arg {
				name = c.As
			}
		}
		names = append(names, name)
	}
	return names
}

// renamed are the keys whose columns are not called as their fields.
func (in *input) renamed() map[string]string {
	derived := map[string]string{}
	for _, a := range in.aggregations {
		for _, c := range a.Select {
			if c.Fn == "key" && c.As != c.arg() {
				derived[c.As] = c.arg()
			}
		}
	}
	return derived
}

// kind is the type of an attribute that holds a field.
func kind(fieldType string) string {
	switch fieldType {
	case "long":
		return "int"
	case "double":
		return "float"
	case "object":
		return "string" // its JSON
	}
	return fieldType
}

// body is the event as a gateway sends it.
func (in *input) body(e event) ([]byte, error) {
	fields := maps.Clone(e.Fields)
	for name, value := range fields {
		switch value.(type) {
		case map[string]any, []any:
			text, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			fields[name] = string(text)
		}
	}
	switch {
	case in.time != nil:
		fields[in.attribute()] = e.Fields[in.time.Field]
	case e.T != nil:
		fields[timeAttribute] = *e.T
	}
	fields[nodeAttribute] = e.node()
	return json.Marshal(fields)
}
