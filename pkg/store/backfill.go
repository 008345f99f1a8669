package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// Backfill is how far an aggregation is with the events of before it was
// added.
type Backfill struct {
	Aggregation string
	// Running: workers that know the aggregation claim for it too, and somebody
	// must see the backfill through. Otherwise it is complete.
	Running bool
}

// Backfills lists the aggregations that are being backfilled, or were, by
// name; none before the first migration.
func (db *DB) Backfills(ctx context.Context) ([]Backfill, error) {
	if there, err := exists(ctx, db.sql, "weir.aggregation"); err != nil || !there {
		return nil, err
	}
	rows, err := db.sql.QueryContext(ctx, `SELECT id, backfill = 'running' FROM weir.aggregation WHERE backfill <> '' ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list backfills: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var all []Backfill
	for rows.Next() {
		var b Backfill
		if err := rows.Scan(&b.Aggregation, &b.Running); err != nil {
			return nil, fmt.Errorf("list backfills: %w", err)
		}
		all = append(all, b)
	}
	return all, rows.Err()
}

// Backfilled lists the aggregations that [DB.Apply] would mark as being
// backfilled.
func (db *DB) Backfilled(ctx context.Context, defs []*aggregation.Definition, options PlanOptions) (created []string, err error) {
	changes, err := planTables(ctx, db.sql, defs, options)
	for _, change := range changes {
		if change.backfilled {
			created = append(created, change.creates)
		}
	}
	return created, err
}

// backfills adds to the changes that create an aggregation that it is to be
// backfilled. It is marked in the transaction that makes the tables: a worker
// that knows the aggregation starts after it, and so claims for it from its
// first batch on. Only what is created beside aggregations that exist is marked:
// before the first ones no event can have been folded.
func (p *planner) backfills() {
	for i := range p.changes {
		change := &p.changes[i]
		if change.creates == "" || len(p.records) == 0 {
			continue
		}
		change.backfilled = true
		name := pq.QuoteLiteral(change.creates)
		for _, table := range ledgerTables() { // of a former aggregation of that name
			change.sql = append(change.sql, `DELETE FROM `+table+` WHERE scope = `+name)
		}
		change.sql = append(change.sql, `UPDATE weir.aggregation SET backfill = 'running' WHERE id = `+name)
	}
}

// Leases is what is known of all shards' leases at one moment.
type Leases struct {
	// Without lists the live owners who do not know the aggregation, as
	// "shard (owner)".
	Without []string
	// None: whoever commits a flush from now on knows the aggregation, unless a
	// worker without it starts later.
	None       bool
	generation string // changes with every lease
}

// LeasesWithout looks for shards whose owner does not know the aggregation.
// One that is not alive is fenced: should it only have lost the connection of
// its lease, its next flush is refused with ErrFenced.
//
// That every shard's row names the aggregation is proof, whoever is alive: the
// row tells what the owner of its epoch knows, and is locked by each flush
// until it is committed, so a flush of an owner before is committed or refused.
func (db *DB) LeasesWithout(ctx context.Context, aggregationName string) (Leases, error) {
	l, err := db.leasesWithout(ctx, aggregationName)
	if err != nil {
		return Leases{}, fmt.Errorf("look for workers without %s: %w", aggregationName, err)
	}
	return l, nil
}

func (db *DB) leasesWithout(ctx context.Context, aggregationName string) (l Leases, err error) {
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return l, err
	}
	defer func() { _ = conn.Close() }() // back to the pool
	var shards, owners []string
	err = conn.QueryRowContext(ctx, `SELECT array_agg(shard_id ORDER BY shard_id), array_agg(owner ORDER BY shard_id)
		FROM weir.shard WHERE NOT $1 = ANY (aggregations)`, aggregationName).Scan(pq.Array(&shards), pq.Array(&owners))
	if err != nil {
		return l, err
	}
	for i, shard := range shards {
		lease := Lease{ShardID: shard, conn: conn}
		free, err := lease.tryLock(ctx)
		if err != nil {
			return l, err
		}
		if !free {
			l.Without = append(l.Without, shard+" ("+owners[i]+")")
			continue
		}
		_, err = conn.ExecContext(ctx, `UPDATE weir.shard SET epoch = epoch + `+epochStep+`, aggregations = aggregations || $2::text
			WHERE shard_id = $1 AND NOT $2 = ANY (aggregations)`, shard, aggregationName)
		if err := errors.Join(err, lease.unlock()); err != nil {
			return l, err
		}
	}
	err = conn.QueryRowContext(ctx, `SELECT `+generation+`, `+noneWithout+` FROM weir.shard`, aggregationName).Scan(&l.generation, &l.None)
	return l, err
}

const (
	generation  = `coalesce(string_agg(shard_id || ' ' || epoch, ' ' ORDER BY shard_id), '')`
	noneWithout = `count(*) FILTER (WHERE NOT $1 = ANY (aggregations)) = 0`
)

// FinishBackfill says that the aggregation has everything, unless a shard was
// leased since leases was read, or the backfill's own shard is not under its
// lease, or does not have what it wrote, up to its last batch: then it is false,
// and nothing is changed.
func (db *DB) FinishBackfill(ctx context.Context, aggregationName string, leases Leases, own *Lease, last int64) (bool, error) {
	result, err := db.sql.ExecContext(ctx, `UPDATE weir.aggregation SET backfill = 'done' WHERE id = $1 AND backfill = 'running'
		AND (SELECT `+generation+` = $2 AND `+noneWithout+` FROM weir.shard)
		AND EXISTS (SELECT FROM weir.shard WHERE shard_id = $3 AND epoch = $4 AND number = $5 AND last_batch = $6)`,
		aggregationName, leases.generation, own.ShardID, own.epoch, own.number, last)
	if err != nil {
		return false, fmt.Errorf("finish the backfill of %s: %w", aggregationName, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// Buried tells which events of the messages from … through a stream sequence
// are dead letters, whatever they decode to now. What only one aggregation lacks
// is none: the others have it.
func (db *DB) Buried(ctx context.Context, from, through uint64) (*Graves, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT sequence, event_offset, stored_at FROM weir.dead_letter WHERE aggregation = '' AND sequence BETWEEN $1 AND $2`,
		int64(from), int64(through)) //nolint:gosec // sequences stay far below 2^63
	if err != nil {
		return nil, fmt.Errorf("look for dead letters: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	g := &Graves{at: map[grave][]time.Time{}}
	for rows.Next() {
		var k grave
		var stored time.Time
		if err := rows.Scan(&k.sequence, &k.offset, &stored); err != nil {
			return nil, fmt.Errorf("look for dead letters: %w", err)
		}
		g.at[k] = append(g.at[k], stored)
	}
	return g, rows.Err()
}

// Graves are the dead letters of some messages.
type Graves struct{ at map[grave][]time.Time }

type grave struct {
	sequence int64
	offset   int
}

// Holds reports whether the event at offset of a message is a dead letter, by
// itself or with all of the message. stored is in microseconds since 1970 UTC.
func (g *Graves) Holds(sequence uint64, offset int, stored int64) bool {
	if len(g.at) == 0 {
		return false
	}
	for _, k := range []grave{{int64(sequence), offset}, {int64(sequence), -1}} { //nolint:gosec // as above
		for _, at := range g.at[k] {
			if d := at.UnixMicro() - stored; -1 <= d && d <= 1 { // Postgres rounds, this is cut off
				return true
			}
		}
	}
	return false
}

// ids lists the aggregations as they are named among all that have tables.
func ids(defs []*aggregation.Definition) []string {
	all := make([]string, len(defs))
	for i, def := range defs {
		all[i] = def.ID()
	}
	return all
}
