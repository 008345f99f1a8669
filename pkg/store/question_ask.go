package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// Ask answers a question from one snapshot: everything committed before it is
// in every row, nothing that comes later is in any. It calls row for each row
// of the answer, in order; an error of row ends it and is returned.
//
// The values of a row are, by the kind of its column, a string, an int64 or,
// where that is too small, a *big.Int, a float64, a bool, a time.Time in UTC,
// or nil where there is none (a division by zero). They may be kept.
//
// A question may have to wait for its turn: see [turns].
func (db *DB) Ask(ctx context.Context, q *Question, row func(values []any) error) error {
	if err := db.askInTurn(ctx, q, row); err != nil {
		return fmt.Errorf("ask %s: %w", q.Aggregation.Name, err)
	}
	return nil
}

func (db *DB) askInTurn(ctx context.Context, q *Question, row func(values []any) error) error {
	if q.Patient { // seldom, and for long: it waits for no turn
		return db.askNow(ctx, q, row)
	}
	s, want, shaped := q.shape()
	if !shaped {
		return db.turns.ask(ctx, q.identity(), "", row, func(_ []string, begun func(), each func(string, []any) error) error {
			return db.askNow(ctx, q, func(values []any) error {
				begun()
				return each("", values)
			})
		})
	}
	key := fmt.Sprintf("%s key %v", s.question.identity(), s.key)
	return db.turns.ask(ctx, key, want, s.within(row), func(wanted []string, begun func(), each func(string, []any) error) error {
		last := len(q.Select)
		return db.askNow(ctx, s.of(wanted), func(values []any) error {
			begun()
			text, _ := values[last].(string) // a group key is never NULL
			return each(text, values[:last:last])
		})
	})
}

// askNow asks one question of one snapshot.
func (db *DB) askNow(ctx context.Context, q *Question, row func(values []any) error) error {
	defs := []*aggregation.Definition{q.Aggregation}
	if q.Join != nil {
		defs = append(defs, q.Join.With)
	}
	return db.inSnapshot(ctx, defs, func(tx *sql.Tx) error { return askIn(ctx, tx, q, row) })
}

// askIn is Ask in a snapshot.
func askIn(ctx context.Context, tx *sql.Tx, q *Question, row func(values []any) error) error {
	s, err := q.span(ctx, tx)
	if err != nil {
		return err
	}
	if q.Patient {
		if _, err := tx.ExecContext(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
	}
	f := q.finishing()
	text, args := f.sql.statement(s)
	rows, err := tx.QueryContext(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("select: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	if err := f.each(rows, row); err != nil {
		return err
	}
	return rows.Err()
}

// inSnapshot runs f in one read-only transaction that sees one state of the
// database throughout, of these aggregations also while Purge goes on.
func (db *DB) inSnapshot(ctx context.Context, defs []*aggregation.Definition, f func(*sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	// Flushes must not idle, for they hold what other workers want; a snapshot holds
	// nothing, and what is worked out between its statements may take a while.
	if _, err := tx.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = '5min'`); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := holdSpans(ctx, tx, defs); err != nil {
		return err
	}
	return f(tx)
}

// TooManyRows says that an answer has more rows than may come of its question.
type TooManyRows struct{ Rows, Most int64 }

func (e *TooManyRows) Error() string {
	return fmt.Sprintf("there are %d rows, more than %d", e.Rows, e.Most)
}

// counted reports whether SQL has to say how many rows there are.
func (q *Question) counted() bool { return q.Most > 0 && q.Limit < 0 }

// eachRow calls row for each row that was selected for the question, with its
// values as Ask promises them.
func eachRow(rows *sql.Rows, q *Question, row func([]any) error) error {
	columns := q.Select
	raw := make([]any, len(columns))
	targets := make([]any, len(columns))
	for i := range raw {
		targets[i] = &raw[i]
	}
	var total int64
	if q.counted() {
		targets = append(targets, &total)
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		if total -= int64(q.Offset); q.counted() && total > int64(q.Most) {
			return &TooManyRows{total, int64(q.Most)}
		}
		values := make([]any, len(columns))
		for i := range raw {
			var err error
			if q.sketched(&columns[i]) {
				values[i], err = finish(q.measure(columns[i].Field), raw[i])
			} else {
				values[i], err = value(raw[i], columns[i].Kind)
			}
			if err != nil {
				return fmt.Errorf("read column %d: %w", i+1, err)
			}
		}
		if err := row(values); err != nil {
			return err
		}
	}
	return nil
}

// value turns what the driver read into what Ask promises.
func value(raw any, kind event.Kind) (any, error) {
	switch v := raw.(type) {
	case nil, int64, float64, bool, string:
		return v, nil
	case []byte: // what the driver has no type for: numeric
		if kind != event.Int {
			return string(v), nil
		}
		n, ok := new(big.Int).SetString(string(v), 10)
		if !ok {
			return nil, fmt.Errorf("%q is no integer", v)
		}
		if n.IsInt64() {
			return n.Int64(), nil
		}
		return n, nil
	case time.Time:
		return v.UTC(), nil
	}
	return nil, fmt.Errorf("unexpected %T", raw)
}

// Unavailable reports whether the error means that Postgres cannot be reached
// or takes no work now: asking again later may succeed.
func Unavailable(err error) bool {
	var refused *pq.Error
	if errors.As(err, &refused) {
		class := refused.Code.Class()
		return class == pqerror.ClassConnectionException || class == pqerror.ClassInsufficientResources ||
			hasCode(err, pqerror.AdminShutdown, pqerror.CrashShutdown, pqerror.CannotConnectNow)
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded)
}

// TimedOut reports whether the work was given up because it took longer than
// its context or the connection's statement timeout allow.
func TimedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || hasCode(err, pqerror.QueryCanceled)
}

// OutOfRange reports whether a number in an answer was too large for a float.
func OutOfRange(err error) bool { return hasCode(err, pqerror.NumericValueOutOfRange) }

// NotApplied reports whether the error is that a table is missing: the
// definitions have not been applied to this database.
func NotApplied(err error) bool {
	return hasCode(err, pqerror.UndefinedTable, pqerror.InvalidSchemaName)
}
