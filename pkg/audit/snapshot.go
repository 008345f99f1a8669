package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// snapshot is one state of the database, in which checks are made. Its
// statements name tables without their schema: a drill shows them others.
type snapshot struct {
	tx *sql.Tx
}

// inSnapshot runs f in one read-only transaction that sees one state of the
// database throughout. The rows of the aggregation, if one is given, cannot be
// dropped meanwhile: a partition that is dropped is gone also for those who see
// the time before, when it was no one's to miss.
func inSnapshot(ctx context.Context, db *sql.DB, agg *aggregate, f func(snapshot) error) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	_, err = tx.ExecContext(ctx, `
		SET LOCAL search_path = weir, weir_data, pg_temp;
		SET LOCAL idle_in_transaction_session_timeout = '1min';
		SET LOCAL statement_timeout = '5min'`)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if agg == nil {
		return f(snapshot{tx})
	}
	if err := agg.hold(ctx, tx); err != nil { // before the first query, which fixes what is seen
		return err
	}
	s := snapshot{tx}
	same, err := s.unchanged(ctx, agg)
	if err != nil || !same {
		return err
	}
	return f(s)
}

// hold keeps the aggregation's tables as they are until the transaction ends.
func (a *aggregate) hold(ctx context.Context, tx *sql.Tx) error {
	tables := make([]string, len(a.levels))
	for i := range a.levels {
		tables[i] = a.table(i)
	}
	if _, err := tx.ExecContext(ctx, `LOCK TABLE `+strings.Join(tables, ", ")+` IN ACCESS SHARE MODE`); err != nil {
		return fmt.Errorf("hold the tables of %s: %w", a.id, err)
	}
	return nil
}

// querier is a pool or one transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// each runs a query and calls f for each row, with what reads it.
func each(ctx context.Context, q querier, f func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
