package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Figures are what Postgres knows of all processes together, read at one moment.
type Figures struct {
	Totals // of all shards, since the first event

	LiveShards int
	Outbox     int64 // alerts that are recorded and not published yet
	// Evidence is the number of batches whose evidence some evaluator still needs, and EvidenceAge how long the oldest has been there:
	// less than a minute while evaluators work, for they give up evidence when they save what they remember.
	Evidence    int64
	EvidenceAge time.Duration
	Unsent      int64 // notifications that were never accepted so far
}

// Figures reads them. It takes a millisecond or so: do not call it per request.
func (db *DB) Figures(ctx context.Context) (f Figures, err error) {
	var age float64
	err = db.sql.QueryRowContext(ctx, `
		SELECT coalesce(sum(messages), 0)::bigint, coalesce(sum(events), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint,
			coalesce(sum(other_events), 0)::bigint, coalesce(sum(claims), 0)::bigint, count(*) FILTER (WHERE `+liveShard+`),
			(SELECT count(*) FROM weir.alert_outbox),
			(SELECT count(*) FROM weir.alert_batch),
			(SELECT coalesce(extract(epoch FROM now() - min(written_at)), 0)::float8 FROM weir.alert_batch),
			(SELECT count(*) FROM weir.notification WHERE due_at IS NOT NULL AND state = 'waiting')
		FROM weir.shard`).Scan(&f.Messages, &f.Events, &f.DeadLetters, &f.OtherEvents, &f.Claims, &f.LiveShards, &f.Outbox, &f.Evidence, &age, &f.Unsent)
	if err != nil {
		return f, fmt.Errorf("read figures: %w", err)
	}
	f.EvidenceAge = time.Duration(age * float64(time.Second))
	return f, nil
}

// PoolStats is the state of this process's connections.
func (db *DB) PoolStats() sql.DBStats { return db.sql.Stats() }
