package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
	"weir/pkg/failpoint"
)

// MaxShardID is the longest shard id, in characters, as in WSO2.
const MaxShardID = 20

// BackfillShard is the id of the shard that backfills write. No worker may.
const BackfillShard = "backfill"

var errReserved = fmt.Errorf("the shard id %q is that of backfills: take another", BackfillShard)

// CheckWorkerShard refuses ids that no worker may have.
func CheckWorkerShard(shardID string) error {
	if shardID == BackfillShard {
		return errReserved
	}
	return CheckShardID(shardID)
}

// ErrFenced means that another worker has taken over the shard; this one must
// stop writing for good.
var ErrFenced = errors.New("another worker has taken over this shard")

// ErrShardTaken means that a live worker holds the shard.
type ErrShardTaken struct{ ShardID, Owner string }

func (e ErrShardTaken) Error() string {
	return fmt.Sprintf("shard %q is in use by the live worker %s: give every worker its own --shard-id", e.ShardID, e.Owner)
}

// ErrShardClosed means that nobody may write the shard: it is retired, or its
// rows have moved and its tables are being dropped.
type ErrShardClosed struct{ ShardID, MovedTo string }

func (e ErrShardClosed) Error() string {
	if e.MovedTo != "" {
		return fmt.Sprintf("shard %q has been moved to %q, and its tables are still to be dropped: take another --shard-id, or run `weir shard merge %s --into %s` first",
			e.ShardID, e.MovedTo, e.ShardID, e.MovedTo)
	}
	return fmt.Sprintf("shard %q is retired: take another --shard-id, or let it be written again with `weir shard unretire %s`", e.ShardID, e.ShardID)
}

// CheckShardID refuses what cannot be the id of a shard.
func CheckShardID(shardID string) error {
	if n := utf8.RuneCountInString(shardID); n < 1 || n > MaxShardID {
		return fmt.Errorf("shard id %q has %d characters: 1 to %d are allowed", shardID, n, MaxShardID)
	}
	if !utf8.ValidString(shardID) || strings.ContainsFunc(shardID, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
		return fmt.Errorf("shard id %q: printable characters without spaces are allowed", shardID)
	}
	return nil
}

// epochStep is what the next lease's epoch is more than the last one's. At random,
// so that no two leases have the same epoch, also when Postgres comes back without
// its last commits, a lease among them: who had that is fenced by the next.
const epochStep = `(1 + random() * 1000000000)::bigint`

// Lease is the right to write one shard. Liveness is an advisory lock on a
// connection of its own, which ends with the process, however it dies; safety
// is the epoch, which every flush checks. The number makes it that of one
// shard, also when that is removed and another gets its id.
type Lease struct {
	ShardID string
	number  int64
	epoch   int64
	conn    *sql.Conn
}

// LeaseShard takes the shard for owner, who is going to write it, and gives it
// its partitions of every aggregation; that owner folds into these is kept with
// the lease. A shard nobody has written becomes one. A live holder is an
// ErrShardTaken, after a grace of wait in which a killed one's connection may
// end; a shard that was retired or moved is an ErrShardClosed. Where ctx ends
// first, the error is the context's.
func (db *DB) LeaseShard(ctx context.Context, shardID, owner string, wait time.Duration, defs []*aggregation.Definition) (*Lease, error) {
	lease, err := db.lease(ctx, shardID, owner, wait, defs, `
		INSERT INTO weir.shard AS s (shard_id, owner, aggregations, epoch)
		SELECT $1, $2, $3, `+epochStep+` WHERE (SELECT min_version FROM weir.protocol) <= `+strconv.Itoa(db.protocol)+`
		ON CONFLICT (shard_id) DO UPDATE SET owner = excluded.owner, aggregations = excluded.aggregations, epoch = s.epoch + excluded.epoch
		WHERE s.retired_at IS NULL AND s.moved_to IS NULL
		RETURNING number, epoch`)
	if !errors.Is(err, sql.ErrNoRows) {
		return lease, err
	}
	if err := db.outdated(ctx, db.sql); err != nil {
		return nil, fmt.Errorf("lease shard %s: %w", shardID, err)
	}
	closed, err := db.shard(ctx, shardID)
	if err != nil {
		return nil, err
	}
	return nil, ErrShardClosed{ShardID: shardID, MovedTo: closed.MovedTo}
}

