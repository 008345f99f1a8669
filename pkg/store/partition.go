package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"

	"weir/pkg/alert"
)

// Partitions is the right to evaluate some of the partitions of the keys. Liveness is a
// connection of its own with an advisory lock per partition, and safety an epoch per partition,
// as with a [Lease]. It belongs to one goroutine.
type Partitions struct {
	db    *DB
	owner string
	conn  *sql.Conn
	held  map[int]int64 // epoch by partition
}

// lockMembers is what everybody shares who evaluates, so that they can be counted.
const lockMembers = `hashtextextended('weir.evaluators', 0)`

// Partitions begins to evaluate, with no partition yet; owner is for people.
func (db *DB) Partitions(ctx context.Context, owner string) (*Partitions, error) {
	conn, err := db.sql.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, `SELECT pg_advisory_lock_shared(`+lockMembers+`)`)
	}
	if err != nil {
		if conn != nil {
			_ = conn.Close() // the error that matters is the first
		}
		return nil, fmt.Errorf("begin to evaluate: %w", err)
	}
	return &Partitions{db: db, owner: owner, conn: conn, held: map[int]int64{}}, nil
}

// Share is how many partitions each of those who evaluate now may have. An error means that
// all are lost.
func (p *Partitions) Share(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	var members int
	err := p.conn.QueryRowContext(ctx, `
		SELECT count(*) FROM pg_locks, (SELECT `+lockMembers+` AS id) m
		WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid::bigint = (id >> 32) & 4294967295 AND objid::bigint = id & 4294967295 AND objsubid = 1`).Scan(&members)
	if err != nil {
		return 0, fmt.Errorf("evaluators: %w", err)
	}
	return (alert.Partitions + max(1, members) - 1) / max(1, members), nil
}

// Take takes a partition that nobody has; false where somebody does.
func (p *Partitions) Take(ctx context.Context, part int) (bool, error) {
	var ok bool
	err := p.conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('weir.partition.' || $1::text, 0))`, part).Scan(&ok)
	if err != nil || !ok {
		return false, err
	}
	var epoch int64
	err = p.conn.QueryRowContext(ctx, `
		UPDATE weir.alert_partition SET owner = $2, epoch = epoch + `+epochStep+` WHERE part = $1 RETURNING epoch`, part, p.owner).Scan(&epoch)
	if err != nil {
		return false, errors.Join(fmt.Errorf("take partition %d: %w", part, err), p.Release(ctx, part))
	}
	p.held[part] = epoch
	return true, nil
}

// Release gives a partition back.
func (p *Partitions) Release(ctx context.Context, part int) error {
	delete(p.held, part)
	_, err := p.conn.ExecContext(ctx, `SELECT pg_advisory_unlock(hashtextextended('weir.partition.' || $1::text, 0))`, part)
	return err
}

// Close gives all back.
func (p *Partitions) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // giving back must not depend on a cancelled context
	defer cancel()
	_, err := p.conn.ExecContext(ctx, `SELECT pg_advisory_unlock_all()`)
	return errors.Join(err, p.conn.Close())
}

// Memory is what is known of a partition beside its keys.
type Memory struct {
	Cursors Cursors // up to where evidence is part of what is remembered
	Clock   int64   // event time up to which was heard of everything, microseconds since 1970 UTC; 0: not yet
	Lag     int64   // by how much event times are behind the stream's, in microseconds
}

// LoadMemory reads what was saved of a partition.
func (db *DB) LoadMemory(ctx context.Context, part int, each func(alert.Remembered)) (m Memory, err error) {
	m.Cursors = Cursors{}
	err = db.loadMemory(ctx, part, &m, each)
	if err != nil {
		return m, fmt.Errorf("load what partition %d remembers: %w", part, err)
	}
	return m, nil
}

func (db *DB) loadMemory(ctx context.Context, part int, m *Memory, each func(alert.Remembered)) error {
	if err := db.sql.QueryRowContext(ctx, `SELECT clock, lag FROM weir.alert_partition WHERE part = $1`, part).Scan(&m.Clock, &m.Lag); err != nil {
		return err
	}
	rows, err := db.sql.QueryContext(ctx, `SELECT shard, batch FROM weir.alert_cursor WHERE part = $1`, part)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var shard, batch int64
		if err := rows.Scan(&shard, &batch); err != nil {
			return err
		}
		m.Cursors[shard] = batch
	}
	if err := rows.Err(); err != nil {
		return err
	}
	keys, err := db.sql.QueryContext(ctx, `SELECT rule, rule_case, key, state FROM weir.alert_memory WHERE part = $1`, part)
	if err != nil {
		return err
	}
	defer func() { _ = keys.Close() }()
	for keys.Next() {
		var r alert.Remembered
		if err := keys.Scan(&r.Rule, &r.Case, (*pq.StringArray)(&r.Key), &r.Data); err != nil {
			return err
		}
		each(r)
	}
	return keys.Err()
}

// fence proves, until the transaction ends, that a partition is still held.
func (tx *Tx) fence(ctx context.Context, p *Partitions, part int) error {
	err := tx.tx.QueryRowContext(ctx, `SELECT FROM weir.alert_partition WHERE part = $1 AND epoch = $2 FOR UPDATE`, part, p.held[part]).Scan()
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("partition %d: %w", part, ErrFenced)
	}
	return err
}

// memoryRows is how many keys are saved by one statement.
const memoryRows = 1000

// SaveMemory saves what has changed of what a partition remembers, and removes the evidence that
// is part of that. Everything or nothing is saved.
func (p *Partitions) SaveMemory(ctx context.Context, part int, m Memory, changed []alert.Remembered) error {
	err := p.db.InTx(ctx, func(tx *Tx) error {
		if err := tx.fence(ctx, p, part); err != nil {
			return err
		}
		for len(changed) > 0 {
			n := min(len(changed), memoryRows)
			if err := tx.saveKeys(ctx, part, changed[:n]); err != nil {
				return err
			}
			changed = changed[n:]
		}
		return tx.saveCursors(ctx, part, m)
	})
	if err != nil {
		return fmt.Errorf("save what partition %d remembers: %w", part, err)
	}
	return nil
}

func (tx *Tx) saveKeys(ctx context.Context, part int, changed []alert.Remembered) error {
	var gone, kept, states [][]byte
	var rules, cases, keys []string
	for _, r := range changed {
		id := hashOf(append([]string{r.Rule, r.Case}, r.Key...)...)
		if r.Data == nil {
			gone = append(gone, id)
			continue
		}
		key, err := pq.StringArray(r.Key).Value()
		if err != nil {
			return err
		}
		text, ok := key.(string)
		if !ok {
			text = "{}"
		}
		kept, states = append(kept, id), append(states, r.Data)
		rules, cases, keys = append(rules, r.Rule), append(cases, r.Case), append(keys, text)
	}
	if len(gone) > 0 {
		if _, err := tx.tx.ExecContext(ctx, `DELETE FROM weir.alert_memory WHERE part = $1 AND id = ANY ($2)`, part, pq.ByteaArray(gone)); err != nil {
			return err
		}
	}
	if len(kept) == 0 {
		return nil
	}
	_, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.alert_memory (part, id, rule, rule_case, key, state)
		SELECT $1, id, rule, rule_case, key::text[], state
		FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::bytea[]) AS x (id, rule, rule_case, key, state)
		ON CONFLICT (part, id) DO UPDATE SET state = excluded.state`,
		part, pq.ByteaArray(kept), pq.Array(rules), pq.Array(cases), pq.Array(keys), pq.ByteaArray(states))
	return err
}

