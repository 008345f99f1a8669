package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"weir/pkg/failpoint"
)

// ErrClaimed means that some of the claimed numbers are folded already: the
// transaction must be rolled back, what [DB.Refuse] finds be dropped from the
// batch, and the rest be tried again.
var ErrClaimed = errors.New("some of these messages are folded already")

// Claim marks everything in the set as folded. It must be the last statement
// of the flush: it locks pages that other workers want too, and the lock then
// lasts one statement and a commit. If any number is folded already it
// returns ErrClaimed, and the transaction must not be committed.
//
// The look at the compacted part comes after the claim, in a statement of its
// own: a page that was compacted before is seen there, and one that is being
// compacted now makes the claim wait first (see CompactLedger).
//
// While aggregations are being backfilled there are a few more statements, a
// scope after another, in the order that everybody has.
func (tx *Tx) Claim(ctx context.Context, claims *Claims) error {
	pages, foreign := claims.sortedPages(), claims.sortedForeign()
	for _, scope := range claims.scopes {
		if err := tx.claimPages(ctx, scope, claims, pages); err != nil {
			return err
		}
	}
	for _, scope := range claims.scopes {
		if err := tx.claimForeign(ctx, scope, claims, foreign); err != nil {
			return err
		}
	}
	return tx.db.failpoints.Hit(failpoint.Claimed)
}

func (tx *Tx) claimForeign(ctx context.Context, scope string, claims *Claims, keys []foreignKey) error {
	if len(keys) == 0 {
		return nil
	}
	err := tx.copyRaw(ctx, `COPY weir.ledger_foreign (scope, incarnation, sequence, stored) FROM STDIN`, func(send func([]byte) error) error {
		var chunk []byte
		for _, key := range keys {
			chunk = append(appendEscaped(chunk, scope), '\t')
			chunk = append(appendEscaped(chunk, claims.incarnations[key.incarnation]), '\t')
			chunk = append(strconv.AppendUint(chunk, key.sequence, 10), '\t')
			chunk = append(strconv.AppendInt(chunk, key.stored, 10), '\n')
			if len(chunk) >= copyChunk {
				if err := send(chunk); err != nil {
					return err
				}
				chunk = chunk[:0]
			}
		}
		return send(chunk)
	})
	if hasCode(err, pqerror.UniqueViolation) {
		return errors.Join(ErrClaimed, err)
	}
	if err != nil {
		return fmt.Errorf("claim foreign messages: %w", err)
	}
	return nil
}

