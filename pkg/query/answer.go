package query

import (
	"context"
	"io"
	"math"
	"time"

	"weir/pkg/store"
)

// Answer is all of an answer in memory.
//
// A cell is nil (a division by zero), a string, a bool, a number (int64,
// *big.Int or float64 from Ask, json.Number from a Client), or a time as the
// question wanted it: a string in RFC 3339 or the number of milliseconds since
// 1970 UTC.
type Answer struct {
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
	// CompleteThrough: every event stored in the stream at or before this time
	// is in the answer. It is zero where that is not known, because nobody asked
	// the stream.
	CompleteThrough time.Time `json:"complete_through"`
}

// Ask answers the question from one snapshot and keeps the answer in memory.
func (q *Question) Ask(ctx context.Context, db *store.DB) (*Answer, error) {
	answer := &Answer{Columns: q.Columns, Rows: [][]any{}}
	err := q.Each(ctx, db, func(cells []any) error {
		answer.Rows = append(answer.Rows, cells)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// Each answers the question from one snapshot and calls row for each row, in
// order. An error of row ends it and is returned.
func (q *Question) Each(ctx context.Context, db *store.DB, row func(cells []any) error) error {
	return db.Ask(ctx, &q.plan, func(values []any) error {
		for i := range values {
			values[i] = q.cell(values[i])
		}
		return row(values)
	})
}

func (q *Question) cell(value any) any {
	switch v := value.(type) {
	case time.Time:
		if q.millis {
			return v.UnixMilli()
		}
		return v.Format(time.RFC3339Nano)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) { // JSON has no such numbers
			return nil
		}
	}
	return value
}

// WriteJSON writes the answer as the HTTP API does.
func (a *Answer) WriteJSON(w io.Writer) error { return a.write(&jsonWriter{w: w}) }

// WriteCSV writes the answer as CSV, as the HTTP API does but for the ends of lines,
// which are those of files here.
func (a *Answer) WriteCSV(w io.Writer) error { return a.write(&csvWriter{w: w, end: "\n"}) }

func (a *Answer) write(to writer) error {
	if err := to.begin(a.Columns); err != nil {
		return err
	}
	for _, cells := range a.Rows {
		if err := to.row(cells); err != nil {
			return err
		}
	}
	return to.finish(a.CompleteThrough)
}
