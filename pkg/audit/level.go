package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// sums are what is compared: a number of events, and the sum of the checksums of
// their identities, modulo 2^32.
type sums struct {
	Events   int64  `json:"events"`
	Checksum uint32 `json:"checksum"`
}

func (s *sums) add(o sums) {
	s.Events = plus(s.Events, o.Events) // what somebody made up may be of any size
	s.Checksum += o.Checksum
}

// plus adds, and stays at the greatest number or the least one where the sum is
// beyond it: what strangers say, and what rows hold, may be of any size.
func plus(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// mismatch is a part of time in which the rows of a level are not what the
// control totals say.
type mismatch struct {
	level      int
	part       span
	want, have sums
}

// checked is the outcome for one level: what was added up, and what does not
// add up.
type checked struct {
	total      sums // of the control totals that were compared
	purged     sums // of those whose rows may be gone
	mismatches []mismatch
}

// facts are what the rows of an aggregation are compared with, and what says
// which rows make up a level.
type facts struct {
	control map[int64]sums // by period
	purged  []int64        // by level: the border below which its rows may be gone
	behind  [][]lag        // by level: the shards of whose rows it lacks some
}

// lag is the batch up to which a level has the rows of a shard: below all
// numbers, where it has nothing.
type lag struct {
	shard string
	batch int64
}

// facts reads what the checks of these spans need.
func (s snapshot) facts(ctx context.Context, agg *aggregate, spans []span) (*facts, error) {
	f := &facts{control: map[int64]sums{}, behind: make([][]lag, len(agg.levels))}
	levels := map[string]int{}
	for i, g := range agg.levels {
		levels[g.String()] = i
		f.purged = append(f.purged, always)
	}
	err := each(ctx, s.tx, func(scan func(...any) error) error {
		var name string
		var before time.Time
		err := scan(&name, &before)
		if level, kept := levels[name]; kept {
			f.purged[level] = ceil(agg.levels[level], agg.zone, before.UnixMicro())
		}
		return err
	}, `SELECT level, `+finite("before")+` FROM purged WHERE aggregation = $1`, agg.id)
	if err != nil {
		return nil, wrap(err, "look what is purged of "+agg.id)
	}
	list, err := json.Marshal(slices.Collect(maps.Keys(levels)))
	if err != nil {
		return nil, err
	}
	err = each(ctx, s.tx, func(scan func(...any) error) error {
		var name string
		var l lag
		err := scan(&name, &l.shard, &l.batch)
		f.behind[levels[name]] = append(f.behind[levels[name]], l)
		return err
	}, `
		SELECT l.level, s.shard_id, coalesce(w.batch_no, -9223372036854775807)
		FROM shard s CROSS JOIN jsonb_array_elements_text($2::jsonb) AS l (level)
		LEFT JOIN watermark w ON w.shard_id = s.shard_id AND w.aggregation = $1 AND w.level = l.level
		WHERE w.batch_no IS NULL OR w.batch_no < s.last_batch ORDER BY 1, 2`, agg.id, string(list))
	if err != nil {
		return nil, wrap(err, "read the watermarks of "+agg.id)
	}
	for _, over := range union(slices.Clone(spans)) {
		err := s.sums(ctx, func(t int64, v sums) { f.control[t] = v }, `
			SELECT extract(epoch FROM period)::bigint, sum(events), sum(checksum) FROM control
			WHERE aggregation = $1 AND period >= $2 AND period < $3 GROUP BY period`, agg.id, instant(over.from), instant(over.until))
		if err != nil {
			return nil, wrap(err, "read the control totals of "+agg.id)
		}
	}
	return f, nil
}

// checkLevel compares, in a span that ends where buckets do, the rows of a
// level with the control totals, part by part: the level's own rows, and what
// it lacks of finer ones' rows. It knows no more of buckets than where one
// begins, and nothing of groups: whatever the rows are, the events in them are
// as many, and the same, as those that were folded.
func (s snapshot) checkLevel(ctx context.Context, agg *aggregate, f *facts, level int, over span) (checked, error) {
	var c checked
	type pair struct{ want, have sums }
	parts := map[span]*pair{}
	cut := cutter{g: agg.levels[level], zone: agg.zone}
	at := func(quarter int64) *pair {
		part := cut.part(quarter)
		switch { // buckets that are at no time, which nobody folds into
		case quarter >= afterTime:
			part = span{part.from, never}
		case quarter < beforeTime:
			part = span{always, part.until}
		}
		if parts[part] == nil {
			parts[part] = &pair{}
		}
		return parts[part]
	}
	for _, t := range slices.Sorted(maps.Keys(f.control)) {
		if t >= over.from && t < over.until {
			at(t).want.add(f.control[t])
		}
	}
	if err := s.rows(ctx, agg, f, level, over, func(t int64, v sums) { at(t).have.add(v) }); err != nil {
		return c, err
	}
	for part, p := range parts {
		if part.from < f.purged[level] {
			c.purged.add(p.want)
			continue
		}
		c.total.add(p.want)
		if p.want != p.have {
			c.mismatches = append(c.mismatches, mismatch{level, part, p.want, p.have})
		}
	}
	slices.SortFunc(c.mismatches, func(a, b mismatch) int { return cmp.Compare(a.part.from, b.part.from) })
	return c, nil
}

// rows adds up the rows of a level and its tail, per period in which their
// buckets begin.
func (s snapshot) rows(ctx context.Context, agg *aggregate, f *facts, level int, over span, each func(int64, sums)) error {
	b := builder{from: instant(over.from), until: instant(over.until)}
	b.table(agg, level, "")
	for child, parent := level, agg.parent(level); parent >= 0; child, parent = parent, agg.parent(parent) {
		for _, l := range f.behind[child] {
			b.table(agg, parent, fmt.Sprintf("AND shard_id = %s AND batch_no > %s", b.arg(l.shard), b.arg(l.batch)))
		}
	}
	err := s.sums(ctx, each, `
		SELECT extract(epoch FROM date_bin('15 minutes', `+finite("bucket")+`, '0001-01-01 00:00:00+00'))::bigint, sum(e), sum(c)
		FROM (`+b.text.String()+`) r GROUP BY 1`, b.args...)
	if err != nil {
		return fmt.Errorf("add up %s per %s: %w", agg.id, agg.levels[level], err)
	}
	return nil
}

// sums calls f for each row of a query: seconds since 1970 UTC, a number of
// events, a sum of checksums.
func (s snapshot) sums(ctx context.Context, f func(int64, sums), query string, args ...any) error {
	return each(ctx, s.tx, func(scan func(...any) error) error {
		var seconds, events, checksum int64
		if err := scan(&seconds, &events, &checksum); err != nil {
			return err
		}
		f(seconds*1_000_000, sums{events, uint32(checksum)}) //nolint:gosec // below 2^32
		return nil
	}, `SELECT t, least(greatest(e, -9223372036854775807), 9223372036854775807)::bigint, mod(mod(c, 4294967296) + 4294967296, 4294967296)::bigint
		FROM (`+query+`) q (t, e, c)`, args...)
}

// builder writes the tables whose rows make up a level.
type builder struct {
	from, until string
	text        strings.Builder
	args        []any
}

func (b *builder) arg(v any) string {
	b.args = append(b.args, v)
	return fmt.Sprintf("$%d", len(b.args))
}

func (b *builder) table(agg *aggregate, level int, which string) {
	if b.text.Len() > 0 {
		b.text.WriteString(" UNION ALL ")
	}
	events := "weir_events"
	if agg.packed(level) {
		events = "(SELECT coalesce(sum(n), 0) FROM unnest(weir_events) AS n)"
	}
	before := "<"
	if b.until == instant(never) {
		before = "<=" // also rows whose bucket is no time at all
	}
	fmt.Fprintf(&b.text, "SELECT bucket, %s AS e, weir_checksum AS c FROM %s WHERE bucket >= %s AND bucket %s %s %s",
		events, agg.table(level), b.arg(b.from), before, b.arg(b.until), which)
}

// Events are of the years 1 to 9999. What is infinite in a table is taken for
// some time before or after that.
const (
	beforeTime = -62135596800 * 1_000_000
	afterTime  = 253402300800 * 1_000_000
)

// finite is the SQL of a time that may be infinite.
func finite(column string) string {
	return `CASE WHEN isfinite(` + column + `) THEN ` + column + ` WHEN ` + column + ` > now() THEN '10000-01-01 00:00:00+00'::timestamptz ELSE '0001-12-31 00:00:00+00 BC'::timestamptz END`
}