func (tx *Tx) claimPages(ctx context.Context, scope string, claims *Claims, keys []pageKey) error {
	if len(keys) == 0 {
		return nil
	}
	bits := make([]string, len(keys))
	for i, key := range keys {
		bits[i] = "x" + hex.EncodeToString(claims.pages[key].wanted[:])
	}
	sources, epochs, pages := pageArrays(keys)
	result, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.ledger_page AS t (scope, source, epoch, page, bits)
		SELECT $5, * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bit(4096)[])
		ON CONFLICT (scope, source, epoch, page) DO UPDATE SET bits = t.bits | excluded.bits
		WHERE t.bits & excluded.bits = B'0'::bit(4096)`, sources, epochs, pages, pq.Array(bits), scope)
	if err != nil {
		return fmt.Errorf("claim messages: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n < int64(len(keys)) {
		return errors.Join(ErrClaimed, err)
	}
	if err := tx.db.failpoints.Hit(failpoint.PagesClaimed); err != nil {
		return err
	}
	var compacted bool
	err = tx.tx.QueryRowContext(ctx, `SELECT EXISTS (`+findFull+`)`, sources, epochs, pages, scope).Scan(&compacted)
	if err != nil {
		return fmt.Errorf("look at full ledger pages: %w", err)
	}
	if compacted {
		return ErrClaimed
	}
	return nil
}

// findFull selects those of the given pages that are compacted in the scope.
const findFull = `
	SELECT k.source, k.epoch, k.page
	FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (source, epoch, page)
	JOIN weir.ledger_full f ON f.scope = $4 AND f.source = k.source AND f.epoch = k.epoch AND k.page BETWEEN f.first_page AND f.last_page`

// Refuse looks up which of the claims are folded already and takes them out
// of the set; Refused then tells them. Call it after ErrClaimed, outside the
// transaction that failed.
//
// Of several scopes it is the first that decides: what is claimed in another
// is claimed there too.
func (db *DB) Refuse(ctx context.Context, claims *Claims) error {
	return db.refuse(ctx, claims, claims.scopes[0], true)
}

// RefuseUnfolded takes out of the set what the fold has not claimed, and
// reports whether that is anything. Refused then tells it too.
func (db *DB) RefuseUnfolded(ctx context.Context, claims *Claims) (some bool, err error) {
	before := claims.count()
	err = db.refuse(ctx, claims, foldScope, false)
	return claims.count() < before, err
}

// refuse takes out what is in the scope, or what is not.
func (db *DB) refuse(ctx context.Context, claims *Claims, scope string, claimed bool) error {
	if err := db.failpoints.Hit(failpoint.Refusing); err != nil {
		return err
	}
	if err := db.refusePages(ctx, claims, scope, claimed); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	if err := db.refuseForeign(ctx, claims, scope, claimed); err != nil {
		return fmt.Errorf("read the ledger of foreign messages: %w", err)
	}
	return nil
}

func (db *DB) refuseForeign(ctx context.Context, claims *Claims, scope string, claimed bool) error {
	keys := claims.sortedForeign()
	if len(keys) == 0 {
		return nil
	}
	incarnations, sequences, stored := claims.foreignArrays(keys)
	rows, err := db.sql.QueryContext(ctx, `
		SELECT incarnation, sequence, stored FROM weir.ledger_foreign
		JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS k (incarnation, sequence, stored) USING (incarnation, sequence, stored)
		WHERE scope = $4`, incarnations, sequences, stored, scope)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	found := map[foreignKey]bool{}
	for rows.Next() {
		var incarnation string
		var key foreignKey
		if err := rows.Scan(&incarnation, &key.sequence, &key.stored); err != nil {
			return err
		}
		found[claims.foreignKey(incarnation, key.sequence, key.stored)] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, key := range keys {
		claims.foreign[key] = found[key] == claimed
	}
	return nil
}

func (db *DB) refusePages(ctx context.Context, claims *Claims, scope string, claimed bool) error {
	keys := claims.sortedPages()
	if len(keys) == 0 {
		return nil
	}
	sources, epochs, pages := pageArrays(keys)
	rows, err := db.sql.QueryContext(ctx, `
		SELECT t.source, t.epoch, t.page, t.bits::text FROM weir.ledger_page t
		JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS k (source, epoch, page) USING (source, epoch, page)
		WHERE t.scope = $4
		UNION ALL
		SELECT source, epoch, page, repeat('1', 4096) FROM (`+findFull+`) f`, sources, epochs, pages, scope)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	found := map[pageKey]*[pageSize / 8]byte{}
	for rows.Next() {
		var key pageKey
		var bits string
		if err := rows.Scan(&key.source, &key.epoch, &key.page, &bits); err != nil {
			return err
		}
		if found[key] == nil {
			found[key] = &[pageSize / 8]byte{}
		}
		for i := range found[key] {
			found[key][i] |= packBits(bits[8*i : 8*i+8])
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var none [pageSize / 8]byte
	for _, key := range keys {
		p, bits := claims.pages[key], found[key]
		if bits == nil {
			bits = &none
		}
		for i, refused := range bits {
			if !claimed {
				refused = ^refused
			}
			p.refused[i] |= p.wanted[i] & refused
			p.wanted[i] &^= refused
		}
	}
	return nil
}

// packBits reads eight characters of 0 and 1.
func packBits(text string) (b byte) {
	for i := range 8 {
		b = b<<1 | text[i]&1
	}
	return b
}

// CompactLedger moves full pages into runs and returns how many pages it
// moved. It also drops the scopes of backfills that are complete, which workers
// that started before may still write, and nobody reads. One call runs at a time; claims go on meanwhile. A claim that hits a
// page under compaction waits for it, inserts the page anew, and then finds it
// in the compacted part, because each of its statements sees what is committed
// by then.
func (db *DB) CompactLedger(ctx context.Context) (int64, error) {
	var moved int64
	err := db.InTx(ctx, func(tx *Tx) (err error) {
		moved, err = tx.compactLedger(ctx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("compact the ledger: %w", err)
	}
	return moved, nil
}

func (tx *Tx) compactLedger(ctx context.Context) (moved int64, err error) {
	if _, err := tx.tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('weir.compact_ledger', 0))`); err != nil {
		return 0, err
	}
	if err := tx.dropScopes(ctx); err != nil {
		return 0, err
	}
	if err := tx.db.failpoints.Hit(failpoint.LedgerCompacting); err != nil {
		return 0, err
	}
	// A page that a claim holds is left for the next time: waiting for it here,
	// while the claim waits for another page, would be a deadlock. Runs are the
	// pages whose distance to their own rank is the same.
	err = tx.tx.QueryRowContext(ctx, `
		WITH complete AS (
			SELECT scope, source, epoch, page FROM weir.ledger_page WHERE bits = ~ B'0'::bit(4096) FOR UPDATE SKIP LOCKED
		), gone AS (
			DELETE FROM weir.ledger_page USING complete c
			WHERE ledger_page.scope = c.scope AND ledger_page.source = c.source AND ledger_page.epoch = c.epoch AND ledger_page.page = c.page
			RETURNING c.scope, c.source, c.epoch, c.page
		), ranked AS (
			SELECT scope, source, epoch, page, page - row_number() OVER (PARTITION BY scope, source, epoch ORDER BY page) AS run FROM gone
		), runs AS (
			INSERT INTO weir.ledger_full (scope, source, epoch, first_page, last_page)
			SELECT scope, source, epoch, min(page), max(page) FROM ranked GROUP BY scope, source, epoch, run
			RETURNING last_page - first_page + 1 AS pages
		)
		SELECT coalesce(sum(pages), 0)::bigint FROM runs`).Scan(&moved)
	if err != nil {
		return 0, err
	}
	return moved, tx.db.failpoints.Hit(failpoint.LedgerCompacted)
}

func ledgerTables() []string {
	return []string{"weir.ledger_page", "weir.ledger_full", "weir.ledger_foreign"}
}

// dropScopes deletes what the ledger holds for aggregations that are not being
// backfilled. A row that a claim holds is left for the next time, as above.
func (tx *Tx) dropScopes(ctx context.Context) error {
	const over = `scope > '' AND scope NOT IN (SELECT id FROM weir.aggregation WHERE backfill = 'running')`
	for _, table := range ledgerTables() {
		_, err := tx.tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE ctid = ANY (ARRAY(SELECT ctid FROM `+table+` WHERE `+over+` FOR UPDATE SKIP LOCKED))`)
		if err != nil {
			return fmt.Errorf("drop scopes of complete backfills from %s: %w", table, err)
		}
	}
	return nil
}
