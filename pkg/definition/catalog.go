package definition

import (
	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
)

// Catalog is everything that is defined: validated as a whole, immutable, and
// safe to share between goroutines.
type Catalog struct {
	Streams      []*event.Schema
	Aggregations []*aggregation.Definition
	Rules        []*alert.Rule
}

// Stream returns the named stream's schema, or nil.
func (c *Catalog) Stream(name string) *event.Schema {
	for _, s := range c.Streams {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Aggregation returns the named aggregation, or nil.
func (c *Catalog) Aggregation(name string) *aggregation.Definition {
	for _, a := range c.Aggregations {
		if a.Name == name {
			return a
		}
	}
	return nil
}
