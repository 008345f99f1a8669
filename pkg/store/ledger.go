package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// ErrClaimed means that some of the claimed numbers are folded already: the
// transaction must be rolled back, what [DB.Refuse] finds be dropped from the
// batch, and the rest be tried again.
var ErrClaimed = errors.New("some of these messages are folded already")

// pageSize is how many numbers a ledger page holds.
const pageSize = 4096

// Claims are the identities that one batch wants to fold: numbers of
// publisher epochs, kept as the ledger keeps them, and foreign messages. A
// claim that was refused is remembered as such. It belongs to one goroutine.
type Claims struct {
	pages   map[pageKey]*page
	foreign map[foreignKey]bool // true: refused
}

type pageKey struct {
	source, epoch string
	page          uint64
}

type page struct {
	wanted, refused [pageSize / 8]byte
}

type foreignKey struct {
	incarnation string
	sequence    uint64
	stored      int64
}

// NewClaims returns an empty set.
func NewClaims() *Claims {
	return &Claims{pages: map[pageKey]*page{}, foreign: map[foreignKey]bool{}}
}

// Add claims number n (from 1) of a publisher epoch. It reports false if the
// set has it already: the batch holds the same event twice.
func (c *Claims) Add(source, epoch string, n uint64) bool {
	key := pageKey{source, epoch, (n - 1) / pageSize}
	p := c.pages[key]
	if p == nil {
		p = &page{}
		c.pages[key] = p
	}
	at, bit := place(n)
	if p.wanted[at]&bit != 0 {
		return false
	}
	p.wanted[at] |= bit
	return true
}

// Refused reports whether number n of the epoch is known to be folded.
func (c *Claims) Refused(source, epoch string, n uint64) bool {
	p := c.pages[pageKey{source, epoch, (n - 1) / pageSize}]
	at, bit := place(n)
	return p != nil && p.refused[at]&bit != 0
}

// AddForeign claims a message by where (incarnation of the stream, sequence)
// and when (microseconds since 1970 UTC) it was stored. It reports false if
// the set has it already.
func (c *Claims) AddForeign(incarnation string, sequence uint64, stored int64) bool {
	key := foreignKey{incarnation, sequence, stored}
	if _, ok := c.foreign[key]; ok {
		return false
	}
	c.foreign[key] = false
	return true
}

// RefusedForeign reports whether the message is known to be folded.
func (c *Claims) RefusedForeign(incarnation string, sequence uint64, stored int64) bool {
	return c.foreign[foreignKey{incarnation, sequence, stored}]
}

// Empty reports whether nothing is left to claim.
func (c *Claims) Empty() bool {
	return len(c.sortedPages()) == 0 && len(c.sortedForeign()) == 0
}

// place returns where in its page number n has its bit: the leftmost bit is
// the page's first number.
func place(n uint64) (at int, bit byte) {
	i := (n - 1) % pageSize
	return int(i / 8), 0x80 >> (i % 8) //nolint:gosec // below 512
}

// sortedPages lists the pages that still want something, in the one order in
// which every worker locks them.
func (c *Claims) sortedPages() []pageKey {
	keys := make([]pageKey, 0, len(c.pages))
	for key, p := range c.pages {
		if p.wanted != ([pageSize / 8]byte{}) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b pageKey) int {
		if d := strings.Compare(a.source, b.source); d != 0 {
			return d
		}
		if d := strings.Compare(a.epoch, b.epoch); d != 0 {
			return d
		}
		if a.page < b.page {
			return -1
		}
		return 1
	})
	return keys
}

func (c *Claims) sortedForeign() []foreignKey {
	keys := make([]foreignKey, 0, len(c.foreign))
	for key, refused := range c.foreign {
		if !refused {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b foreignKey) int {
		if d := strings.Compare(a.incarnation, b.incarnation); d != 0 {
			return d
		}
		if a.sequence < b.sequence || a.sequence == b.sequence && a.stored < b.stored {
			return -1
		}
		return 1
	})
	return keys
}

