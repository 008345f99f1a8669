package query

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
	"weir/pkg/store"
)

func TestSources_AreListedOverHTTPAsTheClientReadsThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{URL: embeddedtest.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(NewHandler(Server{DB: db}))
	defer server.Close()
	client := Client{URL: server.URL}
	if all, err := client.Sources(ctx, "", 0); err != nil || len(all) != 0 {
		t.Fatalf("without any: got %v, %v", all, err)
	}
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	err = db.InTx(ctx, func(tx *store.Tx) error {
		return tx.WriteSources(ctx, []store.Source{
			{Heartbeat: event.Heartbeat{Source: "a", Epoch: "1", Next: 1 << 60, Acked: 7, Dropped: 2, Closed: true}, Number: 1, ToldAt: at},
			{Heartbeat: event.Heartbeat{Source: "a", Epoch: "2", Next: 2}, Number: 1, ToldAt: at.Add(time.Second)},
			{Heartbeat: event.Heartbeat{Source: "b", Epoch: "1", Next: 3}, Number: 1, ToldAt: at},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := client.Sources(ctx, "a", 10)
	if want := (Source{"a", "1", 1 << 60, 7, 2, true, at}); err != nil || len(all) != 2 || all[0].Epoch != "2" || all[1] != want {
		t.Errorf("got %+v, %v; want epoch 2, and %+v", all, err, want)
	}
	if all, err = client.Sources(ctx, "", 1); err != nil || len(all) != 1 || all[0].Epoch != "2" {
		t.Errorf("the one heard last: got %+v, %v", all, err)
	}
	if _, err := client.Sources(ctx, "", 10_001); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a limit too high: %v", err)
	}
}
