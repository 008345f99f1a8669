package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// numbers is a range of numbers of a publisher epoch.
type numbers struct{ first, last uint64 }

// gaps are numbers that something lacks: how many, and the first ranges.
type gaps struct {
	count  uint64
	ranges []numbers
}

// mostRanges is how many ranges are named.
const mostRanges = 1000

func (g *gaps) add(first, last uint64) {
	g.count += last - first + 1
	if n := len(g.ranges); n > 0 && g.ranges[n-1].last+1 == first {
		g.ranges[n-1].last = last
	} else if n < mostRanges {
		g.ranges = append(g.ranges, numbers{first, last})
	}
}

// without takes numbers out that are known to be somewhere else.
func (g gaps) without(known []numbers) (left gaps) {
	slices.SortFunc(known, func(a, b numbers) int { return int(min(1, max(-1, int64(a.first)-int64(b.first)))) }) //nolint:gosec // numbers end at 2^62
	left.count = g.count
	for _, r := range g.ranges {
		left.count -= r.last - r.first + 1
		for _, k := range known {
			if k.last < r.first || k.first > r.last {
				continue
			}
			if k.first > r.first {
				left.add(r.first, k.first-1)
			}
			if r.first = k.last + 1; r.first > r.last {
				break
			}
		}
		if r.first <= r.last {
			left.add(r.first, r.last)
		}
	}
	return left
}

