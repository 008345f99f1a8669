package alert

import (
	"bytes"
	_ "embed" // the schema
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Schema is the JSON Schema of what is published for each alert. Fields may be
// added to alerts; those that are there stay as they are.
//
//go:embed alert.schema.json
var Schema string

// Encode writes an alert as it is published: one line of JSON in UTF-8, with <, >
// and & as they are. Figures that JSON has no number for become the largest or
// the smallest one, and 0 for what is no number.
func Encode(a *Alert) ([]byte, error) {
	sent := *a
	sent.Value, sent.Threshold = Finite(a.Value), Finite(a.Threshold)
	if a.Key == nil {
		sent.Key = map[string]string{}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&sent); err != nil {
		return nil, fmt.Errorf("encode alert %s: %w", a.ID, err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Finite is the number that stands for a figure in JSON: the largest or the smallest one
// for what is beyond all, 0 for what is no number.
func Finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return max(-math.MaxFloat64, min(f, math.MaxFloat64))
}

// Decode reads an alert that was published. Fields that it does not know are
// passed over: a newer Weir may publish more. An error means that it is no
// alert; whoever reads a stream logs it and goes on.
//
// Alerts come at least once, so whoever acts on them asks [Seen] whether one is
// new:
//
//	a, err := alert.Decode(message.Data)
//	if err != nil { … }
//	if seen.Add(a.ID) { … }
func Decode(data []byte) (Alert, error) {
	var a Alert
	if err := json.Unmarshal(data, &a); err != nil {
		return Alert{}, fmt.Errorf("decode an alert: %w", err)
	}
	if err := a.check(); err != nil {
		return Alert{}, fmt.Errorf("decode an alert: %w", err)
	}
	return a, nil
}

// maxID is how long the id of an alert may be; those of Weir have 32 characters.
const maxID = 200

// check refuses what no alert can be. What it refuses, the schema refuses too.
func (a *Alert) check() error {
	switch {
	case a.ID == "":
		return errors.New("it has no id")
	case len(a.ID) > maxID:
		return fmt.Errorf("its id has %d bytes", len(a.ID))
	case a.Rule == "" || strings.ContainsAny(a.Rule, " .*>\t\r\n"):
		return fmt.Errorf("no rule has the name %.100q", a.Rule)
	case a.Scope != ScopeLocal && a.Scope != ScopeGlobal:
		return fmt.Errorf("there is no scope %.100q", a.Scope)
	case a.State != Firing && a.State != Resolved:
		return fmt.Errorf("there is no state %.100q", a.State)
	case a.Key == nil:
		return errors.New("it has no key")
	case a.Severity < 1 || a.Severity > 3:
		return fmt.Errorf("there is no severity %d", a.Severity)
	case a.FiredAt.IsZero():
		return errors.New("it does not say when it fired")
	case a.Stakeholder.Role == "" && a.Stakeholder != (Stakeholder{}):
		return errors.New("it does not say in which role it concerns its stakeholder")
	case a.State == Resolved && (a.FiringID == "" || a.ResolvedAt.IsZero()):
		return errors.New("it is resolved, and does not say what, or when")
	}
	return nil
}

// Seen remembers which alerts somebody has had, the newest of them. It belongs
// to one goroutine.
type Seen struct {
	ids  map[string]struct{}
	ring []string
	next int
}

// NewSeen remembers the last most ids; at least 1.
func NewSeen(most int) *Seen {
	return &Seen{ids: map[string]struct{}{}, ring: make([]string, max(1, most))}
}

// Add reports whether the id is new, and remembers it in place of the oldest.
func (s *Seen) Add(id string) bool {
	if _, ok := s.ids[id]; ok {
		return false
	}
	if len(s.ids) == len(s.ring) {
		delete(s.ids, s.ring[s.next])
	}
	s.ids[id] = struct{}{}
	s.ring[s.next] = id
	s.next = (s.next + 1) % len(s.ring)
	return true
}
