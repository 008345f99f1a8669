package alert

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Threshold is a bound that stands in place of a rule's own, for the keys that
// its dimensions choose. People set some while everything runs, others are
// learned from the past.
type Threshold struct {
	Rule string `json:"rule"`
	Case string `json:"case,omitzero"` // "": all cases of the rule
	Dimensions

	Value   float64 `json:"value"` // must be exceeded, or not be reached, as the rule says
	Learned bool    `json:"learned,omitzero"`
}

// Dimensions choose keys by what they say of an API or of who calls it; those
// that are "" choose any.
type Dimensions struct {
	API         string `json:"api,omitzero"`
	Version     string `json:"version,omitzero"`
	Resource    string `json:"resource,omitzero"`
	Method      string `json:"method,omitzero"`
	Application string `json:"application,omitzero"`
	Tenant      string `json:"tenant,omitzero"`
}

// DimensionNames are the names of the dimensions, the one that weighs most
// first: that of two thresholds with as many dimensions decides.
func DimensionNames() []string {
	return []string{"api", "version", "resource", "method", "application", "tenant"}
}

const dimensions = 6 // as many

// Values returns the dimensions in the order of DimensionNames.
func (d Dimensions) Values() [dimensions]string {
	return [...]string{d.API, d.Version, d.Resource, d.Method, d.Application, d.Tenant}
}

// Text is for people: api=pizza version=1, or "everything".
func (d Dimensions) Text() string {
	var texts []string
	for i, value := range d.Values() {
		if value != "" {
			texts = append(texts, DimensionNames()[i]+"="+value)
		}
	}
	return cmp.Or(strings.Join(texts, " "), "everything")
}

// partsOf are the attributes that a dimension is read from. A threshold holds
// for a key in which one of them has its value; where two thresholds hold by
// different attributes, the first of these decides.
func partsOf(dimension int) []string {
	switch dimension {
	case 0:
		return []string{"apiName"}
	case 1:
		return []string{"apiVersion"}
	case 2:
		return []string{"apiResourceTemplate"}
	case 3:
		return []string{"apiMethod"}
	case 4:
		return []string{"applicationId", "applicationName"}
	}
	return []string{"apiCreatorTenantDomain", "userTenantDomain", "tenantDomain"}
}

// parts returns which parts of the case's key a dimension is read from.
func (c *Case) parts(dimension int) (at []int) {
	for _, name := range partsOf(dimension) {
		if i := slices.IndexFunc(c.Key, func(p KeyPart) bool { return p.Name == name }); i >= 0 {
			at = append(at, i)
		}
	}
	return at
}

// maxDimensions is how many bytes the texts of a threshold's dimensions have
// together, at most: an entry of an index must hold them.
const maxDimensions = 2000

// Storable returns why a threshold with these dimensions could not be kept, or
// nil.
func (d Dimensions) Storable() error {
	size := 0
	for i, text := range d.Values() {
		size += len(text)
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return fmt.Errorf("%s: %q is no text that can be kept", DimensionNames()[i], text)
		}
	}
	if size > maxDimensions {
		return fmt.Errorf("the dimensions have %d bytes together, and may have %d", size, maxDimensions)
	}
	return nil
}

// Check returns in a sentence why the threshold cannot be one of its rule,
// which is given, or nil.
func (t *Threshold) Check(rule *Rule) error {
	if math.IsNaN(t.Value) || math.IsInf(t.Value, 0) {
		return errors.New("the threshold must be a number")
	}
	switch rule.Type {
	case PerEvent, Measured, Changed, Transition:
	case Counted, Run:
		if t.Value < 0 {
			return fmt.Errorf("the threshold of %s is a number of events and must not be negative, it is %v", rule.Name, t.Value)
		}
	case Absent, Unseen, Interval, Underuse:
		return fmt.Errorf("%s has no threshold: a rule of type %s is not decided by a bound", rule.Name, rule.Type)
	}
	if err := t.Storable(); err != nil {
		return err
	}
	var of *Rule // with the figures of the first case that it is for
	for i := range rule.Cases {
		c := &rule.Cases[i]
		if t.Case != "" && t.Case != c.Name {
			continue
		}
		if of != nil && of.Below != rule.by(c).Below {
			return fmt.Errorf("one case of %s has an upper bound and another a lower one: say which case it is for", rule.Name)
		}
		of = rule.by(c)
		if err := t.checkKey(rule, c); err != nil {
			return err
		}
	}
	if of == nil {
		return fmt.Errorf("%s has no case %q", rule.Name, t.Case)
	}
	return nil
}

// checkKey refuses dimensions that no key of the case has: the threshold would
// never hold.
func (t *Threshold) checkKey(rule *Rule, c *Case) error {
	for i, value := range t.Values() {
		if value == "" || len(c.parts(i)) > 0 {
			continue
		}
		who := rule.Name
		if c.Name != "" {
			who = fmt.Sprintf("the case %s of %s", c.Name, rule.Name)
		}
		var has []string
		for other, name := range DimensionNames() {
			if len(c.parts(other)) > 0 {
				has = append(has, name)
			}
		}
		return fmt.Errorf("%s cannot have thresholds by %s, because its key has none of %s; it can have them by: %s",
			who, DimensionNames()[i], strings.Join(partsOf(i), ", "), cmp.Or(strings.Join(has, ", "), "nothing"))
	}
	return nil
}
