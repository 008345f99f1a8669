package definition_test

import (
	"testing"
	"testing/fstest"

	"weir/pkg/definition"
	"weir/pkg/store"
)

// What definitions reserve as a table's name is the name that the store gives it.
func TestLoad_ReservesTheTablesOfTheStore(t *testing.T) {
	t.Parallel()
	catalog, err := definition.Load(fstest.MapFS{"s.yaml": {Data: []byte(`
stream: s
attributes: {i: int}
aggregations: {Calls_9: {select: {n: count()}, every: 15 minutes...quarters}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	def := catalog.Aggregations[0]
	for _, level := range def.Granularities {
		if def.Table(level) != store.TableName(def, level) {
			t.Errorf("%s: %s is reserved, the table is %s", level, def.Table(level), store.TableName(def, level))
		}
	}
}
