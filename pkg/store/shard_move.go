package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// A move gives all rows of one shard to another, which may be live. It changes
// nothing in what anybody is answered, and nothing for the worker of the other
// shard:
//
//   - The shard is leased, so nobody writes it, and rolled up, so that every
//     level has everything.
//   - Its rows get batch numbers below 0, which are below every watermark: no
//     level of the other shard lacks them, so none is folded again.
//   - They change hands in one transaction, and with them the control totals. A
//     question sees all of it or nothing.
//   - The tables they leave behind are empty. They are dropped once no snapshot
//     is open in which they are not, and with them the shard.
//
// After a crash the move can be done again: what is done is found done.

// Moved says what a move did.
type Moved struct {
	From, To string
	Groups   int   // rolled up first, at coarser levels
	Rows     int64 // packed ones below days, groups at others
	Totals         // control totals that went with them
	Dropped  int   // tables of the shard
	// Left is how many of its tables are empty but still there, because older
	// transactions are open; then the shard is too, and the move has to be
	// done again to clear it away.
	Left int
}

// MergeShard moves all rows of a shard that is not live into another and then
// removes it. The other may be retired: its own rows stay as they are.
func (db *DB) MergeShard(ctx context.Context, u Upkeep, from, into string) (Moved, error) {
	if from == into {
		return Moved{}, fmt.Errorf("shard %q cannot be merged into itself", from)
	}
	if into == BackfillShard {
		return Moved{}, errReserved
	}
	target, err := db.shard(ctx, into)
	if err != nil {
		return Moved{}, err
	}
	if target.MovedTo != "" {
		return Moved{}, fmt.Errorf("the rows of shard %q have moved to %q: merge into that", into, target.MovedTo)
	}
	return db.moveShard(ctx, u, from, into)
}

// RenameShard gives a shard that is not live another id, which no shard may
// have had rows under.
func (db *DB) RenameShard(ctx context.Context, u Upkeep, from, to string) (Moved, error) {
	if err := CheckShardID(to); err != nil {
		return Moved{}, err
	}
	if to == BackfillShard {
		return Moved{}, errReserved
	}
	source, err := db.shard(ctx, from)
	if err != nil {
		return Moved{}, err
	}
	target, err := db.shard(ctx, to)
	var unknown ErrNoShard
	if err != nil && !errors.As(err, &unknown) {
		return Moved{}, err
	}
	// What a crash has left is not taken: the rows that are there already, or a shard without any.
	if err == nil && source.MovedTo != to && (target.Live || target.LastBatch > 0 || target.Totals != Totals{}) {
		return Moved{}, fmt.Errorf("there is a shard %q already: to put both together, `weir shard merge %s --into %s`", to, from, to)
	}
	return db.moveShard(ctx, u, from, to)
}

// mover moves the shard it has leased. Everything goes over the lease's
// connection, so that nothing can happen once the lease is lost.
type mover struct {
	upkeep Upkeep
	lease  *Lease
	conn   *sql.Conn
	moved  Moved
}

func (db *DB) moveShard(ctx context.Context, u Upkeep, from, to string) (Moved, error) {
	lease, err := db.hold(ctx, u, from)
	if err != nil {
		return Moved{}, err
	}
	defer func() { _ = lease.Close() }() // it ends with the connection anyway
	m := &mover{upkeep: u, lease: lease, conn: lease.conn, moved: Moved{From: from, To: to}}
	release, err := m.alone(ctx)
	if err != nil {
		return Moved{}, err
	}
	defer release()
	err = m.run(ctx, db)
	if err != nil {
		err = fmt.Errorf("move shard %s to %s: %w", from, to, err)
	}
	return m.moved, err
}

func (m *mover) run(ctx context.Context, db *DB) error {
	source, err := db.shard(ctx, m.moved.From)
	if err != nil {
		return err
	}
	if source.MovedTo != "" && source.MovedTo != m.moved.To {
		return fmt.Errorf("its rows are in %q already, only empty tables are left: clear them away with `weir shard merge %s --into %s`",
			source.MovedTo, m.moved.From, source.MovedTo)
	}
	tables, err := m.tables(ctx)
	if err != nil {
		return err
	}
	if source.MovedTo == "" {
		if err := m.strangers(ctx, tables); err != nil {
			return err
		}
		if m.moved.Groups, err = db.RollUp(ctx, m.lease, m.upkeep.Aggregations); err != nil {
			return err
		}
		if err := m.move(ctx, tables); err != nil {
			return err
		}
	}
	return m.clearAway(ctx, tables)
}

