package store

import (
	"database/sql"
	"fmt"
	"slices"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// plainRows turns rows, one per group, back into parts. They come mostly in the
// order in which they were written, which is bucket by bucket.
type plainRows struct {
	*groupReader

	bucket time.Time
	raw    []any
	delta  aggregation.Delta
	groups int      // in the delta
	at     int      // of its parts, the one that the last row was of
	values []values // of that
}

// plain reads rows that have one group each.
func (r *groupReader) plain(rows *sql.Rows) error {
	p := plainRows{groupReader: r, raw: make([]any, len(r.columns)), delta: r.begin()}
	targets := []any{&p.bucket}
	for i := range p.raw {
		targets = append(targets, &p.raw[i])
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if err := p.row(); err != nil {
			return fmt.Errorf("bucket %s: %w", p.bucket.UTC().Format(time.RFC3339), err)
		}
		if p.groups >= someGroups {
			if err := p.handOn(); err != nil {
				return err
			}
		}
	}
	return p.handOn()
}

func (r *plainRows) handOn() error {
	if r.groups == 0 {
		return nil
	}
	err := r.use(r.delta)
	r.delta, r.groups = r.begin(), 0
	return err
}

func (r *plainRows) row() error {
	r.turnTo(r.bucket.UnixMicro())
	missing := event.Cell(0)
	for i := range r.values {
		c := &r.values[i]
		if r.raw[i] == nil { // the row is older than the column
			missing |= c.missing
			c.append(c.absent, nil)
			continue
		}
		if c.sketched() {
			blocks, ok := r.raw[i].([]byte)
			if !ok {
				return fmt.Errorf("column %s: unexpected %T for a sketch", c.name, r.raw[i])
			}
			c.append(0, blocks)
			continue
		}
		cell, err := r.cell(c.kind, r.raw[i])
		if err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
		c.append(cell, nil)
	}
	part := &r.delta.Parts[r.at]
	part.Missing = append(part.Missing, missing)
	r.groups++
	return nil
}

// turnTo makes the next row one of the bucket's part.
func (r *plainRows) turnTo(bucket int64) {
	parts := r.delta.Parts
	if r.groups > 0 && parts[r.at].Bucket == bucket {
		return
	}
	r.at = slices.IndexFunc(parts, func(p aggregation.Part) bool { return p.Bucket == bucket })
	if r.at < 0 {
		r.at = len(parts)
		r.delta.Parts = append(parts, emptyPart(r.def, r.level))
		r.delta.Parts[r.at].Bucket = bucket
	}
	r.values = valuesOf(r.values[:0], &r.delta.Parts[r.at], r.columns)
}

func (r *plainRows) cell(kind event.Kind, raw any) (event.Cell, error) {
	switch v := raw.(type) {
	case string:
		return r.dict.Intern(v), nil
	case []byte:
		return r.dict.InternBytes(v), nil
	case int64:
		return event.Cell(v), nil
	case float64:
		return event.FloatCell(v), nil
	case bool:
		return event.BoolCell(v), nil
	case time.Time:
		return event.Cell(v.UnixMicro()), nil
	}
	return 0, fmt.Errorf("unexpected %T for a %s", raw, kind)
}
