package definition

import (
	"testing"
	"testing/fstest"
)

func TestLoadWith_PartitionByIDOfADefinitionWinsOverTheOption(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"calls.yaml": {Data: []byte(`
stream: calls
time: at
attributes: {at: time}
aggregations:
  Unsaid:   {select: {n: count()}, every: hours}
  SaidTrue:  {select: {n: count()}, every: hours, partition_by_id: true}
  SaidFalse: {select: {n: count()}, every: hours, partition_by_id: false}
`)}}
	for _, notByID := range []bool{false, true} {
		catalog, err := LoadWith(files, Options{NotByID: notByID})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"Unsaid": !notByID, "SaidTrue": true, "SaidFalse": false} {
			if got := catalog.Aggregation(name).PartitionByID; got != want {
				t.Errorf("NotByID %t, %s: partition_by_id is %t, want %t", notByID, name, got, want)
			}
		}
	}
}
