package store

import (
	"testing"
	"time"

	"weir/pkg/event"
)

func TestSources_TheGreatestNumberWinsAlsoAfterTheStreamWasMadeAnew(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	ctx := t.Context()
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	write := func(s Source) {
		t.Helper()
		if err := db.InTx(ctx, func(tx *Tx) error { return tx.WriteSources(ctx, []Source{s}) }); err != nil {
			t.Fatal(err)
		}
	}
	beat := func(n uint64) event.Heartbeat {
		return event.Heartbeat{Source: "gw", Epoch: "e", Next: 10 * n, Acked: 10*n - 1, Closed: n == 3}
	}
	old := Source{beat(2), 2, "first", 1000, at}
	anew := Source{beat(3), 3, "second", 1, at.Add(-time.Minute)} // whose clock is late
	late := Source{beat(1), 1, "first", 2000, at.Add(time.Hour)}
	for _, s := range []Source{old, late, anew, late, old} {
		write(s)
	}
	all, err := db.Sources(ctx, "", 10)
	if err != nil || len(all) != 1 || all[0] != anew {
		t.Errorf("got %+v, %v; want %+v", all, err, anew)
	}
	write(Source{event.Heartbeat{Source: "gw", Epoch: "largest", Next: 1<<62 + 1, Acked: 1 << 62, Dropped: 1<<62 + 1}, 1 << 62, "second", 2, at})
	write(Source{event.Heartbeat{Source: "other", Epoch: "e", Next: 2}, 1, "second", 3, at})
	if all, err = db.Sources(ctx, "gw", 10); err != nil || len(all) != 2 || all[0].Epoch != "largest" || all[0].Acked != 1<<62 {
		t.Errorf("of one source: got %+v, %v", all, err)
	}
	if all, err = db.Sources(ctx, "", 2); err != nil || len(all) != 2 || all[0].Source != "gw" || all[1].Source != "other" {
		t.Errorf("the newest two: got %+v, %v", all, err)
	}
}