// Claim marks everything in the set as folded. It must be the last statement
// of the flush: it locks pages that other workers want too, and the lock then
// lasts one statement and a commit. If any number is folded already it
// returns ErrClaimed, and the transaction must not be committed.
//
// The look at the compacted part comes after the claim, in a statement of its
// own: a page that was compacted before is seen there, and one that is being
// compacted now makes the claim wait first (see CompactLedger).
func (tx *Tx) Claim(ctx context.Context, claims *Claims) error {
	if err := tx.claimPages(ctx, claims); err != nil {
		return err
	}
	keys := claims.sortedForeign()
	if len(keys) == 0 {
		return nil
	}
	incarnations, sequences, stored := foreignArrays(keys)
	result, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.ledger_foreign (incarnation, sequence, stored)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
		ON CONFLICT DO NOTHING`, incarnations, sequences, stored)
	if err != nil {
		return fmt.Errorf("claim foreign messages: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n < int64(len(keys)) {
		return errors.Join(ErrClaimed, err)
	}
	return nil
}

func (tx *Tx) claimPages(ctx context.Context, claims *Claims) error {
	keys := claims.sortedPages()
	if len(keys) == 0 {
		return nil
	}
	bits := make([]string, len(keys))
	for i, key := range keys {
		bits[i] = "x" + hex.EncodeToString(claims.pages[key].wanted[:])
	}
	sources, epochs, pages := pageArrays(keys)
	result, err := tx.tx.ExecContext(ctx, `
		INSERT INTO weir.ledger_page AS t (source, epoch, page, bits)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bit(4096)[])
		ON CONFLICT (source, epoch, page) DO UPDATE SET bits = t.bits | excluded.bits
		WHERE t.bits & excluded.bits = B'0'::bit(4096)`, sources, epochs, pages, pq.Array(bits))
	if err != nil {
		return fmt.Errorf("claim messages: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n < int64(len(keys)) {
		return errors.Join(ErrClaimed, err)
	}
	var compacted bool
	err = tx.tx.QueryRowContext(ctx, `SELECT EXISTS (`+findFull+`)`, sources, epochs, pages).Scan(&compacted)
	if err != nil {
		return fmt.Errorf("look at full ledger pages: %w", err)
	}
	if compacted {
		return ErrClaimed
	}
	return nil
}

// findFull selects those of the given pages that are compacted.
const findFull = `
	SELECT k.source, k.epoch, k.page
	FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (source, epoch, page)
	JOIN weir.ledger_full f ON f.source = k.source AND f.epoch = k.epoch AND k.page BETWEEN f.first_page AND f.last_page`

// Refuse looks up which of the claims are folded already and takes them out
// of the set; Refused then tells them. Call it after ErrClaimed, outside the
// transaction that failed.
func (db *DB) Refuse(ctx context.Context, claims *Claims) error {
	if err := db.refusePages(ctx, claims); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	keys := claims.sortedForeign()
	if len(keys) == 0 {
		return nil
	}
	incarnations, sequences, stored := foreignArrays(keys)
	rows, err := db.sql.QueryContext(ctx, `
		SELECT incarnation, sequence, stored FROM weir.ledger_foreign
		JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS k (incarnation, sequence, stored) USING (incarnation, sequence, stored)`,
		incarnations, sequences, stored)
	if err != nil {
		return fmt.Errorf("read the ledger of foreign messages: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var key foreignKey
		if err := rows.Scan(&key.incarnation, &key.sequence, &key.stored); err != nil {
			return fmt.Errorf("read the ledger of foreign messages: %w", err)
		}
		claims.foreign[key] = true
	}
	return rows.Err()
}

func (db *DB) refusePages(ctx context.Context, claims *Claims) error {
	keys := claims.sortedPages()
	if len(keys) == 0 {
		return nil
	}
	sources, epochs, pages := pageArrays(keys)
	rows, err := db.sql.QueryContext(ctx, `
		SELECT t.source, t.epoch, t.page, t.bits::text FROM weir.ledger_page t
		JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS k (source, epoch, page) USING (source, epoch, page)
		UNION ALL
		SELECT source, epoch, page, repeat('1', 4096) FROM (`+findFull+`) f`, sources, epochs, pages)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var key pageKey
		var bits string
		if err := rows.Scan(&key.source, &key.epoch, &key.page, &bits); err != nil {
			return err
		}
		p := claims.pages[key]
		for i := range p.wanted {
			folded := packBits(bits[8*i : 8*i+8])
			p.refused[i] |= p.wanted[i] & folded
			p.wanted[i] &^= folded
		}
	}
	return rows.Err()
}

// packBits reads eight characters of 0 and 1.
func packBits(text string) (b byte) {
	for i := range 8 {
		b = b<<1 | text[i]&1
	}
	return b
}

func pageArrays(keys []pageKey) (sources, epochs, pages any) {
	s, e, p := make([]string, len(keys)), make([]string, len(keys)), make([]int64, len(keys))
	for i, key := range keys {
		s[i], e[i], p[i] = key.source, key.epoch, int64(key.page) //nolint:gosec // numbers end at 2^62
	}
	return pq.Array(s), pq.Array(e), pq.Array(p)
}

func foreignArrays(keys []foreignKey) (incarnations, sequences, stored any) {
	i, q, s := make([]string, len(keys)), make([]int64, len(keys)), make([]int64, len(keys))
	for n, key := range keys {
		i[n], q[n], s[n] = key.incarnation, int64(key.sequence), key.stored //nolint:gosec // sequences stay far below 2^63
	}
	return pq.Array(i), pq.Array(q), pq.Array(s)
}

// CompactLedger moves full pages into runs and returns how many pages it
// moved. One call runs at a time; claims go on meanwhile. A claim that hits a
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
	// A page that a claim holds is left for the next time: waiting for it here,
	// while the claim waits for another page, would be a deadlock. Runs are the
	// pages whose distance to their own rank is the same.
	err = tx.tx.QueryRowContext(ctx, `
		WITH complete AS (
			SELECT source, epoch, page FROM weir.ledger_page WHERE bits = ~ B'0'::bit(4096) FOR UPDATE SKIP LOCKED
		), gone AS (
			DELETE FROM weir.ledger_page USING complete c
			WHERE ledger_page.source = c.source AND ledger_page.epoch = c.epoch AND ledger_page.page = c.page
			RETURNING c.source, c.epoch, c.page
		), ranked AS (
			SELECT source, epoch, page, page - row_number() OVER (PARTITION BY source, epoch ORDER BY page) AS run FROM gone
		), runs AS (
			INSERT INTO weir.ledger_full (source, epoch, first_page, last_page)
			SELECT source, epoch, min(page), max(page) FROM ranked GROUP BY source, epoch, run
			RETURNING last_page - first_page + 1 AS pages
		)
		SELECT coalesce(sum(pages), 0)::bigint FROM runs`).Scan(&moved)
	return moved, err
}
