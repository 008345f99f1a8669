package store

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// pageSize is how many numbers a ledger page holds.
const pageSize = 4096

// Claims are the identities that one batch wants to fold: numbers of
// publisher epochs, kept as the ledger keeps them, and foreign messages. A
// claim that was refused is remembered as such. It belongs to one goroutine.
type Claims struct {
	scopes []string // sorted
	pages  map[pageKey]*page
	// recent are the pages that were looked for last. Messages come from a few
	// sources and in their order, so that hardly any needs the map.
	recent [8]*page
	turn   int

	foreign      map[foreignKey]bool // true: refused
	foreignOrder []foreignKey        // as they were added
	incarnations []string            // of foreign messages
}

type pageKey struct {
	source, epoch string
	page          uint64
}

type page struct {
	pageKey

	wanted, refused [pageSize / 8]byte
}

type foreignKey struct {
	incarnation int // index in Claims.incarnations
	sequence    uint64
	stored      int64
}

// foldScope is the ledger's scope of the fold itself; other scopes are names of
// aggregations that are being backfilled.
const foldScope = ""

// NewClaims returns an empty set. What is put into it will be claimed for the
// fold, and for each of the aggregations.
func NewClaims(aggregations ...string) *Claims {
	return newClaims(append([]string{foldScope}, aggregations...)...)
}

// NewBackfillClaims returns an empty set whose content will be claimed for the
// aggregation alone.
func NewBackfillClaims(aggregation string) *Claims { return newClaims(aggregation) }

func newClaims(scopes ...string) *Claims {
	slices.Sort(scopes)
	return &Claims{scopes: scopes, pages: map[pageKey]*page{}, foreign: map[foreignKey]bool{}}
}

// Add claims number n (from 1) of a publisher epoch. It reports false if the
// set has it already: the batch holds the same event twice.
func (c *Claims) Add(source, epoch string, n uint64) bool {
	p := c.page(source, epoch, n)
	if p == nil {
		p = &page{pageKey: pageKey{source, epoch, (n - 1) / pageSize}}
		c.pages[p.pageKey] = p
	}
	at, bit := place(n)
	if p.wanted[at]&bit != 0 {
		return false
	}
	p.wanted[at] |= bit
	return true
}

// page returns the page of number n; nil if it has none.
func (c *Claims) page(source, epoch string, n uint64) *page {
	key := pageKey{source, epoch, (n - 1) / pageSize}
	for _, p := range c.recent {
		if p != nil && p.pageKey == key {
			return p
		}
	}
	p := c.pages[key]
	if p != nil {
		c.recent[c.turn%len(c.recent)] = p
		c.turn++
	}
	return p
}

// Refused reports whether number n of the epoch is known to be folded.
func (c *Claims) Refused(source, epoch string, n uint64) bool {
	p := c.page(source, epoch, n)
	at, bit := place(n)
	return p != nil && p.refused[at]&bit != 0
}

// AddForeign claims a message by where (incarnation of the stream, sequence)
// and when (microseconds since 1970 UTC) it was stored. It reports false if
// the set has it already.
func (c *Claims) AddForeign(incarnation string, sequence uint64, stored int64) bool {
	key := c.foreignKey(incarnation, sequence, stored)
	if _, ok := c.foreign[key]; ok {
		return false
	}
	c.foreign[key] = false
	c.foreignOrder = append(c.foreignOrder, key)
	return true
}

func (c *Claims) foreignKey(incarnation string, sequence uint64, stored int64) foreignKey {
	at := slices.Index(c.incarnations, incarnation) // there is hardly ever a second
	if at < 0 {
		at = len(c.incarnations)
		c.incarnations = append(c.incarnations, incarnation)
	}
	return foreignKey{at, sequence, stored}
}

// RefusedForeign reports whether the message is known to be folded.
func (c *Claims) RefusedForeign(incarnation string, sequence uint64, stored int64) bool {
	return c.foreign[c.foreignKey(incarnation, sequence, stored)]
}

// Empty reports whether nothing is left to claim.
func (c *Claims) Empty() bool {
	return len(c.sortedPages()) == 0 && len(c.sortedForeign()) == 0
}

// Folded is how many identities are left to claim for the fold: none where it is
// for a backfill, which takes what was folded before.
func (c *Claims) Folded() int64 {
	if !slices.Contains(c.scopes, foldScope) {
		return 0
	}
	return int64(c.count())
}

// count is how many identities are left to claim.
func (c *Claims) count() (n int) {
	for _, p := range c.pages {
		for _, b := range p.wanted {
			n += bits.OnesCount8(b)
		}
	}
	for _, refused := range c.foreign {
		if !refused {
			n++
		}
	}
	return n
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
	for _, key := range c.foreignOrder {
		if !c.foreign[key] {
			keys = append(keys, key)
		}
	}
	before := func(a, b foreignKey) int {
		if a.incarnation != b.incarnation {
			return strings.Compare(c.incarnations[a.incarnation], c.incarnations[b.incarnation])
		}
		return cmp.Or(cmp.Compare(a.sequence, b.sequence), cmp.Compare(a.stored, b.stored))
	}
	if !slices.IsSortedFunc(keys, before) { // as a rule, streams deliver in order
		slices.SortFunc(keys, before)
	}
	return keys
}

func pageArrays(keys []pageKey) (sources, epochs, pages any) {
	s, e, p := make([]string, len(keys)), make([]string, len(keys)), make([]int64, len(keys))
	for i, key := range keys {
		s[i], e[i], p[i] = key.source, key.epoch, int64(key.page) //nolint:gosec // numbers end at 2^62
	}
	return pq.Array(s), pq.Array(e), pq.Array(p)
}

func (c *Claims) foreignArrays(keys []foreignKey) (incarnations, sequences, stored any) {
	i, q, s := make([]string, len(keys)), make([]int64, len(keys)), make([]int64, len(keys))
	for n, key := range keys {
		i[n], q[n], s[n] = c.incarnations[key.incarnation], int64(key.sequence), key.stored //nolint:gosec // sequences stay far below 2^63
	}
	return pq.Array(i), pq.Array(q), pq.Array(s)
}
