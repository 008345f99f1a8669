package evaluator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"weir/pkg/alert"
	"weir/pkg/event"
	"weir/pkg/query"
)

// sound refuses what no run could make true, before any server is started.
func (s *scenario) sound() error {
	for _, t := range s.thresholds {
		if err := query.CheckThreshold(s.catalog.Rules, t.Threshold); err != nil {
			return fmt.Errorf("line %d: %w", t.line, err)
		}
	}
	for _, h := range append(slices.Clone(s.events), s.closing()) {
		if err := s.accepted(h); err != nil {
			return fmt.Errorf("line %d: %w", h.line, err)
		}
	}
	for _, e := range s.expect {
		if err := s.possible(e); err != nil {
			return fmt.Errorf("line %d: %w", e.line, err)
		}
	}
	for _, counts := range s.local {
		for rule := range counts {
			if s.rule(rule) == nil {
				return fmt.Errorf("local: there is no rule %q", rule)
			}
		}
	}
	return nil
}

// accepted refuses an event that a worker would make a dead letter.
func (s *scenario) accepted(h happening) error {
	body, err := s.body(h)
	if err != nil {
		return err
	}
	var decoder event.Decoder
	_, rejects, err := decoder.Decode(event.Body{Data: body}, event.Origin{Stored: h.at.UnixMicro()}, event.NewColumns(s.stream(h.stream), event.NewDictionary()))
	if err == nil && len(rejects) > 0 {
		err = errors.New(rejects[0].Reason)
	}
	if err != nil {
		return fmt.Errorf("the event at %s would be a dead letter: %w", h.at.Sub(epoch), err)
	}
	return nil
}

func (s *scenario) possible(e expected) error {
	rule := s.rule(e.rule)
	if rule == nil {
		return fmt.Errorf("there is no rule %q", e.rule)
	}
	if !slices.ContainsFunc(rule.Cases, func(of alert.Case) bool { return of.Name == e.name }) {
		return fmt.Errorf("rule %s has no case %q", e.rule, e.name)
	}
	if e.at.After(s.through) {
		return fmt.Errorf("it is expected at %s, which is after the end", e.at.Sub(epoch))
	}
	return nil
}

func (s *scenario) rule(name string) *alert.Rule {
	for _, rule := range s.catalog.Rules {
		if rule.Name == name {
			return rule
		}
	}
	return nil
}

func (s *scenario) stream(name string) *event.Schema {
	for _, of := range s.catalog.Streams {
		if of.Name == name {
			return of
		}
	}
	return nil
}

// closing is an event that moves the clock past the end.
func (s *scenario) closing() happening {
	end := happening{stream: s.catalog.Streams[0].Name, at: s.through.Add(2 * DefaultGrace)}
	if len(s.events) > 0 {
		end.stream = s.events[0].stream
		end.line = s.events[0].line
	}
	end.values = s.defaults[end.stream]
	return end
}

// body is the event as gateways send it.
func (s *scenario) body(h happening) (json.RawMessage, error) {
	schema := s.stream(h.stream)
	if schema == nil {
		return nil, fmt.Errorf("there is no stream %q", h.stream)
	}
	object := map[string]any{}
	for name, text := range h.values {
		i := schema.Index(name)
		switch {
		case i < 0:
			return nil, fmt.Errorf("stream %s has no attribute %q", h.stream, name)
		case schema.Attributes[i].Kind == event.String:
			object[name] = text
		default:
			if object[name] = json.RawMessage(text); !json.Valid([]byte(text)) {
				return nil, fmt.Errorf("%s of stream %s is no text, and %q is no JSON", name, h.stream, text)
			}
		}
	}
	if schema.EventTime < 0 {
		return nil, fmt.Errorf("stream %s has no event time", h.stream)
	}
	object[schema.Attributes[schema.EventTime].Name] = h.at.UnixMilli()
	return json.Marshal(object)
}

// check compares what was decided up to the end of the scenario with what is expected.
func (s *scenario) check(t *testing.T, decided []alert.Alert) {
	t.Helper()
	left := slices.Clone(decided)
	for _, e := range s.expect {
		at := slices.IndexFunc(left, e.matches)
		if at < 0 {
			t.Errorf("testdata/%s.test:%d: no alert as expected", s.name, e.line)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	for _, a := range left {
		t.Errorf("%s: not expected: %s", s.name, describe(a))
	}
	if t.Failed() {
		for _, a := range decided {
			t.Logf("%s: decided: %s", s.name, describe(a))
		}
	}
}

func (e expected) matches(a alert.Alert) bool {
	at := a.FiredAt
	if a.State == alert.Resolved {
		at = a.ResolvedAt
	}
	if a.Rule != e.rule || a.Case != e.name || a.State != e.state || !at.Equal(e.at) {
		return false
	}
	for name, want := range e.values {
		got, ok := a.Key[name]
		if !ok {
			got = a.Details[name]
		}
		switch name {
		case "value":
			got = strconv.FormatFloat(a.Value, 'g', 6, 64)
		case "threshold":
			got = strconv.FormatFloat(a.Threshold, 'g', 6, 64)
		case "reason":
			got = a.Reason
		case "message":
			got = a.Message
		}
		if got != want {
			return false
		}
	}
	return true
}

func describe(a alert.Alert) string {
	at := a.FiredAt
	if a.State == alert.Resolved {
		at = a.ResolvedAt
	}
	return fmt.Sprintf("%s/%s %s %s value=%g %v %v %s %q", a.Rule, a.Case, a.State, at.Sub(epoch), a.Value, a.Key, a.Details, a.Reason, a.Message)
}
