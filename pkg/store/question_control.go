package store

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// ControlPeriod is the part of time that control totals are kept of.
const ControlPeriod = 15 * time.Minute

// Fingerprint stands for all that the answer to a question is made of. It is another
// one once an event is folded into, or a row is purged from, what the question is
// about, by the control totals that flushes write beside the rows: number and checksum
// of the events by shard and quarter of an hour (ADR 16). Read before the answer, it
// is never newer than that.
func (db *DB) Fingerprint(ctx context.Context, q *Question) (fingerprint string, err error) {
	from, until := q.periods()
	err = db.sql.QueryRowContext(ctx, `
		SELECT concat(
			(SELECT concat(count(*), ' ', sum(hashtextextended(concat_ws('/', aggregation, shard_id, period, events, checksum), 0)::numeric))
				FROM weir.control WHERE aggregation = ANY ($1) AND period >= $2 AND period < $3), ' ',
			(SELECT string_agg(concat_ws('/', aggregation, level, before), ' ' ORDER BY aggregation, level) FROM weir.purged WHERE aggregation = ANY ($1)))`,
		pq.Array(q.ids()), from, until).Scan(&fingerprint)
	if err != nil {
		return "", fmt.Errorf("look whether %s has changed: %w", q.Aggregation.Name, err)
	}
	return fingerprint, nil
}

// Eventful is how many quarters of an hour have events that the question is about.
func (db *DB) Eventful(ctx context.Context, q *Question) (quarters int64, err error) {
	from, until := q.periods()
	err = db.sql.QueryRowContext(ctx, `SELECT count(DISTINCT period) FROM weir.control WHERE aggregation = ANY ($1) AND period >= $2 AND period < $3`,
		pq.Array(q.ids()), from, until).Scan(&quarters)
	if err != nil {
		return 0, fmt.Errorf("look when %s has events: %w", q.Aggregation.Name, err)
	}
	return quarters, nil
}

// ids are those of the aggregations that the question is about.
func (q *Question) ids() []string {
	ids := []string{q.Aggregation.ID()}
	if q.Join != nil {
		ids = append(ids, q.Join.With.ID())
	}
	return ids
}

// periods are the ends of the quarters of an hour that the question is about.
func (q *Question) periods() (from, until time.Time) {
	return instant(q.From).Truncate(ControlPeriod), instant(q.End())
}

// End is when the last bucket that the question is about ends, microseconds since
// 1970 UTC.
func (q *Question) End() int64 {
	zone := q.Aggregation.Zone
	return q.Per.Next(q.Per.Truncate(q.Until-1, zone), zone)
}