// alone keeps other moves and purging away until release, and lifts the limit
// on the time of statements.
func (m *mover) alone(ctx context.Context) (release func(), err error) {
	var free bool
	if err := m.conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('weir.move_shard', 0))`).Scan(&free); err != nil {
		return nil, fmt.Errorf("move shard %s: %w", m.moved.From, err)
	}
	if !free {
		return nil, errors.New("another process moves shards now: try again when it has ended")
	}
	undo := []string{`RESET statement_timeout`, `SELECT pg_advisory_unlock(hashtextextended('weir.move_shard', 0))`}
	release = func() { // all of it ends with the connection anyway
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		for _, statement := range undo {
			_, _ = m.conn.ExecContext(ctx, statement)
		}
	}
	_, err = m.conn.ExecContext(ctx, `SET statement_timeout = 0`)
	if err == nil {
		_, err = m.conn.ExecContext(ctx, `SELECT pg_advisory_lock(hashtextextended('weir.purge', 0))`)
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("wait for a purge to end: %w", err)
	}
	undo = append(undo, `SELECT pg_advisory_unlock(hashtextextended('weir.purge', 0))`)
	return release, nil
}

// strangers refuses rows of aggregations that are not among the definitions:
// what their coarser levels lack could not be rolled up, and would be lost.
func (m *mover) strangers(ctx context.Context, tables []shardPart) error {
	known := map[string]bool{}
	for _, def := range m.upkeep.Aggregations {
		for _, level := range def.Granularities {
			known[def.Table(level)] = true
		}
	}
	for _, t := range tables {
		if known[t.name] {
			continue
		}
		var rows bool
		if err := m.conn.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+t.table+`)`).Scan(&rows); err != nil {
			return fmt.Errorf("look into %s: %w", t.name, err)
		}
		if rows {
			return fmt.Errorf("it has rows in %s, which is of none of these definitions: give --streams with the definitions that the workers use", t.name)
		}
	}
	return nil
}

// move gives the rows to the other shard.
func (m *mover) move(ctx context.Context, tables []shardPart) error {
	offset, err := m.reserve(ctx)
	if err != nil {
		return fmt.Errorf("reserve batch numbers: %w", err)
	}
	if err := addPartitions(ctx, m.conn, m.moved.To, m.upkeep.Aggregations); err != nil {
		return err
	}
	// READ COMMITTED: the last statements wait for a flush of the other shard, and
	// must add to what that has committed.
	tx, err := m.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // of no effect after the commit
	if err := m.sameLevels(ctx, tx); err != nil {
		return err
	}
	rows := int64(0)
	for _, t := range tables {
		n, err := m.moveTable(ctx, tx, t, offset)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		rows += n
	}
	totals, err := m.moveTotals(ctx, tx)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	m.moved.Rows, m.moved.Totals = rows, totals
	return nil
}

// sameLevels keeps apply away until the transaction ends. It refuses where a
// level has come or gone since the shard was rolled up: these rows will be below
// the other shard's watermarks, so a level that lacks them now always would.
func (m *mover) sameLevels(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock_shared(hashtextextended('weir.apply', 0))`); err != nil {
		return fmt.Errorf("wait for apply: %w", err)
	}
	now, err := applied(ctx, tx, m.upkeep.Aggregations)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(now, m.upkeep.Aggregations, func(a, b *aggregation.Definition) bool { return slices.Equal(a.Granularities, b.Granularities) }) {
		return errors.New("`weir apply` changed the levels of an aggregation: do this again with the definitions that the database has now")
	}
	return nil
}

