package store

import (
	"database/sql"
	"fmt"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// plainRows turns rows, one per group and in the order of buckets, back into
// parts.
type plainRows struct {
	*groupReader

	bucket time.Time
	raw    []any
	delta  aggregation.Delta
	groups int      // in the delta
	last   []values // of its last part
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
	parts := r.delta.Parts
	if n := len(parts); n == 0 || parts[n-1].Bucket != r.bucket.UnixMicro() {
		r.delta.Parts = append(parts, emptyPart(r.def, r.level))
		p := &r.delta.Parts[n]
		p.Bucket = r.bucket.UnixMicro()
		r.last = valuesOf(r.last[:0], p, r.columns)
	}
	missing := event.Cell(0)
	for i := range r.last {
		c := &r.last[i]
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
	part := &r.delta.Parts[len(r.delta.Parts)-1]
	part.Missing = append(part.Missing, missing)
	r.groups++
	return nil
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
