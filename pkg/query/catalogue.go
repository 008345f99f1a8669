package query

import (
	"net/http"
	"net/url"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/event"
)

// Catalogue is all that is defined, as the API shows it.
type Catalogue struct {
	Streams      []Stream      `json:"streams"`
	Aggregations []Aggregation `json:"aggregations"`
	Rules        []Rule        `json:"rules"`
}

// NewCatalogue describes a catalogue.
func NewCatalogue(catalog *definition.Catalog) Catalogue {
	c := Catalogue{Streams: []Stream{}, Aggregations: []Aggregation{}, Rules: []Rule{}}
	for _, stream := range catalog.Streams {
		c.Streams = append(c.Streams, describeStream(stream))
	}
	for _, def := range catalog.Aggregations {
		c.Aggregations = append(c.Aggregations, describe(def))
	}
	for _, rule := range catalog.Rules {
		c.Rules = append(c.Rules, describeRule(rule))
	}
	return c
}

// Stream is what events of one type are made of.
type Stream struct {
	Name        string      `json:"name"`
	Description string      `json:"description"`
	EventTime   string      `json:"event_time"` // the attribute; "": when the stream stored the message
	Attributes  []Attribute `json:"attributes"`
}

// Attribute is one of what events of a stream have.
type Attribute struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Type        string `json:"type"`
	Required    bool   `json:"required"` // an event without it becomes a dead letter
	Derived     bool   `json:"derived"`  // computed from others, not sent
}

func describeStream(schema *event.Schema) Stream {
	s := Stream{Name: schema.Name, Description: schema.Doc, Attributes: []Attribute{}}
	for i := range schema.Attributes {
		a := &schema.Attributes[i]
		if strings.HasPrefix(a.Name, event.HiddenPrefix) {
			continue
		}
		if i == schema.EventTime {
			s.EventTime = a.Name
		}
		s.Attributes = append(s.Attributes, Attribute{a.Name, a.Doc, a.Kind.String(), a.Required, a.Derive != nil})
	}
	return s
}

// Rule is one alert rule.
type Rule struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Type        string            `json:"type"`
	Scopes      []alert.Scope     `json:"scopes"`
	Severity    int               `json:"severity"` // 1 severe, 2 moderate, 3 mild
	Labels      map[string]string `json:"labels"`
	Cases       []RuleCase        `json:"cases"` // a simple rule has one, named ""
}

// RuleCase is one variant of a rule.
type RuleCase struct {
	Name string   `json:"name"`
	Key  []string `json:"key"` // what its alerts are told apart by
}

func describeRule(rule *alert.Rule) Rule {
	r := Rule{
		Name: rule.Name, Description: rule.Doc, Type: rule.Type.String(), Severity: rule.Severity,
		Scopes: []alert.Scope{}, Labels: map[string]string{}, Cases: []RuleCase{},
	}
	for name, value := range rule.Labels {
		r.Labels[name] = value
	}
	if rule.Local {
		r.Scopes = append(r.Scopes, alert.ScopeLocal)
	}
	if rule.Global {
		r.Scopes = append(r.Scopes, alert.ScopeGlobal)
	}
	for i := range rule.Cases {
		c := RuleCase{Name: rule.Cases[i].Name, Key: []string{}}
		for _, part := range rule.Cases[i].Key {
			c.Key = append(c.Key, part.Name)
		}
		r.Cases = append(r.Cases, c)
	}
	return r
}

// Aggregation is how the API describes what can be asked for.
type Aggregation struct {
	Name          string            `json:"name"`
	Description   string            `json:"description"`
	Keys          []Key             `json:"keys"`
	Measures      []Measure         `json:"measures"`
	Granularities []string          `json:"granularities"`
	Retention     map[string]string `json:"retention"` // by granularity; "forever", or as 72h0m0s
	Zone          string            `json:"zone"`
	PartitionByID bool              `json:"partition_by_id"` // shard_id is a column
}

// Key is one group key.
type Key struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Measure is one measure: its function (sum, distinct_count, p99.9, …), argument
// and the type of its values.
type Measure struct {
	Name string `json:"name"`
	Op   string `json:"op"`
	Arg  string `json:"arg,omitempty"`
	Type string `json:"type"`
}

func describe(def *aggregation.Definition) Aggregation {
	a := Aggregation{
		Name: def.Name, Description: def.Doc, Zone: def.Zone.String(), PartitionByID: def.PartitionByID,
		Keys: []Key{}, Measures: []Measure{}, Retention: map[string]string{},
	}
	for _, k := range def.Keys {
		a.Keys = append(a.Keys, Key{k.Name, k.Kind.String()})
	}
	for _, m := range def.Measures {
		a.Measures = append(a.Measures, Measure{m.Name, m.Function(), m.Arg, m.Kind().String()})
	}
	for _, g := range def.Granularities {
		a.Granularities = append(a.Granularities, g.String())
		a.Retention[g.String()] = "forever"
		if kept := def.Retention[g]; kept != aggregation.Forever {
			a.Retention[g.String()] = kept.String()
		}
	}
	return a
}

func (s *Server) catalogue(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	return s.lasting(w, r, encode(NewCatalogue(s.Catalog)))
}

func (s *Server) aggregations(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	return s.lasting(w, r, s.Catalogue())
}