// reserve takes as many negative batch numbers of the other shard as this one
// has numbers, and returns by how much they are lower. It is a transaction of
// its own, and short: the other shard's worker needs that row for every flush.
//
// The other shard gets watermarks where it has none, because a reader takes a
// level without watermark to have nothing, whatever the batch number: one that
// is above the rows that come now, which the level gets too, and below all that
// are there, which it lacks. Those that were moved in before are -1 and down to
// -moved_in, and compaction brings them to 0 and above.
func (m *mover) reserve(ctx context.Context) (offset int64, err error) {
	tx, err := m.conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // of no effect after the commit
	_, err = tx.ExecContext(ctx, `INSERT INTO weir.shard (shard_id, owner) VALUES ($1, $2) ON CONFLICT DO NOTHING`, m.moved.To, m.upkeep.Owner)
	if err != nil {
		return 0, err
	}
	var before int64 // that were given out until now
	err = tx.QueryRowContext(ctx, `
		UPDATE weir.shard t SET moved_in = t.moved_in + f.last_batch + f.moved_in + 1
		FROM weir.shard f WHERE f.shard_id = $1 AND t.shard_id = $2 AND t.moved_to IS NULL
		RETURNING t.moved_in - f.moved_in, t.moved_in - f.last_batch - f.moved_in - 1`, m.moved.From, m.moved.To).Scan(&offset, &before)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("the rows of shard %q have moved on meanwhile: `weir shard list` says where, merge into that", m.moved.To)
	}
	if err != nil {
		return 0, err
	}
	lacked := int64(0)
	if before > 0 {
		lacked = -before - 1
	}
	names, levels := coarserLevels(m.upkeep.Aggregations)
	_, err = tx.ExecContext(ctx, `
		INSERT INTO weir.watermark (shard_id, batch_no, aggregation, level)
		SELECT $1, $4, * FROM unnest($2::text[], $3::text[]) ON CONFLICT DO NOTHING`, m.moved.To, pq.Array(names), pq.Array(levels), lacked)
	if err != nil {
		return 0, err
	}
	return offset, tx.Commit()
}

// moveTable moves the rows of one table.
func (m *mover) moveTable(ctx context.Context, tx *sql.Tx, t shardPart, offset int64) (int64, error) {
	var names pq.StringArray
	err := tx.QueryRowContext(ctx, `
		SELECT array_agg(quote_ident(attname) ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`, t.parent).Scan(&names)
	if err != nil {
		return 0, fmt.Errorf("look for its columns: %w", err)
	}
	values := make([]string, len(names))
	for i, name := range names {
		switch name {
		case colShard:
			values[i] = pq.QuoteLiteral(m.moved.To)
		case colBatch:
			values[i] = fmt.Sprintf("%s - %d", colBatch, offset)
		default:
			values[i] = name
		}
	}
	columns := strings.Join(names, ", ")
	result, err := tx.ExecContext(ctx, fmt.Sprintf(`
		WITH moved AS (DELETE FROM %s RETURNING %s)
		INSERT INTO %s (%s) SELECT %s FROM moved`, t.table, columns, t.parent, columns, strings.Join(values, ", ")))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// moveTotals ends the move: the control totals, and that the shard has
// nothing any more. It comes last, because it locks the other shard's row.
func (m *mover) moveTotals(ctx context.Context, tx *sql.Tx) (t Totals, err error) {
	for _, table := range []string{"weir.watermark", "weir.compacted"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE shard_id = $1`, m.moved.From); err != nil {
			return t, fmt.Errorf("forget how far %s says its levels are: %w", table, err)
		}
	}
	err = tx.QueryRowContext(ctx, `
		UPDATE weir.shard t SET messages = t.messages + f.messages, events = t.events + f.events,
			dead_letters = t.dead_letters + f.dead_letters, other_events = t.other_events + f.other_events, claims = t.claims + f.claims, flushed_at = greatest(t.flushed_at, f.flushed_at)
		FROM weir.shard f WHERE f.shard_id = $1 AND t.shard_id = $2
		RETURNING f.messages, f.events, f.dead_letters, f.other_events, f.claims`, m.moved.From, m.moved.To).Scan(&t.Messages, &t.Events, &t.DeadLetters, &t.OtherEvents, &t.Claims)
	if err != nil {
		return t, fmt.Errorf("move control totals: %w", err)
	}
	if err := moveControl(ctx, tx, m.moved.From, m.moved.To); err != nil {
		return t, err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE weir.shard SET moved_to = $2, messages = 0, events = 0, dead_letters = 0, other_events = 0, claims = 0, flushed_at = NULL
		WHERE shard_id = $1`, m.moved.From, m.moved.To)
	if err != nil {
		return t, fmt.Errorf("move control totals: %w", err)
	}
	return t, nil
}