// lease locks the shard and then takes it by the statement, which returns its
// number and epoch.
func (db *DB) lease(ctx context.Context, shardID, owner string, wait time.Duration, defs []*aggregation.Definition, take string) (*Lease, error) {
	if err := CheckShardID(shardID); err != nil {
		return nil, err
	}
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("lease shard %s: connect: %w", shardID, err)
	}
	lease := &Lease{ShardID: shardID, conn: conn}
	if err := lease.lock(ctx, wait); err != nil {
		_ = conn.Close() // the error that matters is the lock's
		return nil, err
	}
	err = conn.QueryRowContext(ctx, take, shardID, owner, pq.Array(ids(defs))).Scan(&lease.number, &lease.epoch)
	if err == nil {
		err = addPartitions(ctx, conn, shardID, defs)
	}
	if err == nil {
		err = addSpans(ctx, conn.ExecContext, shardID, defs)
	}
	if err != nil {
		_ = lease.Close() // the error that matters is the first
		return nil, fmt.Errorf("lease shard %s: %w", shardID, ended(ctx, err))
	}
	return lease, nil
}

// AddPartitions gives the leased shard its part of the tables of more
// aggregations, such as earlier versions of those that it is written with.
// Aggregations that were dropped are left out.
func (l *Lease) AddPartitions(ctx context.Context, defs []*aggregation.Definition) error {
	defs, err := present(ctx, l.conn, defs)
	if err == nil && len(defs) > 0 {
		err = addPartitions(ctx, l.conn, l.ShardID, defs)
	}
	if err != nil {
		return fmt.Errorf("shard %s: %w", l.ShardID, err)
	}
	return nil
}

// addPartitions gives the shard its part of every table; what is there stays.
func addPartitions(ctx context.Context, conn *sql.Conn, shardID string, defs []*aggregation.Definition) error {
	var tables []string
	var byTime []bool
	for _, def := range defs {
		for _, level := range def.Granularities {
			tables, byTime = append(tables, def.Table(level)), append(byTime, level < aggregation.Hours)
		}
	}
	_, err := conn.ExecContext(ctx, `SELECT weir.add_partition(t, $1, by_time) FROM unnest($2::text[], $3::boolean[]) AS x (t, by_time)`,
		shardID, pq.Array(tables), pq.Array(byTime))
	if err != nil {
		return fmt.Errorf("add its partitions (has `weir apply` run?): %w", err)
	}
	return nil
}

// lock takes the shard's advisory lock, trying again until wait is over.
func (l *Lease) lock(ctx context.Context, wait time.Duration) error {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		ok, err := l.tryLock(ctx)
		if err != nil {
			return fmt.Errorf("lease shard %s: %w", l.ShardID, ended(ctx, err))
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lease shard %s: %w", l.ShardID, ctx.Err())
		case <-deadline.C:
			taken := ErrShardTaken{ShardID: l.ShardID, Owner: "unknown"}
			_ = l.conn.QueryRowContext(ctx, `SELECT owner FROM weir.shard WHERE shard_id = $1`, l.ShardID).Scan(&taken.Owner)
			return taken
		case <-retry.C:
		}
	}
}