func (tx *Tx) saveCursors(ctx context.Context, part int, m Memory) error {
	shards, batches := m.Cursors.arrays()
	for _, statement := range []string{
		`INSERT INTO weir.alert_cursor (part, shard, batch) SELECT $3, * FROM unnest($1::bigint[], $2::bigint[])
		 ON CONFLICT (part, shard) DO UPDATE SET batch = excluded.batch`,
		`DELETE FROM weir.alert_evidence e USING unnest($1::bigint[], $2::bigint[]) AS c (shard, batch)
		 WHERE e.part = $3 AND e.shard = c.shard AND e.batch <= c.batch`,
	} {
		if _, err := tx.tx.ExecContext(ctx, statement, pq.Array(shards), pq.Array(batches), part); err != nil {
			return err
		}
	}
	_, err := tx.tx.ExecContext(ctx, `UPDATE weir.alert_partition SET clock = $2, lag = $3, saved_at = now() WHERE part = $1`, part, m.Clock, m.Lag)
	return err
}

// ForgetBatches removes the batches whose evidence is part of what all partitions remember, a minute
// after they were written, and once everything up to them is acknowledged, which is up to that sequence:
// whoever takes over then finds in what was saved that the clock has passed them.
func (db *DB) ForgetBatches(ctx context.Context, incarnation string, acknowledged uint64) error {
	_, err := db.sql.ExecContext(ctx, `
		DELETE FROM weir.alert_batch b USING (
			SELECT shard, min(batch) AS batch FROM weir.alert_cursor GROUP BY shard HAVING count(*) = $1
		) c WHERE b.shard = c.shard AND b.batch <= c.batch AND b.written_at < now() - interval '1 minute'
		AND (b.incarnation <> $2 OR b.last_sequence <= $3)`, alert.Partitions, incarnation, int64(acknowledged)) //nolint:gosec // JetStream counts far below 2^63
	if err != nil {
		return fmt.Errorf("forget batches: %w", err)
	}
	return nil
}

func hashOf(texts ...string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return sum[:16]
}
