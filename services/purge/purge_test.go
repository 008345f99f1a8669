package purge

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/aggregation"
	"weir/pkg/store"
)

func TestReport_TellsRowsPartitionsAndWhatStays(t *testing.T) {
	t.Parallel()
	before := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	purged := []store.Purged{
		{Aggregation: "Calls", Level: aggregation.Seconds, ShardID: "w1", Before: before, Rows: 7, Partitions: 2, Kept: 3},
		{Aggregation: "Calls", Level: aggregation.Hours, ShardID: "w1", Before: before, Rows: 4, Busy: 1},
	}
	for dryRun, want := range map[bool]string{
		false: "11 rows deleted, 2 partitions dropped with them\n5 alerts and 2 silences deleted\n1 partitions are being read or written and stay for now: purge again later\n",
		true:  "11 rows would be deleted, 2 partitions dropped with them\n5 alerts and 2 silences would be deleted\n1 partitions are being read or written and stay for now: purge again later\n",
	} {
		cmd, out := &cobra.Command{}, &strings.Builder{}
		cmd.SetOut(out)
		if err := report(cmd, purged, store.PurgedAlerts{Alerts: 5, Silences: 2}, dryRun); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		if !strings.HasSuffix(got, want) {
			t.Errorf("got\n%s\nwant it to end with\n%s", got, want)
		}
		for _, row := range []string{"Calls seconds w1 7 2 3 2026-05-17T12:00:00Z", "Calls hours w1 4 0 0 2026-05-17T12:00:00Z"} {
			if !strings.Contains(strings.Join(strings.Fields(got), " "), row) {
				t.Errorf("got\n%s\nwithout %q", got, row)
			}
		}
	}
}