func (l *Lease) tryLock(ctx context.Context) (ok bool, err error) {
	err = l.conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('weir.shard.' || $1, 0))`, l.ShardID).Scan(&ok)
	return ok, err
}

// checkWait is how long Postgres may take to answer that a lease is there: one
// that is cut off does not answer at all.
const checkWait = 5 * time.Second

// Check reports whether the connection that holds the lease is still there,
// within 5 seconds; after an error the lease is gone and the shard must be leased
// anew, or ctx has ended.
func (l *Lease) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	if err := l.conn.PingContext(ctx); err != nil {
		return fmt.Errorf("lease of shard %s: %w", l.ShardID, err)
	}
	return nil
}

// Close gives the shard back.
func (l *Lease) Close() error {
	return errors.Join(l.unlock(), l.conn.Close())
}

func (l *Lease) unlock() error {
	// The connection returns to the pool, so the lock must go explicitly.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // giving back must not depend on a cancelled context
	defer cancel()
	_, err := l.conn.ExecContext(ctx, `SELECT pg_advisory_unlock(hashtextextended('weir.shard.' || $1, 0))`, l.ShardID)
	return err
}

// Totals are what one flush adds to its shard's control totals.
type Totals struct {
	Messages    int64
	Events      int64
	DeadLetters int64
	// OtherEvents count in aggregation.OtherGroup, at some level at least,
	// because the bucket had as many groups as it may. What has lost its name
	// stays without at the levels that are folded from that one, so an event is
	// counted where it lost it, for each aggregation anew.
	OtherEvents int64
	// Claims are identities, messages or events with numbers of their own, that
	// the fold put into the ledger; see [Claims.Folded].
	Claims int64
}

// OtherEvents counts the events that lost the name of their group in the deltas.
func OtherEvents(deltas ...aggregation.Delta) (n int64) {
	for _, delta := range deltas {
		for _, other := range delta.Other {
			n += other.Events
		}
	}
	return n
}

// CountOthers adds to the control totals the events that lost the name of their
// group, where that was not known when the batch got its number.
func (tx *Tx) CountOthers(ctx context.Context, lease *Lease, events int64) error {
	if events == 0 {
		return nil
	}
	_, err := tx.tx.ExecContext(ctx, `UPDATE weir.shard SET other_events = other_events + $2 WHERE shard_id = $1`, lease.ShardID, events)
	if err != nil {
		return fmt.Errorf("count other events of shard %s: %w", lease.ShardID, err)
	}
	return nil
}

// NextBatch is the first statement of every flush: it proves that the lease
// still holds and that this release may still write, takes the next batch
// number, and adds to the control totals. The shard's row stays locked until the
// transaction ends, so that batch numbers are committed in their order. No later
// statement of the transaction waits longer for a lock than one that hangs can
// hold it (see [Config.session]). ErrFenced means stop.
func (tx *Tx) NextBatch(ctx context.Context, lease *Lease, totals Totals) (int64, error) {
	if err := tx.db.failpoints.Hit(failpoint.TransactionBegun); err != nil {
		return 0, err
	}
	var batch int64
	err := tx.tx.QueryRowContext(ctx, `
		UPDATE weir.shard
		SET last_batch = last_batch + 1, messages = messages + $3, events = events + $4,
		    dead_letters = dead_letters + $5, other_events = other_events + $7, claims = claims + $10, flushed_at = now()
		WHERE shard_id = $1 AND epoch = $2 AND number = $6 AND (SELECT min_version FROM weir.protocol) <= $8
		RETURNING last_batch, set_config('lock_timeout', $9, true)`,
		lease.ShardID, lease.epoch, totals.Messages, totals.Events, totals.DeadLetters, lease.number, totals.OtherEvents,
		tx.db.protocol, strconv.FormatInt(tx.db.lockWait.Milliseconds(), 10), totals.Claims).Scan(&batch, new(string))
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("shard %s: %w", lease.ShardID, cmp.Or(tx.db.outdated(ctx, tx.tx), ErrFenced))
	}
	if err != nil {
		return 0, fmt.Errorf("next batch of shard %s: %w", lease.ShardID, err)
	}
	tx.numbered = true
	return batch, tx.db.failpoints.Hit(failpoint.BatchNumbered)
}
