package audit

import (
	"context"
	"encoding/json"
	"fmt"
)

// pageSize is how many numbers of a publisher epoch one page of the ledger holds.
const pageSize = 4096

// message is what the auditor knows of a message: where it is and what it says
// it is.
type message struct {
	sequence uint64
	stored   int64 // microseconds since 1970 UTC

	// The numbers of a publisher epoch; source is "" where the message is foreign.
	source, epoch string
	first, last   uint64
}

func (m message) foreign() bool { return m.source == "" }

func (m message) String() string {
	switch {
	case m.foreign():
		return fmt.Sprintf("message %d", m.sequence)
	case m.first == m.last:
		return fmt.Sprintf("%s/%s/%d", m.source, m.epoch, m.first)
	}
	return fmt.Sprintf("%s/%s/%d-%d", m.source, m.epoch, m.first, m.last)
}

type pageKey struct {
	Source string `json:"source"`
	Epoch  string `json:"epoch"`
	Page   int64  `json:"page"`
}

type foreignKey struct {
	Sequence uint64 `json:"sequence"`
	Stored   int64  `json:"stored"`
}

// unclaimed returns those of the messages that the ledger lacks, wholly or in
// part.
func (s snapshot) unclaimed(ctx context.Context, incarnation string, messages []message) (lacking []message, err error) {
	pages, err := s.pages(ctx, messages)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	foreign, err := s.foreigners(ctx, incarnation, messages)
	if err != nil {
		return nil, fmt.Errorf("read the ledger of foreign messages: %w", err)
	}
	for _, m := range messages {
		claimed := true
		if m.foreign() {
			claimed = foreign[foreignKey{m.sequence, m.stored}]
		}
		for n := m.first; claimed && !m.foreign() && n <= m.last; n++ {
			bits := pages[pageKey{m.source, m.epoch, int64((n - 1) / pageSize)}] //nolint:gosec // numbers end at 2^62
			claimed = bits == full || bits != "" && bits[(n-1)%pageSize] == '1'
		}
		if !claimed {
			lacking = append(lacking, m)
		}
	}
	return lacking, nil
}

// full stands for the bits of a page that has all of them.
const full = "full"

// pages reads the pages that the messages are on.
func (s snapshot) pages(ctx context.Context, messages []message) (map[pageKey]string, error) {
	wanted, found := []pageKey{}, map[pageKey]string{}
	for _, m := range messages {
		if m.foreign() {
			continue
		}
		for p := (m.first - 1) / pageSize; p <= (m.last-1)/pageSize; p++ {
			key := pageKey{m.source, m.epoch, int64(p)} //nolint:gosec // numbers end at 2^62
			if _, known := found[key]; !known {
				found[key] = ""
				wanted = append(wanted, key)
			}
		}
	}
	if len(wanted) == 0 {
		return found, nil
	}
	list, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	return found, each(ctx, s.tx, func(scan func(...any) error) error {
		var key pageKey
		var bits string
		err := scan(&key.Source, &key.Epoch, &key.Page, &bits)
		if found[key] != full {
			found[key] = bits
		}
		return err
	}, `
		WITH k AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($1::jsonb) AS k (source text, epoch text, page bigint))
		SELECT k.*, CASE WHEN bit_count(t.bits) = 4096 THEN 'full' ELSE t.bits::text END FROM k
		JOIN ledger_page t ON t.scope = '' AND t.source = k.source AND t.epoch = k.epoch AND t.page = k.page
		UNION ALL
		SELECT k.*, 'full' FROM k
		JOIN ledger_full f ON f.scope = '' AND f.source = k.source AND f.epoch = k.epoch AND k.page BETWEEN f.first_page AND f.last_page`,
		string(list))
}

// foreigners reads which of the foreign messages are in the ledger.
func (s snapshot) foreigners(ctx context.Context, incarnation string, messages []message) (map[foreignKey]bool, error) {
	var wanted []foreignKey
	for _, m := range messages {
		if m.foreign() {
			wanted = append(wanted, foreignKey{m.sequence, m.stored})
		}
	}
	found := map[foreignKey]bool{}
	if len(wanted) == 0 {
		return found, nil
	}
	list, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	return found, each(ctx, s.tx, func(scan func(...any) error) error {
		var key foreignKey
		err := scan(&key.Sequence, &key.Stored)
		found[key] = true
		return err
	}, `
		SELECT k.sequence, k.stored FROM jsonb_to_recordset($1::jsonb) AS k (sequence bigint, stored bigint)
		JOIN ledger_foreign f ON f.scope = '' AND f.incarnation = $2 AND f.sequence = k.sequence AND f.stored = k.stored`,
		string(list), incarnation)
}

// Balance is the control totals of all shards beside what they should add up
// to.
type Balance struct {
	Messages    int64 `json:"messages"`
	Events      int64 `json:"events"`
	Claims      int64 `json:"claims"`       // identities that flushes put into the ledger,
	Ledger      int64 `json:"ledger"`       // and those that are in it
	DeadLetters int64 `json:"dead_letters"` // that flushes wrote,
	Letters     int64 `json:"letters"`      // and those that there are
}

// balance reads the control totals, and counts the ledger and the dead letters.
func (s snapshot) balance(ctx context.Context) (b Balance, err error) {
	err = s.tx.QueryRowContext(ctx, `
		SELECT coalesce(sum(messages), 0)::bigint, coalesce(sum(events), 0)::bigint, coalesce(sum(claims), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint,
			(SELECT coalesce(sum(bit_count(bits)), 0)::bigint FROM ledger_page WHERE scope = '')
			+ (SELECT coalesce(sum(4096 * (last_page - first_page + 1)), 0)::bigint FROM ledger_full WHERE scope = '')
			+ (SELECT count(*) FROM ledger_foreign WHERE scope = ''),
			(SELECT count(*) FROM dead_letter)
		FROM shard`).Scan(&b.Messages, &b.Events, &b.Claims, &b.DeadLetters, &b.Ledger, &b.Letters)
	if err != nil {
		return b, fmt.Errorf("count the ledger: %w", err)
	}
	return b, nil
}