func (g gaps) String() string {
	const shown = 10
	var texts []string
	for i, r := range g.ranges {
		if i == shown {
			texts = append(texts, "…")
			break
		}
		text := fmt.Sprintf("n=%d..%d", r.first, r.last)
		if r.first == r.last {
			text = fmt.Sprintf("n=%d", r.first)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// missing finds the numbers after one and up to another that the ledger lacks.
func (s snapshot) missing(ctx context.Context, source, epoch string, after, through uint64) (g gaps, err error) {
	next := after + 1
	err = each(ctx, s.tx, func(scan func(...any) error) error {
		var first, last uint64
		var bits string
		if err := scan(&first, &last, &bits); err != nil {
			return err
		}
		start, end := first*pageSize+1, min((last+1)*pageSize, through)
		if start > next {
			g.add(next, start-1)
			next = start
		}
		for ; bits != full && next <= end; next++ {
			if bits[(next-1)%pageSize] == '0' {
				g.add(next, next)
			}
		}
		next = max(next, end+1)
		return nil
	}, `
		SELECT page, page, CASE WHEN bit_count(bits) = 4096 THEN 'full' ELSE bits::text END FROM ledger_page
		WHERE scope = '' AND source = $1 AND epoch = $2 AND page BETWEEN $3 AND $4
		UNION ALL
		SELECT greatest(first_page, $3), least(last_page, $4), 'full' FROM ledger_full
		WHERE scope = '' AND source = $1 AND epoch = $2 AND last_page >= $3 AND first_page <= $4
		ORDER BY 1`, source, epoch, after/pageSize, (through-1)/pageSize)
	if err != nil {
		return gaps{}, fmt.Errorf("read the ledger of %s/%s: %w", source, epoch, err)
	}
	if next <= through {
		g.add(next, through)
	}
	return g, nil
}

// Source is what a publisher epoch says of itself, and what became of it.
type Source struct {
	Source  string `json:"source"`
	Epoch   string `json:"epoch"`
	Acked   uint64 `json:"acked"`            // all numbers up to here were acknowledged by the stream
	Dropped int64  `json:"dropped"`          // events that it gave up itself
	Closed  bool   `json:"closed"`           // it ended in good order
	Waiting bool   `json:"waiting"`          // its newest word comes after what is verified of the stream
	Lost    uint64 `json:"lost"`             // numbers that the stream acknowledged and has not
	Ranges  string `json:"ranges,omitempty"` // which
	ToldAt  string `json:"told_at"`          // when the stream stored its newest word

	checked uint64 // what is verified up to now
}

const kindStream = "lost by the stream"

// mostSources is how many sources a continuous pass verifies.
const mostSources = 200

// verifySources is the first link, source to stream: what the stream has
// acknowledged must be in the ledger, or at least be known to be in the stream.
// A heartbeat speaks of messages that were stored before it, so it counts once
// the stream is verified up to it. A continuous pass takes only sources that
// are not verified up to what they say, and of many those that had no turn for
// the longest.
func (a *Auditor) verifySources(ctx context.Context, incarnation string, everything bool) ([]Source, error) {
	var sources []Source
	var err error
	if everything {
		sources, err = a.sources(ctx, incarnation, ``, ``)
	} else {
		sources, err = a.sources(ctx, incarnation, `WHERE s.acked > coalesce(c.checked, 0)`, fmt.Sprintf(`c.looked_at NULLS FIRST, %s LIMIT %d`, sourceOrder, mostSources))
	}
	if err != nil {
		return nil, err
	}
	for i := range sources {
		src := &sources[i]
		if everything {
			src.checked = 0
		}
		if !src.Waiting {
			err = a.verifySource(ctx, src)
		} else if !everything {
			err = a.noteChecked(ctx, src, src.checked) // it had its turn
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(sources, func(x, y Source) int { return cmp.Compare(x.Source, y.Source) })
	return sources, nil
}

const sourceOrder = `s.source, s.told_at, s.epoch`

// sources reads what sources have said last. What they said in another stream
// than the one with this incarnation waits for nothing: no more of it will be
// verified or folded.
func (a *Auditor) sources(ctx context.Context, incarnation, which, order string) (all []Source, err error) {
	if order == "" {
		order = sourceOrder
	}
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var s Source
		err := scan(&s.Source, &s.Epoch, &s.Acked, &s.Dropped, &s.Closed, &s.ToldAt, &s.Waiting, &s.checked)
		all = append(all, s)
		return err
	}, `
		SELECT s.source, s.epoch, greatest(s.acked, 0), s.dropped, s.closed, to_char(s.told_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			s.incarnation = $1 AND s.sequence > coalesce(t.sequence, 0), coalesce(c.checked, 0)
		FROM weir.source s LEFT JOIN weir.audit_stream t USING (incarnation) LEFT JOIN weir.audit_source c ON c.source = s.source AND c.epoch = s.epoch
		`+which+` ORDER BY `+order, incarnation)
	if err != nil {
		return nil, fmt.Errorf("read what the sources say: %w", err)
	}
	return all, nil
}

// noteChecked writes up to which number the ledger has all of a source.
func (a *Auditor) noteChecked(ctx context.Context, src *Source, checked uint64) error {
	_, err := a.db.ExecContext(ctx, `
		INSERT INTO weir.audit_source (source, epoch, checked) VALUES ($1, $2, $3)
		ON CONFLICT (source, epoch) DO UPDATE SET checked = excluded.checked, looked_at = now()`, src.Source, src.Epoch, checked)
	if err != nil {
		return fmt.Errorf("note how far %s/%s is verified: %w", src.Source, src.Epoch, err)
	}
	return nil
}

func (a *Auditor) verifySource(ctx context.Context, src *Source) error {
	if src.Acked <= src.checked {
		return nil
	}
	var found gaps
	err := inSnapshot(ctx, a.db, nil, func(s snapshot) (err error) {
		found, err = s.missing(ctx, src.Source, src.Epoch, src.checked, src.Acked)
		return err
	})
	if err != nil {
		return err
	}
	complete := src.Acked
	if len(found.ranges) > 0 {
		complete = found.ranges[0].first - 1
		holes, err := a.holesOf(ctx, src.Source, src.Epoch)
		if err != nil {
			return err
		}
		found = found.without(holes)
	}
	src.Lost, src.Ranges = found.count, found.String()
	if err := a.noteChecked(ctx, src, complete); err != nil {
		return err
	}
	f := Finding{Kind: kindStream, Subject: src.Source + "/" + src.Epoch, Lost: int64(src.Lost)} //nolint:gosec // numbers end at 2^62
	if src.Lost == 0 {
		return a.settle(ctx, f)
	}
	f.Detail = fmt.Sprintf("%s was told that all up to %s are stored, but %s %s %s in neither the stream nor the ledger",
		f.Subject, Grouped(int64(src.Acked)), plural(f.Lost, "number", "numbers"), src.Ranges, isAre(f.Lost))
	return a.note(ctx, f)
}

// holesOf lists the numbers of a publisher epoch that the stream has and the
// ledger lacks.
func (a *Auditor) holesOf(ctx context.Context, source, epoch string) (known []numbers, err error) {
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var n numbers
		err := scan(&n.first, &n.last)
		known = append(known, n)
		return err
	}, `SELECT first_number, last_number FROM weir.audit_hole WHERE source = $1 AND epoch = $2 AND repaired_at IS NULL`, source, epoch)
	if err != nil {
		return nil, fmt.Errorf("read the holes of %s/%s: %w", source, epoch, err)
	}
	return known, nil
}
