package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// shardPart is a shard's part of a table.
type shardPart struct {
	parent, table     string // quoted, with schema
	name              string // of the parent, within weir_data
	attached, pending bool   // pending: a crash has left it half detached
}

// tables lists the shard's parts of all tables, of unknown aggregations too.
func (m *mover) tables(ctx context.Context) ([]shardPart, error) {
	rows, err := m.conn.QueryContext(ctx, `
		SELECT p.relname, c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
		FROM pg_class p
		JOIN pg_class c ON c.relnamespace = p.relnamespace AND c.relname = p.relname || '_s' || $1
		LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
		WHERE p.relnamespace = 'weir_data'::regnamespace AND p.relkind = 'p'
		ORDER BY p.relname`, m.lease.number)
	if err != nil {
		return nil, fmt.Errorf("look for its tables: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var parts []shardPart
	for rows.Next() {
		var p shardPart
		var table string
		if err := rows.Scan(&p.name, &table, &p.attached, &p.pending); err != nil {
			return nil, fmt.Errorf("look for its tables: %w", err)
		}
		p.parent, p.table = "weir_data."+pq.QuoteIdentifier(p.name), "weir_data."+pq.QuoteIdentifier(table)
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

// clearAway drops the shard's tables, which are empty, and removes it. Nobody is
// made to wait: that is why they are first detached, CONCURRENTLY.
func (m *mover) clearAway(ctx context.Context, tables []shardPart) error {
	over, err := m.outwait(ctx)
	if err != nil {
		return fmt.Errorf("wait for older transactions: %w", err)
	}
	if !over {
		m.moved.Left = len(tables)
		return nil
	}
	for _, t := range tables {
		detach := "ALTER TABLE " + t.parent + " DETACH PARTITION " + t.table
		switch {
		case t.pending:
			_, err = m.conn.ExecContext(ctx, detach+" FINALIZE")
		case t.attached:
			_, err = m.conn.ExecContext(ctx, detach+" CONCURRENTLY")
		}
		if err == nil {
			_, err = m.conn.ExecContext(ctx, "DROP TABLE "+t.table)
		}
		if err != nil {
			return fmt.Errorf("drop the empty table %s: %w", t.table, err)
		}
		m.moved.Dropped++
	}
	for _, table := range []string{"weir.watermark", "weir.shard"} { // of empty tables, should somebody have rolled them up
		if _, err := m.conn.ExecContext(ctx, `DELETE FROM `+table+` WHERE shard_id = $1`, m.moved.From); err != nil {
			return fmt.Errorf("remove it from %s: %w", table, err)
		}
	}
	return nil
}

// outwait waits until every transaction that is open now has ended. Before
// that a snapshot may be in use in which the rows have not moved: if their table
// went, that question would miss them. It gives up after the upkeep's patience.
func (m *mover) outwait(ctx context.Context) (over bool, err error) {
	const open = `
		SELECT coalesce(array_agg(l.virtualtransaction), '{}') FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_backend_pid() AND a.datname = current_database()`
	var before pq.StringArray
	if err := m.conn.QueryRowContext(ctx, open).Scan(&before); err != nil {
		return false, err
	}
	deadline := time.NewTimer(cmp.Or(m.upkeep.Patience, 2*time.Minute))
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(before) > 0 {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-deadline.C:
			return false, nil
		case <-tick.C:
		}
		if err := m.conn.QueryRowContext(ctx, open+` AND l.virtualtransaction = ANY ($1)`, before).Scan(&before); err != nil {
			return false, err
		}
	}
	return true, nil
}
