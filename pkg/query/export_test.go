package query

import (
	"maps"
	"slices"
)

// Routes are the methods of each path that the API serves.
func Routes() map[string][]string {
	routes := map[string][]string{}
	for _, r := range (&Server{}).routes() {
		routes[r.pattern] = slices.Sorted(maps.Keys(r.methods))
	}
	return routes
}
