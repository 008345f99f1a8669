package definition

import (
	"slices"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
)

// Catalog is everything that is defined: validated as a whole, immutable, and
// safe to share between goroutines.
type Catalog struct {
	Streams      []*event.Schema
	Aggregations []*aggregation.Definition
	// Earlier holds aggregations that are not defined any more but have rows, and
	// earlier versions of those that are; only a bound catalogue has them.
	Earlier []*aggregation.Definition
	Rules   []*alert.Rule
}

// Bound returns the catalogue with the versions of its aggregations that the
// database has tables for, and with what else has tables there.
func (c *Catalog) Bound(aggregations, earlier []*aggregation.Definition) *Catalog {
	bound := *c
	bound.Aggregations, bound.Earlier = aggregations, earlier
	return &bound
}

// Kept returns all aggregations that have rows: what is defined, and what was.
func (c *Catalog) Kept() []*aggregation.Definition {
	return append(slices.Clone(c.Aggregations), c.Earlier...)
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

// Stored returns the aggregation of that id (aggregation.Definition.ID), or nil.
func (c *Catalog) Stored(id string) *aggregation.Definition {
	for _, a := range c.Aggregations {
		if a.ID() == id {
			return a
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
