package worker

import (
	"errors"
	"strings"
	"testing"

	"weir/pkg/store"
)

func TestProtocol_MixedVersions_AnOlderWorkerEndsWithASentenceAndTheNewerGoesOn(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	older := p.hand("old", nil)
	p.round()
	p.supervise("new", nil)
	p.drain()
	db, err := store.Open(t.Context(), store.Config{URL: p.servers.postgres, Protocol: store.Protocol + 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p.stopAll()
	newer := New(p.config("newer", nil), p.catalog, db, p.connect(), older.log)
	if err := newer.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = newer.lease.Close() })
	t.Cleanup(newer.consumer.Close)
	p.own(4)
	messages := p.take(older, 4)
	p.process(newer, messages[0]) // as long as the database takes both, both fold
	p.process(older, messages[1])
	p.exec(`SELECT weir.require_protocol(2)`) // what the migration of the newer release does

	err = older.persist(t.Context(), t.Context(), messages[2:3])
	var outdated store.ErrProtocol
	if !errors.As(err, &outdated) || outdated.Have != store.Protocol || outdated.Min != 2 || !errors.Is(err, store.ErrFenced) ||
		!strings.Contains(err.Error(), "start workers of the release that migrated it") {
		t.Errorf("the older worker's flush: %v", err)
	}
	for _, shard := range []string{"old", "another"} { // one that exists, and one that does not
		_ = older.lease.Close()
		older.setShard(shard)
		if err := older.leaseShard(t.Context()); !errors.As(err, &outdated) {
			t.Errorf("the older worker's lease of %s: %v", shard, err)
		}
	}
	if err := older.keepLease(t.Context()); !errors.As(err, &outdated) {
		t.Errorf("the older worker, after it lost its connection: %v", err)
	}
	p.process(newer, messages[2:]...)
	p.process(newer, messages...)
	p.check("folded by both, and then by the newer")
	if err := p.db.Apply(t.Context(), p.catalog.Aggregations, store.PlanOptions{}); err != nil {
		t.Errorf("apply: %v", err)
	}
	if _, err := p.db.Shards(t.Context()); err != nil {
		t.Errorf("shards: %v", err)
	}
}
